"""`metrics.json`: every number of a card, with how it was measured."""

from pathlib import Path
from typing import Any

from zoo.checkpoints.files import METRICS, WEIGHTS, read_json, sha256, write_json
from zoo.checkpoints.schema import (
    COUNT,
    LINE,
    NUMBER,
    NUMBERS,
    OBJECT,
    SAMPLES,
    SOME,
    check,
    many,
    or_null,
    require,
    take_format,
)


def write_metrics(folder: Path, metrics: list[dict[str, Any]]) -> None:
    """Write `folder/metrics.json`, with the hash of the weights that were measured."""
    weights = sha256(folder / WEIGHTS)
    content = {"format": METRICS_FORMAT, "weights": weights, "metrics": metrics}
    write_json(folder / METRICS, content)


METRICS_FORMAT = 1

_METRIC = {
    "name": LINE,
    "value": NUMBER,
    "unit": LINE,
    "kind": LINE,
    "standard_error": or_null(NUMBER),
    "count": SOME,
    "seed": COUNT,
    "dataset": LINE,
    "split": LINE,
}

_METRIC_MAY = {
    "importance_samples": SAMPLES,
    "monte_carlo_error": NUMBER,
    "quick": OBJECT,
    "job": LINE,
}

_QUICK = {"value": NUMBER, "standard_error": or_null(NUMBER), "count": SOME}

_QUICK_MAY = {"importance_samples": SAMPLES, "monte_carlo_error": NUMBER, "seeds": NUMBERS}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read `folder/metrics.json`; a folder without one has no metrics.

    Raises:
        ZooError: if it is damaged, or an entry lacks what every metric has.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    raw = read_json(path)
    take_format(raw, path, (METRICS_FORMAT,))
    require(str(path), raw, ("metrics",))
    check(f"{path}: ", raw, {"metrics": many(OBJECT)})
    metrics: list[dict[str, Any]] = raw["metrics"]
    for i, metric in enumerate(metrics):
        require(f"{path}: metric {i}", metric, _METRIC)
        check(f"{path}: metric {i}: ", metric, {**_METRIC, **_METRIC_MAY})
        if "quick" in metric:
            require(f"{path}: quick of metric {i}", metric["quick"], _QUICK)
            check(f"{path}: quick of metric {i}: ", metric["quick"], {**_QUICK, **_QUICK_MAY})
    return metrics
