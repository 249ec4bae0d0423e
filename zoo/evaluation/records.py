"""Metrics from columns of numbers, one a datum."""

import math
from typing import Any

from torch import Tensor

from zoo.metrics import (
    perplexity,
)


def mean_metric(
    name: str, values: Tensor, noise: Tensor | None, unit: str, kind: str, digits: int = 4
) -> dict[str, Any]:
    """A metric that is a mean over data.

    Args:
        name: Of the metric.
        values: One a datum, (N,).
        noise: Squared Monte Carlo error of each, (N,); None where there is none.
        unit: Of the values.
        kind: What sort of number it is.
        digits: Decimals that are kept.
    """
    n = len(values)
    values = values.double()
    error = 0.0 if noise is None else math.sqrt(noise.sum()) / n
    return {
        "name": name,
        "value": round(values.mean().item(), digits),
        "unit": unit,
        "kind": kind,
        "standard_error": round(values.std().item() / math.sqrt(n), digits) if n > 1 else None,
        "monte_carlo_error": round(error, 5),
        "count": n,
    }


def rate_metric(name: str, right: Tensor, of: Tensor) -> dict[str, Any]:
    r"""A metric that is a share r of items, which come in data of several.

    Its standard error is that of a ratio of means, $\sqrt{\sum_n (a_n - r b_n)^2} / \sum_n b_n$.

    Args:
        name: Of the metric.
        right: Items of each datum that count, a, (N,).
        of: Items of each datum, b, (N,).
    """
    rate = right.sum() / of.sum()
    error = (right - rate * of).square().sum().sqrt() / of.sum()
    return {
        "name": name,
        "value": round(rate.item(), 4),
        "unit": "share",
        "kind": f"of {int(of.sum()):,} items",
        "standard_error": round(error.item(), 4),
        "monte_carlo_error": 0.0,
        "count": len(of),
    }


def perplexity_metric(name: str, log_prob: Tensor, items: Tensor) -> dict[str, Any]:
    """A metric of how well parts of data are predicted.

    Args:
        name: Of the metric.
        log_prob: Of the part of each datum, in nats, (N,).
        items: How many it has, (N,).
    """
    found = perplexity(log_prob, items)
    return {
        "name": name,
        "value": round(found.value, 4),
        "unit": "equally likely items",
        "kind": f"exp(-log p an item), {int(items.sum()):,} items given the rest of their data",
        "standard_error": None if found.standard_error is None else round(found.standard_error, 4),
        "monte_carlo_error": 0.0,
        "count": len(items),
    }


Metrics = list[dict[str, Any]]
