r"""Probabilistic principal component analysis (Tipping & Bishop 1999).

https://doi.org/10.1111/1467-9868.00196. A code $z \sim \mathcal N(0, I_q)$ gives

$$x \mid z \sim \mathcal N(W z + \mu, \sigma^2 I), \qquad
  x \sim \mathcal N(\mu, W W^\top + \sigma^2 I), \qquad
  z \mid x \sim \mathcal N(M^{-1} W^\top (x - \mu), \sigma^2 M^{-1}), \quad
  M = W^\top W + \sigma^2 I.$$

The likelihood is greatest (eqs. 7 and 8) where $\mu$ is the mean of the data, $\sigma^2$ the mean
of the $D - q$ least eigenvalues of their covariance, and the columns of $W$ its leading
eigenvectors, of lengths $(\lambda_i - \sigma^2)^{1/2}$. EM (section 3.2, and appendix B) comes to
the same, in less memory where data have many numbers, and also where some of these are missing.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.batches import Batch
from zoo.checks import check_choice
from zoo.inference import streams
from zoo.inference.linear import fits, gaussian
from zoo.inference.linear.gaussian import LinearGaussian
from zoo.models.classical.em import Statistics, array_batch
from zoo.models.classical.linear import LinearModel

Method = Literal["closed", "em"]

FIRST = 1024
"""Data that the start looks at."""


class PPCA(LinearModel):
    """Probabilistic principal component analysis.

    The columns of `W` are orthogonal, in the order of the variance that they explain; in each, the
    entry of the largest magnitude is positive. `sigma^2` is at least 1e-10 of the mean variance of
    an entry, so that data without noise have a finite likelihood.

    Where x has NaNs, every verb uses the entries that are there, and `reconstruct` says what these
    expect of the others: `torch.where(x.isnan(), model.reconstruct(x), x)` completes x.

    Args:
        x_shape: Shape of a datum. (C, H, W) is an image with values in [0, 1], in batches under
            "image"; any other shape is a vector of any values, in batches under "x".
        latent_dim: Number of components q, less than there are numbers in a datum.
        method: `closed`, the solution from one pass over the data, with D x D numbers in memory; or
            `em`, an iteration an epoch with D x q numbers, for large D. By `em`, `fit` also learns
            from data with missing entries (NaN).
    """

    about: ClassVar = (
        "Probabilistic principal component analysis (Tipping & Bishop 1999, "
        "https://doi.org/10.1111/1467-9868.00196)"
    )
    tags: ClassVar = ("probabilistic-pca", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "log p(x) is a density of real values, so it can be positive, and compares only with "
        "other densities of the same values. Samples are Gaussian, with noise of one variance on "
        "every entry, which `decode` leaves out; those of images are clipped to [0, 1]."
    )

    shows: ClassVar = {
        "parameters.png": "The principal components: grey is zero, white and black the extremes."
    }

    def __init__(
        self,
        x_shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 20,
        method: Method = "closed",
    ) -> None:
        super().__init__(x_shape, latent_dim)
        self.save_hyperparameters()
        check_choice(Method, method=method)
        self.one_pass = method == "closed"
        self.log_scale = nn.Parameter(torch.zeros(()))  # log sigma

    def as_batch(self, data: Any) -> Batch:
        """Images or vectors (N, *x_shape), of NumPy or torch."""
        return array_batch(data, self._key, self.x_shape, missing=not self.one_pass)

    def start(self, batches: Iterable[Batch]) -> None:
        """Take the mean of the first data, and where EM is to begin, what fits these roughly."""
        parts: list[Tensor] = []
        for batch in batches:
            parts.append(self.rows(batch, not self.one_pass)[:FIRST].to(self.mu).double())
            if sum(map(len, parts)) >= FIRST:
                break
        x = torch.cat(parts)[:FIRST]
        mean = x.nanmean(0).nan_to_num()  # of an entry that is not seen: 0
        self.mu.copy_(mean)
        if self.one_pass:
            return
        S = streams.covariance(streams.sums(x.where(~x.isnan(), mean), mean))
        if fits.varies(S.diagonal(), mean).any():
            theta = fits.ppca(mean, S, self.W.shape[1])
            # where the first data have too low a rank, a column of zeros would never grow
            spread = S.diagonal().clamp(min=0).sqrt()[:, None]
            jitter = 0.01 * spread * torch.randn(self.W.shape).to(S) / self.W.shape[1] ** 0.5
            self._set(theta._replace(W=theta.W + jitter))

    def expectation(self, batch: Batch) -> Statistics:
        """Sums for mean and covariance; or, for EM, over p(z | x)."""
        x = self.rows(batch, not self.one_pass)
        if self.one_pass:
            return streams.sums(x, self.mu)
        return gaussian.expectation(self._theta.double(), x.to(self.mu))

    def maximization(self, statistics: Statistics) -> None:
        """Set the parameters to the closed form; or, for EM, to the next ones."""
        if self.one_pass:
            mean, S = streams.mean(statistics, self.mu), streams.covariance(statistics)
            self._set(fits.ppca(mean, S, self.W.shape[1]))
            value = fits.log_likelihood(self._theta, mean, S)
            statistics["log_likelihood"] = value * statistics["count"]
            self.history, self.converged = (float(value),), True
            return
        theta, variance = gaussian.maximization(self._theta.double(), statistics)
        fits.check_varies(variance, theta.mu)
        sigma2 = torch.maximum(theta.psi.mean(), fits.PPCA_FLOOR * variance.mean())
        psi = sigma2.expand_as(variance)
        self._set(gaussian.identified(theta._replace(psi=psi)))

    def _set(self, theta: LinearGaussian) -> None:
        self.W.copy_(theta.W)
        self.mu.copy_(theta.mu)
        self.log_scale.copy_(theta.psi[0].log() / 2)
