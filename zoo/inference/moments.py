r"""Fits of linear-Gaussian models from the mean and covariance of the data, in one pass over them.

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
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.inference.linear_gaussian import LinearGaussian, identified

ROWS = 8192
"""Data that are summed in their own type, before the sums go on in float64."""

PPCA_FLOOR = 1e-10
"""Least sigma^2, relative to the mean variance of an entry."""

FA_FLOOR = 1e-6
"""Least noise variance of an entry, relative to its variance; to the mean if it is constant."""


class Moments(NamedTuple):
    """Number of data, their mean (D,), and S, (D, D), or its root (N, D): S = root^T root."""

    n: Tensor
    mean: Tensor
    covariance: Tensor | None
    root: Tensor | None

    def variance(self) -> Tensor:
        """The diagonal of S, (D,)."""
        if self.root is None:
            assert self.covariance is not None
            return self.covariance.diagonal()
        return self.root.square().sum(0)

    def times(self, V: Tensor) -> Tensor:
        """S V for V of shape (D, k)."""
        if self.root is None:
            assert self.covariance is not None
            return self.covariance @ V
        return self.root.T @ (self.root @ V)


def _gram(d: Tensor) -> Tensor:
    """Transpose(d) d. On a CPU by BLAS's symmetric product, half the work; torch has none."""
    if d.device.type == "cpu":
        a = d.numpy()
        return torch.from_numpy(a.T @ a)
    with torch.autocast(d.device.type, enabled=False):
        return d.T @ d


def sums(x: Tensor, origin: Tensor, whole: bool = False) -> dict[str, Tensor]:
    """Sums over data from which `moments` makes mean and covariance, float64.

    They are taken in the type of `x - origin` over 8192 data at a time, and in float64 over these:
    in float32 that leaves S an error of a few 1e-8 of the variances, the origin near the mean.

    Args:
        x: Data of shape (B, D).
        origin: What is subtracted first, (D,); a mean, even of a few data, keeps the digits.
        whole: Whether these are all data. If they are fewer than D, the data are kept instead of
            their D x D products.

    Returns:
        `count`, `d` (D,), and `dd` (D, D), or `rows` (B, D) of the whole.

    Raises:
        ValueError: if an entry is missing or infinite.
    """
    x, (n, dim) = x.detach(), x.shape
    dtype = torch.promote_types(torch.promote_types(x.dtype, origin.dtype), torch.float32)
    origin = origin.detach().to(dtype)
    d = origin.new_zeros(dim, dtype=torch.float64)
    dd = None if whole and n < dim else d.new_zeros(dim, dim)
    deviations = origin.new_empty(min(n, ROWS), dim)  # new memory for each part would cost more
    for part in torch.split(x, ROWS):
        deviation = torch.sub(part, origin, out=deviations[: len(part)])
        d += deviation.sum(0)
        if dd is not None:
            dd += _gram(deviation)
    if not d.isfinite().all():
        raise ValueError(
            "the data have missing or infinite entries, and their covariance needs all; "
            'learn with method="em", to which a NaN is a missing entry.'
        )
    total = {"count": d.new_tensor(n), "d": d}
    return total | ({"rows": x.double() - origin} if dd is None else {"dd": dd})


def moments(statistics: dict[str, Tensor], origin: Tensor) -> Moments:
    """Mean and covariance from what `sums` gave, summed over all data."""
    n, origin = statistics["count"], origin.double()
    d = statistics["d"] / n
    if "rows" in statistics:
        return Moments(n, origin + d, None, (statistics["rows"] - d) / n.sqrt())
    return Moments(n, origin + d, statistics["dd"] / n - torch.outer(d, d), None)


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


def log_likelihood(model: LinearGaussian, data: Moments) -> Tensor:
    """Mean log p(x) in nats of the data that have these moments."""
    W, mu, psi = model
    scaled = W / psi[:, None]  # (D, q)
    G = torch.eye(W.shape[1], dtype=W.dtype, device=W.device) + W.T @ scaled
    shift = data.mean - mu
    between = scaled.T @ data.times(scaled)
    between = between + torch.outer(scaled.T @ shift, scaled.T @ shift)
    trace = ((data.variance() + shift.square()) / psi).sum()
    trace = trace - torch.linalg.solve(G, between).trace()
    constant = len(mu) * math.log(2 * math.pi)
    value: Tensor = -0.5 * (constant + psi.log().sum() + torch.logdet(G) + trace)
    return value


def leading(data: Moments, psi: Tensor, q: int) -> tuple[Tensor, Tensor]:
    """The q largest eigenvalues of Psi^-1/2 S Psi^-1/2, descending, and eigenvectors (D, q).

    From the N x N products of the data if the moments have those. Where the rank is below q, zeros.
    """
    scale = psi.sqrt()
    if data.root is not None:
        root = data.root / scale  # (N, D)
        values, vectors = _eigh(root @ root.T, min(q, len(root)))
        within = values > 1e-14 * values[0]
        vectors = root.T @ (vectors * torch.where(within, values.rsqrt(), 0))
        missing = (0, q - len(values))
        return pad(torch.where(within, values, 0), missing), pad(vectors, missing)
    assert data.covariance is not None
    return _eigh(data.covariance / scale[:, None] / scale, q)


def _eigh(S: Tensor, q: int) -> tuple[Tensor, Tensor]:
    """The q largest eigenvalues and eigenvectors; on a CPU by a solver that finds no others."""
    if S.device.type == "cpu":
        from scipy.linalg import eigh

        n = len(S)
        values, vectors = map(torch.from_numpy, eigh(S.numpy(), subset_by_index=[n - q, n - 1]))
    else:
        values, vectors = torch.linalg.eigh(S)
    return values[-q:].flip(0).clamp(min=0), vectors[:, -q:].flip(1)


def ppca(data: Moments, q: int) -> LinearGaussian:
    """Probabilistic PCA of maximum likelihood; sigma^2 is at least `PPCA_FLOOR`.

    Raises:
        ValueError: if all data are the same.
    """
    variance = data.variance()
    check_varies(variance, data.mean)
    values, U = leading(data, torch.ones_like(variance), q)
    rest = (variance.sum() - values.sum()) / (len(variance) - q)
    sigma2 = torch.maximum(rest, PPCA_FLOOR * variance.mean())
    W = U * (values - sigma2).clamp(min=0).sqrt()
    return identified(LinearGaussian(W, data.mean, sigma2.expand_as(variance)))


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
    data: Moments, q: int, min_scale: float = 0.0, max_iter: int = 1000, tol: float = 1e-6
) -> tuple[LinearGaussian, tuple[float, ...]]:
    r"""Factor analysis by conditional maximisations of two kinds (ECME, Liu & Rubin 1994).

    A step has two halves, and none lowers the likelihood. $\Psi$ takes an EM step given W, down to
    a floor where the likelihood is not bounded (a Heywood case). Then the likelihood itself is
    maximised over W, by the leading eigenpairs of $\tilde S$; they are sought in the span of the
    last ones and of $\tilde S$ times these, in which the last W lies. That costs $O(D^2 q)$ and no
    data. The start is $\Psi = \operatorname{diag} S$.

    Args:
        data: Moments of the data.
        q: Number of factors.
        min_scale: Least standard deviation of the noise, in the data's units.
        max_iter: Steps at the most.
        tol: Stop when a step raises the log-likelihood of a datum by less, in nats.

    Returns:
        The parameters, and the mean log-likelihood before each step and at the end.

    Raises:
        ValueError: if all data are the same.
    """
    variance = data.variance()
    check_varies(variance, data.mean)
    floor = noise_floor(variance, data.mean, min_scale)
    psi = torch.maximum(variance, floor)
    theta, V = leading(data, psi, q)
    image = _whitened(data, psi, V)
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
        theta, V, image = _refined(data, psi, V * (before / psi).sqrt()[:, None])
    W = psi.sqrt()[:, None] * V * (theta - 1).clamp(min=0).sqrt()
    return identified(LinearGaussian(W, data.mean, psi)), tuple(history)


def _whitened(data: Moments, psi: Tensor, V: Tensor) -> Tensor:
    """Psi^-1/2 S Psi^-1/2 V."""
    scale = psi.sqrt()[:, None]
    return data.times(V / scale) / scale


def _refined(data: Moments, psi: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rayleigh-Ritz for the leading eigenpairs in the span of V and of the whitened S times V.

    Returns:
        The values (q,), the vectors (D, q), and the whitened S times these.
    """
    q = V.shape[1]
    basis, _ = torch.linalg.qr(torch.cat([V, _whitened(data, psi, V)], 1))  # (D, 2q)
    image = _whitened(data, psi, basis)
    values, rotation = torch.linalg.eigh(basis.T @ image)
    rotation = rotation[:, -q:].flip(1)
    return values[-q:].flip(0), basis @ rotation, image @ rotation
