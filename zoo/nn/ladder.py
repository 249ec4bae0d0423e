r"""The ladder from the top layer of codes down to an image (Sonderby et al. 2016, section 3).

A state h goes down L rungs. On each rung, a linear map of h gives the mean and the scale of a layer
of latents, and the drawn latents are added to h:

$$z_l = \mu_l(h_l) + \sigma_l(h_l) \odot \epsilon_l, \qquad
  h_{l-1} = \mathrm{block}_l(h_l + W_l z_l).$$

The posterior of a layer depends on the same h plus the evidence of the image. Blocks start as the
identity, so that gradients reach the top from the first step on.

The state is a vector on the upper rungs, and may be a grid of vectors on the lower rungs, where
convolutions replace dense layers and each place has its own latents (Kingma et al. 2016, NVAE).
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.distributions.factorised import at_least_float32
from zoo.nn.conv import ResidualConv
from zoo.nn.mlp import ACTIVATIONS, Activation, ResidualBlock
from zoo.nn.precision import AtLeastFloat32

Block = TypeVar("Block", ResidualBlock, ResidualConv)


def head(width: int, outputs: int, activation: Activation) -> nn.Sequential:
    """Build a map from a state to numbers: (*, width) to (*, outputs)."""
    return nn.Sequential(nn.LayerNorm(width), ACTIVATIONS[activation](), nn.Linear(width, outputs))


def zeroed(layer: nn.Module) -> nn.Module:
    """Set the parameters of a new layer to zero, so that it gives zeros."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def still(block: Block) -> Block:
    """Turn a new block into the identity."""
    zeroed(block.residual[-1])
    return block


class Rung(nn.Module):
    """One layer of latents on the ladder, of d numbers.

    Args:
        prior: From the state above, h, to the mean and log scale of p(z_l | above), (*, 2 d).
        evidence: From the encoder's output to the evidence, which is added to h.
        posterior: From this sum to the mean and log scale of q(epsilon_l | above, x), (*, 2 d).
        embed: From z_l, (*, d), to its embedding, which is added to h.
        block: From this sum to the state below.
    """

    def __init__(
        self,
        prior: nn.Module,
        evidence: nn.Module,
        posterior: nn.Module,
        embed: nn.Module,
        block: nn.Module,
    ) -> None:
        super().__init__()
        self.prior, self.evidence, self.posterior = prior, evidence, posterior
        self.embed, self.block = embed, block

    def infer(self, h: Tensor, evidence: Tensor) -> Tensor:
        """Mean and log scale of q(epsilon_l | above, x), (*, 2 d), from h and the evidence."""
        return at_least_float32(self.posterior(h + self.evidence(evidence)))

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """The state below from the state h and epsilon_l, (*, d)."""
        mean, log_scale = at_least_float32(self.prior(h)).chunk(2, -1)
        z = mean + log_scale.exp() * code
        below: Tensor = self.block(h + self.embed(z))
        return below


def vector_rung(width: int, dim: int, activation: Activation) -> Rung:
    """Build a layer of d latents on states that are vectors, (*, W)."""
    return Rung(
        prior=head(width, 2 * dim, activation),
        evidence=head(width, width, activation),
        posterior=nn.Sequential(
            still(ResidualBlock(width, activation)), head(width, 2 * dim, activation)
        ),
        embed=nn.Linear(dim, width),
        block=still(ResidualBlock(width, activation)),
    )


def grid_rung(grid: Sequence[int], channels: int, activation: Activation) -> Rung:
    """Build a layer of c latents at each place of states that are grids, (*, K, h, w): d = c h w.

    At the start p(z_l | above) = q(z_l | above, x) = N(0, I): otherwise the many latents make the
    first steps of training unstable.
    """
    features, *places = grid

    def read(outputs: int) -> tuple[nn.Module, ...]:
        norm, f = nn.GroupNorm(1, features), ACTIVATIONS[activation]()
        return norm, f, nn.Conv2d(features, outputs, 1)

    def gaussian() -> tuple[nn.Module, ...]:
        *layers, last = read(2 * channels)
        return *layers, zeroed(last), nn.Flatten()

    return Rung(
        prior=OnGrids(*gaussian()),
        evidence=OnGrids(*read(features)),
        posterior=OnGrids(still(ResidualConv(features, activation)), *gaussian()),
        embed=nn.Sequential(
            nn.Unflatten(-1, (channels, *places)), OnGrids(nn.Conv2d(channels, features, 1))
        ),
        block=OnGrids(still(ResidualConv(features, activation))),
    )


class OnGrids(nn.Sequential):
    """Layers for grids (B, K, h, w), applied to a batch of any shape, (*, K, h, w)."""

    def forward(self, h: Tensor) -> Tensor:
        outputs = h.reshape(-1, *h.shape[-3:])
        for layer in self:
            outputs = layer(outputs)
        return outputs.reshape(*h.shape[:-3], *outputs.shape[1:])


class Ladder(AtLeastFloat32):
    """All layers of latents, the top layer first: vectors, then grids if there are any.

    Args:
        width: Size of the state of vector layers, W.
        dims: Latent dimensions of each layer of vectors.
        activation: Non-linearity.
        grid: Shape of the state of grid layers, (K, h, w).
        channels: Latents at each place of each grid layer.
        enter: Map from the vector state to the grid state, if there are grids.
    """

    def __init__(
        self,
        width: int,
        dims: Sequence[int],
        activation: Activation,
        grid: Sequence[int] = (),
        channels: Sequence[int] = (),
        enter: nn.Module | None = None,
    ) -> None:
        super().__init__()
        vectors = [vector_rung(width, dim, activation) for dim in dims]
        grids = [grid_rung(grid, c, activation) for c in channels]
        self.dims = [*dims, *(c * math.prod(grid[1:]) for c in channels)]
        self.start = nn.Parameter(torch.zeros(width))
        if enter is not None:
            vectors[-1].block = nn.Sequential(vectors[-1].block, enter)
        self.rungs: Sequence[Rung] = nn.ModuleList([*vectors, *grids])  # type: ignore[assignment]

    def split(self, code: Tensor) -> tuple[Tensor, ...]:
        """The layers of a code (*, D)."""
        return torch.split(code, self.dims, -1)

    def forward(self, code: Tensor) -> Tensor:
        """The state at the foot of a code (*, D)."""
        h: Tensor = self.start
        for rung, part in zip(self.rungs, self.split(code), strict=True):
            h = rung(h, part)
        return h
