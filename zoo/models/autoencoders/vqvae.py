r"""VQ-VAE with a learned prior (van den Oord et al. 2017, https://arxiv.org/abs/1711.00937).

The encoder gives a grid of vectors $z_e(x)$, and the nearest of K codes replaces each vector,
$z_q = e_s$ with $s = \arg\min_k \lVert z_e - e_k \rVert$. The posterior is a point mass at this
grid of indices, so that the evidence lower bound is

$$\log p(x) \ge \log p(x \mid z_q(x)) + \log p(s(x)), \qquad
  p(s) = \prod_t p(s_t \mid s_{<t}),$$

where a causal transformer over the grid in raster order gives $p(s)$. The rate $-\log p(s)$ is the
length of the code in nats. Training minimises (eq. 3)

$$-\log p(x \mid z_q) + \beta \lVert z_e - \mathrm{sg}[e] \rVert^2 - \log p(\mathrm{sg}[s]),$$

where sg is the stop-gradient. The gradient passes straight through the quantisation, running
averages move the codes, and the prior does not affect the code.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import cross_entropy

from zoo.batches import Batch
from zoo.checks import (
    check_at_least,
    check_choice,
    check_image_shape,
    check_images,
    check_shape,
    check_symbols,
)
from zoo.distributions.discrete import Autoregressive, PointMass
from zoo.distributions.factorised import at_least_float32, image_likelihood
from zoo.models.autoencoders.base import Likelihood
from zoo.models.gradient import GradientModel
from zoo.nn.causal import CausalTransformer
from zoo.nn.codebook import Codebook
from zoo.nn.grid import grid_decoder, grid_encoder
from zoo.nn.precision import suited


class VQVAE(GradientModel):
    """Autoencoder whose code is a grid of indices into a codebook, with a learned prior.

    Args:
        x_shape: Shape of an image, (C, H, W).
        codes: Number of codes, K.
        code_dim: Size of a code, D.
        hidden: Channels of the stages; every stage halves height and width.
        residual_blocks: Residual blocks after the stages.
        likelihood: p(x | z): `bernoulli` for pixels that are on or off, or `gaussian` with one
            learned standard deviation (sigma-VAE, Rybkin et al. 2021).
        commitment: Weight beta of the distance between the encoder's vectors and their codes.
        decay: Decay gamma of the running averages that move the codes.
        prior_width: Features per place in the prior's transformer.
        prior_depth: Number of the transformer's blocks.
        prior_heads: Number of the transformer's attention heads.
        training: Arguments of `GradientModel`: `lr`, `lr_schedule`, `lr_warmup_steps`.
    """

    about: ClassVar = (
        "A vector-quantised variational autoencoder with a learned prior (van den Oord et al. "
        "2017, https://arxiv.org/abs/1711.00937)"
    )
    modality = "image"
    tags: ClassVar = ("vq-vae", "discrete-code", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "Samples are drawn code by code from the prior, then pixel by pixel; `decode` gives means."
    )
    lacks: Mapping[str, str] = {
        "log_prob": "log p(x) of a VQ-VAE is a sum over all grids of codes; "
        "zoo.log_likelihood(model, x) gives the term of one grid, a lower bound."
    }
    discrete: ClassVar = True
    shows: ClassVar = {
        "parameters.png": "Each code alone: the middle of what the decoder makes of a grid that is "
        "full of it."
    }

    def __init__(
        self,
        x_shape: tuple[int, int, int] = (1, 28, 28),
        codes: int = 128,
        code_dim: int = 32,
        hidden: tuple[int, ...] = (64, 128),
        residual_blocks: int = 2,
        likelihood: Likelihood = "bernoulli",
        commitment: float = 0.25,
        decay: float = 0.99,
        prior_width: int = 128,
        prior_depth: int = 4,
        prior_heads: int = 4,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_image_shape(x_shape)
        check_at_least(1, codes=codes, code_dim=code_dim, prior_width=prior_width)
        check_at_least(1, prior_depth=prior_depth, prior_heads=prior_heads)
        check_at_least(1, **{f"hidden[{i}]": w for i, w in enumerate(hidden)})
        check_at_least(0, residual_blocks=residual_blocks, commitment=commitment)
        check_choice(Likelihood, likelihood=likelihood)
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}, but must be at least 0 and below 1.")
        self.x_shape = tuple(x_shape)
        self.codes = self.code_symbols = codes
        self.commitment = commitment
        self.encoder = grid_encoder(x_shape, hidden, code_dim, residual_blocks)
        self.decoder = grid_decoder(code_dim, hidden, x_shape, residual_blocks)
        factor = 2 ** len(hidden)
        self.latent_shape = (x_shape[1] // factor, x_shape[2] // factor)
        self.codebook = Codebook(codes, code_dim, decay)
        places = self.latent_shape[0] * self.latent_shape[1]
        self.transformer = CausalTransformer(codes, places, prior_width, prior_depth, prior_heads)
        # The scale of a Gaussian p(x | z); a Bernoulli has none.
        self.log_scale = nn.Parameter(torch.zeros(())) if likelihood == "gaussian" else None

    def prior(self) -> Distribution:
        """p(s) by the transformer: batch shape (), event shape (h, w) of indices."""
        return Autoregressive(self.transformer, self.latent_shape)

    def posterior(self, x: Tensor) -> Distribution:
        """All mass at the nearest codes: batch shape (B,), event shape (h, w) of indices."""
        return PointMass(self.codebook.nearest(self._vectors(x)), event_dims=2)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | s) for indices z of shape (B, h, w): batch shape (B,), event shape (C, H, W)."""
        check_shape("z", z, self.latent_shape)
        check_symbols("z", z, self.codes)
        return self._decoded(self.codebook.codes[z])

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative evidence lower bound plus the weighted commitment, in nats per image.

        Other terms are the rate in bits per dimension, and the perplexity of the batch's codes.
        """
        x = self.inputs(batch)
        z = self._vectors(x)  # (B, h, w, D)
        code, index = self.codebook(z)
        distortion = -self._decoded(code).log_prob(x)  # (B,)
        commitment = (z - code.detach()).square().sum((1, 2, 3))  # (B,)
        s = index.flatten(1)  # (B, h w)
        logits = at_least_float32(self.transformer(s))
        rate = cross_entropy(logits.mT, s, reduction="none").sum(1)  # (B,)
        usage = torch.bincount(s.flatten(), minlength=self.codes) / s.numel()
        return {
            "loss": (distortion + self.commitment * commitment + rate).mean(),
            "elbo": -(distortion + rate).mean(),
            "rate": rate.mean(),
            "distortion": distortion.mean(),
            "commitment": commitment.mean(),
            "bits_per_dim": rate.mean() / (math.log(2) * math.prod(self.x_shape)),
            "perplexity": torch.special.entr(usage).sum().exp(),
        }

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n images from p(x): s ~ p(s), x ~ p(x | s), clipped to [0, 1]; (n, C, H, W)."""
        return self.likelihood(self.prior().sample((n,))).sample().clamp(0, 1)

    def encode(self, x: Tensor) -> Tensor:
        """The indices of the nearest codes: (B, C, H, W) in [0, 1] to (B, h, w) int64."""
        check_images(x, self.x_shape)
        return self.codebook.nearest(self._vectors(x))

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | s), clipped to [0, 1]: indices (B, h, w) to (B, C, H, W)."""
        return self.likelihood(z).mean.clamp(0, 1)

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The middle of the image of each code alone, the most used first, at most 256 codes."""
        used = torch.bincount(self.encode(self.inputs(batch)).flatten(), minlength=self.codes)
        order = used.argsort(descending=True)[:256]
        alone = self.decode(order[:, None, None].expand(-1, *self.latent_shape))
        (height, width), (top, left) = alone.shape[-2:], (side // 4 for side in alone.shape[-2:])
        return {"parameters.png": alone[..., top : height - top, left : width - left]}

    def _vectors(self, x: Tensor) -> Tensor:
        """The encoder's output: images (B, C, H, W) to vectors (B, h, w, D)."""
        check_shape("image", x, self.x_shape)
        return at_least_float32(self.encoder(suited(x, self.encoder))).permute(0, 2, 3, 1)

    def _decoded(self, code: Tensor) -> Distribution:
        """p(x | z_q) for codes (B, h, w, D)."""
        grid = suited(code.permute(0, 3, 1, 2), self.decoder)
        return image_likelihood(self.decoder(grid), self.log_scale)
