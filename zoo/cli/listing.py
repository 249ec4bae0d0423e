"""Commands that list and describe the pretrained models."""

import argparse
import sys
from typing import Any

from zoo.checkpoints import catalog
from zoo.cli.words import print_metrics, print_table
from zoo.errors import ZooError, nearest


def add(commands: Any) -> None:
    """Add `list` and `info`."""
    command = commands.add_parser("list", help="list the pretrained models")
    command.add_argument("pattern", nargs="?", default="*", help="names to list, such as '*-mnist'")
    command.add_argument("--verb", help="only models that can do this, such as encode")
    command.set_defaults(run=_list)

    command = commands.add_parser("info", help="describe a pretrained model")
    command.add_argument("model", help="name or folder")
    command.set_defaults(run=_info)


def _list(args: argparse.Namespace) -> None:
    names = catalog.list_models(args.pattern, args.verb)
    if not names:
        raise ZooError(
            f"no model matches {args.pattern!r}; {nearest(args.pattern, catalog.list_models())}"
        )
    rows = [("name", "family", "data", "latent", "parameters", "verbs")]
    for name in names:
        try:
            d = catalog.describe(name)
        except ZooError as error:  # one that is damaged hides no other
            rows.append((name, "damaged", "", "", "", ""))
            print(f"zoo: {error}", file=sys.stderr)
            continue
        latent = "x".join(map(str, d.latent_shape)) or "1"
        rows.append((name, d.family, d.data, latent, f"{d.parameters:,}", " ".join(d.verbs)))
    print_table(rows)


def _info(args: argparse.Namespace) -> None:
    d = catalog.describe(args.model)
    print(f"{d.name}: {d.family} trained on {d.data}")
    print(f"  latent shape  {' x '.join(map(str, d.latent_shape)) or 1}")
    print(f"  parameters    {d.parameters:,} ({d.bytes / 1e6:.1f} MB)")
    print(f"  licence       {d.license}")
    print(f"  verbs         {', '.join(d.verbs)}")
    if d.base_model:
        print(f"  base model    {d.base_model}")
    print_metrics(d.metrics, "  ")
