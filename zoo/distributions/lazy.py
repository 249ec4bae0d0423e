"""Distributions that ask a network only when they are asked themselves."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

P = ParamSpec("P")
R = TypeVar("R")


class Lazy(Distribution):
    """A distribution that gives what has gradients only if it was made where there were any."""

    def __init__(self, batch_shape: torch.Size, event_shape: torch.Size) -> None:
        self._made_with_gradients = torch.is_grad_enabled()
        super().__init__(batch_shape, event_shape, validate_args=False)


def as_made(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of a lazy distribution compute gradients as it was made, or as values have."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        wanted = any(
            value.requires_grad if isinstance(value, Tensor) else value._made_with_gradients
            for value in (*args, *kwargs.values())
            if isinstance(value, Tensor | Lazy)
        )
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            return method(*args, **kwargs)

    return call
