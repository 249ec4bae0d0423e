r"""Probabilistic principal component analysis (Tipping & Bishop 1999).

https://doi.org/10.1111/1467-9868.00196. A code $z \sim \mathcal N(0, I_q)$ gives

$$x \mid z \sim \mathcal N(W z + \mu, \sigma^2 I), \qquad
  x \sim \mathcal N(\mu, W W^\top + \sigma^2 I), \qquad
  z \mid x \sim \mathcal N(M^{-1} W^\top (x - \mu), \sigma^2 M^{-1}), \quad
  M = W^\top W + \sigma^2 I.$$

The likelihood is greatest (eqs. 7 and 8) where $\mu$ is the mean of the data, $\sigma^2$ the mean
of the $D - q$ least eigenvalues of their covariance, and the columns of $W$ its leading
eigenvectors, of lengths $(\lambda_i - \sigma^2)^{1/2}$.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from zoo.checks import check_choice
from zoo.inference.linear_gaussian import LinearGaussian
from zoo.inference.moments import PPCA_FLOOR, Moments, ppca
from zoo.linear import LinearGaussianModel

Method = Literal["closed", "em"]


class PPCA(LinearGaussianModel):
    """Probabilistic principal component analysis.

    The columns of `W` are orthogonal, in the order of the variance that they explain; in each, the
    entry of the largest magnitude is positive. `sigma^2` is at least 1e-10 of the mean variance of
    an entry, so that data without noise have a finite likelihood.

    Args:
        x_shape: Shape of a datum: (C, H, W) of an image in [0, 1], or (D,).
        latent_dim: Number of components q, less than there are entries in a datum.
        method: `closed`, the solution from one pass over the data, with D x D numbers in memory
            unless fewer than D data come in one batch; or `em`, an iteration an epoch with D x q
            numbers, for large D and for data with missing entries (NaN).
    """

    about: ClassVar = (
        "Probabilistic principal component analysis (Tipping & Bishop 1999, "
        "https://doi.org/10.1111/1467-9868.00196)"
    )
    tags: ClassVar = ("probabilistic-pca", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "log p(x) is a density of real values, so it can be positive, and compares only with "
        "other densities of the same values. Samples are Gaussian, clipped to [0, 1]; noise of one "
        "variance lies on every pixel, and `decode` gives means without it."
    )

    def __init__(
        self,
        x_shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 20,
        method: Method = "closed",
    ) -> None:
        super().__init__(x_shape, latent_dim, shared_noise=True, one_pass=method == "closed")
        self.save_hyperparameters()
        check_choice(Method, method=method)

    def solution(self, data: Moments, rough: bool = False) -> LinearGaussian:
        """The closed form, eqs. 7 and 8."""
        return ppca(data, self.latent_shape[0])

    def noise(self, psi: Tensor, variance: Tensor, mean: Tensor) -> Tensor:
        """One variance for all, sigma^2."""
        return torch.maximum(psi.mean(), PPCA_FLOOR * variance.mean()).expand_as(psi)
