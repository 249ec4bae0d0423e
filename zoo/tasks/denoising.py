"""Restoration of images whose pixels were hidden."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.checks import check_images
from zoo.nn.noise import masked


class Denoised(NamedTuple):
    """Noisy data, their reconstructions, and the errors of both.

    Args:
        noisy: Data with noise, (B, *x_shape).
        restored: Their reconstructions, (B, *x_shape).
        before: Mean squared error per number of the noisy data, (B,).
        after: The same for the reconstructions.
    """

    noisy: Tensor
    restored: Tensor
    before: Tensor
    after: Tensor


@torch.no_grad()
def denoise(model: LatentVariableModel, x: Any, noise: float = 0.5) -> Denoised:
    """Set a share of the pixels to zero, as in a denoising autoencoder's training, and reconstruct.

    Args:
        model: A model of images with `encode` and `decode`.
        x: Images (B, C, H, W) in [0, 1].
        noise: The share, from 0 to 1; `torch.manual_seed` governs the choice of pixels.
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is {noise}, but must be a share of pixels from 0 to 1.")
    x = model.as_input(x)
    check_images(x, model.x_shape)
    noisy = masked(x, noise)
    restored = model.reconstruct(noisy)
    before, after = ((y - x).square().flatten(1).mean(1) for y in (noisy, restored))
    return Denoised(noisy, restored, before, after)
