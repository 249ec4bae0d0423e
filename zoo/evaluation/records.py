"""Metrics from what was measured: here they are rounded, and their errors are found."""

import math

from torch import Tensor

from zoo.checkpoints.metrics import Metric
from zoo.metrics import perplexity


def rounded(
    name: str,
    value: float,
    unit: str,
    kind: str,
    count: int,
    standard_error: float | None,
    monte_carlo_error: float = 0.0,
    digits: int = 4,
) -> Metric:
    """A metric whose errors are known.

    Args:
        name: Of the metric.
        value: Its value.
        unit: Of the value.
        kind: What sort of number it is.
        count: Number of data.
        standard_error: That over data, if it has one.
        monte_carlo_error: That over draws.
        digits: Decimals that are kept.
    """
    return Metric(
        name=name,
        value=round(value, digits),
        unit=unit,
        kind=kind,
        standard_error=None if standard_error is None else round(standard_error, digits),
        monte_carlo_error=round(monte_carlo_error, 5),
        count=count,
    )


def mean_metric(
    name: str, values: Tensor, noise: Tensor | None, unit: str, kind: str, digits: int = 4
) -> Metric:
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
    spread = values.std().item() / math.sqrt(n) if n > 1 else None
    error = 0.0 if noise is None else math.sqrt(noise.sum()) / n
    return rounded(name, values.mean().item(), unit, kind, n, spread, error, digits)


def rate_metric(name: str, right: Tensor, of: Tensor) -> Metric:
    r"""A metric that is a share r of items, which come in data of several.

    Its standard error is that of a ratio of means, $\sqrt{\sum_n (a_n - r b_n)^2} / \sum_n b_n$.

    Args:
        name: Of the metric.
        right: Items of each datum that count, a, (N,).
        of: Items of each datum, b, (N,).
    """
    rate = right.sum() / of.sum()
    error = (right - rate * of).square().sum().sqrt() / of.sum()
    return rounded(name, rate.item(), "share", f"of {int(of.sum()):,} items", len(of), error.item())


def perplexity_metric(name: str, log_prob: Tensor, items: Tensor) -> Metric:
    """A metric of how well parts of data are predicted.

    Args:
        name: Of the metric.
        log_prob: Of the part of each datum, in nats, (N,).
        items: How many it has, (N,).
    """
    value, error = perplexity(log_prob, items)
    kind = f"exp(-log p an item), {int(items.sum()):,} items given the rest of their data"
    return rounded(name, value, "equally likely items", kind, len(items), error)
