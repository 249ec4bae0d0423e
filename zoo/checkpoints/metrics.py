"""`metrics.json`: every number of a card, with how it was measured."""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

from zoo.checkpoints.config import read_config
from zoo.checkpoints.files import CONFIG, METRICS, WEIGHTS, read_json, sha256, write_json
from zoo.checkpoints.schema import (
    COUNT,
    LINE,
    NUMBER,
    NUMBERS,
    OBJECT,
    SAMPLES,
    SOME,
    Kind,
    check,
    many,
    or_null,
    require,
    take_format,
)
from zoo.errors import shown

METRICS_FORMAT = 1

SETTINGS = Kind(
    "an object of arguments", lambda v: OBJECT.test(v) and all(map(str.isidentifier, v))
)


@dataclass(frozen=True, kw_only=True)
class Quick:
    """A metric's value by the quick protocol; its fields are those of `Metric`.

    Fields are annotated with what they must be in the file, where those whose default is None may
    be absent. The order of the fields is that of the file.
    """

    value: Annotated[float, NUMBER]
    standard_error: Annotated[float | None, or_null(NUMBER)]
    monte_carlo_error: Annotated[float | None, NUMBER] = None
    count: Annotated[int, SOME]
    importance_samples: Annotated[int | None, SAMPLES] = None
    seeds: Annotated[dict[str, float] | None, NUMBERS] = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that was measured, and how; fields are annotated as those of `Quick`.

    Args:
        name: Such as `nll`.
        value: The number, rounded; a whole number where something was counted.
        unit: Of the value and its errors.
        kind: What sort of number it is, such as an estimate, and of what.
        standard_error: How far another test set would be off; None of a single datum.
        monte_carlo_error: How far the same data would be off with another seed.
        count: Number of data.
        importance_samples: For each datum, where there are any.
        seed: Of all draws.
        dataset: Name of the DataModule; empty where only the caller knows the data.
        split: Its part, empty likewise.
        job: Name of the job that measured it, None of `likelihood`.
        quick: The same by the quick protocol.
        seeds: The value by seed of training, the checkpoint's own first, where others are recorded.
        settings: Arguments of the data that are not those of the model's training.
    """

    name: Annotated[str, LINE]
    value: Annotated[float, NUMBER]
    unit: Annotated[str, LINE]
    kind: Annotated[str, LINE]
    standard_error: Annotated[float | None, or_null(NUMBER)]
    monte_carlo_error: Annotated[float | None, NUMBER] = None
    count: Annotated[int, SOME]
    importance_samples: Annotated[int | None, SAMPLES] = None
    seed: Annotated[int, COUNT] = 0
    dataset: Annotated[str, LINE] = ""
    split: Annotated[str, LINE] = ""
    job: Annotated[str | None, LINE] = None
    quick: Annotated[Quick | None, OBJECT] = None
    seeds: Annotated[dict[str, float] | None, NUMBERS] = None
    settings: Annotated[dict[str, Any] | None, SETTINGS] = None

    def with_quick(self, other: "Metric") -> "Metric":
        """This metric, with another beside it that the quick protocol gave."""
        shared = {f.name: getattr(other, f.name) for f in fields(Quick)}
        return replace(self, quick=Quick(**shared))

    def at_quick(self) -> "Metric":
        """This metric with the quick value in place of its own."""
        return self if self.quick is None else replace(self, **_entry(self.quick), quick=None)

    @property
    def measured_on(self) -> str:
        """What was measured, such as `MNIST test, 10,000 examples, seed 0`."""
        given = ", ".join(f"{key} {shown(v)}" for key, v in (self.settings or {}).items())
        data = f"{self.dataset} ({given})" if given else self.dataset
        return f"{data} {self.split}, {self.count:,} examples, seed {self.seed}"

    @property
    def words(self) -> str:
        """The value with its error, unit and kind, in a line."""
        error = f" ± {self.standard_error}" if self.standard_error else ""
        return f"{self.value}{error} {self.unit}, {self.kind}"

    @property
    def row(self) -> tuple[object, ...]:
        """Cells of a card's table, under `HEAD`."""
        error = "" if self.standard_error is None else self.standard_error
        return self.name, self.value, error, self.unit, self.kind, self.measured_on


HEAD = ("metric", "value", "standard error", "unit", "what", "data")


def _kinds(cls: type) -> dict[str, Kind]:
    """What the fields of a record are annotated with."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


KINDS = {cls: _kinds(cls) for cls in (Metric, Quick)}

R = TypeVar("R", Metric, Quick)


def write_metrics(folder: Path, metrics: Iterable[Metric]) -> None:
    """Write `folder/metrics.json`, with the hash of the weights that were measured."""
    weights = sha256(folder / WEIGHTS)
    content = {"format": METRICS_FORMAT, "weights": weights, "metrics": entries(metrics)}
    write_json(folder / METRICS, content)


class Stated(NamedTuple):
    """What `metrics.json` says.

    Args:
        weights: The sha256 of the weights that were measured; empty if it does not say.
        metrics: The numbers.
    """

    weights: str
    metrics: list[Metric]


def stated_metrics(folder: Path, expected_sha256: str | None = None) -> Stated:
    """Read `folder/metrics.json`, of whatever weights; a folder without one states no metrics.

    Raises:
        ZooError: if it is damaged, not the expected one, or an entry lacks what every metric has.
    """
    path = folder / METRICS
    if not path.is_file() and expected_sha256 is None:
        return Stated("", [])
    raw = read_json(path, expected_sha256)
    take_format(raw, path, (METRICS_FORMAT,))
    return Stated(str(raw.get("weights", "")), metrics_of(raw, path))


def read_metrics(folder: Path, expected_sha256: str | None = None) -> list[Metric]:
    """Read the metrics of `folder/metrics.json`, none if they were measured on other weights.

    Raises:
        ZooError: as `stated_metrics`.
    """
    weights, metrics = stated_metrics(folder, expected_sha256)
    return metrics if metrics and weights == weights_sha256(folder) else []


def weights_sha256(folder: Path) -> str:
    """The hash of the weights, as config.json records it and a load checks it."""
    known = read_config(folder).sha256 if (folder / CONFIG).is_file() else {}
    return known.get(WEIGHTS) or sha256(folder / WEIGHTS)


def entries(metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    """Metrics as a JSON file has them."""
    return [_entry(metric) for metric in metrics]


def metrics_of(raw: dict[str, Any], path: Path) -> list[Metric]:
    """The metrics under the key `metrics` of a JSON file.

    Raises:
        ZooError: if there are none, or an entry lacks what every metric has.
    """
    require(str(path), raw, ("metrics",))
    check(f"{path}: ", raw, {"metrics": many(OBJECT)})
    metrics = []
    for i, entry in enumerate(raw["metrics"]):
        metric = _record(Metric, f"{path}: metric {i}", entry)
        if "quick" in entry:
            quick = _record(Quick, f"{path}: quick of metric {i}", entry["quick"])
            metric = replace(metric, quick=quick)
        metrics.append(metric)
    return metrics


def _record(cls: type[R], place: str, entry: dict[str, Any]) -> R:
    """What an object of the file says; keys that are no field are passed over."""
    kinds = KINDS[cls]
    require(place, entry, (f.name for f in fields(cls) if f.default is not None))
    check(f"{place}: ", entry, kinds)
    return cls(**{name: entry[name] for name in kinds if name in entry})


def _entry(record: Metric | Quick) -> dict[str, Any]:
    """The object of the file that says this, without what is None and may be absent."""
    entry = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if value is not None or field.default is MISSING:
            entry[field.name] = _entry(value) if isinstance(value, Quick) else value
    return entry
