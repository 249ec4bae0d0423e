r"""Wasserstein autoencoder (Tolstikhin et al. 2018, https://arxiv.org/abs/1711.01558).

The encoder is deterministic, $z = f_\phi(x)$, and the maximum mean discrepancy matches the
distribution of codes to the prior (algorithm 2):

$$\mathbb E[-\log p_\theta(x \mid f_\phi(x))] + \lambda \, \mathrm{MMD}_k^2(q(z), p(z)), \qquad
  k(a, b) = \sum_s \frac{2 D s}{2 D s + \lVert a - b \rVert^2},$$

with the inverse multiquadratic kernel at seven scales s, whose heavy tails attract even distant
codes. The estimate is unbiased, on a batch of codes and as many draws of the prior.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import standard_gaussian
from zoo.models.autoencoders.base import Autoencoder

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WAE(Autoencoder):
    """Autoencoder whose aggregate posterior matches the prior.

    Args:
        latent_dim: Number of latent dimensions, D.
        weight: Weight lambda of the discrepancy, in nats.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "A Wasserstein autoencoder (Tolstikhin et al. 2018, https://arxiv.org/abs/1711.01558)"
    )
    tags: ClassVar = ("autoencoder", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "There is no likelihood of images. Samples are means of p(x | z) and smoother than images."
    )
    noiseless = True
    lacks: Mapping[str, str] = {
        "posterior": "the code of an image is a point; encode gives it.",
        "log_prob": "an image that no code gives has no density; a VAE bounds it.",
    }

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        weight: float = 100.0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=latent_dim)
        check_at_least(0, weight=weight)
        self.weight = weight

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def encode(self, x: Tensor) -> Tensor:
        """The code: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.code(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The distortion plus the weighted discrepancy, in nats per image.

        Raises:
            ValueError: if the batch has a single image, whose code has no other to compare with.
        """
        x = self.inputs(batch)
        if len(x) < 2:
            raise ValueError("a batch of one image has no distribution of codes; give two images.")
        z = self.code(x)
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        discrepancy = squared_discrepancy(z, self.prior().sample((len(z),)))
        return {
            "loss": distortion.mean() + self.weight * discrepancy,
            "distortion": distortion.mean(),
            "discrepancy": discrepancy,
        }


def squared_discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased MMD^2 of two sets of codes, a scalar.

    Args:
        a: (N, D), N at least 2.
        b: (M, D), M at least 2.
    """
    n, m = len(a), len(b)
    within_a = (_kernel(a, a).sum() - n * len(SCALES)) / (n * (n - 1))  # k(a, a) is 1 a scale
    within_b = (_kernel(b, b).sum() - m * len(SCALES)) / (m * (m - 1))
    return within_a + within_b - 2 * _kernel(a, b).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The sum over scales for all pairs, (N, M)."""
    squares = (a[:, None] - b).square().sum(-1)
    width = 2 * a.shape[1]
    return torch.stack([width * s / (width * s + squares) for s in SCALES]).sum(0)
