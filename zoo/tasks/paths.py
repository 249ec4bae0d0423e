"""Paths between codes, and traversals of single latent dimensions."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.checks import check_shape
from zoo.verbs import tensor


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of direction and linear interpolation of length."""
    norm_a: Tensor = a.norm()
    norm_b: Tensor = b.norm()
    cosine = (a * b).sum() / (norm_a * norm_b).clamp(min=1e-12)
    angle: Tensor = torch.acos(cosine.clamp(-1, 1))
    if torch.sin(angle) < 1e-6:  # parallel or opposite: the sphere gives no path
        return torch.lerp(a, b, t)
    unit = torch.sin((1 - t) * angle) * (a / norm_a) + torch.sin(t * angle) * (b / norm_b)
    return unit / torch.sin(angle) * torch.lerp(norm_a, norm_b, t)


def datum(model: LatentVariableModel, name: str, x: Any) -> Tensor:
    """One datum as the model takes it, (1, *x_shape); raise ValueError if its shape is another."""
    one = tensor(name, x, model.device)[None]
    check_shape(name, one, model.x_shape)
    return one


def check_real(model: LatentVariableModel, z: Tensor, what: str) -> None:
    """Raise ValueError unless codes are real numbers.

    Args:
        model: Model of the codes.
        z: Codes.
        what: Start of the error's sentence: the function, and why it takes real numbers.
    """
    if not z.is_floating_point():
        raise ValueError(
            f"{what}, but a code of {type(model).__name__} is made of whole numbers, which have no "
            "values in between."
        )


@torch.no_grad()
def interpolate(
    model: LatentVariableModel,
    x0: Any,
    x1: Any,
    steps: int = 8,
    path: Literal["linear", "spherical"] = "linear",
) -> Tensor:
    """Decode the codes on a path from x0's code to x1's.

    Args:
        model: A model with `encode` and `decode`.
        x0: One datum, shape `x_shape`, the start.
        x1: One datum, shape `x_shape`, the end.
        steps: Number of codes on the path, both ends included; at least 2.
        path: `linear`, or `spherical`, which turns directions evenly and suits a Gaussian prior in
            many dimensions (White 2016).

    Returns:
        Data of shape (steps, *x_shape).
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, but a path has at least its 2 ends.")
    if path not in ("linear", "spherical"):
        raise ValueError(f"path is {path!r}; choose linear or spherical.")
    ends = [datum(model, name, x) for name, x in (("x0", x0), ("x1", x1))]
    z0, z1 = model.encode(torch.cat(ends))
    check_real(model, z0, "interpolate goes from code to code in steps")
    t = torch.linspace(0, 1, steps, device=z0.device, dtype=z0.dtype)
    t = t.reshape(-1, *[1] * z0.ndim)  # (steps, 1, ...)
    z = torch.lerp(z0, z1, t) if path == "linear" else _slerp(z0, z1, t)
    return model.decode(z)


@torch.no_grad()
def traverse(
    model: LatentVariableModel,
    x: Any,
    dims: Sequence[int] | None = None,
    span: float = 3.0,
    steps: int = 9,
) -> Tensor:
    """Vary one latent dimension at a time around the code of x.

    Args:
        model: A model with `encode` and `decode` whose codes are vectors.
        x: One datum, shape `x_shape`.
        dims: Latent dimensions to vary; by default all.
        span: Values run from -span to span, in standard deviations of an N(0, I) prior.
        steps: Values per dimension.

    Returns:
        Data of shape (len(dims), steps, *x_shape).

    Raises:
        ValueError: if the codes are not vectors or a dimension does not exist.
    """
    if len(model.latent_shape) != 1:
        raise ValueError(
            f"traverse varies the entries of a vector, but a code of {type(model).__name__} "
            f"has shape {model.latent_shape}."
        )
    if steps < 1:
        raise ValueError(f"steps is {steps}, but at least 1 value a dimension is needed.")
    size = model.latent_shape[0]
    dims = range(size) if dims is None else dims
    for d in dims:
        if not 0 <= d < size:
            raise ValueError(f"there is no latent dimension {d}; they are 0 to {size - 1}.")
    code = model.encode(datum(model, "x", x))  # (1, D)
    z = code.repeat(len(dims), steps, 1)  # (len(dims), steps, D)
    values = torch.linspace(-span, span, steps, device=z.device, dtype=z.dtype)
    for row, d in enumerate(dims):
        z[row, :, d] = values
    rows = model.decode(z.flatten(0, 1))
    return rows.reshape(len(dims), steps, *model.x_shape)
