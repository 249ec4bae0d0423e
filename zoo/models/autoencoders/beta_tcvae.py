r"""Beta-TCVAE (Chen et al. 2018, https://arxiv.org/abs/1802.04942).

The mean rate of a VAE is the mutual information of code and data, plus the total correlation of the
code's dimensions, plus each dimension's divergence from the prior. The total correlation measures
the dependence of the dimensions, and has a weight beta (eq. 4):

$$\mathcal L = \mathbb E[\log p(x \mid z)] - I_q(z; x)
  - \beta \, \mathrm{KL}\big(q(z) \,\|\, \textstyle\prod_j q(z_j)\big)
  - \sum_j \mathrm{KL}(q(z_j) \,\|\, p(z_j)).$$
"""

from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from zoo.batches import Batch, examples
from zoo.checks import check_at_least, check_choice, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.inference.total_correlation import Estimator, log_weights, rate_terms
from zoo.models.autoencoders.base import Autoencoder


class BetaTCVAE(Autoencoder):
    """Variational autoencoder that penalises the total correlation of its code.

    Args:
        latent_dim: Number of latent dimensions, D.
        beta: Weight of the total correlation; 1 is the evidence lower bound.
        estimator: Estimator of log q(z): `weighted` (biased) or `stratified`.
        kl_warmup_steps: Optimiser steps over which the rate's weight moves from `rate_start` to 1.
        rate_start: The rate's first weight. It rises linearly from below 1 (Bowman et al. 2016)
            and falls geometrically from above 1, so that codes first learn the largest changes of
            an image.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = "A beta-TCVAE (Chen et al. 2018, https://arxiv.org/abs/1802.04942)"
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
        beta: float = 6.0,
        estimator: Estimator = "weighted",
        kl_warmup_steps: int = 0,
        rate_start: float = 0.0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim)
        check_at_least(0, beta=beta, kl_warmup_steps=kl_warmup_steps, rate_start=rate_start)
        check_choice(Estimator, estimator=estimator)
        self.beta, self.estimator = beta, estimator
        self.kl_warmup_steps, self.rate_start = kl_warmup_steps, rate_start
        self.data_size = 0  # number of training data, known once training starts

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
        """The negative bound with weighted total correlation, in nats per image.

        Raises:
            ValueError: if the batch has a single image, which cannot estimate q(z).
        """
        x = self.inputs(batch)
        if len(x) < 2:
            raise ValueError("a batch of one image cannot estimate q(z); give two images.")
        q, prior = self.posterior(x), self.prior()
        z = q.rsample()
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        rate = kl_divergence(q, prior)  # (B,)
        log_w = log_weights(len(x), max(self.data_size, len(x)), self.estimator)
        terms = rate_terms(q, prior, z, log_w)
        correlation = terms.total_correlation  # (B,)
        weight = self.annealed(1.0, self.kl_warmup_steps, self.rate_start)
        loss = distortion + weight * rate + (self.beta - 1) * correlation
        return self.terms(loss, distortion, rate) | {
            "mutual_information": terms.mutual_information.mean(),
            "total_correlation": correlation.mean(),
        }

    def on_train_start(self) -> None:
        found = examples(self.trainer.train_dataloader)
        if found is None:
            raise ValueError("the loader cannot say how many data it has; give one with a length.")
        self.data_size = found
