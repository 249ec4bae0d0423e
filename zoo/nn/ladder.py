r"""The path from the top layer of codes down to an image (Sonderby et al. 2016, section 3).

A state h goes down L rungs. On each, a linear map of h gives the mean and the scale of a layer of
latents, and what is drawn is added to h:

$$z_l = \mu_l(h_l) + \sigma_l(h_l) \odot \epsilon_l, \qquad
  h_{l-1} = \mathrm{block}_l(h_l + W_l z_l).$$

The posterior of a layer sees the same h, with the evidence of the image added to it. Blocks start
as the identity, so that gradients reach the top from the first step on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.distributions import at_least_float32
from zoo.nn.mlp import ACTIVATIONS, Activation, ResidualBlock


def head(width: int, outputs: int, activation: Activation) -> nn.Sequential:
    """Read numbers off a state: (*, width) to (*, outputs)."""
    return nn.Sequential(nn.LayerNorm(width), ACTIVATIONS[activation](), nn.Linear(width, outputs))


def still(block: ResidualBlock) -> ResidualBlock:
    """Make a new block the identity."""
    for parameter in block.residual[-1].parameters():
        nn.init.zeros_(parameter)
    return block


class Rung(nn.Module):
    """One layer of latents on the ladder.

    Args:
        width: Numbers of the state h and of the evidence, W.
        dim: Latent dimensions of the layer, d.
        activation: Non-linearity.
    """

    def __init__(self, width: int, dim: int, activation: Activation) -> None:
        super().__init__()
        self.prior = head(width, 2 * dim, activation)
        self.evidence = head(width, width, activation)
        self.posterior = nn.Sequential(
            still(ResidualBlock(width, activation)), head(width, 2 * dim, activation)
        )
        self.embed = nn.Linear(dim, width)
        self.block = still(ResidualBlock(width, activation))

    def infer(self, h: Tensor, evidence: Tensor) -> Tensor:
        """Mean and log scale of q(epsilon_l | above, x), (*, 2 d), from h and evidence, (*, W)."""
        return at_least_float32(self.posterior(h + self.evidence(evidence)))

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """The state below, (*, W), from the state h, (*, W), and epsilon_l, (*, d)."""
        mean, log_scale = at_least_float32(self.prior(h)).chunk(2, -1)
        z = mean + log_scale.exp() * code
        below: Tensor = self.block(h + self.embed(z))
        return below


class Ladder(nn.Module):
    """All layers of latents, the top one first.

    Args:
        width: Numbers of the state, W.
        dims: Latent dimensions of each layer; D in all.
        activation: Non-linearity.
    """

    def __init__(self, width: int, dims: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.dims = list(dims)
        self.start = nn.Parameter(torch.zeros(width))
        self.rungs: Sequence[Rung] = nn.ModuleList(  # type: ignore[assignment]
            Rung(width, dim, activation) for dim in dims
        )

    def split(self, code: Tensor) -> tuple[Tensor, ...]:
        """The layers of a code (*, D)."""
        return torch.split(code, self.dims, -1)

    def forward(self, code: Tensor) -> Tensor:
        """The state at the foot, (*, W), of a code (*, D)."""
        h: Tensor = self.start
        for rung, part in zip(self.rungs, self.split(code), strict=True):
            h = rung(h, part)
        return h
