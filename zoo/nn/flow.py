"""Autoregressive flows of zuko; this is the only module that imports zuko."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from zoo.distributions.factorised import bounded
from zoo.distributions.flow import LogTails
from zoo.nn.mlp import ACTIVATIONS, Activation
from zoo.nn.precision import AtLeastFloat32

_validates = Distribution._validate_args
from zuko.flows import MaskedAutoregressiveTransform  # noqa: E402
from zuko.transforms import MonotonicAffineTransform  # noqa: E402

# zuko turns off the validation of arguments for the whole process, which is the user's choice.
Distribution.set_default_validate_args(_validates)


def _affine(shift: Tensor, scale: Tensor) -> MonotonicAffineTransform:
    """Affine step of one number, whose scale is bounded like those of posteriors."""
    return MonotonicAffineTransform(shift, bounded(scale))


class AutoregressiveFlow(AtLeastFloat32, nn.ModuleList):
    """Masked affine transforms of vectors, every second one in reverse order.

    Args:
        dim: Size of a vector, D.
        steps: Number of transforms, T.
        context: Size of the context, C.
        hidden: Widths of the hidden layers of each transform.
        activation: Non-linearity between layers.
    """

    def __init__(
        self, dim: int, steps: int, context: int, hidden: Sequence[int], activation: Activation
    ) -> None:
        order = torch.arange(dim)
        super().__init__(
            MaskedAutoregressiveTransform(
                dim,
                context,
                order=order if step % 2 == 0 else order.flip(0),
                hidden_features=hidden,
                activation=ACTIVATIONS[activation],
                univariate=_affine,
            )
            for step in range(steps)
        )

    def given(self, context: Tensor) -> list[Any]:
        """The transforms given contexts of shape (B, C), and last the bound of outliers."""
        return [*(step(context) for step in self), LogTails()]
