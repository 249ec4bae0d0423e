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
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zoo.errors import ZooError, brief, nearest, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")

FORMAT = 1
METRICS_FORMAT = 1
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
HEADER_LIMIT = 2**22
ASSET_LIMIT = 2**24
"""Bytes that a JSON file, the header of a weights file, and an asset may have."""


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


class _Kind(NamedTuple):
    """What a value has to be, in words and as a test."""

    words: str
    test: Callable[[Any], bool]


# A text that may be shown: one line, without the control sequences of a terminal.
_LINE = _Kind(
    "a short line of text", lambda v: isinstance(v, str) and v.isprintable() and len(v) < 200
)
_TEXT = _Kind("a paragraph", lambda v: isinstance(v, str) and v.isprintable() and len(v) < 2000)
_COUNT = _Kind("a whole number", lambda v: type(v) is int and 0 <= v < 2**63)
_SOME = _Kind("a whole number above 0", lambda v: _COUNT.test(v) and v > 0)
_SAMPLES = _Kind("1 to 100,000", lambda v: type(v) is int and 1 <= v <= 100_000)  # or it never ends
_NUMBER = _Kind("a number", lambda v: type(v) in (int, float))
_OBJECT = _Kind("an object", lambda v: isinstance(v, dict))


def _many(kind: _Kind) -> _Kind:
    words = f"a list, each entry {kind.words}"
    return _Kind(words, lambda v: type(v) is list and all(map(kind.test, v)))


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.words} or null", lambda v: v is None or kind.test(v))


_CAPTIONS = _Kind(
    f"captions of {', '.join(EXHIBITS)}",
    lambda v: _OBJECT.test(v) and {*v} <= {*EXHIBITS} and all(map(_TEXT.test, v.values())),
)
_NUMBERS = _Kind(
    "an object of numbers", lambda v: _OBJECT.test(v) and all(map(_NUMBER.test, v.values()))
)
_CONFIG = {
    "family": _LINE,
    "init_args": _OBJECT,
    "data": _or_null(_OBJECT),
    "summary": _OBJECT,
    "sha256": _OBJECT,
    "license": _LINE,
    "base_model": _or_null(_LINE),
}
_DATA = {"class_path": _LINE, "init_args": _OBJECT}
_SUMMARY = {
    "latent_shape": _many(_COUNT),
    "parameters": _COUNT,
    "verbs": _many(_LINE),
    "about": _TEXT,
    "tags": _many(_LINE),
    "task": _LINE,
    "datum": _LINE,
    "limits": _TEXT,
    "exhibits": _CAPTIONS,
    "conditions": _many(_LINE),
}
_METRIC = {
    "name": _LINE,
    "value": _NUMBER,
    "unit": _LINE,
    "kind": _LINE,
    "standard_error": _or_null(_NUMBER),
    "count": _SOME,
    "seed": _COUNT,
    "dataset": _LINE,
    "split": _LINE,
}
_METRIC_MAY = {
    "importance_samples": _SAMPLES,
    "monte_carlo_error": _NUMBER,
    "quick": _OBJECT,
    "job": _LINE,
}
_QUICK = {"value": _NUMBER, "standard_error": _or_null(_NUMBER), "count": _SOME}
_QUICK_MAY = {"importance_samples": _SAMPLES, "monte_carlo_error": _NUMBER, "seeds": _NUMBERS}


def _check(place: str, raw: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> None:
    """Raise ZooError that names the first value which is not of its kind."""
    for key, kind in kinds.items():
        if key in raw and not kind.test(raw[key]):
            raise ZooError(
                f"{place}{key!r} must be {kind.words}, not {shown(raw[key])}; "
                "export or download the checkpoint again."
            )


def _require(place: str, raw: Mapping[str, Any], keys: Iterable[str]) -> None:
    for key in keys:
        if key not in raw:
            raise ZooError(f"{place} has no {key!r}; export or download the checkpoint again.")


def _forbid_others(problem: str, raw: Mapping[str, Any], known: Collection[str]) -> None:
    for key in raw:
        if key not in known:
            raise ZooError(f"{problem} {shown(key)}; {nearest(key, known)}")


def _read_format_1(raw: dict[str, Any], path: Path) -> Config:
    """Format 1: the fields of `Config`, `family` and `init_args` required."""
    _require(str(path), raw, ("family", "init_args"))
    _forbid_others(f"{path} has an unknown key", raw, _CONFIG)
    _check(f"{path}: ", raw, _CONFIG)
    if raw.get("data") is not None:
        _require(f"{path}: 'data'", raw["data"], ("class_path",))
        _check(f"{path}: in 'data', ", raw["data"], _DATA)
    _check(f"{path}: in 'summary', ", raw.get("summary", {}), _SUMMARY)
    _forbid_others(f"{path}: 'sha256' names an unknown file", raw.get("sha256", {}), FILES)
    _check(f"{path}: in 'sha256', ", raw.get("sha256", {}), dict.fromkeys(FILES, _LINE))
    return Config(**raw)


READERS: dict[int, Callable[[dict[str, Any], Path], Config]] = {1: _read_format_1}
"""One reader for every format ever written; none is ever removed."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ZooError: if the file is missing, unreadable, no JSON, or no object.
    """
    try:
        if path.exists() and not path.is_file():  # from a pipe one would read for ever
            raise OSError("it is no plain file")
        with path.open("rb") as file:
            text = file.read(JSON_LIMIT + 1)
        if len(text) > JSON_LIMIT:
            raise ValueError(f"it has more than {JSON_LIMIT:,} bytes")
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


def read_config(folder: Path) -> Config:
    """Read `folder/config.json` in whichever format it was written.

    Raises:
        ZooError: if it is missing, damaged, or of a format that this version does not know.
    """
    path = folder / CONFIG
    raw = read_json(path)
    return READERS[_format(raw, path, READERS)](raw, path)


def _format(raw: dict[str, Any], path: Path, known: Collection[int]) -> int:
    """Take the number of the format out of what was read."""
    number = raw.pop("format", None)
    if type(number) is not int:
        raise ZooError(f"{path} has no 'format' number; export or download the checkpoint again.")
    if number not in known:
        raise ZooError(
            f"{path} is of format {shown(number)}, and this version reads "
            f"{', '.join(map(str, sorted(known)))}; upgrade latent-zoo."
        )
    return number


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read `folder/metrics.json`; a folder without one has no metrics.

    Raises:
        ZooError: if it is damaged, or an entry lacks what every metric has.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    raw = read_json(path)
    _format(raw, path, (METRICS_FORMAT,))
    _require(str(path), raw, ("metrics",))
    _check(f"{path}: ", raw, {"metrics": _many(_OBJECT)})
    metrics: list[dict[str, Any]] = raw["metrics"]
    for i, metric in enumerate(metrics):
        _require(f"{path}: metric {i}", metric, _METRIC)
        _check(f"{path}: metric {i}: ", metric, {**_METRIC, **_METRIC_MAY})
        if "quick" in metric:
            _require(f"{path}: quick of metric {i}", metric["quick"], _QUICK)
            _check(f"{path}: quick of metric {i}: ", metric["quick"], {**_QUICK, **_QUICK_MAY})
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


def write_config(folder: Path, config: Config) -> None:
    """Write `folder/config.json` in the newest format."""
    write_json(folder / CONFIG, {"format": FORMAT, **asdict(config)})


def rounded(model: M) -> M:
    """Copy a module, each float32 number rounded to the nearest that float16 has.

    Raises:
        ZooError: if some are beyond what float16 can hold, 65,504.
    """
    copied = _cast(_cast(model, "float32", "float16"), "float16", "float32")
    whole = model.state_dict()
    for name, tensor in copied.state_dict().items():
        if (tensor.isinf() & whole[name].isfinite()).any():
            raise ZooError(f"{name} has numbers beyond 65,504; store the model in full precision.")
    return copied


def _cast(model: M, old: str, new: str) -> M:
    """Copy a module, its numbers of one type as another."""
    import torch

    copied = deepcopy(model)
    for tensor in (*copied.parameters(), *copied.buffers()):
        if tensor.dtype == getattr(torch, old):
            tensor.data = tensor.data.to(getattr(torch, new))
    return copied


def write_weights(model: "nn.Module", path: Path, half: bool = False) -> None:
    """Write a module's weights as safetensors; tied weights are stored once.

    Args:
        model: The module.
        path: The weights file.
        half: Store float32 numbers as float16, which takes half the space.

    Raises:
        ZooError: if some are not finite, or the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    _check_finite(model, "the model has")
    if half:
        model = _cast(model, "float32", "float16")

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


def read_header(path: Path, expected_sha256: str | None = None) -> dict[str, tuple[str, int]]:
    """Read what a weights file says it holds: type and count of the numbers of each tensor.

    Raises:
        ZooError: if the file is missing, damaged, or not the expected one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not path.exists():
            raise ZooError(f"{path.parent} has no {path.name}; download or export it again.")
        if not path.is_file():
            raise OSError("it is no plain file")
        if expected_sha256 is not None and sha256(path) != expected_sha256:
            raise ZooError(
                f"{path} is damaged or was changed (its sha256 is not the recorded one); "
                "download or export it again."
            )
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > HEADER_LIMIT:
                raise OSError(f"its header has more than {HEADER_LIMIT:,} bytes")
        with safe_open(str(path), framework="pt") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {n: (part.get_dtype(), math.prod(part.get_shape())) for n, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise ZooError(
            f"{path} is truncated or no safetensors file ({brief(error)}); "
            "download or export it again."
        ) from None


def build(make: Callable[[], M], header: Mapping[str, tuple[str, int]]) -> M:
    """Build a model, and stop where it outgrows what a weights file holds.

    The arguments in config.json may ask for any size; the weights are there or they are not. The
    constructor is rehearsed on torch's meta device, where nothing takes memory. One that asks for
    the values of tensors comes to no end there, and is stopped when it registers what is too large.

    Args:
        make: Calls the constructor.
        header: What the file holds, as `read_header` says.

    Raises:
        ZooError: if the model has far more numbers than the file.
    """
    import torch

    with _bounded(header), torch.device("meta"):
        try:
            make()
        except ZooError:
            raise
        except Exception:  # that is the constructor's own to say, if it comes again
            pass
    with _bounded(header):
        return make()


@contextmanager
def _bounded(header: Mapping[str, tuple[str, int]]) -> Iterator[None]:
    """Refuse, while a model is built in this thread, more numbers than a file can be meant for."""
    from torch.nn.modules import module as hooks

    held, thread = sum(count for _, count in header.values()), get_ident()

    def at_most(room: int) -> "Callable[[nn.Module, str, Tensor | None], None]":
        seen = set()

        def count(module: "nn.Module", name: str, tensor: "Tensor | None") -> None:
            nonlocal room
            if tensor is None or tensor in seen or get_ident() != thread:
                return
            seen.add(tensor)  # weights that are tied count once
            room -= max(1, tensor.numel())
            if room < 0:
                raise ZooError(
                    f"it asks for a larger model than the one whose weights {WEIGHTS} holds; "
                    "download or export it again."
                )

        return count

    with ExitStack() as stack:
        # Some of the weights may be replaced in the constructor, and some buffers are not stored.
        for register, room in (
            (hooks.register_module_parameter_registration_hook, 2 * held),
            (hooks.register_module_buffer_registration_hook, 2 * held + 2**24),
        ):
            stack.callback(register(at_most(room)).remove)
        yield


def load_weights(model: "nn.Module", path: Path, header: Mapping[str, tuple[str, int]]) -> None:
    """Load weights strictly: every tensor present, none left over, every shape equal, all finite.

    Args:
        model: The module to fill.
        path: The weights file.
        header: What it holds, as `read_header` says.

    Raises:
        ZooError: if the file does not belong to this model, or holds what is no number.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    for name, tensor in model.state_dict().items():
        dtype, _ = header.get(name, ("", 0))
        if dtype and dtype.startswith(("F", "BF")) != tensor.is_floating_point():
            raise ZooError(
                f"{path} holds {name} as {dtype}, and the model that config.json builds as "
                f"{tensor.dtype}; download or export it again."
            )
    try:
        load_model(model, str(path), strict=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ZooError(
            f"{path} does not fit the model that config.json builds ({brief(error)}); "
            "download or export it again."
        ) from None
    _check_finite(model, f"{path} holds")


def _check_finite(model: "nn.Module", holder: str) -> None:
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise ZooError(
                f"{holder} numbers in {name} that are not finite, as training leaves them that "
                "diverged; take an earlier checkpoint."
            )


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
    from safetensors.torch import load_file

    read_header(path)
    tensors: dict[str, Tensor] = load_file(str(path))
    return tensors


assert {f.name for f in fields(Config)} == set(_CONFIG)
