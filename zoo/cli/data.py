"""The command `data`: which data sets there are, what of them is on disk, how they look."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints.arguments import arguments
from zoo.checkpoints.files import write_atomically
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.datamodules.base import DataModule
    from zoo.datamodules.files.places import Inventory

EXAMPLES, MOST_EXAMPLES = 24, 1000
MOST_NAMES = 6
# Arguments that an inventory is about; with any other, only the set itself knows its files.
SHELVED = {"root", "source"}


def add(commands: Any) -> None:
    """Add `data`."""
    command = commands.add_parser("data", help="list the data sets, or describe and preview one")
    command.add_argument("name", nargs="?", help="such as MNIST; by default, all are listed")
    command.add_argument("--preview", type=Path, metavar="PNG", help="draw examples to this file")
    command.add_argument("-n", type=int, help=f"how many examples to draw; {EXAMPLES} by default")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="an argument of the data set, such as root=FOLDER; may be given again",
    )
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    """List all data sets, or describe one and draw some of its examples."""
    from zoo import datamodules

    if args.name is None:
        if args.settings or args.preview is not None or args.n is not None:
            raise ZooError("--set, --preview and -n are about one data set; name it.")
        for name in datamodules.__all__:
            print("\n".join(_lines(name, getattr(datamodules, name))))
        return
    if args.name not in datamodules.__all__:
        known = datamodules.__all__
        raise ZooError(f"there is no data set {args.name!r}; {nearest(args.name, known)}")
    _check_preview(args.preview, args.n)
    values = _split(args.settings)
    module = _built(getattr(datamodules, args.name), values)
    if values.keys() <= SHELVED:
        _check_files(module, values)
    module.prepare_data()
    module.setup()
    facts = module.facts() | {"batch": _batch(next(iter(module.train_dataloader())))}
    width = max(map(len, facts))
    print(f"{args.name}: {module.summary()}")
    print("\n".join(f"  {key:{width}}  {value}" for key, value in facts.items()))
    if args.preview is not None:
        from zoo.plots.contact_sheet import sheet

        page = sheet(module.examples(args.n or EXAMPLES))
        write_atomically(args.preview.expanduser(), partial(page.save, format="PNG"))
        print(args.preview)


def _lines(name: str, module: "type[DataModule]") -> list[str]:
    """What the list of all sets says of one."""
    sources = [
        f"{source}: {_state(inventory)}" if source else _state(inventory)
        for source, inventory in module.inventories().items()
    ]
    return [f"{name:16}  {module.summary()}", *(f"{'':16}  {line}" for line in sources)]


def _state(inventory: "Inventory") -> str:
    """Where a set is looked for, what is there, and how to get what is not."""
    there = [f"has {_named(inventory.found)}"] if inventory.found else []
    lacking = [f"lacks {_named(inventory.missing)}"] if inventory.missing else []
    remedy = f": {inventory.remedy}" if inventory.missing else ""
    if inventory.folder is None:
        return f"needs {_named(inventory.missing)}{remedy}" if lacking else "needs no files"
    return f"{inventory.folder} {' and '.join([*there, *lacking])}{remedy}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _check_preview(preview: Path | None, n: int | None) -> None:
    if preview is None and n is not None:
        raise ZooError("-n says how many examples to draw; add --preview FILE.png.")
    if n is not None and not 1 <= n <= MOST_EXAMPLES:
        raise ZooError(f"-n is {n}, but a page holds 1 to {MOST_EXAMPLES} examples.")
    if preview is not None and preview.suffix.lower() != ".png":
        raise ZooError(f"{preview} is no PNG file by its name; give one that ends in .png.")


def _split(settings: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ZooError(f"--set {setting} is no KEY=VALUE, such as root=FOLDER.")
        if key in values:
            raise ZooError(f"--set gives {key} twice; keep one.")
        values[key] = value
    return values


def _built(cls: "type[DataModule]", values: Mapping[str, str]) -> "DataModule":
    """A DataModule from words of the command line, which its annotations give their types.

    Raises:
        ZooError: if an argument is unknown, missing, or of another type.
        ValueError: if the DataModule refuses one.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from zoo.training.messages import explain

    known = arguments(cls)
    for key in values:
        if key not in known:
            raise ZooError(f"{cls.__name__} has no argument {key!r}; {nearest(key, known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in values:
            raise ZooError(f"{cls.__name__} needs its argument {key}; add --set {key}=VALUE.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls)
    try:
        config = parser.parse_args([f"--{key}={value}" for key, value in values.items()])
    except ArgumentError as error:
        raise ZooError(explain(str(error), [], {})) from None
    return cls(**vars(config))


def _check_files(module: "DataModule", values: Mapping[str, str]) -> None:
    """Refuse to go on without files: to describe a set must not download it.

    Raises:
        ZooError: if files are missing.
    """
    inventories = module.inventories(values.get("root"))
    inventory = inventories.get("") or inventories.get(str(getattr(module, "source", "")))
    if inventory is not None and inventory.missing:
        raise ZooError(f"{type(module).__name__}: {_state(inventory)}.")


def _batch(batch: Mapping[str, Any]) -> str:
    """The keys of a batch, with the type and shape of each."""
    from torch import Tensor

    return ", ".join(
        f"{key} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"{key} {len(value)} strings"
        for key, value in batch.items()
    )
