r"""Annealed importance sampling (Neal 2001, https://arxiv.org/abs/physics/9803008).

A chain starts with a draw from $f_0$, either $q(z \mid x)$ or $p(z)$, and moves to
$f_T = p(x, z)$ through $f_t = f_0^{1 - \beta_t} \, p(x, z)^{\beta_t}$ by transitions that leave
$f_t$ invariant, here Hamiltonian Monte Carlo (Wu et al. 2017, https://arxiv.org/abs/1611.04273):

$$w = \prod_{t=1}^T \frac{f_t(z_{t-1})}{f_{t-1}(z_{t-1})}, \qquad \mathbb E[w] = p(x), \qquad
  \mathbb E \Big[ \log \frac 1k \sum_{i=1}^k w_i \Big] \le \log p(x).$$

With T = 1 this is importance sampling. Run from $f_T$ to $f_0$, from an exact draw of
$p(z \mid x)$, the same product is an unbiased estimate of $1 / p(x)$, and minus its logarithm is an
upper bound. Simulated data have exact draws: draw $z \sim p(z)$, then $x \sim p(x \mid z)$. Both
bounds together are bidirectional Monte Carlo (Grosse et al. 2015,
https://arxiv.org/abs/1511.02543).

$\beta_t$ is a sigmoid of t (ibid., section 6.2). A separate run adapts the step sizes, one for each
temperature and datum, because weights are biased if the steps of a chain depend on its past.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.checks import check_at_least, check_choice
from zoo.inference.bounds import Bound, Inferable, log_joint, log_mean
from zoo.inference.hamiltonian import Density, adapted, state_at, transition

Start = Literal["posterior", "prior"]

TARGET = 0.65  # acceptance that step sizes aim at (Wu et al. 2017; Neal 2011, section 4.4)
PILOT = 100  # temperatures at which step sizes are adapted; those in between use the same
CHUNK = 4096  # codes decoded at a time, but at least one for each datum


class Bracket(NamedTuple):
    """A lower and an upper bound on log p(x), both in expectation."""

    lower: Bound
    upper: Bound


class _Path(NamedTuple):
    """The densities f_t between a start and p(x, z) of B data, and the length of transitions.

    Args:
        start: f_0, batch shape (B,).
        density: log f at an inverse temperature.
        betas: beta_0 = 0, ..., beta_T = 1.
        leapfrog_steps: Gradients per transition.
    """

    start: Distribution
    density: Callable[[float], Density]
    betas: list[float]
    leapfrog_steps: int


def annealed_importance_sampling(
    model: Inferable,
    x: Tensor,
    distributions: int = 1000,
    chains: int = 16,
    start: Start = "posterior",
    leapfrog_steps: int = 3,
) -> Bound:
    """Bound log p(x) from below, in expectation.

    It takes chains x (distributions + 100) x (leapfrog_steps + 1) gradients of the decoder for each
    datum. The standard error is that of the mean weight, by the delta method.

    Args:
        model: Model with `prior` and `likelihood`, and `posterior` if chains start there.
        x: Data of shape (B, ...).
        distributions: Steps from the start to p(x, z), T.
        chains: Chains per datum.
        start: Whether chains start from q(z | x) or p(z).
        leapfrog_steps: Gradients per transition.

    Raises:
        ValueError: if a count is not positive, or codes are not real numbers.
    """
    path = _path(model, x, distributions, chains, start, leapfrog_steps)
    z = path.start.sample((chains,))
    return log_mean(_annealed(path, _step_sizes(path, chains), z))


def bidirectional_monte_carlo(
    model: Inferable,
    x: Tensor,
    z: Tensor,
    distributions: int = 1000,
    chains: int = 16,
    start: Start = "posterior",
    leapfrog_steps: int = 3,
) -> Bracket:
    r"""Bound log p(x) from both sides, for x whose code has an exact draw from the posterior.

    All chains of an upper bound start at the same z, so their weights are not independent: its
    standard error does not include the variance over z. The spread over data does.

    Args:
        model: Model with `prior` and `likelihood`, and `posterior` if chains start there.
        x: Data of shape (B, ...).
        z: Exact draws of p(z | x), (B, *latent_shape): the codes that x was simulated from.
        distributions: Steps between the ends, T.
        chains: Chains per datum in each direction.
        start: The other end: q(z | x) or p(z).
        leapfrog_steps: Gradients per transition.

    Raises:
        ValueError: if a count is not positive, or codes are not real numbers.
    """
    path = _path(model, x, distributions, chains, start, leapfrog_steps)
    back = path._replace(betas=path.betas[::-1])
    steps = _step_sizes(path, chains)
    lower = log_mean(_annealed(path, steps, path.start.sample((chains,))))
    inverse = log_mean(_annealed(back, steps.flip(0), z.expand(chains, *z.shape)))
    return Bracket(lower, Bound(-inverse.value, inverse.standard_error))


def _path(
    model: Inferable, x: Tensor, distributions: int, chains: int, start: Start, leapfrog_steps: int
) -> _Path:
    check_at_least(1, distributions=distributions, chains=chains, leapfrog_steps=leapfrog_steps)
    check_choice(Start, start=start)
    with torch.no_grad():
        first = model.posterior(x) if start == "posterior" else model.prior().expand((len(x),))

    def density(beta: float) -> Density:
        def log_f(z: Tensor) -> Tensor:
            log_start = first.log_prob(z).double()
            return log_start + beta * (log_joint(model, x, z).double() - log_start)

        return log_f

    t = torch.linspace(-4, 4, distributions + 1, dtype=torch.float64).sigmoid()
    betas = (t - t[0]) / (t[-1] - t[0])
    return _Path(first, density, betas.tolist(), leapfrog_steps)


def _step_sizes(path: _Path, chains: int) -> Tensor:
    """Epsilon at the inner temperatures, (T - 1, B), adapted in a run from the start."""
    inner = path.betas[1:-1]
    pilot = min(PILOT, len(inner))
    step_size = path.start.mean.new_full(path.start.batch_shape, 0.5, dtype=torch.float64)
    sizes = step_size.new_empty(pilot, *step_size.shape)
    z, scale = path.start.sample((min(chains, _together(step_size)),)), path.start.stddev
    for i in range(pilot):
        density = path.density(inner[i * len(inner) // pilot])
        state = state_at(density, z)
        state, acceptance = transition(density, state, step_size, path.leapfrog_steps, scale)
        z, step_size = state.z, adapted(step_size, acceptance, TARGET)
        sizes[i] = step_size
    return sizes[[t * pilot // len(inner) for t in range(len(inner))]]


def _together(data: Tensor) -> int:
    """Number of chains for all data (B, ...) at a time: `CHUNK` codes, but at least one chain."""
    return max(1, CHUNK // max(1, len(data)))


def _annealed(path: _Path, step_sizes: Tensor, z: Tensor) -> Tensor:
    """Log w of chains that begin with codes z (C, B, ...), (C, B)."""
    parts = torch.split(z, _together(z[0]))
    return torch.cat([_anneal(path, step_sizes, part) for part in parts])


def _anneal(path: _Path, step_sizes: Tensor, z: Tensor) -> Tensor:
    """Log w of chains that begin with codes z (C, B, ...) at the path's first beta, (C, B)."""
    scale = path.start.stddev
    with torch.no_grad():
        log_w = -path.density(path.betas[0])(z)  # the log of the product, factor by factor
    for beta, step_size in zip(path.betas[1:-1], step_sizes, strict=True):
        density = path.density(beta)
        state = state_at(density, z)
        log_w += state.log_p
        state, _ = transition(density, state, step_size, path.leapfrog_steps, scale)
        z = state.z
        log_w -= state.log_p
    with torch.no_grad():
        return log_w + path.density(path.betas[-1])(z)
