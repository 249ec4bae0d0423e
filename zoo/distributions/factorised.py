"""Distributions over images and codes, always in float32 or better.

Argument validation is off: it costs as much as a small network, and the verbs check their input.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import softsign

HALF = (torch.bfloat16, torch.float16)
LOWEST, HIGHEST = -9.0, 1.5  # range that `bounded` leaves unchanged; trained models have -5 to 1.2


def at_least_float32(x: Tensor) -> Tensor:
    """Upcast half precision: the error of a 784-pixel log-likelihood in bfloat16 is over a nat."""
    return x.float() if x.dtype in HALF else x


def bernoulli(logits: Tensor, event_dims: int) -> Distribution:
    """Independent Bernoulli variables over the last `event_dims` dimensions of `logits`."""
    logits = at_least_float32(logits)
    return Independent(Bernoulli(logits=logits, validate_args=False), event_dims, False)


def gaussian(mean: Tensor, scale: Tensor, event_dims: int) -> Distribution:
    """Independent Gaussians over the last `event_dims` dimensions; `scale` is sigma."""
    mean, scale = at_least_float32(mean), at_least_float32(scale)
    return Independent(Normal(mean, scale, validate_args=False), event_dims, False)


def bounded(log_scale: Tensor) -> Tensor:
    """Bound a network's log sigma, of any shape, to the range from -10 to 2.5.

    On data unlike its training data, a network may give any number, whose exponential is no usable
    scale. Usable values do not change; beyond them, gradients still lead back.
    """
    inside = log_scale.clamp(LOWEST, HIGHEST)
    return inside + softsign(log_scale - inside)


def standard_gaussian(origin: Tensor) -> Distribution:
    """N(0, I) of the shape, type and device of `origin`, (D,)."""
    return gaussian(origin, torch.ones_like(origin), event_dims=1)


def diagonal_gaussian(parameters: Tensor) -> Distribution:
    """N(mu, diag sigma^2) from mu and log sigma side by side, (B, 2 D), the latter `bounded`."""
    mean, log_scale = at_least_float32(parameters).chunk(2, dim=-1)
    return gaussian(mean, bounded(log_scale).exp(), event_dims=1)


def image_likelihood(output: Tensor, log_scale: Tensor | None) -> Distribution:
    """p(x | z) of images: Bernoulli pixels, or Gaussian ones where there is a scale.

    Args:
        output: Output of a decoder, logits or means, (B, C, H, W).
        log_scale: Log s of the Gaussian, (); None for a Bernoulli.
    """
    if log_scale is None:
        return bernoulli(logits=output, event_dims=3)
    scale = bounded(at_least_float32(log_scale)).exp()
    return gaussian(output, scale.expand_as(output), event_dims=3)
