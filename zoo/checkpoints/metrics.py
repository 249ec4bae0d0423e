"""`metrics.json`: every number of a card, with how it was measured."""

from pathlib import Path
from typing import Any

from zoo.checkpoints.files import METRICS, WEIGHTS, read_json, sha256, write_json
from zoo.checkpoints.schema import (
    _COUNT,
    _LINE,
    _NUMBER,
    _NUMBERS,
    _OBJECT,
    _SAMPLES,
    _SOME,
    _check,
    _format,
    _many,
    _or_null,
    _require,
)


def write_metrics(folder: Path, metrics: list[dict[str, Any]]) -> None:
    """Write `folder/metrics.json`, with the hash of the weights that were measured."""
    weights = sha256(folder / WEIGHTS)
    content = {"format": METRICS_FORMAT, "weights": weights, "metrics": metrics}
    write_json(folder / METRICS, content)


METRICS_FORMAT = 1

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
