"""The folder that a checkpoint is: config.json, model.safetensors, golden.safetensors.

`config.json` is the constructor call and says how inputs were prepared:

    {"format": 1, "family": "VAE", "init_args": {...}, "data": {"class_path": "MNIST", ...},
     "summary": {"latent_shape": [40], "parameters": 1234, "verbs": [...]},
     "sha256": {"model.safetensors": "..."}, "license": "apache-2.0", "base_model": null}

This module reads and writes the files and imports torch only to handle weights, so that a listing
stays quick. It knows no family.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.checkpoints.files import CONFIG, EXHIBITS, FILES, read_json, write_json
from zoo.checkpoints.paths import portable, without_paths
from zoo.checkpoints.schema import (
    COUNT,
    LINE,
    OBJECT,
    TEXT,
    Kind,
    check,
    forbid_others,
    many,
    or_null,
    require,
    take_format,
)

FORMAT = 1


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


_CAPTIONS = Kind(
    f"captions of {', '.join(EXHIBITS)}",
    lambda v: OBJECT.test(v) and {*v} <= {*EXHIBITS} and all(map(TEXT.test, v.values())),
)

_CONFIG = {
    "family": LINE,
    "init_args": OBJECT,
    "data": or_null(OBJECT),
    "summary": OBJECT,
    "sha256": OBJECT,
    "license": LINE,
    "base_model": or_null(LINE),
}

_DATA = {"class_path": LINE, "init_args": OBJECT}

_SUMMARY = {
    "latent_shape": many(COUNT),
    "parameters": COUNT,
    "verbs": many(LINE),
    "about": TEXT,
    "tags": many(LINE),
    "task": LINE,
    "datum": LINE,
    "limits": TEXT,
    "exhibits": _CAPTIONS,
    "conditions": many(LINE),
}


def _read_format_1(raw: dict[str, Any], path: Path) -> Config:
    """Format 1: the fields of `Config`, `family` and `init_args` required."""
    require(str(path), raw, ("family", "init_args"))
    forbid_others(f"{path} has an unknown key", raw, _CONFIG)
    check(f"{path}: ", raw, _CONFIG)
    if raw.get("data") is not None:
        require(f"{path}: 'data'", raw["data"], ("class_path",))
        check(f"{path}: in 'data', ", raw["data"], _DATA)
    check(f"{path}: in 'summary', ", raw.get("summary", {}), _SUMMARY)
    forbid_others(f"{path}: 'sha256' names an unknown file", raw.get("sha256", {}), FILES)
    check(f"{path}: in 'sha256', ", raw.get("sha256", {}), dict.fromkeys(FILES, LINE))
    return Config(**raw)


READERS: dict[int, Callable[[dict[str, Any], Path], Config]] = {1: _read_format_1}
"""One reader for every format ever written; none is ever removed."""


def read_config(folder: Path, expected_sha256: str | None = None) -> Config:
    """Read `folder/config.json` in whichever format it was written.

    Raises:
        ZooError: if it is missing, damaged, not the expected one, or of a format that this version
            does not know.
    """
    path = folder / CONFIG
    raw = read_json(path, expected_sha256)
    return READERS[take_format(raw, path, READERS)](raw, path)


def write_config(folder: Path, config: Config) -> None:
    """Write `folder/config.json` in the newest format, without paths of this machine."""
    data = config.data
    if data is not None and "init_args" in data:
        data = {**data, "init_args": portable(data["init_args"])}
    config = replace(config, data=data, base_model=without_paths(config.base_model))
    write_json(folder / CONFIG, {"format": FORMAT, **asdict(config)})
