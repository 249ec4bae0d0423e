"""Commands that run recipes, and list them."""

import argparse
from pathlib import Path
from typing import Any

from zoo import recipes
from zoo.checkpoints.files import write_text
from zoo.cli.words import Parser
from zoo.errors import ZooError, nearest


def add(commands: Any) -> None:
    """Add `fit`, `validate`, `test` and `recipes`."""
    for name, summary in (
        ("fit", "train or fine-tune a model by a recipe"),
        ("validate", "measure a recipe's model on its validation set"),
        ("test", "measure a recipe's model on its test set"),
    ):
        flags = (
            f"Every other flag overrides the recipe: `zoo {name} RECIPE --help` shows those that "
            "matter, --help-all all of them."
        )
        command = commands.add_parser(name, help=summary, epilog=flags, first_only=True)
        command.add_argument("recipe", help="name (see `zoo recipes`) or path of a YAML file")
        command.set_defaults(run=_train)

    command = commands.add_parser("recipes", help="list the recipes, or copy one to edit")
    command.set_defaults(run=_list)
    actions = command.add_subparsers(dest="action", parser_class=Parser)
    copy = actions.add_parser("copy", help="write a recipe to a file of yours")
    copy.add_argument("recipe", help="name (see `zoo recipes`)")
    copy.add_argument("file", type=Path, help="new YAML file")
    copy.set_defaults(run=_copy)


def _train(args: argparse.Namespace) -> None:
    if args.recipe.startswith("-"):
        raise ZooError(
            f"zoo {args.command} needs a recipe before {args.recipe}; `zoo recipes` lists them."
        )
    from zoo.training.fit import run

    run(args.command, args.recipe, args.rest)


def _list(args: argparse.Namespace) -> None:
    width = max(map(len, recipes.names()))
    for name in recipes.names():
        print(f"{name:{width}}  {recipes.summary(name)}")


def _copy(args: argparse.Namespace) -> None:
    if args.recipe not in recipes.names():
        raise ZooError(
            f"there is no recipe {args.recipe!r}; {nearest(args.recipe, recipes.names())}"
        )
    if args.file.exists():
        raise ZooError(f"{args.file} exists already; give a new file name.")
    write_text(args.file, recipes.path(args.recipe).read_text(encoding="utf-8"))
    print(f"Edit {args.file}, then: zoo fit {args.file}")
