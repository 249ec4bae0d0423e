r"""What the linear-Gaussian families share: parameters, verbs, and the two ways to learn.

The likelihood depends on the data through their mean and covariance: one pass over them gives both,
and a family finds its parameters from these. Or it takes EM steps, which need $O(D q)$ memory and
no entry of the data in particular. What the noise variances may be is the family's own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from zoo.base import Batch
from zoo.checks import check_at_least, check_images, check_seen, check_shape
from zoo.distributions import at_least_float32, gaussian
from zoo.em import EMModel, Statistics
from zoo.inference import linear_gaussian
from zoo.inference.linear_gaussian import LinearGaussian
from zoo.inference.moments import Moments, check_varies, log_likelihood, moments, sums, varies

FIRST = 1024
"""Data that the start looks at."""


class LinearGaussianModel(EMModel, ABC):
    r"""$z \sim \mathcal N(0, I)$, $x \mid z \sim \mathcal N(W z + \mu, \Psi)$, $\Psi$ diagonal.

    Every verb is exact. Where x has NaNs, `posterior`, `log_prob`, `encode` and `reconstruct` use
    the entries that are there, and `fill` puts in what these say of the others. Densities are
    computed in float64, whatever the type of the parameters.

    Args:
        x_shape: Shape of a datum: (C, H, W) of an image in [0, 1], or (D,).
        latent_dim: Number of latent dimensions q, less than there are entries in a datum.
        shared_noise: Whether all entries have one noise variance.
        one_pass: Whether to learn from moments, and not by EM.
    """

    def __init__(
        self, x_shape: tuple[int, ...], latent_dim: int, shared_noise: bool, one_pass: bool
    ) -> None:
        super().__init__()
        check_at_least(
            1, latent_dim=latent_dim, **{f"x_shape[{i}]": n for i, n in enumerate(x_shape)}
        )
        dim = math.prod(x_shape)
        if latent_dim >= dim:
            raise ValueError(
                f"latent_dim is {latent_dim}, but must be less than the {dim} entries of x."
            )
        self.x_shape = tuple(x_shape)
        self.latent_shape = (latent_dim,)
        self.one_pass = one_pass
        self.W = nn.Parameter(torch.randn(dim, latent_dim) / math.sqrt(latent_dim))
        self.mu = nn.Parameter(torch.zeros(dim))
        # the logarithm of the noise's standard deviation
        self.log_scale = nn.Parameter(torch.zeros(() if shared_noise else dim))

    @abstractmethod
    def solution(self, data: Moments, rough: bool = False) -> LinearGaussian:
        """Parameters of maximum likelihood from the moments of the data.

        Args:
            data: The moments.
            rough: Whether a start for EM is enough.

        Raises:
            ValueError: if all data are the same.
        """

    @abstractmethod
    def noise(self, psi: Tensor, variance: Tensor, mean: Tensor) -> Tensor:
        """The noise variances that the family allows for those of an EM step, (D,).

        Args:
            psi: What would maximise the expected log-likelihood, (D,).
            variance: Of each entry of the data, (D,).
            mean: Of each entry of the data, (D,).
        """

    @property
    def _images(self) -> bool:
        return len(self.x_shape) == 3

    @property
    def _key(self) -> str:
        return "image" if self._images else "x"

    def _theta(self) -> LinearGaussian:
        """The parameters in float64."""
        psi = self.log_scale.double().mul(2).exp().expand_as(self.mu)
        return LinearGaussian(self.W.double(), self.mu.double(), psi)

    def _set(self, theta: LinearGaussian) -> None:
        self.W.copy_(theta.W)
        self.mu.copy_(theta.mu)
        log_scale = theta.psi.log() / 2
        self.log_scale.copy_(log_scale if self.log_scale.ndim else log_scale[0])

    # --- learning --------------------------------------------------------------------------------

    def as_batch(self, data: Any) -> Batch:
        """Images or vectors (N, *x_shape), of NumPy or torch, on the model's device in its type."""
        x = torch.as_tensor(data)
        if self._images:
            check_images(x, self.x_shape, missing=True)
        else:
            check_shape("x", x, self.x_shape)
        if len(x) == 0:
            raise ValueError("there are no data; fit to two at least.")
        return {self._key: x.to(self.mu)}

    def inputs(self, batch: Batch) -> Tensor:
        """What the verbs take as x, (B, *x_shape): `image` of a batch, or `x` of one of vectors."""
        x: Tensor = batch[self._key]
        return x

    def start(self, batches: Iterable[Batch]) -> None:
        """Take the mean of the first data, and where EM has to begin, what fits these roughly."""
        parts: list[Tensor] = []
        for batch in batches:
            parts.append(self.inputs(batch)[:FIRST].flatten(1).double())
            if sum(map(len, parts)) >= FIRST:
                break
        x = torch.cat(parts)[:FIRST]
        if x.isinf().any():
            raise ValueError("the data have infinite entries; remove them.")
        mean = x.nanmean(0).nan_to_num()  # of an entry that is not seen: 0
        self.mu.copy_(mean)
        if self.one_pass:
            return
        data = moments(sums(x.where(~x.isnan(), mean), mean, whole=True), mean)
        variance = data.variance()
        if varies(variance, mean).any():
            theta = self.solution(data, rough=True)
            # where the first data have too low a rank, a column of zeros would never grow
            jitter = 0.01 * variance.clamp(min=0).sqrt()[:, None] * self.W
            self._set(theta._replace(W=theta.W + jitter))

    def expectation(self, batch: Batch) -> Statistics:
        """Sums for the moments of the data; or, for EM, over p(z | x)."""
        x = self.inputs(batch).flatten(1)
        if self.one_pass:
            return sums(x, self.mu, whole=len(x) == self._data_size)
        return linear_gaussian.expectation(self._theta(), x)

    def maximization(self, statistics: Statistics) -> None:
        """Set the parameters to the solution; or, for EM, to the next ones."""
        if self.one_pass:
            data = moments(statistics, self.mu)
            self._set(self.solution(data))
            mean = log_likelihood(self._theta(), data)
            statistics["log_likelihood"] = mean * statistics["count"]
            return
        theta, variance = linear_gaussian.maximization(self._theta(), statistics)
        check_varies(variance, theta.mu)
        psi = self.noise(theta.psi, variance, theta.mu)
        self._set(linear_gaussian.identified(theta._replace(psi=psi)))

    # --- verbs -----------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Minus the log-likelihood, in nats per datum; EM lowers it without its gradient."""
        log_likelihood = self.log_prob(self.inputs(batch)).mean()
        return {"loss": -log_likelihood, "log_likelihood": log_likelihood}

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (q,)."""
        origin = self._typed(self.mu.new_zeros(self.latent_shape))
        return _normal(origin, torch.eye(len(origin), dtype=origin.dtype, device=origin.device))

    def posterior(self, x: Tensor) -> Distribution:
        """p(z | x), exactly, for x of shape (B, *x_shape): batch shape (B,), event shape (q,)."""
        check_seen(x, self.x_shape)
        mean, precision = linear_gaussian.posterior(self._theta(), x.flatten(1))
        origin = mean.new_zeros(self.latent_shape)
        noise = MultivariateNormal(origin, precision_matrix=precision, validate_args=False)
        return _normal(self._typed(mean), self._typed(noise.scale_tril))

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for z of shape (B, q): batch shape (B,), event shape x_shape."""
        check_shape("z", z, self.latent_shape)
        theta = self._theta()
        mean = self._typed(linear_gaussian.decode(theta, z)).reshape(len(z), *self.x_shape)
        scale = self._typed(theta.psi.sqrt()).reshape(self.x_shape).expand_as(mean)
        return gaussian(mean, scale, event_dims=len(self.x_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats, exactly: (B, *x_shape) to (B,)."""
        check_seen(x, self.x_shape)
        return self._typed(linear_gaussian.log_prob(self._theta(), x.flatten(1)))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n data from p(x), (n, *x_shape); images are clipped to [0, 1]."""
        return self._clipped(self.likelihood(self.prior().sample((n,))).sample())

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, *x_shape), images in [0, 1], to (B, q)."""
        if self._images:
            check_images(x, self.x_shape, missing=True)
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | z), of images clipped to [0, 1]: (B, q) to (B, *x_shape)."""
        return self._clipped(self.likelihood(z).mean)

    def fill(self, x: Tensor) -> Tensor:
        """Put the mean of p(x_missing | x_seen) where x has NaNs; (B, *x_shape).

        Images are clipped to [0, 1] there.
        """
        return torch.where(x.isnan(), self.reconstruct(x).to(x.dtype), x)

    def _typed(self, x: Tensor) -> Tensor:
        """In the type of the parameters, float32 or better."""
        return x.to(at_least_float32(self.mu).dtype)

    def _clipped(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1) if self._images else x


def _normal(mean: Tensor, scale_tril: Tensor) -> Distribution:
    return MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)
