"""Standard errors of statistics that are no means: the delete-half jackknife."""

from collections.abc import Callable
from statistics import stdev
from typing import NamedTuple

import torch
from torch import Tensor

HALVES = 10  # of a set, for the errors of what is no mean


class Distance(NamedTuple):
    """How two sets of features differ, and the errors of that.

    Args:
        value: The distance.
        standard_error: How far it would be off with other real data.
        monte_carlo_error: How far, with other draws.
    """

    value: float
    standard_error: float
    monte_carlo_error: float


Statistic = Callable[[Tensor, Tensor], dict[str, Tensor]]


def with_errors(statistic: Statistic, real: Tensor, generated: Tensor) -> dict[str, Distance]:
    r"""What a statistic finds in two sets of features, by name, with its errors.

    They are the spread over random halves of one set or the other: that of halves drawn without
    replacement is $\sigma / \sqrt n$, as is that of the whole (the delete-half jackknife, Shao & Wu
    1989, https://doi.org/10.1214/aos/1176347263). It holds for what is not smooth, too.

    Args:
        statistic: What to find, scalars by name.
        real: Features (N, D).
        generated: Features (M, D).
    """
    whole = statistic(real, generated)
    of_data = errors(lambda half: statistic(half, generated), real)
    of_draws = errors(lambda half: statistic(real, half), generated)
    return {
        name: Distance(float(value), of_data[name], of_draws[name]) for name, value in whole.items()
    }


def errors(statistic: Callable[[Tensor], dict[str, Tensor]], x: Tensor) -> dict[str, float]:
    """The spread of what a statistic finds, by name, over random halves of a set (N, ...)."""
    halves = [x[torch.randperm(len(x))[: len(x) // 2].to(x.device)] for _ in range(HALVES)]
    found = [statistic(half) for half in halves]
    return {name: stdev(float(values[name]) for values in found) for name in found[0]}
