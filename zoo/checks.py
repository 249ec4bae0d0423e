"""Checks of what users hand to the verbs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torch.compiler import is_exporting

from zoo.batches import check_dict
from zoo.errors import nearest


def check_at_least(low: float, **values: float) -> None:
    """Raise ValueError that names the first value below `low`, or not a number."""
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name} is {value}, but must be at least {low}.")


def check_choice(literal: Any, **values: str) -> None:
    """Raise ValueError that names the first value that is none of a Literal's."""
    for name, value in values.items():
        if value not in get_args(literal):
            raise ValueError(f"{name} cannot be {value!r}; {nearest(value, get_args(literal))}")


def check_batch(batch: Mapping[str, Any], *keys: str) -> None:
    """Raise ValueError that names the first of `keys` that the batch has not."""
    check_dict(batch)
    for key in keys:
        if key not in batch:
            raise ValueError(
                f"the batch has {', '.join(batch) or 'nothing'}, but no {key}; pick other data, or "
                "another model."
            )


def check_latent_dim(latent_dim: int, x_shape: Sequence[int]) -> None:
    """Raise ValueError unless a code has fewer numbers than a datum, and each has one at least."""
    check_at_least(1, latent_dim=latent_dim, **{f"x_shape[{i}]": n for i, n in enumerate(x_shape)})
    if latent_dim >= math.prod(x_shape):
        raise ValueError(
            f"latent_dim is {latent_dim}, but must be less than the {math.prod(x_shape)} numbers "
            "in a datum."
        )


def check_image_shape(x_shape: Sequence[int]) -> None:
    """Raise ValueError unless `x_shape` is (C, H, W), all positive."""
    if len(x_shape) != 3 or min(x_shape) < 1:
        raise ValueError(
            f"x_shape is {tuple(x_shape)}, but must be three positive numbers (C, H, W)."
        )


def check_shape(name: str, x: Tensor, shape: Sequence[int]) -> None:
    """Raise ValueError unless `x` has shape (B, *shape)."""
    if tuple(x.shape[1:]) != tuple(shape) or x.ndim != len(shape) + 1:
        wanted = ", ".join(map(str, ("B", *shape)))
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, but this model was built for ({wanted}); "
            "resize it, add the batch dimension, or pick another model."
        )


def check_images(x: Tensor, x_shape: Sequence[int], missing: bool = False) -> None:
    """Raise ValueError unless `x` is a batch of float images of `x_shape` with values in [0, 1].

    Args:
        x: Images of shape (B, C, H, W).
        x_shape: The model's (C, H, W).
        missing: Whether a NaN is allowed, for a pixel that was not seen.
    """
    check_shape("image", x, x_shape)
    if not x.is_floating_point():
        raise ValueError(f"image has dtype {x.dtype}; divide by 255 to get floats in [0, 1].")
    if x.numel() and not is_exporting():  # which nothing that depends on values can be
        values = x.detach()
        low, high = torch.aminmax(values.nan_to_num(0, math.inf, -math.inf) if missing else values)
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ValueError(
                f"image has values in [{low:.3g}, {high:.3g}], but images are in [0, 1]; "
                "divide by 255, undo the normalisation, or remove the NaNs."
            )


def check_lengths(name: str, x: Tensor, lengths: Tensor, mask: Tensor | None = None) -> None:
    """Raise ValueError unless `lengths`, (B,), and a `mask`, (B, T), fit sequences x (B, T, ...).

    Args:
        name: What x is called.
        x: The sequences.
        lengths: How many steps of each are its own.
        mask: True at these, if there is one.
    """
    size, steps = x.shape[:2]
    if size == 0:
        raise ValueError(f"{name} has no sequences.")
    if lengths.shape != (size,) or lengths.is_floating_point():
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)} and type {lengths.dtype}, but must be a "
            f"whole number for each of the {size} sequences."
        )
    low, high = torch.aminmax(lengths)
    if low < 1 or high > steps:
        raise ValueError(
            f"lengths are {int(low)} to {int(high)}, but must be from 1 to {steps}, the steps that "
            f"{name} has."
        )
    if mask is not None and not torch.equal(mask.sum(1), lengths):
        raise ValueError("mask and lengths do not say the same of how long the sequences are.")


def check_symbols(name: str, x: Tensor, symbols: int) -> None:
    """Raise ValueError unless `x` has whole numbers from 0 to `symbols` - 1."""
    if not x.numel():
        raise ValueError(f"{name} is empty, of shape {tuple(x.shape)}.")
    if x.is_floating_point() or x.dtype == torch.bool:
        raise ValueError(f"{name} has type {x.dtype}, but must have whole numbers.")
    if is_exporting():
        return
    low, high = torch.aminmax(x)
    if low < 0 or high >= symbols:
        raise ValueError(
            f"{name} has numbers from {int(low)} to {int(high)}, but this model knows 0 to "
            f"{symbols - 1}."
        )


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError unless `x` has finite floats."""
    if not x.is_floating_point():
        raise ValueError(f"{name} has type {x.dtype}, but must have floats.")
    if not is_exporting() and not x.isfinite().all():
        raise ValueError(f"{name} has NaN or infinite values; remove or replace them.")


def check_seen(name: str, x: Tensor, shape: Sequence[int]) -> None:
    """Raise ValueError unless `x` has finite floats, or NaNs for what was not seen: (B, *shape)."""
    check_shape(name, x, shape)
    if not x.is_floating_point():
        raise ValueError(f"{name} has type {x.dtype}, but must have floats.")
    if not is_exporting() and x.isinf().any():
        raise ValueError(f"{name} has infinite values; a NaN would mark one as missing.")
