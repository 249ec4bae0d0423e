"""The length of discrete codes, in bits."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.base import LatentVariableModel


class CodeLength(NamedTuple):
    """Bits of a discrete code for each number of a datum.

    Args:
        learned: With the model's prior of codes, (B,).
        uniform: If all codes were equally probable.
    """

    learned: Tensor
    uniform: float


@torch.no_grad()
def code_length(model: LatentVariableModel, x: Any) -> CodeLength:
    r"""How long the code of a datum is, in bits a number of the datum (bits per dimension).

    An ideal coder takes $-\log_2 p(s)$ bits for a code s, and $T \log_2 K$ for T indices into K
    codes where it knows nothing of them. What the code leaves out is not counted: it is lossy.

    Args:
        model: A model with `encode` and `prior` whose code is made of indices, such as a VQVAE.
        x: What the model's verbs take.

    Raises:
        ValueError: if the code is made of something else.
    """
    if model.code_symbols is None:
        raise ValueError(
            f"code_length is of codes that are made of indices, but {type(model).__name__} has "
            "others; its rate is KL(q(z|x) || p(z))."
        )
    s = model.encode(x)
    bits = math.log(2) * math.prod(model.x_shape)
    uniform = math.prod(model.latent_shape) * math.log(model.code_symbols) / bits
    return CodeLength(-model.prior().log_prob(s) / bits, uniform)
