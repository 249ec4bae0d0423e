r"""VAE with a VampPrior (Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120).

The prior is the mixture of the posteriors of K learned pseudo-inputs $u_k$ (eq. 9):

$$p(z) = \frac 1K \sum_{k=1}^K q_\phi(z \mid u_k), \qquad
  \log p(x) \ge \mathbb E_{q(z \mid x)}[\log p(x \mid z) + \log p(z) - \log q(z \mid x)].$$

It approximates the aggregate posterior, which is the prior that maximises the bound (eq. 5), and
moves with the encoder. The rate has no closed form and is evaluated at the draw of z.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import bounded, diagonal_gaussian
from zoo.inference import divergence, mixtures
from zoo.models.autoencoders.base import Autoencoder


class VampPriorVAE(Autoencoder):
    """Variational autoencoder whose prior is a mixture of posteriors.

    Args:
        latent_dim: Number of latent dimensions, D.
        pseudo_inputs: Number of components of the prior, K.
        kl_warmup_steps: Optimiser steps over which the rate's weight rises linearly to 1.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "A variational autoencoder with a VampPrior (Tomczak & Welling 2018, "
        "https://arxiv.org/abs/1705.07120)"
    )
    shows: ClassVar = {"parameters.png": "The first 64 of the pseudo-inputs."}

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        pseudo_inputs: int = 500,
        kl_warmup_steps: int = 0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim)
        check_at_least(1, pseudo_inputs=pseudo_inputs)
        check_at_least(0, kl_warmup_steps=kl_warmup_steps)
        self.kl_warmup_steps = kl_warmup_steps
        # Logits of pixels; at first dim and noisy, as in the authors' code.
        self.pseudo_inputs = nn.Parameter(torch.randn(pseudo_inputs, *self.x_shape) - 2)

    def prior(self) -> Distribution:
        """p(z), the mixture of the posteriors of pseudo-inputs: batch shape (), event (D,)."""
        mean, log_scale = self.code(self.pseudo_inputs.sigmoid()).chunk(2, -1)
        return GaussianMixture(mean, bounded(log_scale))

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        return diagonal_gaussian(self.code(x))

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative evidence lower bound in nats per image; warm-up weights the rate."""
        x = self.inputs(batch)
        q = self.posterior(x)
        z = q.rsample()
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        rate = divergence(q, self.prior(), z)  # (B,)
        loss = distortion + self.annealed(1.0, self.kl_warmup_steps) * rate
        return self.terms(loss, distortion, rate)

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The pseudo-inputs."""
        return {"parameters.png": self.pseudo_inputs[:64].sigmoid()}


class GaussianMixture(Distribution):
    """Equal mixture of diagonal Gaussians: batch shape (), event shape (D,).

    Args:
        mean: mu, (K, D).
        log_scale: log sigma, (K, D).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, mean: Tensor, log_scale: Tensor) -> None:
        self._mean, self._log_scale = mean, log_scale
        super().__init__(torch.Size(), mean.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._mean.mean(0)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        k = torch.randint(len(self._mean), torch.Size(sample_shape), device=self._mean.device)
        return torch.normal(self._mean[k], self._log_scale[k].exp())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats: (..., D) to (...)."""
        with torch.autocast(value.device.type, enabled=False):
            precision = (-self._log_scale).exp()  # square root of the precision
            z = value.reshape(-1, self._mean.shape[1])
            log_p = mixtures.log_densities(z, self._mean, precision, "diag")  # (N, K)
            log_p = log_p.logsumexp(-1) - math.log(len(self._mean))
        return log_p.reshape(value.shape[:-1])
