r"""FactorVAE (Kim & Mnih 2018, https://arxiv.org/abs/1802.05983).

The evidence lower bound less the total correlation of the aggregate posterior (eq. 2):

$$\mathcal L = \mathrm{ELBO} - \gamma \, \mathrm{KL}(q(z) \,\|\, \bar q(z)), \qquad
  \bar q(z) = \prod_j q(z_j).$$

A discriminator D distinguishes draws of q(z) from draws of $\bar q(z)$. The latter are draws of
q(z) for another part of the batch, with each dimension shuffled among the data (algorithm 1). The
discriminator's logit d estimates the log density ratio, and so the divergence (eq. 3):

$$\mathrm{KL}(q(z) \,\|\, \bar q(z)) \approx \mathbb E_{q(z)}[d(z)].$$

Both learn at each step: the encoder's loss freezes the discriminator, and the discriminator's loss
freezes the codes.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.nn.functional import softplus

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.models.autoencoders.base import Autoencoder
from zoo.nn import mlp
from zoo.nn.frozen import frozen


class FactorVAE(Autoencoder):
    """Variational autoencoder with a discriminator that estimates the total correlation.

    Args:
        latent_dim: Number of latent dimensions, D.
        gamma: Weight of the total correlation; 0 is the evidence lower bound.
        discriminator: Widths of the discriminator's hidden layers.
        kl_warmup_steps: Optimiser steps over which the rate's weight moves from `rate_start` to 1.
        rate_start: The rate's first weight. It rises linearly from below 1 (Bowman et al. 2016)
            and falls geometrically from above 1, so that codes first learn the largest changes of
            an image.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = "A FactorVAE (Kim & Mnih 2018, https://arxiv.org/abs/1802.05983)"
    tags: ClassVar = (
        "variational-autoencoder",
        "disentanglement",
        "latent-variable-model",
        "generative-model",
    )

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        gamma: float = 10.0,
        discriminator: tuple[int, ...] = (1000, 1000, 1000, 1000, 1000, 1000),
        kl_warmup_steps: int = 0,
        rate_start: float = 0.0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim)
        check_at_least(0, gamma=gamma, kl_warmup_steps=kl_warmup_steps, rate_start=rate_start)
        check_at_least(1, **{f"discriminator[{i}]": w for i, w in enumerate(discriminator)})
        self.gamma = gamma
        self.kl_warmup_steps, self.rate_start = kl_warmup_steps, rate_start
        self.discriminator = mlp(latent_dim, discriminator, 1, "leaky_relu")

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        return diagonal_gaussian(self.code(x))

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative bound plus the weighted total correlation plus D's loss, in nats per image.

        Raises:
            ValueError: if the batch has a single image, whose code cannot be shuffled.
        """
        x = self.inputs(batch)
        if len(x) < 2:
            raise ValueError("a batch of one image has no codes to shuffle; give two images.")
        q = self.posterior(x)
        z = q.rsample()
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        rate = kl_divergence(q, self.prior())  # (B,)
        correlation = frozen(self.discriminator)(z).squeeze(-1)  # (B,)
        joint, other = z.detach().chunk(2)
        real = self.discriminator(joint).squeeze(-1)
        shuffled = self.discriminator(_shuffled(other)).squeeze(-1)
        telling = softplus(-real).mean() + softplus(shuffled).mean()
        weight = self.annealed(1.0, self.kl_warmup_steps, self.rate_start)
        loss = distortion + weight * rate + self.gamma * correlation + 0.5 * telling
        return self.terms(loss, distortion, rate) | {
            "total_correlation": correlation.mean(),
            "discriminator_loss": 0.5 * telling,
        }


def _shuffled(z: Tensor) -> Tensor:
    """Shuffle each dimension of codes (B, D) independently."""
    order = torch.rand_like(z).argsort(0)
    return z.gather(0, order)
