r"""Hierarchical VAE: a ladder of codes (Sonderby et al. 2016, https://arxiv.org/abs/1602.02282).

Each of L layers of latents is drawn given those above it, by the model and by the posterior:

$$p(z) = p(z_L) \prod_{l < L} p(z_l \mid z_{>l}), \qquad
  q(z \mid x) = q(z_L \mid x) \prod_{l < L} q(z_l \mid z_{>l}, x).$$

One state $h_l$, which each layer of latents updates, carries $z_{>l}$ to both, so that the image
only corrects the prior. The posterior is parametrised relative to the prior (NVAE, Vahdat & Kautz
2020, section 3.2, https://arxiv.org/abs/2007.03898): with
$p(z_l \mid z_{>l}) = \mathcal N(\mu_l, \sigma_l^2)$,

$$z_l = \mu_l + \sigma_l \epsilon_l, \qquad
  p(\epsilon_l) = \mathcal N(0, I), \qquad
  q(\epsilon_l \mid z_{>l}, x) = \mathcal N(\Delta\mu_l, \Delta\sigma_l^2).$$

Layers of vectors come first. The layers below may lie on a grid, with latents for each place, which
convolutions connect (ibid., section 3.1).

z and epsilon determine each other, and log p, the bound and each of its terms are the same in both:

$$\log p(x) \ge \mathbb E_q [\log p(x \mid z)] - \sum_{l=1}^L
  \mathbb E_q [\mathrm{KL}(q(z_l \mid z_{>l}, x) \,\|\, p(z_l \mid z_{>l}))].$$

The code of this model is the vector of all $\epsilon_l$, the top layer first. Its prior is N(0, I);
its posterior is Gaussian only layer by layer.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images, check_shape
from zoo.distributions.factorised import (
    at_least_float32,
    diagonal_gaussian,
    image_likelihood,
    standard_gaussian,
)
from zoo.distributions.lazy import Lazy, as_made
from zoo.models.autoencoders.base import Autoencoder
from zoo.nn.conv import ConvDecoder, ConvEncoder, grid_shape
from zoo.nn.ladder import Ladder
from zoo.nn.precision import suited


class HierarchicalVAE(Autoencoder):
    """Variational autoencoder with several layers of latents.

    Args:
        latent_dims: Latent dimensions of each layer, the top one first.
        grid_channels: Latents at each place of the lower layers, which lie on the grid of the last
            convolution of `network=conv` (NVAE).
        width: Size of the ladder's state and of the encoder's output.
        kl_warmup_steps: Optimiser steps over which the rate's weight rises linearly to 1.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "A hierarchical variational autoencoder (Sonderby et al. 2016, "
        "https://arxiv.org/abs/1602.02282)"
    )

    def __init__(
        self,
        *,
        latent_dims: tuple[int, ...] = (10, 10),
        grid_channels: tuple[int, ...] = (),
        width: int = 256,
        kl_warmup_steps: int = 0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        check_at_least(1, layers=len(latent_dims), width=width)
        check_at_least(1, **{f"latent_dims[{i}]": dim for i, dim in enumerate(latent_dims)})
        check_at_least(1, **{f"grid_channels[{i}]": n for i, n in enumerate(grid_channels)})
        check_at_least(0, kl_warmup_steps=kl_warmup_steps)
        if grid_channels and self.network != "conv":
            raise ValueError(
                f"grid_channels={tuple(grid_channels)} needs convolutions; set network=conv and "
                "hidden to their channels, or leave grid_channels empty."
            )
        grid = grid_shape(self.x_shape, self.hidden) if grid_channels else ()
        latent_dim = sum(latent_dims) + sum(grid_channels) * math.prod(grid[1:])
        self.build_networks(latent_dim, outputs=width, inputs=width)
        self.kl_warmup_steps = kl_warmup_steps
        self.latent_dims, self.grid_channels = tuple(latent_dims), tuple(grid_channels)
        enter = None
        if isinstance(self.decoder, ConvDecoder) and grid_channels:
            enter = nn.Sequential(self.decoder.linear, nn.Unflatten(-1, grid))
            self.decoder = self.decoder.stages
        self.ladder = Ladder(width, latent_dims, self.activation, grid, grid_channels, enter)

    def prior(self) -> Distribution:
        """p(epsilon) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> "LadderPosterior":
        """q(epsilon | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        return LadderPosterior(self.ladder, self.evidence(x))

    def evidence(self, x: Tensor) -> list[Tensor]:
        """The encoder's output for each layer: (B, C, H, W) to (B, W), then (B, K, h, w)."""
        if not (self.grid_channels and isinstance(self.encoder, ConvEncoder)):
            return [self.code(x)] * len(self.latent_dims)
        check_shape("image", x, self.x_shape)
        features = self.encoder.features(suited(x, self.encoder))
        vector = at_least_float32(self.encoder.outputs(features))
        grids = [at_least_float32(features)] * len(self.grid_channels)
        return [vector] * len(self.latent_dims) + grids

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for codes of shape (B, D): batch shape (B,), event shape (C, H, W)."""
        check_shape("z", z, self.latent_shape)
        return self._image(self.ladder(z))

    def encode(self, x: Tensor) -> Tensor:
        """The means of q from the top down, each given those above: (B, C, H, W) to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative evidence lower bound in nats per image; warm-up weights the rate.

        The rate of each layer has a closed form given a draw of the layers above.
        """
        x = self.inputs(batch)
        draw = self.posterior(x).draw()
        distortion = -self._image(draw.foot).log_prob(x)  # (B,)
        p = map(standard_gaussian, self.ladder.split(self.origin))
        rates = torch.stack([*map(kl_divergence, draw.layers, p)])  # (L, B)
        rate = rates.sum(0)
        loss = distortion + self.annealed(1.0, self.kl_warmup_steps) * rate
        top = len(rates)
        of_layers = {f"rate_{top - i}": layer for i, layer in enumerate(rates.mean(1))}
        return self.terms(loss, distortion, rate) | of_layers

    def _image(self, foot: Tensor) -> Distribution:
        """p(x | z) from the state at the foot of the ladder, (B, W) or (B, K, h, w)."""
        return image_likelihood(self.decoder(suited(foot, self.decoder)), self.log_scale)


class Descent(NamedTuple):
    """A descent of the ladder: code (*, D), q of each layer, the state at the foot."""

    code: Tensor
    layers: list[Distribution]
    foot: Tensor


class LadderPosterior(Lazy):
    """q(epsilon | x), layer by layer: batch shape (B,), event shape (D,).

    The last draw keeps its density; the density of any other code takes another descent of the
    ladder.

    Args:
        ladder: The layers.
        evidence: The encoder's output for each layer, (B, ...).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, ladder: Ladder, evidence: Sequence[Tensor]) -> None:
        self._ladder, self._evidence = ladder, evidence
        self._drawn: tuple[Tensor, Tensor] | None = None
        event_shape = torch.Size([sum(ladder.dims)])
        super().__init__(evidence[0].shape[:-1], event_shape)

    @property
    @as_made
    def mean(self) -> Tensor:
        """The mean of each layer given the means of the layers above, (B, D): exact for the top."""
        return self._descend(lambda q: q.mean).code

    @property
    @as_made
    def variance(self) -> Tensor:
        """The variance of each layer given the means of the layers above, (B, D): likewise."""
        layers = self._descend(lambda q: q.mean).layers
        return torch.cat([q.variance for q in layers], -1)

    @as_made
    def draw(self, sample_shape: Any = ()) -> Descent:
        """Draw a code, and keep its density; return the whole descent."""
        shape = self._extended_shape(torch.Size(sample_shape))
        e = self._evidence[0]
        noise = iter(self._ladder.split(torch.randn(shape, dtype=e.dtype, device=e.device)))
        descent = self._descend(lambda q: q.mean + q.stddev * next(noise))
        self._drawn = descent.code, self._density(descent)
        return descent

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.draw(sample_shape).code

    @as_made
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats: (..., D) to (...)."""
        if self._drawn is not None and value is self._drawn[0]:
            return self._drawn[1]
        parts = iter(self._ladder.split(value))
        return self._density(self._descend(lambda q: next(parts)))

    def _descend(self, pick: Callable[[Distribution], Tensor]) -> Descent:
        """Go down the ladder, and pick the code of each layer from its q given the layers above."""
        h: Tensor = self._ladder.start
        parts, layers = list[Tensor](), list[Distribution]()
        for rung, evidence in zip(self._ladder.rungs, self._evidence, strict=True):
            q = diagonal_gaussian(rung.infer(h, evidence))
            layers.append(q)
            parts.append(pick(q))
            h = rung(h, parts[-1])
        return Descent(torch.cat(parts, -1), layers, h)

    def _density(self, descent: Descent) -> Tensor:
        parts = self._ladder.split(descent.code)
        return torch.stack(
            [q.log_prob(part) for q, part in zip(descent.layers, parts, strict=True)]
        ).sum(0)
