r"""Mixtures of Gaussians as pure functions: densities, both steps of EM, and a start.

$$p(x) = \sum_{k=1}^K \pi_k \, \mathcal N(x; \mu_k, \Sigma_k), \qquad
  r_{nk} = p(k \mid x_n) = \frac{\pi_k \, \mathcal N(x_n; \mu_k, \Sigma_k)}{p(x_n)}.$$

The sufficient statistics are $N_k = \sum_n r_{nk}$, $S_k = \sum_n r_{nk} x_n$ and
$Q_k = \sum_n r_{nk} x_n x_n^\top$, and the M-step is (Bishop 2006, eq. 9.24 to 9.26)

$$\pi_k = N_k / N, \qquad \mu_k = S_k / N_k, \qquad
  \Sigma_k = Q_k / N_k - \mu_k \mu_k^\top + \epsilon I.$$

A precision is held as a factor $A$ with $A A^\top = \Sigma^{-1}$. Shapes, by kind of covariance:

| kind      | covariances | factors              |
| full      | (K, D, D)   | (K, D, D), triangular|
| tied      | (D, D)      | (D, D), triangular   |
| diag      | (K, D)      | (K, D)               |
| spherical | (K,)        | (K,)                 |

All that grows with N is done on parts of a bounded size, and sums over data are float64. Densities
of the full kind come from $A_k^\top (x - \mu_k)$ in the precision of the data. Those of the others
are expanded into products, which cancel when components are many standard deviations away from
the origin: they are computed in float64, so let the data have a mean near zero.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Covariance = Literal["full", "tied", "diag", "spherical"]

EMPTY = 1e-8
"""A component that has less than this much of one datum keeps its mean and covariance."""

# Numbers in the largest temporary: a megabyte or two, which a processor's cache holds.
_PART = 2**18


def _parts(x: Tensor, width: int) -> tuple[Tensor, ...]:
    """Split x so that a temporary of `width` numbers a row stays small."""
    return torch.split(x, max(256, _PART // width))


# --- parameters ----------------------------------------------------------------------------------


def precision_factors(covariances: Tensor, kind: Covariance) -> Tensor:
    r"""Factor precisions, $A A^\top = \Sigma^{-1}$.

    Raises:
        ValueError: if a covariance is not positive definite.
    """
    if kind in ("diag", "spherical"):
        if not (covariances > 0).all():
            raise ValueError(f"a variance is {covariances.min():.3g}, but must be positive.")
        return covariances.rsqrt()
    lower, failed = torch.linalg.cholesky_ex(covariances)
    if failed.any() or not lower.isfinite().all():
        raise ValueError(
            "a covariance is not positive definite: rounding outweighs the smallest variance; "
            "raise the floor, or rescale the data."
        )
    return _inverse(lower).mT


def covariance_factors(factors: Tensor, kind: Covariance) -> Tensor:
    r"""Roots of the covariances, $C = A^{-\top}$ so that $C C^\top = \Sigma$, shaped as A."""
    if kind in ("diag", "spherical"):
        return factors.reciprocal()
    return _inverse(factors.mT)


def _inverse(lower: Tensor) -> Tensor:
    """The inverse of triangular matrices (..., D, D)."""
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    return inverse


def covariances(factors: Tensor, kind: Covariance) -> Tensor:
    r"""What precision factors stand for, $\Sigma = (A A^\top)^{-1}$."""
    root = covariance_factors(factors, kind)
    return root.square() if kind in ("diag", "spherical") else root @ root.mT


def _log_scale(factors: Tensor, dim: int, kind: Covariance) -> Tensor:
    """Log of the density at a component's mean, (K,) or ()."""
    if kind == "spherical":
        log_det = dim * factors.log()
    elif kind == "diag":
        log_det = factors.log().sum(-1)
    else:
        log_det = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return log_det - 0.5 * dim * math.log(2 * math.pi)


# --- E-step --------------------------------------------------------------------------------------


def log_densities(x: Tensor, means: Tensor, factors: Tensor, kind: Covariance) -> Tensor:
    """Log N(x_n; mu_k, Sigma_k) in nats, (N, K).

    Args:
        x: Data, (N, D).
        means: (K, D).
        factors: Precision factors, shaped by the kind.
        kind: Kind of covariance.
    """
    k, dim = means.shape
    if kind == "full":
        scale = _log_scale(factors, dim, kind)
        flat, shift = _side_by_side(means, factors)
        parts = [_whitened(part, flat, shift, k) for part in _parts(x, k * dim)]
        squares = [torch.linalg.vector_norm(y, dim=-1).square() for y in parts]
        return scale - 0.5 * _finite(torch.cat(squares))
    return torch.cat([_expanded(part, means, factors, kind) for part in _parts(x, k + dim)])


def _side_by_side(means: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of all components as one matrix (D, K D), and A_k^T mu_k, (K D,)."""
    k, dim = means.shape
    shift = (means.double().unsqueeze(-2) @ factors.double()).flatten()
    return factors.transpose(0, 1).reshape(dim, k * dim), shift.to(means.dtype)


def _whitened(x: Tensor, flat: Tensor, shift: Tensor, k: int) -> Tensor:
    """A_k^T (x_n - mu_k), (N, K, D), for all components in one product."""
    return torch.addmm(-shift, x, flat).view(len(x), k, -1)


def _expanded(x: Tensor, means: Tensor, factors: Tensor, kind: Covariance) -> Tensor:
    """Log-densities by multiplying the squares out, (N, K)."""
    x, mu, a = x.double(), means.double(), factors.double()
    scale = _log_scale(a, means.shape[1], kind)
    if kind == "tied":
        x, mu = x @ a, mu @ a
        a = a.new_ones(())
    if kind == "diag":
        precision = a.square()  # (K, D)
        squares = x.square() @ precision.mT - 2 * x @ (precision * mu).mT
        squares = squares + (precision * mu.square()).sum(-1)
    else:
        squares = x.square().sum(-1, keepdim=True) - 2 * x @ mu.mT + mu.square().sum(-1)
        squares = squares * a.square()
    return (scale - 0.5 * _finite(squares)).to(means.dtype)


def _finite(squares: Tensor) -> Tensor:
    """Squared distances, of data too far for their type as far as it goes."""
    return squares.clamp(max=torch.finfo(squares.dtype).max / 4)


@torch.no_grad()
def statistics(
    x: Tensor, log_weights: Tensor, means: Tensor, factors: Tensor, kind: Covariance
) -> dict[str, Tensor]:
    """The E-step: sums over data under the current parameters, float64.

    Args:
        x: Data, (N, D).
        log_weights: Logarithms of the mixture's weights, (K,).
        means: (K, D).
        factors: Precision factors, shaped by the kind.
        kind: Kind of covariance.

    Returns:
        `count` N and `log_likelihood`, the sum of log p(x_n) in nats, both (); `weight` N_k, (K,);
        `first` S_k, (K, D); `second`, shaped as covariances: Q_k of `full`, its diagonal (`diag`)
        or trace (`spherical`), or the sum of x x^T over all data (`tied`).
    """
    if kind == "full":
        return _full_statistics(x, log_weights, means, factors)
    k, dim = means.shape
    total: dict[str, Tensor] = {}
    for part in _parts(x, k + dim):
        joint = log_weights.double() + _expanded(part, means, factors, kind).double()
        evidence = joint.logsumexp(1)
        sums = moments(part, (joint - evidence[:, None]).exp(), kind)
        sums["log_likelihood"] = evidence.sum()
        total = {name: total[name] + s if total else s for name, s in sums.items()}
    return total


def _full_statistics(
    x: Tensor, log_weights: Tensor, means: Tensor, factors: Tensor
) -> dict[str, Tensor]:
    """The E-step with full covariances, two matrix products a part.

    The second moments are summed as x y^T with y = A_k^T (x - mu_k), which the densities need
    anyway. About the mean, (x - mu)(x - mu)^T = (x - mu) y^T C^T: the rounding of single precision
    grows with the distance of a component in standard deviations, and not with its square.
    """
    k, dim = means.shape
    flat, shift = _side_by_side(means, factors)
    flat = torch.cat([flat, -shift[None]])  # of x with a one behind it
    scale = log_weights + _log_scale(factors, dim, "full")
    sums = torch.zeros(dim + 1, k * dim, dtype=torch.float64, device=x.device)
    weight = sums.new_zeros(k)
    log_likelihood = sums.new_zeros(())
    parts = _parts(x, k * dim)
    # One buffer for all parts: fresh memory costs as much as a product.
    buffer = x.new_empty(len(parts[0]), k * dim)
    for part in parts:
        ones = part.new_ones(len(part), 1)
        part = torch.cat([part, ones], 1)
        y = torch.mm(part, flat, out=buffer[: len(part)])
        joint = scale - 0.5 * torch.linalg.vector_norm(y.view(-1, k, dim), dim=-1).square()
        largest = joint.amax(1, keepdim=True)
        r = joint.sub_(largest).exp_()  # (n, K), until it is divided by its sum
        evidence = r.sum(1, keepdim=True)
        r /= evidence
        y.view(-1, k, dim).mul_(r[:, :, None])
        sums += part.mT @ y
        weight += r.sum(0, dtype=torch.float64)
        log_likelihood += (largest + evidence.log_()).sum(dtype=torch.float64)
    root, mu = covariance_factors(factors.double(), "full"), means.double()
    v = sums[dim].view(k, dim)  # sum of r y
    xy = sums[:dim].view(dim, k, dim).transpose(0, 1)  # sum of r x y^T
    about = (xy - mu[:, :, None] * v[:, None, :]) @ root.mT  # of r (x - mu)(x - mu)^T
    moved = (root @ v[:, :, None]).squeeze(-1)  # of r (x - mu)
    cross = moved[:, :, None] * mu[:, None, :]
    outer = weight[:, None, None] * mu[:, :, None] * mu[:, None, :]
    return {
        "count": sums.new_tensor(len(x)),
        "weight": weight,
        "first": moved + weight[:, None] * mu,
        "second": 0.5 * (about + about.mT) + cross + cross.mT + outer,
        "log_likelihood": log_likelihood,
    }


def moments(x: Tensor, r: Tensor, kind: Covariance) -> dict[str, Tensor]:
    """Weighted sums of data, float64: all that `statistics` has but the likelihood.

    Args:
        x: Data, (N, D).
        r: Responsibilities, or ones and zeros for a hard assignment, (N, K).
        kind: Kind of covariance.
    """
    x, r = x.double(), r.double()
    if kind == "full":
        second = torch.stack([(x * column[:, None]).mT @ x for column in r.unbind(1)])
    elif kind == "tied":
        second = x.mT @ x
    elif kind == "diag":
        second = r.mT @ x.square()
    else:
        second = r.mT @ x.square().sum(1)
    count = x.new_tensor(len(x))
    return {"count": count, "weight": r.sum(0), "first": r.mT @ x, "second": second}


# --- M-step --------------------------------------------------------------------------------------


def maximization(
    sums: dict[str, Tensor],
    means: Tensor,
    covariances: Tensor,
    kind: Covariance,
    floor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The M-step: weights (K,), means (K, D) and covariances, float64.

    A component with less than `EMPTY` data keeps its mean and covariance, and its weight is small
    but not zero. One that has collapsed onto a point has the floor as its variance.

    Args:
        sums: What `statistics` gives.
        means: The current means, (K, D), which empty components keep.
        covariances: The current covariances, likewise.
        kind: Kind of covariance.
        floor: Added to every variance; squared units of the data.

    Raises:
        ValueError: if the sums are not finite, so that the data hold NaN or infinite values.
    """
    if not all(s.isfinite().all() for s in sums.values()):
        raise ValueError(
            "the sums over the data are not finite; remove NaN and infinite values, or rescale."
        )
    weight, dim = sums["weight"], means.shape[1]
    empty = weight < EMPTY
    n = weight.masked_fill(empty, 1.0)  # (K,)
    mu = torch.where(empty[:, None], means.double(), sums["first"] / n[:, None])
    if kind == "full":
        found = sums["second"] / n[:, None, None] - mu[:, :, None] * mu[:, None, :]
    elif kind == "tied":
        within = sums["second"] - (mu * weight[:, None]).mT @ mu
        found = within / sums["count"]
    elif kind == "diag":
        found = sums["second"] / n[:, None] - mu.square()
    else:
        found = (sums["second"] / n - mu.square().sum(1)) / dim
    found = _floored(found, kind, floor)
    if kind != "tied":
        kept = empty.view(-1, *[1] * (found.ndim - 1))
        found = torch.where(kept, covariances.double(), found)
    smallest = torch.finfo(torch.float32).tiny
    return (weight / weight.sum()).clamp(min=smallest), mu, found


def _floored(found: Tensor, kind: Covariance, floor: float) -> Tensor:
    """Add the floor to variances that rounding may have left below zero."""
    if kind in ("diag", "spherical"):
        return found.clamp(min=0) + floor
    found = 0.5 * (found + found.mT)
    found = found + floor * torch.eye(found.shape[-1], dtype=found.dtype, device=found.device)
    if torch.linalg.cholesky_ex(found).info.any():
        values, vectors = torch.linalg.eigh(found)
        found = (vectors * values.clamp(min=floor)[..., None, :]) @ vectors.mT
    return found


# --- start ---------------------------------------------------------------------------------------


def squared_distances(x: Tensor, centres: Tensor) -> Tensor:
    """Squared Euclidean distances, (N, K) float64, by one matrix product a part."""
    c = centres.double()
    parts = [
        part.double().square().sum(1, keepdim=True) - 2 * part.double() @ c.mT + c.square().sum(1)
        for part in _parts(x, c.shape[0] + c.shape[1])
    ]
    return torch.cat(parts).clamp_(min=0)


def kmeans_plus_plus(x: Tensor, k: int, trials: int | None = None) -> Tensor:
    """Choose k data as centres, far apart (Arthur & Vassilvitskii 2007).

    Each is drawn with a probability proportional to the squared distance from the nearest that was
    chosen before. The greedy variant draws several and keeps the one that leaves the smallest sum
    of squared distances. The global generator governs the draws.

    Args:
        x: Data, (N, D); N >= 1.
        k: Number of centres.
        trials: Draws for each centre; 1 is the original algorithm, and by default 2 + floor(log k).

    Returns:
        Positions of the centres, (k,) int64; data that are equal may be chosen more than once.
    """
    trials = trials or 2 + int(math.log(k))
    chosen = torch.randint(len(x), (1,), device=x.device)
    closest = squared_distances(x, x[chosen]).squeeze(1)  # (N,)
    for _ in range(1, k):
        cumulative = closest.cumsum(0)
        draws = torch.rand(trials, dtype=torch.float64, device=x.device) * cumulative[-1]
        # Data at no distance are passed over; there is none left where all sums are zero.
        candidates = torch.searchsorted(cumulative, draws, right=True).clamp_(max=len(x) - 1)
        left = torch.minimum(closest[:, None], squared_distances(x, x[candidates]))  # (N, trials)
        best = left.sum(0).argmin()
        chosen = torch.cat([chosen, candidates[best, None]])
        closest = left[:, best]
    return chosen


def lloyd(x: Tensor, centres: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """A few steps of k-means (Lloyd 1982); a centre that no datum is nearest to stays.

    Args:
        x: Data, (N, D).
        centres: (K, D).
        steps: At the most; it ends earlier when no assignment changes.

    Returns:
        The centres (K, D) float64, and the nearest centre of each datum (N,) int64.
    """
    k, dim = centres.shape
    centres = centres.double()
    nearest = squared_distances(x, centres).argmin(1)
    for _ in range(steps):
        sums = torch.zeros_like(centres)
        for part, label in zip(_parts(x, dim), _parts(nearest, dim), strict=True):
            sums.index_add_(0, label, part.double())
        sizes = torch.bincount(nearest, minlength=k)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
        before, nearest = nearest, squared_distances(x, centres).argmin(1)
        if torch.equal(before, nearest):
            break
    return centres, nearest
