"""Which data sets there are, and what of each is on disk."""

from dataclasses import dataclass
from inspect import getdoc

from zoo import datamodules
from zoo.datamodules.base import DataModule
from zoo.datamodules.files.places import Inventory


@dataclass(frozen=True)
class Entry:
    """A data set.

    Args:
        module: Its class.
        summary: What it is, in a line.
        sources: What of it is on disk, by source; of a set with one source under "".
    """

    module: type[DataModule]
    summary: str
    sources: dict[str, Inventory]


def entry(name: str, root: str | None = None) -> Entry:
    """Describe one data set without reading it.

    Args:
        name: One of `datamodules.__all__`.
        root: Folder of all data sets; `$ZOO_DATA` or the user's cache when None.
    """
    module: type[DataModule] = getattr(datamodules, name)
    found = module.inventory(root)
    summary = (getdoc(module) or "").partition("\n")[0]
    return Entry(module, summary, found if isinstance(found, dict) else {"": found})


def entries(root: str | None = None) -> dict[str, Entry]:
    """Describe all data sets by name, without reading them.

    Args:
        root: Folder of all data sets; `$ZOO_DATA` or the user's cache when None.
    """
    return {name: entry(name, root) for name in datamodules.__all__}
