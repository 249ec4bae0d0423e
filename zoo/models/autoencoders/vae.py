r"""Variational autoencoder (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114).

A Gaussian code $z$ with $p(z) = \mathcal N(0, I)$ generates an image through
$p_\theta(x \mid z)$; an encoder gives the approximate posterior
$q_\phi(z \mid x) = \mathcal N(\mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x))$. Training
maximises the evidence lower bound (eq. 3)

$$\log p(x) \ge
  \underbrace{\mathbb E_{q(z \mid x)}[\log p(x \mid z)]}_{-\text{distortion}}
  - \underbrace{\mathrm{KL}(q(z \mid x) \,\|\, p(z))}_{\text{rate}}.$$

`beta` weights the rate in the loss (beta-VAE, Higgins et al. 2017); the logged `elbo` is never
weighted. Terms are sums over pixels and latents, in nats, averaged once over the batch.
"""

from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.models.autoencoders.base import Autoencoder


class VAE(Autoencoder):
    """Variational autoencoder with a diagonal Gaussian posterior.

    Args:
        latent_dim: Number of latent dimensions, D.
        beta: Weight of the rate in the loss; 1 is the evidence lower bound.
        kl_warmup_steps: Optimiser steps over which the rate's weight moves from `rate_start` to
            `beta`.
        rate_start: The rate's first weight. It rises linearly from below `beta` (Bowman et al.
            2016) and falls geometrically from above, so that codes first learn the largest changes
            of an image.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "A variational autoencoder (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114)"
    )

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        rate_start: float = 0.0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim)
        check_at_least(0, beta=beta, kl_warmup_steps=kl_warmup_steps, rate_start=rate_start)
        self.beta = beta
        self.kl_warmup_steps, self.rate_start = kl_warmup_steps, rate_start

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
        """The negative evidence lower bound in nats per image, with the rate weighted by beta."""
        x = self.inputs(batch)
        q = self.posterior(x)
        distortion = -self.likelihood(q.rsample()).log_prob(x)  # (B,)
        rate = kl_divergence(q, self.prior())  # (B,)
        weight = self.annealed(self.beta, self.kl_warmup_steps, self.rate_start)
        loss = distortion + weight * rate
        return self.terms(loss, distortion, rate)
