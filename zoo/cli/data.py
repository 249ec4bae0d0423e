"""The command `data`, and the flags with which all commands say which data they take."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints.arguments import arguments
from zoo.checkpoints.files import write_atomically
from zoo.errors import ZooError, in_any_case, nearest

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
    _add_settings(command)
    command.set_defaults(run=_run)


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="an argument of the data set, such as root=FOLDER; may be given again",
    )


def add_data(command: argparse.ArgumentParser) -> None:
    """Give a command the flags that say which data: `--data`, `--set` and `--images`."""
    command.add_argument("--data", help="name of a data set; by default the model's own")
    _add_settings(command)
    command.add_argument("--images", type=Path, help="a folder of your own pictures instead")


def chosen(
    args: argparse.Namespace, own: Callable[[], Mapping[str, Any] | None]
) -> tuple[str | None, dict[str, Any]]:
    """Which data the flags of `add_data` say, and with which arguments.

    Args:
        args: The flags.
        own: Gives the data that the model was trained on, as config.json has them.

    Returns:
        Name and arguments, as `zoo.evaluation.data.data_module` takes them.

    Raises:
        ZooError: if there is no such data set, or an argument does not fit.
    """
    from zoo.evaluation.data import data_class

    name, words = args.data, _split(args.settings)
    if args.images is not None:
        if name is not None or "root" in words:
            raise ZooError("--images FOLDER is --data ImageFolder --set root=FOLDER; give either.")
        name, words["root"] = "ImageFolder", str(args.images)
    if not words:
        return None if name is None else data_class(name).__name__, {}
    cls = data_class(name or (own() or {}).get("class_path"))
    return cls.__name__, _typed(cls, words)


def _run(args: argparse.Namespace) -> None:
    """List all data sets, or describe one and draw some of its examples."""
    from zoo import datamodules

    if args.name is None:
        if args.settings or args.preview is not None or args.n is not None:
            raise ZooError("--set, --preview and -n are about one data set; name it.")
        for name in datamodules.__all__:
            print("\n".join(_lines(name, getattr(datamodules, name))))
        return
    name = in_any_case(args.name, datamodules.__all__)
    if name not in datamodules.__all__:
        raise ZooError(f"there is no data set {name!r}; {nearest(name, datamodules.__all__)}")
    _check_preview(args.preview, args.n)
    values = _split(args.settings)
    module = _built(getattr(datamodules, name), values)
    if values.keys() <= SHELVED:
        _check_files(module, values)
    module.prepare_data()
    module.setup()
    facts = module.facts() | {"batch": _batch(next(iter(module.train_dataloader())))}
    width = max(map(len, facts))
    print(f"{name}: {module.summary()}")
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


def _built(cls: "type[DataModule]", words: Mapping[str, str]) -> "DataModule":
    """A DataModule from words of the command line.

    Raises:
        ZooError: if an argument is unknown, missing, or of another type.
        ValueError: if the DataModule refuses one.
    """
    values = _typed(cls, words)
    for key, parameter in arguments(cls).items():
        if parameter.default is parameter.empty and key not in values:
            raise ZooError(f"{cls.__name__} needs its argument {key}; add --set {key}=VALUE.")
    return cls(**values)


def _typed(cls: "type[DataModule]", words: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of a DataModule from words, which its annotations give their types.

    Raises:
        ZooError: if an argument is unknown or of another type.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from zoo.training.messages import explain

    known = arguments(cls)
    parser = ArgumentParser(exit_on_error=False)
    for key in words:
        if key not in known:
            raise ZooError(f"{cls.__name__} has no argument {key!r}; {nearest(key, known)}")
        parser.add_argument(f"--{key}", type=known[key].annotation)
    try:
        return vars(parser.parse_args([f"--{key}={word}" for key, word in words.items()]))
    except ArgumentError as error:
        raise ZooError(explain(str(error), [], {})) from None


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
