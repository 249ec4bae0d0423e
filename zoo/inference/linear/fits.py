r"""Fits of linear-Gaussian models from the mean and covariance of the data: no datum is needed.

With the covariance $S$ (of maximum likelihood: divided by $N$), eigenvalues
$\lambda_1 \ge \dots \ge \lambda_D$ and eigenvectors $u_i$, the maximum-likelihood probabilistic PCA
is (Tipping & Bishop 1999, eqs. 7 and 8)

$$\sigma^2 = \frac 1 {D - q} \sum_{i > q} \lambda_i, \qquad
  W = U_q (\Lambda_q - \sigma^2 I)^{1/2}.$$

Factor analysis has no closed form, but half of one: given $\Psi$, the best $W$ is
$\Psi^{1/2} V (\Theta - I)^{1/2}$ with the leading eigenpairs of
$\tilde S = \Psi^{-1/2} S \Psi^{-1/2}$.
"""

import math

import torch
from torch import Tensor

from zoo.inference.linear.gaussian import LinearGaussian, identified
from zoo.inference.streams import principal_components

PPCA_FLOOR = 1e-10
"""Least sigma^2, relative to the mean variance of an entry."""

FA_FLOOR = 1e-6
"""Least noise variance of an entry, relative to its variance; to the mean if it is constant."""


def varies(variance: Tensor, mean: Tensor) -> Tensor:
    """Which entries vary by more than what rounding makes of a constant, (D,) bool."""
    return variance.clamp(min=0).sqrt() > 1e-14 * mean.abs()


def check_varies(variance: Tensor, mean: Tensor) -> None:
    """Raise ValueError if no entry varies.

    Args:
        variance: Of each entry, (D,).
        mean: Of each entry, (D,).
    """
    if not varies(variance, mean).any():
        raise ValueError(
            "all data are the same, so that the noise variance of maximum likelihood is 0; "
            "fit to two different data at least."
        )


def log_likelihood(model: LinearGaussian, mean: Tensor, S: Tensor) -> Tensor:
    """Mean log p(x) in nats of the data that have this mean, (D,), and covariance, (D, D)."""
    W, mu, psi = model.double()
    scaled = W / psi[:, None]  # (D, q)
    G = torch.eye(W.shape[1], dtype=W.dtype, device=W.device) + W.T @ scaled
    shift = mean - mu
    between = scaled.T @ S @ scaled + torch.outer(scaled.T @ shift, scaled.T @ shift)
    trace = ((S.diagonal() + shift.square()) / psi).sum()
    trace = trace - torch.linalg.solve(G, between).trace()
    constant = len(mu) * math.log(2 * math.pi)
    value: Tensor = -0.5 * (constant + psi.log().sum() + torch.logdet(G) + trace)
    return value


def ppca(mean: Tensor, S: Tensor, q: int) -> LinearGaussian:
    """Probabilistic PCA of maximum likelihood; sigma^2 is at least `PPCA_FLOOR`.

    Args:
        mean: Of the data, (D,).
        S: Their covariance, (D, D).
        q: Number of components.

    Raises:
        ValueError: if all data are the same.
    """
    variance = S.diagonal()
    check_varies(variance, mean)
    U, values, rest = principal_components(S, q)
    sigma2 = torch.maximum(rest, PPCA_FLOOR * variance.mean())
    W = U * (values - sigma2).clamp(min=0).sqrt()
    return identified(LinearGaussian(W, mean, sigma2.expand_as(variance)))


def noise_floor(variance: Tensor, mean: Tensor, min_scale: float) -> Tensor:
    """The least noise variances of factor analysis, (D,).

    They are `FA_FLOOR` of an entry's variance, or of the mean variance if the entry is constant,
    and at least `min_scale` squared.

    Args:
        variance: Of each entry, (D,).
        mean: Of each entry, (D,).
        min_scale: Least standard deviation of the noise.
    """
    own = torch.where(varies(variance, mean), variance, variance.mean())
    return (FA_FLOOR * own).clamp(min=min_scale**2)


def factor_analysis(
    mean: Tensor,
    S: Tensor,
    q: int,
    min_scale: float = 0.0,
    max_iter: int = 1000,
    tol: float = 1e-6,
) -> tuple[LinearGaussian, tuple[float, ...]]:
    r"""Factor analysis by conditional maximisations of two kinds (ECME, Liu & Rubin 1994).

    A step has two halves, and none lowers the likelihood. $\Psi$ takes an EM step given W, down to
    a floor where the likelihood is not bounded (a Heywood case). Then the likelihood itself is
    maximised over W, by the leading eigenpairs of $\tilde S$; they are sought in the span of the
    last ones and of $\tilde S$ times these, in which the last W lies. That costs $O(D^2 q)$. The
    start is $\Psi = \operatorname{diag} S$.

    Args:
        mean: Of the data, (D,).
        S: Their covariance, (D, D).
        q: Number of factors.
        min_scale: Least standard deviation of the noise, in the data's units.
        max_iter: Steps at the most.
        tol: Stop when a step raises the log-likelihood of a datum by less, in nats.

    Returns:
        The parameters, and the mean log-likelihood before each step and at the end.

    Raises:
        ValueError: if all data are the same.
    """
    variance = S.diagonal()
    check_varies(variance, mean)
    floor = noise_floor(variance, mean, min_scale)
    psi = torch.maximum(variance, floor)
    V, theta, _ = principal_components(S / torch.outer(psi, psi).sqrt(), q)
    image = _whitened(S, psi, V)
    history: list[float] = []
    for step in range(max_iter + 1):
        k = (theta - 1).clamp(min=0)  # W^T Psi^-1 W
        fit = k.log1p().sum() - (k * theta / (1 + k)).sum()
        constant = len(psi) * math.log(2 * math.pi)
        value = -0.5 * (constant + psi.log().sum() + (variance / psi).sum() + fit)
        history.append(float(value))
        if step == max_iter or (step and history[-1] - history[-2] < tol):
            break
        # E[(x - W z)^2] with z given x: S - 2 W B S + W E[z z^T] W^T on the diagonal
        second = 1 / (1 + k) + k * theta / (1 + k).square()  # E[z z^T], diagonal
        explained = V * (2 * image * (k / (1 + k)) - V * (k * second))
        before = psi
        psi = torch.maximum(variance - psi * explained.sum(1), floor)
        # the last W, whitened by the new Psi, is in the span of what the search starts from
        theta, V, image = _refined(S, psi, V * (before / psi).sqrt()[:, None])
    W = psi.sqrt()[:, None] * V * (theta - 1).clamp(min=0).sqrt()
    return identified(LinearGaussian(W, mean, psi)), tuple(history)


def _whitened(S: Tensor, psi: Tensor, V: Tensor) -> Tensor:
    """Psi^-1/2 S Psi^-1/2 V."""
    scale = psi.sqrt()[:, None]
    return S @ (V / scale) / scale


def _refined(S: Tensor, psi: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rayleigh-Ritz for the leading eigenpairs in the span of V and of the whitened S times V.

    Returns:
        The values (q,), the vectors (D, q), and the whitened S times these.
    """
    q = V.shape[1]
    basis, _ = torch.linalg.qr(torch.cat([V, _whitened(S, psi, V)], 1))  # (D, 2q)
    image = _whitened(S, psi, basis)
    values, rotation = torch.linalg.eigh(basis.T @ image)
    rotation = rotation[:, -q:].flip(1)
    return values[-q:].flip(0), basis @ rotation, image @ rotation
