"""Values without the paths of this machine, for files that may be published."""

import os
import re
from collections.abc import Mapping
from typing import Any

_PATH = re.compile(r"/|~|\.\.?[/\\]|\\\\|[A-Za-z]:[/\\]|file:|[a-z][\w+.-]+:/(?!/[^/])")
"""How a path begins that is one of this machine, on its own or as a URI such as sqlite:////x."""

_WITHIN = re.compile(r"""(?<=[\s=,;:'"(\[])/[^/\s,;:'")\]]+/[^\s,;:'")\]]*""")
"""An absolute path amid other words."""


def portable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a DataModule as they may be published: no root, and of other paths the name."""
    return {key: without_paths(value) for key, value in arguments.items() if key != "root"}


def without_paths(value: Any) -> Any:
    """Plain values, nested at will; of each path of this machine only its last part is left."""
    if isinstance(value, Mapping):
        return {without_paths(key): without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(entry) for entry in value]
    return _named(value) if isinstance(value, str) else value


def _named(text: str) -> str:
    if os.path.expanduser(text).rstrip("/") == os.path.expanduser("~"):
        return "."  # whose name is the user's
    # "me/my-vae" is a name, unless there is such a folder here.
    if _PATH.match(text) or ("/" in text and os.path.exists(text)):
        return _last(text) or text
    return _WITHIN.sub(lambda found: _last(found[0]), text)


def _last(path: str) -> str:
    """The last part, whichever system the path is of."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
