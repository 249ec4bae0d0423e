"""The folder that a checkpoint is: config.json, model.safetensors, golden.safetensors.

`config.json` is the constructor call and says how inputs were prepared:

    {"format": 1, "family": "VAE", "init_args": {...}, "data": {"class_path": "MNIST", ...},
     "summary": {"latent_shape": [40], "parameters": 1234, "verbs": [...]},
     "sha256": {"model.safetensors": "..."}, "license": "apache-2.0", "base_model": null}

This module reads and writes the files and imports torch only to handle weights, so that a listing
stays quick. It knows no family.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
GOLDEN = "golden.safetensors"
METRICS = "metrics.json"
RECIPE = "recipe.yaml"
SAMPLES = "samples.png"
CARD = "README.md"
FILES = (CONFIG, WEIGHTS, GOLDEN, METRICS, RECIPE, SAMPLES, CARD)
"""Every file that a checkpoint may have; nothing else is pulled or pushed."""


@dataclass(frozen=True)
class Config:
    """What config.json says.

    Args:
        family: Name of the class in `zoo.models`.
        init_args: Its constructor arguments, plain JSON values.
        data: The DataModule that prepared the inputs, as `class_path` and `init_args`.
        summary: Facts for listings and cards: `latent_shape`, `parameters`, `verbs`, and what the
            family says of itself: `about`, `tags`, `task`, `datum`, `limits`.
        sha256: Hash of each binary file.
        license: Licence of the weights, an SPDX identifier in lower case.
        base_model: Name of the checkpoint that this one was fine-tuned from.
    """

    family: str
    init_args: dict[str, Any]
    data: dict[str, Any] | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    license: str = "apache-2.0"
    base_model: str | None = None


_TYPES: dict[str, tuple[type, ...]] = {
    "family": (str,),
    "init_args": (dict,),
    "data": (dict, type(None)),
    "summary": (dict,),
    "sha256": (dict,),
    "license": (str,),
    "base_model": (str, type(None)),
}

_SUMMARY: dict[str, type] = {
    "latent_shape": list,
    "parameters": int,
    "verbs": list,
    "about": str,
    "tags": list,
    "task": str,
    "datum": str,
    "limits": str,
}


def _read_format_1(raw: dict[str, Any], path: Path) -> Config:
    """Format 1: the fields of `Config`, `family` and `init_args` required."""
    for key in ("family", "init_args"):
        if key not in raw:
            raise ZooError(f"{path} has no {key!r}; export or download the checkpoint again.")
    for key, value in raw.items():
        if key not in _TYPES:
            raise ZooError(f"{path} has an unknown key {key!r}; {nearest(key, _TYPES)}")
        if not isinstance(value, _TYPES[key]):
            wanted = " or ".join(t.__name__ for t in _TYPES[key])
            raise ZooError(f"{path}: {key!r} must be {wanted}, not {type(value).__name__}.")
    data, summary = raw.get("data"), raw.get("summary", {})
    if data is not None and not (
        isinstance(data.get("class_path"), str) and isinstance(data.get("init_args", {}), dict)
    ):
        raise ZooError(f"{path}: 'data' must have a class_path and init_args; export it again.")
    for key, value in summary.items():
        if key in _SUMMARY and not isinstance(value, _SUMMARY[key]):
            wanted, given = _SUMMARY[key].__name__, type(value).__name__
            raise ZooError(f"{path}: 'summary' must have {key} as {wanted}, not {given}.")
    for name, value in raw.get("sha256", {}).items():
        if not isinstance(value, str):
            raise ZooError(f"{path}: 'sha256' of {name} must be str, not {type(value).__name__}.")
    return Config(**raw)


READERS: dict[int, Callable[[dict[str, Any], Path], Config]] = {1: _read_format_1}
"""One reader for every format ever written; none is ever removed."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ZooError: if the file is missing, unreadable, no JSON, or no object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZooError(
            f"{path.parent} has no {path.name}, so it is no checkpoint folder; "
            "give a folder written by save_pretrained or `zoo export`."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(
            f"{path} cannot be read as JSON ({str(error)[:200]}); download or export it again."
        ) from None
    if not isinstance(raw, dict):
        raise ZooError(f"{path} holds {type(raw).__name__}, not an object; export it again.")
    return raw


def read_config(folder: Path) -> Config:
    """Read `folder/config.json` in whichever format it was written.

    Raises:
        ZooError: if it is missing, damaged, or of a format that this version does not know.
    """
    path = folder / CONFIG
    raw = read_json(path)
    number = raw.pop("format", None)
    if isinstance(number, bool) or not isinstance(number, int):
        raise ZooError(f"{path} has no 'format' number; export or download the checkpoint again.")
    if number not in READERS:
        raise ZooError(
            f"{path} is of format {number}, and this version reads "
            f"{', '.join(map(str, sorted(READERS)))}; upgrade latent-zoo."
        )
    return READERS[number](raw, path)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read `folder/metrics.json`; a folder without one has no metrics.

    Raises:
        ZooError: if it is damaged, or an entry lacks what every metric has.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    metrics = read_json(path).get("metrics")
    wanted = {"name", "value", "unit", "kind", "standard_error"}
    if not isinstance(metrics, list) or not all(
        isinstance(metric, dict) and wanted <= metric.keys() for metric in metrics
    ):
        raise ZooError(
            f"{path} must hold a list 'metrics' whose entries have {', '.join(sorted(wanted))}; "
            "measure them again with `zoo evaluate --write`."
        )
    return metrics


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
        part.touch()
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
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, indented for readers."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_config(folder: Path, config: Config) -> None:
    """Write `folder/config.json` in the newest format."""
    write_json(folder / CONFIG, {"format": FORMAT, **asdict(config)})


def write_weights(model: "nn.Module", path: Path) -> None:
    """Write a module's weights as safetensors; tied weights are stored once."""
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    def write(part: Path) -> None:
        try:
            save_model(model, str(part), metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, or no right to write
            raise OSError(str(error)) from None

    write_atomically(path, write)


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


def load_weights(model: "nn.Module", path: Path, expected_sha256: str | None) -> None:
    """Load weights strictly: every tensor present, none left over, every shape equal.

    Raises:
        ZooError: if the file is missing, damaged, or does not belong to this model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    if not path.is_file():
        raise ZooError(f"{path.parent} has no {path.name}; download or export it again.")
    if expected_sha256 is not None and sha256(path) != expected_sha256:
        raise ZooError(
            f"{path} is damaged or was changed (its sha256 is not the recorded one); "
            "download or export it again."
        )
    try:
        load_model(model, str(path), strict=True)
    except (SafetensorError, OSError) as error:
        raise ZooError(
            f"{path} is truncated or no safetensors file ({error}); download or export it again."
        ) from None
    except RuntimeError as error:
        raise ZooError(
            f"{path} does not fit the model that config.json builds "
            f"({shorten(str(error), 300)}); download or export it again."
        ) from None


def write_tensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Write named tensors as safetensors."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda part: part.write_bytes(save(plain)))


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read named tensors.

    Raises:
        ZooError: if the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} is missing or damaged ({error}); export it again.") from None
    return tensors


assert {f.name for f in fields(Config)} == set(_TYPES)
