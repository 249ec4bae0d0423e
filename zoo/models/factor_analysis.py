r"""Factor analysis (Rubin & Thayer 1982, https://doi.org/10.1007/BF02293851).

A code $z \sim \mathcal N(0, I_q)$ gives, with a noise variance for each entry of $x$,

$$x \mid z \sim \mathcal N(W z + \mu, \Psi), \quad \Psi = \operatorname{diag}(\psi), \qquad
  x \sim \mathcal N(\mu, W W^\top + \Psi), \qquad
  z \mid x \sim \mathcal N(G^{-1} W^\top \Psi^{-1} (x - \mu), G^{-1}), \quad
  G = I + W^\top \Psi^{-1} W.$$

The likelihood depends on the data through their mean and covariance $S$, so one pass over them is
enough. `ecme` (Liu & Rubin 1994, https://doi.org/10.1093/biomet/81.4.633) then takes two
conditional maximisations a step, $\Psi$ as in EM and $W$ of the likelihood itself:

$$\Psi \leftarrow \operatorname{diag}\big(S - 2 W B S
  + W (G^{-1} + B S B^\top) W^\top\big), \quad B = G^{-1} W^\top \Psi^{-1}, \qquad
  W \leftarrow \Psi^{1/2} V (\Theta - I)^{1/2}$$

with the leading eigenpairs $\Theta, V$ of $\Psi^{-1/2} S \Psi^{-1/2}$. As in EM the likelihood
never falls.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from zoo.checks import check_at_least, check_choice
from zoo.inference.linear_gaussian import LinearGaussian
from zoo.inference.moments import Moments, factor_analysis, noise_floor
from zoo.linear import LinearGaussianModel

Method = Literal["ecme", "em"]


class FactorAnalysis(LinearGaussianModel):
    r"""Factor analysis with a Gaussian code.

    The factors are turned so that $W^\top \Psi^{-1} W$ is diagonal, with descending entries; in
    each column of `W` the entry of the largest magnitude is positive.

    The likelihood is not bounded where a noise variance can go to zero (a Heywood case). Each is
    therefore at least 1e-6 of the variance of its entry, of the mean variance if the entry is
    constant, and not below `min_scale` squared.

    Args:
        x_shape: Shape of a datum: (C, H, W) of an image in [0, 1], or (D,).
        latent_dim: Number of factors q, less than there are entries in a datum.
        method: `ecme`, from one pass over the data, with D x D numbers in memory unless fewer than
            D data come in one batch; or `em`, an iteration an epoch with D x q numbers, for large D
            and for data with missing entries (NaN).
        min_scale: Least standard deviation of the noise, in the data's units; for images, whose
            border pixels hardly ever vary.
        max_iter: Steps of `ecme` at the most.
        tol: `ecme` stops when a step raises the log-likelihood of a datum by less, in nats.
    """

    about: ClassVar = "Factor analysis (Rubin & Thayer 1982, https://doi.org/10.1007/BF02293851)"
    tags: ClassVar = ("factor-analysis", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "log p(x) is a density of real values, so it can be positive, and compares only with "
        "other densities of the same values; it also grows with every pixel that hardly varies, "
        "up to the floor that `min_scale` puts under the noise. Samples are Gaussian, clipped to "
        "[0, 1]; `decode` gives means without noise."
    )

    def __init__(
        self,
        x_shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 20,
        method: Method = "ecme",
        min_scale: float = 0.0,
        max_iter: int = 1000,
        tol: float = 1e-6,
    ) -> None:
        super().__init__(x_shape, latent_dim, shared_noise=False, one_pass=method == "ecme")
        self.save_hyperparameters()
        check_choice(Method, method=method)
        check_at_least(0, min_scale=min_scale, max_iter=max_iter, tol=tol)
        self.min_scale, self.max_iter, self.tol = min_scale, max_iter, tol

    def solution(self, data: Moments, rough: bool = False) -> LinearGaussian:
        """What ECME comes to."""
        steps = min(self.max_iter, 3) if rough else self.max_iter
        theta, history = factor_analysis(
            data, self.latent_shape[0], self.min_scale, steps, self.tol
        )
        if not rough:
            self.history = history[:-1]  # `fit` adds the last
        return theta

    def noise(self, psi: Tensor, variance: Tensor, mean: Tensor) -> Tensor:
        """Those variances, but not below the floor."""
        return torch.maximum(psi, noise_floor(variance, mean, self.min_scale))
