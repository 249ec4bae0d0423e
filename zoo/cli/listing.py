"""Commands that list models and recipes."""

import argparse

from zoo import recipes
from zoo.checkpoints import catalog
from zoo.checkpoints.files import write_text
from zoo.cli.words import _print_metrics, _print_table
from zoo.errors import ZooError, nearest


def _recipes(args: argparse.Namespace) -> None:
    if args.action is None:
        width = max(map(len, recipes.names()))
        for name in recipes.names():
            print(f"{name:{width}}  {recipes.summary(name)}")
        return
    if args.recipe not in recipes.names():
        raise ZooError(
            f"there is no recipe {args.recipe!r}; {nearest(args.recipe, recipes.names())}"
        )
    if args.file.exists():
        raise ZooError(f"{args.file} exists already; give a new file name.")
    write_text(args.file, recipes.path(args.recipe).read_text(encoding="utf-8"))
    print(f"Edit {args.file}, then: zoo fit {args.file}")


def _list(args: argparse.Namespace) -> None:
    names = catalog.list_models(args.pattern, args.verb)
    if not names:
        raise ZooError(
            f"no model matches {args.pattern!r}; {nearest(args.pattern, catalog.list_models())}"
        )
    rows = [("name", "family", "data", "latent", "parameters", "verbs")]
    for name in names:
        d = catalog.describe(name)
        latent = "x".join(map(str, d.latent_shape)) or "1"
        rows.append((name, d.family, d.data, latent, f"{d.parameters:,}", " ".join(d.verbs)))
    _print_table(rows)


def _info(args: argparse.Namespace) -> None:
    d = catalog.describe(args.model)
    print(f"{d.name}: {d.family} trained on {d.data}")
    print(f"  latent shape  {' x '.join(map(str, d.latent_shape)) or 1}")
    print(f"  parameters    {d.parameters:,} ({d.bytes / 1e6:.1f} MB)")
    print(f"  licence       {d.license}")
    print(f"  verbs         {', '.join(d.verbs)}")
    if d.base_model:
        print(f"  base model    {d.base_model}")
    _print_metrics(d.metrics, "  ")
