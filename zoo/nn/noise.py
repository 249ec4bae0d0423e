"""Noise that hides parts of data."""

import torch
from torch import Tensor


def masked(x: Tensor, share: float) -> Tensor:
    """Set each number to zero with a probability (Vincent et al. 2008, section 2.3).

    Args:
        x: Data of any shape.
        share: The probability.
    """
    return x * (torch.rand_like(x) >= share)
