r"""What the linear models with a Gaussian code share, all but their noise and how they learn.

$$z \sim \mathcal N(0, I_q), \qquad x \mid z \sim \mathcal N(W z + \mu, \operatorname{diag} \psi),$$

so that $p(z \mid x)$ and $p(x)$ are Gaussian and known.
"""

import math
from abc import ABC

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_images, check_latent_dim, check_seen, check_shape
from zoo.inference.linear import gaussian
from zoo.inference.linear.gaussian import LinearGaussian
from zoo.models.classical.em import EMModel, check_rows, modality_of
from zoo.plots.grids import signed


class LinearModel(EMModel, ABC):
    """A model whose decoder is linear, fitted in closed form or by EM.

    Args:
        x_shape: Shape of a datum. (C, H, W) is an image with values in [0, 1], in batches under
            "image"; any other shape is a vector of any values, in batches under "x".
        latent_dim: Number of columns of W, q, less than there are numbers in a datum.
    """

    log_scale: nn.Parameter
    """Log psi^1/2, (), or (D,) for one of each entry; the family's."""

    def __init__(self, x_shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        check_latent_dim(latent_dim, x_shape)
        self.modality, self.x_shape = modality_of(x_shape), tuple(x_shape)
        self.latent_shape = (latent_dim,)
        dim = math.prod(x_shape)
        self.W = nn.Parameter(torch.randn(dim, latent_dim) / math.sqrt(latent_dim))
        # The digits of data that lie far from 0 are in their mean.
        self.mu = nn.Parameter(torch.zeros(dim, dtype=torch.float64))

    @property
    def free_parameters(self) -> int:
        """Numbers that the density depends on: turns of the latent axes leave it as it is."""
        dim, q = self.W.shape
        free = dim * q - q * (q - 1) // 2 + self.log_scale.numel()
        return dim + min(free, dim * (dim + 1) // 2)

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (q,)."""
        return gaussian.prior(self._theta)

    def posterior(self, x: Tensor) -> Distribution:
        """p(z | x), exactly, for x of shape (B, *x_shape): batch shape (B,), event shape (q,)."""
        check_seen("x", x, self.x_shape)
        return gaussian.posterior(self._theta, x.flatten(1))

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for z of shape (B, q): batch shape (B,), event shape x_shape."""
        check_shape("z", z, self.latent_shape)
        return gaussian.likelihood(self._theta, z, self.x_shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats, exactly, of what is there of x: (B, *x_shape) to (B,)."""
        check_seen("x", x, self.x_shape)
        return gaussian.log_prob(self._theta, x.flatten(1))

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, *x_shape), images in [0, 1], to (B, q)."""
        if self.modality == "image":
            check_images(x, self.x_shape, missing=True)
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | z), of images clipped to [0, 1]: (B, q) to (B, *x_shape)."""
        return self._clipped(self.likelihood(z).mean)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n data from p(x), (n, *x_shape); images are clipped to [0, 1]."""
        return self._clipped(self.likelihood(self.prior().sample((n,))).sample())

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The columns of W as images, where they are images."""
        if self.modality != "image":
            return {}
        return {"parameters.png": signed(self.W.mT.reshape(-1, *self.x_shape))}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The mean negative log-likelihood, in nats per datum."""
        log_likelihood = self.log_prob(self.inputs(batch)).mean()
        return {"loss": -log_likelihood, "log_likelihood": log_likelihood}

    def rows(self, batch: Batch, missing: bool = False) -> Tensor:
        """The data of a batch that is learned from, checked: (B, D).

        Args:
            batch: The batch.
            missing: Whether a NaN is allowed, for an entry that was not seen.
        """
        x: Tensor = self.inputs(batch)
        check_rows(self._key, x, self.x_shape, missing)
        return x.flatten(1)

    def _clipped(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1) if self.modality == "image" else x

    @property
    def _theta(self) -> LinearGaussian:
        psi = (2 * self.log_scale.double()).exp()
        return LinearGaussian(self.W, self.mu, psi.expand_as(self.mu))
