"""`zoo data`: which data sets there are, what of them is on disk, and how they look."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo import datamodules
from zoo.checkpoints.arguments import arguments
from zoo.checkpoints.files import write_atomically
from zoo.datamodules.base import DataModule
from zoo.datamodules.files.places import Inventory
from zoo.datamodules.shelf import Entry, entries, entry
from zoo.errors import ZooError, nearest
from zoo.plots.contact_sheet import sheet
from zoo.training.messages import explain

EXAMPLES, MOST_EXAMPLES = 24, 1000
MOST_NAMES = 6
# Arguments that an inventory is about; with any other, only the set itself knows its files.
SHELVED = {"root", "source"}


def run(name: str | None, settings: Sequence[str], preview: Path | None, n: int | None) -> None:
    """List all data sets, or describe one and draw some of its examples.

    Args:
        name: Name of a DataModule; None lists all.
        settings: Arguments of the DataModule, each "key=value".
        preview: PNG file to draw examples to, or None.
        n: How many to draw; 24 when None.

    Raises:
        ZooError: if an argument is wrong, or files are missing.
        DataError: if files are missing or damaged.
    """
    if name is None:
        if settings or preview is not None or n is not None:
            raise ZooError("--set, --preview and -n are about one data set; name it.")
        for each, shelved in entries().items():
            print("\n".join(_lines(each, shelved)))
        return
    if name not in datamodules.__all__:
        raise ZooError(f"there is no data set {name!r}; {nearest(name, datamodules.__all__)}")
    _check_preview(preview, n)
    shelved = entry(name)
    values = _split(settings)
    module = _built(name, shelved.module, values)
    if values.keys() <= SHELVED:
        _check_files(name, module, values)
    module.prepare_data()
    module.setup()
    facts = module.facts() | {"batch": _batch(next(iter(module.train_dataloader())))}
    width = max(map(len, facts))
    print(f"{name}: {shelved.summary}")
    print("\n".join(f"  {key:{width}}  {value}" for key, value in facts.items()))
    if preview is not None:
        page = sheet(module.examples(n or EXAMPLES))
        write_atomically(preview.expanduser(), partial(page.save, format="PNG"))
        print(preview)


def _lines(name: str, shelved: Entry) -> list[str]:
    """What the list of all sets says of one."""
    sources = [
        f"{source}: {_state(inventory)}" if source else _state(inventory)
        for source, inventory in shelved.sources.items()
    ]
    return [f"{name:16}  {shelved.summary}", *(f"{'':16}  {line}" for line in sources)]


def _state(inventory: Inventory) -> str:
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


def _built(name: str, module: type[DataModule], values: Mapping[str, str]) -> DataModule:
    """A DataModule from words of the command line, which its annotations give their types.

    Raises:
        ZooError: if an argument is unknown, missing, or of another type.
        ValueError: if the DataModule refuses one.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    known = arguments(module)
    for key in values:
        if key not in known:
            raise ZooError(f"{name} has no argument {key!r}; {nearest(key, known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in values:
            raise ZooError(f"{name} needs its argument {key}; add --set {key}=VALUE.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(module)
    try:
        config = parser.parse_args([f"--{key}={value}" for key, value in values.items()])
    except ArgumentError as error:
        raise ZooError(explain(str(error), [], {})) from None
    return module(**vars(config))


def _check_files(name: str, module: DataModule, values: Mapping[str, str]) -> None:
    """Refuse to go on without files: to describe a set must not download it.

    Raises:
        ZooError: if files are missing.
    """
    inventory = module.inventory(values.get("root"))
    if isinstance(inventory, dict):
        source = str(getattr(module, "source", ""))
        inventory = inventory.get(source, Inventory(None))
    if inventory.missing:
        raise ZooError(f"{name}: {_state(inventory)}.")


def _batch(batch: Mapping[str, Any]) -> str:
    """The keys of a batch, with the type and shape of each."""
    return ", ".join(
        f"{key} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"{key} {len(value)} strings"
        for key, value in batch.items()
    )
