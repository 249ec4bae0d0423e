"""Folders of data sets on disk, their inventory, and the error for missing data."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

from torch import Tensor


class DataError(OSError):
    """Error for data that is missing, damaged or too little; it names the file and a remedy."""


@dataclass(frozen=True)
class Inventory:
    """Files of a data set that are on disk or missing, found without reading them.

    Args:
        folder: Folder of its files; None for a set without files.
        found: Names of the files or folders that are there.
        missing: Names of required files or folders that are missing.
        remedy: How to get missing files.
    """

    folder: Path | None
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class Example:
    """One example of a data set, for display.

    Args:
        image: Pixels, uint8 (1 or 3, H, W); None for an example of text only.
        text: Its label, caption, factors or words.
    """

    image: Tensor | None
    text: str


def data_dir() -> Path:
    """Return the folder of all data sets: `$ZOO_DATA`, or `latent-zoo` in the user's cache.

    For a user without a home it is in the system's folder of temporary files.
    """
    if folder := os.environ.get("ZOO_DATA"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "latent-zoo"
    except RuntimeError:
        return Path(gettempdir()) / "latent-zoo"


def set_dir(root: str | None, name: str) -> Path:
    """Return the folder of one data set: `name` below `root`, or below `data_dir()` when None.

    A `name` that is an absolute path, or begins with `~`, is the folder itself.
    """
    return (data_dir() if root is None else Path(root).expanduser()) / Path(name).expanduser()


def files_below(root: Path) -> list[Path]:
    """Return all files in a folder and its sub-folders, as relative paths in alphabetical order.

    Links to folders are followed, except links to a folder that contains them. Hidden files and
    folders are skipped.
    """
    found: list[Path] = []
    above: dict[str, set[str]] = {}  # by folder: the real paths of it and its parents
    for folder, subfolders, names in os.walk(root, followlinks=True):
        places = above.pop(folder, {os.path.realpath(folder)})
        inner = {os.path.join(folder, name): name for name in subfolders if name[0] != "."}
        real = {path: os.path.realpath(path) for path in inner}
        above |= {path: places | {real[path]} for path in inner if real[path] not in places}
        subfolders[:] = [name for path, name in inner.items() if path in above]
        found += [Path(folder, name).relative_to(root) for name in names if name[0] != "."]
    return sorted(found, key=Path.as_posix)
