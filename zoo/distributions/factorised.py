"""Distributions over images and codes, always built in float32 or better.

Argument validation is off: it costs as much as a small network, and the verbs check their input.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal


def at_least_float32(x: Tensor) -> Tensor:
    """Upcast half precision: a 784-pixel log-likelihood in bfloat16 is off by more than a nat."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def bernoulli(logits: Tensor, event_dims: int) -> Distribution:
    """Independent Bernoulli variables over the last `event_dims` dimensions of `logits`."""
    logits = at_least_float32(logits)
    return Independent(Bernoulli(logits=logits, validate_args=False), event_dims, False)


def gaussian(mean: Tensor, scale: Tensor, event_dims: int) -> Distribution:
    """Independent Gaussians over the last `event_dims` dimensions; `scale` is sigma."""
    mean, scale = at_least_float32(mean), at_least_float32(scale)
    return Independent(Normal(mean, scale, validate_args=False), event_dims, False)


def standard_gaussian(origin: Tensor) -> Distribution:
    """N(0, I) of the shape, type and device of `origin`, (D,)."""
    return gaussian(origin, torch.ones_like(origin), event_dims=1)


def diagonal_gaussian(parameters: Tensor) -> Distribution:
    """N(mu, diag sigma^2) from mu and log sigma side by side, (B, 2 D)."""
    mean, log_scale = parameters.chunk(2, dim=-1)
    return gaussian(mean, log_scale.exp(), event_dims=1)


def image_likelihood(output: Tensor, log_scale: Tensor | None) -> Distribution:
    """p(x | z) of images: Bernoulli pixels, or Gaussian ones where there is a scale.

    Args:
        output: What a decoder gives, logits or means, (B, C, H, W).
        log_scale: Log s of the Gaussian, (); None for a Bernoulli.
    """
    if log_scale is None:
        return bernoulli(logits=output, event_dims=3)
    return gaussian(output, log_scale.exp().expand_as(output), event_dims=3)
