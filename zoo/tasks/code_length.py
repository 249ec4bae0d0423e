"""The length of discrete codes, in bits."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.base import LatentVariableModel


class CodeLength(NamedTuple):
    """Bits of a discrete code for each number of a datum.

    Args:
        learned: Bits under the model's prior of codes, (B,).
        uniform: Bits under a uniform prior.
    """

    learned: Tensor
    uniform: float


@torch.no_grad()
def code_length(model: LatentVariableModel, x: Any) -> CodeLength:
    r"""Length of the code of a datum, in bits per number of the datum (bits per dimension).

    An ideal coder takes $-\log_2 p(s)$ bits for a code s, and without a prior $T \log_2 K$ for T
    indices into K codes. The code is lossy; its loss is not counted.

    Args:
        model: A model with `encode` and `prior` whose codes are indices, such as a VQVAE.
        x: Data as the model's verbs take them.

    Raises:
        ValueError: if the codes are not indices.
    """
    if model.code_symbols is None:
        raise ValueError(
            f"code_length needs codes that are indices, but those of {type(model).__name__} are "
            "not; its rate is KL(q(z|x) || p(z))."
        )
    s = model.encode(x)
    bits = math.log(2) * math.prod(model.x_shape)
    uniform = math.prod(model.latent_shape) * math.log(model.code_symbols) / bits
    return CodeLength(-model.prior().log_prob(s) / bits, uniform)
