"""The files of a checkpoint: names, reading, hashing, atomic writing."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from zoo.errors import ZooError, brief, shown

CONFIG = "config.json"

WEIGHTS = "model.safetensors"

GOLDEN = "golden.safetensors"

METRICS = "metrics.json"

RECIPE = "recipe.yaml"

SAMPLES = "samples.png"

MEANS = "means.png"

SAMPLE_TEXTS = "samples.txt"

CARD = "README.md"

EXHIBITS = ("parameters.png", "parameters.txt", "examples.png", "examples.txt")
"""What a family may show besides: its parameters, and what it does with test data."""

GALLERY = (
    SAMPLES,
    MEANS,
    SAMPLE_TEXTS,
    "reconstructions.png",
    "interpolations.png",
    "traversals.png",
    "directions.png",
    "map.png",
    *EXHIBITS,
)
"""Everything that a card shows, in its order."""

ASSETS = ("vocabulary.json", "tokenizer.json")
"""Text files that say what the numbers in a model's data stand for; a family may need them."""

FILES = (*ASSETS, CONFIG, WEIGHTS, GOLDEN, METRICS, RECIPE, *GALLERY, CARD)
"""Every file that a checkpoint may have; nothing else is pulled or pushed."""

JSON_LIMIT = 2**17

ASSET_LIMIT = 2**24
"""Bytes that a JSON file, the header of a weights file, and an asset may have."""


def read_json(path: Path, expected_sha256: str | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ZooError: if the file is missing, unreadable, not the expected one, no JSON, or no object.
    """
    try:
        if path.exists() and not path.is_file():  # from a pipe one would read for ever
            raise OSError("it is no plain file")
        with path.open("rb") as file:
            text = file.read(JSON_LIMIT + 1)
        if len(text) > JSON_LIMIT:
            raise ValueError(f"it has more than {JSON_LIMIT:,} bytes")
        if expected_sha256 not in (None, hashlib.sha256(text).hexdigest()):
            raise ZooError(not_as_pinned(path))
        raw = json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except FileNotFoundError:
        raise ZooError(
            f"{path.parent} has no {path.name}, so it is no checkpoint folder; "
            "give a folder written by save_pretrained or `zoo export`."
        ) from None
    except ZooError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(
            f"{path} cannot be read as JSON ({brief(error)}); download or export it again."
        ) from None
    if not isinstance(raw, dict):
        raise ZooError(f"{path} holds {type(raw).__name__}, not an object; export it again.")
    return raw


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key that stands twice each reader would take another value."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} stands twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    """A JSON number; NaN and Infinity, which Python's reader would take, are none."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is no number that JSON has")
    return value


def not_as_pinned(path: Path) -> str:
    """What is wrong with a file of the package that is not the one of its release."""
    return (
        f"{path} is missing or damaged (its sha256 is not the pinned one); "
        "install latent-zoo again."
    )


def sha256(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a neighbour of `path`, then rename it: never half a file under its name.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch(exist_ok=False)  # what is there already may be a link to another file
        mode = part.stat().st_mode  # as the user's umask wants it; safetensors would make it 600
        write(part)
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise ZooError(
            f"cannot write {path} ({error.strerror or error}); choose a folder you can write to."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, indented for readers.

    Raises:
        ZooError: if a number is not finite, which JSON has no word for, or it cannot be written.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ZooError(f"{path} cannot hold what is to be written ({error}); mend it.") from None
    write_text(path, text + "\n")


def read_assets(folder: Path, sha256s: Mapping[str, str]) -> dict[str, str]:
    """Read those text files of a checkpoint that its config.json has a hash of.

    Raises:
        ZooError: if one is missing, too large, damaged, or no text.
    """
    assets = {}
    for name in ASSETS:
        path = folder / name
        if name not in sha256s:
            continue
        if not path.is_file() or path.stat().st_size > ASSET_LIMIT or sha256(path) != sha256s[name]:
            raise ZooError(
                f"{path} is missing, damaged or was changed (its sha256 is not the recorded one); "
                "download or export it again."
            )
        try:
            assets[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ZooError(f"{path} is no text; download or export it again.") from None
    return assets


def copy(folder: Path, to: Path) -> None:
    """Copy a checkpoint, so that `to` holds this one and no file of another.

    config.json goes first and comes last: a copy that breaks off is no checkpoint.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    names = [name for name in FILES if name != CONFIG and (folder / name).is_file()]
    try:
        for name in {CONFIG, *FILES} - {*names}:
            (to / name).unlink(missing_ok=True)
    except OSError as error:
        raise ZooError(f"cannot write to {to} ({error}); choose another folder.") from None
    for name in [*names, CONFIG]:
        write_atomically(to / name, partial(shutil.copyfile, folder / name))
