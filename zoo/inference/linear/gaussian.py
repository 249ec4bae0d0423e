r"""The linear-Gaussian latent-variable model: its density, its posterior, and its EM.

A code $z \sim \mathcal N(0, I_q)$ gives $x \mid z \sim \mathcal N(W z + \mu, \Psi)$ in $D$
dimensions, $\Psi$ diagonal: factor analysis, and probabilistic PCA where $\Psi = \sigma^2 I$. Hence
$x \sim \mathcal N(\mu, W W^\top + \Psi)$. Nothing here is $D \times D$: with
$G = I + W^\top \Psi^{-1} W$, $q \times q$,

$$p(z \mid x) = \mathcal N(m, G^{-1}), \quad m = G^{-1} W^\top \Psi^{-1} (x - \mu), \qquad
  |W W^\top + \Psi| = |\Psi| \, |G|,$$
$$(x - \mu)^\top (W W^\top + \Psi)^{-1} (x - \mu)
  = \lVert \Psi^{-1/2} (x - \mu - W m) \rVert^2 + \lVert m \rVert^2,$$

the second line being Woodbury's identity in a form in which nothing cancels. A NaN in $x$ is an
entry that was not seen; all of the above then holds for the entries that were.

Densities are computed in float64, and come out in the type of W.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_exporting
from torch.distributions import Distribution, MultivariateNormal

from zoo.distributions.factorised import at_least_float32, gaussian

ROWS = 1024
"""Data that the E-step takes at a time: few enough for a cache, and for a precision of each."""


class LinearGaussian(NamedTuple):
    """Parameters: W of shape (D, q), mu (D,), and psi (D,), the noise variances."""

    W: Tensor
    mu: Tensor
    psi: Tensor

    def double(self) -> "LinearGaussian":
        """The parameters in float64."""
        return LinearGaussian(*(p.double() for p in self))

    def typed(self, x: Tensor) -> Tensor:
        """In the type of W, float32 or better."""
        return x.to(at_least_float32(self.W).dtype)


def prior(model: LinearGaussian) -> Distribution:
    """p(z) = N(0, I): batch shape (), event shape (q,)."""
    identity = model.typed(torch.eye(model.W.shape[1], device=model.W.device))
    return _normal(identity.new_zeros(len(identity)), identity)


def posterior(model: LinearGaussian, x: Tensor) -> Distribution:
    """p(z | x) of what is there of x, (B, D): batch shape (B,), event shape (q,)."""
    theta = model.double()
    q = _posterior(theta, _seen(theta, x))
    origin = q.mean.new_zeros(q.mean.shape[1])
    noise = MultivariateNormal(origin, precision_matrix=q.precision, validate_args=False)
    return _normal(model.typed(q.mean), model.typed(noise.scale_tril))


def likelihood(model: LinearGaussian, z: Tensor, x_shape: Sequence[int]) -> Distribution:
    """p(x | z) for z of shape (B, q): batch shape (B,), event shape x_shape, of D numbers."""
    theta = model.double()
    mean = z.double() @ theta.W.T + theta.mu  # (B, D)
    scale = model.typed(theta.psi.sqrt()).reshape(x_shape)
    mean = model.typed(mean).reshape(-1, *x_shape)
    return gaussian(mean, scale.expand_as(mean), event_dims=len(x_shape))


def log_prob(model: LinearGaussian, x: Tensor) -> Tensor:
    """Log N(x; mu, W W^T + Psi) of what is there of each x: (B, D) to (B,), in nats."""
    theta = model.double()
    data = _seen(theta, x)
    return model.typed(_log_prob(theta, data, _posterior(theta, data)))


def _normal(mean: Tensor, scale_tril: Tensor) -> Distribution:
    return MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)


class _Posterior(NamedTuple):
    mean: Tensor  # (B, q)
    precision: Tensor  # (q, q), or (B, q, q) where entries miss


class _Seen(NamedTuple):
    deviation: Tensor  # x - mu, (B, D), 0 where x is missing
    seen: Tensor | None  # (B, D) float64, 1 where x is there; None if it is everywhere


def _seen(model: LinearGaussian, x: Tensor) -> _Seen:
    missing = x.isnan()
    if is_exporting() or not missing.any():  # an exported model takes whole data
        return _Seen(x.double() - model.mu, None)
    return _Seen(torch.where(missing, model.mu, x.double()) - model.mu, (~missing).double())


def _posterior(model: LinearGaussian, data: _Seen) -> _Posterior:
    W, psi = model.W, model.psi
    scaled = W / psi[:, None]  # (D, q)
    if data.seen is None:
        precision = W.T @ scaled
    else:  # column by column, as D q^2 numbers may be many
        columns = [data.seen @ (scaled * w[:, None]) for w in W.unbind(1)]
        precision = torch.stack(columns, 1)  # (B, q, q)
    precision = precision + torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
    projected = data.deviation @ scaled  # (B, q)
    factor = torch.linalg.cholesky(precision)
    if data.seen is None:
        return _Posterior(torch.cholesky_solve(projected.T, factor).T, precision)
    return _Posterior(torch.cholesky_solve(projected[:, :, None], factor)[:, :, 0], precision)


def _log_prob(model: LinearGaussian, data: _Seen, q: _Posterior) -> Tensor:
    residual = data.deviation - q.mean @ model.W.T  # (B, D)
    log_scale = model.psi.log() + math.log(2 * math.pi)
    if data.seen is None:
        terms = residual.square() @ (1 / model.psi) + log_scale.sum()  # (B,)
    else:
        terms = (data.seen * residual.square()) @ (1 / model.psi) + data.seen @ log_scale
    return -0.5 * (terms + q.mean.square().sum(-1) + torch.logdet(q.precision))


def identified(model: LinearGaussian) -> LinearGaussian:
    r"""Turn the latent axes so that W is determined, which leaves the density as it is.

    $W^\top \Psi^{-1} W$ becomes diagonal with descending entries (Lawley & Maxwell 1971): under
    $\Psi = \sigma^2 I$ the columns are orthogonal, and the one that explains most variance is the
    first. In each column the entry of the largest magnitude is positive.
    """
    W, psi = model.W, model.psi
    _, _, rotation = torch.linalg.svd(W / psi.sqrt()[:, None], full_matrices=False)
    W = W @ rotation.T
    largest = W.gather(0, W.abs().argmax(0, keepdim=True))  # (1, q)
    return model._replace(W=torch.where(largest < 0, -W, W))


# --- expectation-maximisation --------------------------------------------------------------------


def expectation(model: LinearGaussian, x: Tensor) -> dict[str, Tensor]:
    r"""The E-step (Rubin & Thayer 1982; Tipping & Bishop 1999, eq. 26), in $O(D q)$ memory.

    Entries of x that are missing are latent variables, as z is.

    Args:
        model: The current parameters, float64.
        x: Data of shape (B, D).

    Returns:
        Sums over data of expectations under p(z, x_missing | x_seen), where d = x - mu: `d` (D,),
        `dd` (D,) of squares, `z` (q,), `dz` (D, q), `zz` (q, q); `count`; and `log_likelihood`.

    Raises:
        ValueError: if an entry is infinite.
    """
    parts = [_expectation(model, part) for part in torch.split(x, ROWS)]
    total = {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}
    if not total["log_likelihood"].isfinite():
        raise ValueError("the data have infinite entries; a NaN would mark one as missing.")
    return total


def _expectation(model: LinearGaussian, x: Tensor) -> dict[str, Tensor]:
    W = model.W
    data = _seen(model, x)
    q = _posterior(model, data)
    log_likelihood = _log_prob(model, data, q).sum()
    m, d = q.mean, data.deviation
    covariance = torch.linalg.inv(q.precision)  # (q, q) or (B, q, q)
    if data.seen is None:
        zz = len(x) * covariance
        dz = torch.zeros_like(W)
        dd = torch.zeros_like(model.psi)
    else:
        missing = 1 - data.seen
        d = d + missing * (m @ W.T)
        zz = covariance.sum(0)
        # Cov(x_missing, z) = W Cov(z) and Var(x_missing) = W Cov(z) W^T + Psi
        columns = [(missing.T @ c * W).sum(1) for c in covariance.unbind(1)]
        dz = torch.stack(columns, 1)
        dd = (dz * W).sum(1) + missing.sum(0) * model.psi
    return {
        "count": model.psi.new_tensor(len(x)),
        "log_likelihood": log_likelihood,
        "d": d.sum(0),
        "dd": dd + d.square().sum(0),
        "z": m.sum(0),
        "dz": dz + d.T @ m,
        "zz": zz + m.T @ m,
    }


class Update(NamedTuple):
    """What an M-step gives: the parameters before a floor is put under `psi`, and variances."""

    model: LinearGaussian
    variance: Tensor
    """Of each entry of x, (D,); where entries miss, under the parameters before the step."""


def maximization(model: LinearGaussian, statistics: dict[str, Tensor]) -> Update:
    r"""The M-step with a free prior $\mathcal N(\eta, \Gamma)$ (PX-EM, Liu, Rubin & Wu 1998).

    $\eta$ and $\Gamma$ are estimated too and absorbed into $\mu$ and $W$. As for EM itself the
    likelihood never falls, but $\mu$ is the mean of the data and W has their scale after one step.

    Args:
        model: The parameters that the E-step had.
        statistics: What `expectation` gave, summed over all data.
    """
    n = statistics["count"]
    d, z = statistics["d"] / n, statistics["z"] / n
    variance = statistics["dd"] / n - d.square()  # (D,)
    covariance = statistics["dz"] / n - torch.outer(d, z)  # Cov(x, z), (D, q)
    gamma = statistics["zz"] / n - torch.outer(z, z)
    factor = torch.linalg.cholesky(gamma)
    # W* = Cov(x, z) Gamma^-1 explains W* Gamma W*^T, and W* L is the same for z ~ N(0, I)
    W = torch.linalg.solve_triangular(factor, covariance.T, upper=False).T
    psi = variance - W.square().sum(1)
    return Update(LinearGaussian(W, model.mu + d, psi), variance)
