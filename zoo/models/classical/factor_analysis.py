r"""Factor analysis (Rubin & Thayer 1982, https://doi.org/10.1007/BF02293851).

A code $z \sim \mathcal N(0, I_q)$ gives, with a noise variance for each entry of $x$,

$$x \mid z \sim \mathcal N(W z + \mu, \Psi), \quad \Psi = \operatorname{diag}(\psi), \qquad
  x \sim \mathcal N(\mu, W W^\top + \Psi), \qquad
  z \mid x \sim \mathcal N(G^{-1} W^\top \Psi^{-1} (x - \mu), G^{-1}), \quad
  G = I + W^\top \Psi^{-1} W.$$

The likelihood depends on the data through their mean and covariance $S$, so one pass over them is
enough. ECME (Liu & Rubin 1994, https://doi.org/10.1093/biomet/81.4.633) then takes two conditional
maximisations a step, $\Psi$ as in EM and $W$ of the likelihood itself:

$$\Psi \leftarrow \operatorname{diag}\big(S - 2 W B S
  + W (G^{-1} + B S B^\top) W^\top\big), \quad B = G^{-1} W^\top \Psi^{-1}, \qquad
  W \leftarrow \Psi^{1/2} V (\Theta - I)^{1/2}$$

with the leading eigenpairs $\Theta, V$ of $\Psi^{-1/2} S \Psi^{-1/2}$. As in EM the likelihood
never falls.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import nn

from zoo.batches import Batch
from zoo.checks import check_at_least
from zoo.inference import streams
from zoo.inference.linear import fits
from zoo.models.classical.em import Statistics, array_batch
from zoo.models.classical.linear import LinearModel

FIRST = 1024
"""Data whose mean the sums are taken about."""


class FactorAnalysis(LinearModel):
    r"""Factor analysis with a Gaussian code.

    The factors are turned so that $W^\top \Psi^{-1} W$ is diagonal, with descending entries; in
    each column of `W` the entry of the largest magnitude is positive.

    The likelihood is not bounded where a noise variance can go to zero (a Heywood case). Each is
    therefore at least 1e-6 of the variance of its entry, of the mean variance if the entry is
    constant, and not below `min_scale` squared.

    It learns from data that are complete. Where x has NaNs, every verb uses the entries that are
    there, and `reconstruct` says what these expect of the others:
    `torch.where(x.isnan(), model.reconstruct(x), x)` completes x.

    Args:
        x_shape: Shape of a datum. (C, H, W) is an image with values in [0, 1], in batches under
            "image"; any other shape is a vector of any values, in batches under "x".
        latent_dim: Number of factors q, less than there are numbers in a datum.
        min_scale: Least standard deviation of the noise, in the data's units; for images, whose
            border pixels hardly ever vary.
        max_iter: Steps of ECME at the most.
        tol: ECME stops when a step raises the log-likelihood of a datum by less, in nats.
    """

    about: ClassVar = "Factor analysis (Rubin & Thayer 1982, https://doi.org/10.1007/BF02293851)"
    tags: ClassVar = ("factor-analysis", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "log p(x) is a density of real values, so it can be positive, and compares only with "
        "other densities of the same values; it also grows with every entry that hardly varies, "
        "up to the floor that `min_scale` puts under the noise. Samples are Gaussian; `decode` "
        "gives means without noise, and those of images are clipped to [0, 1]."
    )

    one_pass = True

    shows: ClassVar = {"parameters.png": "The factors: grey is zero, white and black the extremes."}

    def __init__(
        self,
        x_shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 20,
        min_scale: float = 0.0,
        max_iter: int = 1000,
        tol: float = 1e-6,
    ) -> None:
        super().__init__(x_shape, latent_dim)
        self.save_hyperparameters()
        check_at_least(0, min_scale=min_scale, max_iter=max_iter, tol=tol)
        self.min_scale, self.max_iter, self.tol = min_scale, max_iter, tol
        self.log_scale = nn.Parameter(torch.zeros(self.mu.shape))  # log psi^1/2

    def as_batch(self, data: Any) -> Batch:
        """Images or vectors (N, *x_shape), of NumPy or torch."""
        return array_batch(data, self._key, self.x_shape)

    def start(self, batches: Iterable[Batch]) -> None:
        """Take the mean of the first data."""
        first = self.rows(next(iter(batches)))[:FIRST]
        self.mu.copy_(first.double().mean(0))

    def expectation(self, batch: Batch) -> Statistics:
        """Sums for mean and covariance, which need no parameters."""
        return streams.sums(self.rows(batch), self.mu)

    def maximization(self, statistics: Statistics) -> None:
        """Set the parameters to what ECME comes to."""
        mean, S = streams.mean(statistics, self.mu), streams.covariance(statistics)
        theta, history = fits.factor_analysis(
            mean, S, self.W.shape[1], self.min_scale, self.max_iter, self.tol
        )
        self.history = history
        self.converged = len(history) > 1 and history[-1] - history[-2] < self.tol
        statistics["log_likelihood"] = history[-1] * statistics["count"]
        self.W.copy_(theta.W)
        self.mu.copy_(theta.mu)
        self.log_scale.copy_(theta.psi.log() / 2)
