"""Where data sets live on disk, and the error for when they do not."""

import os
from pathlib import Path


class DataError(OSError):
    """Data that is missing, damaged or too little; the message says which file and what to do."""


def data_dir() -> Path:
    """Return the folder of all data sets: `$ZOO_DATA`, or `latent-zoo` in the user's cache."""
    if folder := os.environ.get("ZOO_DATA"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "latent-zoo"
