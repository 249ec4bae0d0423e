"""Commands that export, download and upload checkpoints."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.checkpoints import catalog
from zoo.checkpoints.files import copy
from zoo.cli.data import add_data, chosen
from zoo.errors import ZooError


def add(commands: Any) -> None:
    """Add `export`, `pull`, `push` and `card`."""
    command = commands.add_parser("export", help="turn a training checkpoint into a model folder")
    command.add_argument("ckpt", type=Path, help="file of a training checkpoint")
    command.add_argument("folder", type=Path, help="folder to write")
    command.add_argument("--half", action="store_true", help="store the weights in 16 bits each")
    command.set_defaults(run=_export)

    command = commands.add_parser("pull", help="download a model from the Hugging Face Hub")
    command.add_argument("model", nargs="?", help="organisation/name, or a model of the zoo")
    command.add_argument("folder", type=Path, nargs="?", help="copy it here; by default, the cache")
    command.add_argument("--revision", help="branch, tag or commit")
    command.add_argument(
        "--all", action="store_true", help="fetch all models of the zoo into the cache"
    )
    command.set_defaults(run=_pull)

    command = commands.add_parser("push", help="upload a model folder to the Hugging Face Hub")
    command.add_argument("folder", type=Path, nargs="?", help="folder of the model")
    command.add_argument("repository", nargs="?", help="organisation/name")
    command.add_argument(
        "--all", action="store_true", help="push all models that ship with the package"
    )
    command.add_argument("--organisation", help="owner of the repositories that --all writes")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", help="branch to push to")
    command.add_argument("--message", help="title of the commit")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--replace-card", action="store_true", help="overwrite the Hub's README")
    command.set_defaults(run=_push)

    command = commands.add_parser("card", help="write a model folder's card from its files")
    command.add_argument("folder", type=Path, help="folder of the model")
    command.add_argument("--draw", action="store_true", help="draw its pictures first: needs data")
    add_data(command)
    command.set_defaults(run=_card)


def _export(args: argparse.Namespace) -> None:
    from zoo.checkpoints.card import refresh
    from zoo.pretrained.export import export

    export(args.ckpt, args.folder, half=args.half)
    refresh(args.folder)
    print(f'{args.folder}: load it with zoo.from_pretrained("{args.folder}")')


def _pull(args: argparse.Namespace) -> None:
    if args.all:
        if args.model is not None:
            raise ZooError(f"--all fetches every model into the cache; leave out {args.model}.")
        _for_all(lambda name: str(catalog.pull(name, args.revision)))
        return
    if args.model is None:
        raise ZooError("zoo pull needs organisation/name, the name of a model, or --all.")
    folder = catalog.pull(args.model, args.revision)
    if args.folder is not None:
        copy(folder, args.folder)
        folder = args.folder
    print(folder)


def _push(args: argparse.Namespace) -> None:
    if args.all:
        if args.folder is not None or args.organisation is None:
            raise ZooError("to push all, write: zoo push --all --organisation ORGANISATION.")
        owner = args.organisation

        def push_shipped(name: str) -> str:
            catalog.check_pins(catalog.shipped(name))
            return _push_one(args, catalog.shipped(name), f"{owner}/{name}")

        _for_all(push_shipped)
        return
    if args.repository is None:
        raise ZooError("zoo push needs a folder and organisation/name, or --all.")
    print(_push_one(args, args.folder, args.repository))


def _push_one(args: argparse.Namespace, folder: Path, repository: str) -> str:
    from zoo.checkpoints.models import upload
    from zoo.pretrained.loading import check_golden, from_pretrained

    check_golden(from_pretrained(str(folder)), folder)
    result = upload(
        folder,
        repository,
        private=args.private or None,
        revision=args.revision,
        commit_message=args.message,
        create_pr=args.create_pr,
        replace_card=args.replace_card,
    )
    return result.url if result.changed else f"{result.url} holds the same files already"


def _for_all(act: Callable[[str], str]) -> None:
    """Act on every shipped model and print what came of it; one that fails stops no other.

    Raises:
        ZooError: at the end, if any failed.
    """
    names = catalog.list_models()
    failed = []
    for name in names:
        try:
            print(f"{name}: {act(name)}")
        except (ValueError, OSError) as error:
            failed.append(name)
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    if failed:
        raise ZooError(f"{len(failed)} of {len(names)} models failed: {', '.join(failed)}.")


def _card(args: argparse.Namespace) -> None:
    from zoo.checkpoints.card import refresh

    if args.draw:
        from zoo.evaluation.data import data_module, held_out
        from zoo.pretrained.gallery import draw, draw_directions, has_directions
        from zoo.pretrained.loading import from_pretrained

        model = from_pretrained(str(args.folder))
        data = data_module(model, *chosen(args, lambda: model.data))
        data.prepare_data()
        data.setup("test")
        draw(model, args.folder, held_out(data), data.label_names)
        if has_directions(model, data):
            x = next(iter(held_out(data, 4)))["image"]
            draw_directions(model, data, x, args.folder / "directions.png")
    refresh(args.folder)
