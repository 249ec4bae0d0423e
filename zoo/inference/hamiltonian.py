r"""Hamiltonian Monte Carlo and Langevin dynamics over codes.

A code $z$ gets a momentum $r \sim \mathcal N(0, M)$, and both follow the dynamics of the energy
$-\log p(z) + \frac 12 r^\top M^{-1} r$ by leapfrog steps of size $\epsilon$ (Neal 2011,
https://arxiv.org/abs/1206.1901, eqs. 2.28 to 2.30)

$$r \leftarrow r + \tfrac \epsilon 2 \nabla \log p(z), \qquad
  z \leftarrow z + \epsilon M^{-1} r, \qquad
  r \leftarrow r + \tfrac \epsilon 2 \nabla \log p(z).$$

The end is accepted with probability $\min(1, \exp(-\Delta \text{energy}))$, so $p$ stays invariant.
One leapfrog step is Langevin dynamics with its Metropolis correction, MALA (section 5.2).
$M^{-1}$ is the square of a `scale` for each entry of $z$; the code below has $r$ in units of
`scale`.

Chains run as a batch: codes have shape (C, B, *latent_shape), C chains for each of B densities.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.checks import check_at_least
from zoo.inference.bounds import Inferable, log_joint

Density = Callable[[Tensor], Tensor]
"""From codes (C, B, *latent_shape) to unnormalised log-densities in nats, (C, B)."""

GAIN = 0.1
"""Change of the log of the step size per transition, per unit of error of the acceptance."""


class State(NamedTuple):
    """Codes (C, B, *latent_shape), their log-densities (C, B), and the densities' gradients."""

    z: Tensor
    log_p: Tensor
    gradient: Tensor


class Chains(NamedTuple):
    """Result of a sampler.

    Args:
        z: Codes, (draws, C, B, *latent_shape).
        acceptance: Mean probability of acceptance after the warm-up, (B,).
        step_size: Epsilon after the warm-up, in units of q's standard deviations, (B,).
    """

    z: Tensor
    acceptance: Tensor
    step_size: Tensor


def state_at(density: Density, z: Tensor) -> State:
    """Evaluate a density and its gradient with respect to codes only, in full precision.

    Raises:
        ValueError: if codes are not real numbers.
        RuntimeError: if torch's inference mode is on.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("torch.inference_mode forbids gradients over codes; use torch.no_grad.")
    if not z.is_floating_point():
        raise ValueError(f"codes are {z.dtype}, but gradients need codes that are real numbers.")
    with torch.enable_grad(), torch.autocast(z.device.type, enabled=False):
        z = z.detach().requires_grad_()
        log_p = density(z)
        (gradient,) = torch.autograd.grad(log_p.sum(), z)
    return State(z.detach(), log_p.detach(), gradient)


@torch.no_grad()
def transition(
    density: Density, state: State, step_size: Tensor, leapfrog_steps: int, scale: Tensor
) -> tuple[State, Tensor]:
    """Move every chain by one transition, which leaves the density invariant.

    Each chain's step is randomly up to a fifth longer or shorter, so that chains do not follow
    periodic orbits (Neal 2011, section 3.2).

    Args:
        density: Unnormalised log-density.
        state: State of the chains.
        step_size: Epsilon, (B,).
        leapfrog_steps: Gradients per transition.
        scale: Length of a step along each entry of a code at epsilon = 1, (B, *latent_shape).

    Returns:
        The next state, and the probabilities of acceptance (C, B).
    """
    ones = (1,) * (scale.ndim - 1)
    jitter = torch.empty_like(state.log_p).uniform_(0.8, 1.2)  # (C, B)
    step = (step_size * jitter).reshape(*jitter.shape, *ones).to(scale) * scale
    r = torch.randn_like(state.z)
    end, energy = state, _kinetic(r) - state.log_p
    for _ in range(leapfrog_steps):
        r = r + 0.5 * step * end.gradient
        end = state_at(density, end.z + step * r)
        r = r + 0.5 * step * end.gradient
    # The energy of a diverged trajectory is NaN: it is rejected.
    log_ratio = energy - _kinetic(r) + end.log_p
    acceptance = log_ratio.exp().clamp(max=1).nan_to_num(0.0)
    taken = torch.rand_like(acceptance) < acceptance
    wide = taken.reshape(*taken.shape, *ones)
    state = State(
        torch.where(wide, end.z, state.z),
        torch.where(taken, end.log_p, state.log_p),
        torch.where(wide, end.gradient, state.gradient),
    )
    return state, acceptance


def _kinetic(r: Tensor) -> Tensor:
    return 0.5 * r.flatten(2).double().square().sum(-1)


def adapted(step_size: Tensor, acceptance: Tensor, target: float) -> Tensor:
    """Step size (B,) that brings the acceptance (C, B) closer to its target.

    Stochastic approximation of the log of the step size (Andrieu & Thoms 2008, section 4.2).
    """
    return step_size * (GAIN * (acceptance.mean(0) - target)).exp()


def hmc(
    model: Inferable,
    x: Tensor,
    draws: int,
    chains: int = 4,
    warmup: int = 200,
    leapfrog_steps: int = 3,
    target: float = 0.8,
) -> Chains:
    """Draw from p(z | x) by Hamiltonian Monte Carlo, starting from q(z | x).

    The step size of each datum is adapted during the warm-up, then fixed at its geometric mean over
    the second half of the warm-up. The scale of steps is the standard deviation of q.

    Args:
        model: Model with `prior`, `posterior` and `likelihood`.
        x: Data of shape (B, ...).
        draws: Number of kept transitions.
        chains: Chains per datum, C.
        warmup: Number of earlier transitions, which adapt the step size and are not kept.
        leapfrog_steps: Gradients per transition.
        target: Target of the mean probability of acceptance.

    Raises:
        ValueError: if a count is not positive.
    """
    check_at_least(1, draws=draws, chains=chains, warmup=warmup, leapfrog_steps=leapfrog_steps)

    def density(z: Tensor) -> Tensor:
        return log_joint(model, x, z).double()

    with torch.no_grad():
        q = model.posterior(x)
        z, scale = q.sample((chains,)), q.stddev
    state = state_at(density, z)
    step_size = state.log_p.new_full((len(x),), 0.5)
    log_sizes = []
    for _ in range(warmup):
        state, acceptance = transition(density, state, step_size, leapfrog_steps, scale)
        step_size = adapted(step_size, acceptance, target)
        log_sizes.append(step_size.log())
    step_size = torch.stack(log_sizes[warmup // 2 :]).mean(0).exp()
    kept, accepted = [], []
    for _ in range(draws):
        state, acceptance = transition(density, state, step_size, leapfrog_steps, scale)
        kept.append(state.z)
        accepted.append(acceptance.mean(0))
    return Chains(torch.stack(kept), torch.stack(accepted).mean(0), step_size)


def langevin(model: Inferable, x: Tensor, draws: int, chains: int = 4, warmup: int = 200) -> Chains:
    """Draw from p(z | x) by Metropolis-adjusted Langevin dynamics, starting from q(z | x).

    This is `hmc` with one leapfrog step. The target acceptance is 0.574, the optimum in many
    dimensions (Roberts & Rosenthal 1998).

    Args:
        model: Model with `prior`, `posterior` and `likelihood`.
        x: Data of shape (B, ...).
        draws: Number of kept transitions.
        chains: Chains per datum, C.
        warmup: Number of earlier transitions, which adapt the step size and are not kept.
    """
    return hmc(model, x, draws, chains, warmup, leapfrog_steps=1, target=0.574)


def effective_sample_size(draws: Tensor) -> Tensor:
    r"""Number of independent draws that estimate the mean as well as the draws of several chains.

    $$n_\text{eff} = \frac{S C}{1 + 2 \sum_t \rho_t}, \qquad
      \rho_t = 1 - \frac{W - \frac 1C \sum_c s_c^2 \rho_{t, c}}{\hat V},$$

    with the variance within chains $W$, the pooled variance $\hat V$, and the sum cut where the sum
    of two neighbouring $\rho_t$ becomes negative (Geyer 1992, section 3.3; Gelman et al. 2013,
    section 11.5). Disagreement between chains lowers the number.

    Args:
        draws: Numbers of shape (S, C, ...), S >= 4 draws of C chains.

    Returns:
        The effective sample size for each number of a draw, (...), float64, at most S C.
    """
    s, c = draws.shape[:2]
    if s < 4:
        raise ValueError(f"there are {s} draws a chain, but an autocorrelation needs at least 4.")
    x = draws.double()
    centred = x - x.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * s, dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * s, dim=0)[:s] / s  # (S, C, ...)
    within = (covariance[0] * s / (s - 1)).mean(0)  # W
    between = x.mean(0).var(0) if c > 1 else torch.zeros_like(within)
    pooled = within * (s - 1) / s + between
    rho = 1 - (within - covariance.mean(1)) / pooled  # (S, ...)
    rho[0] = 1
    pairs = rho[: s // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    pairs = pairs * (pairs > 0).cumprod(0)
    time: Tensor = (2 * pairs.sum(0) - 1).clamp(min=1)
    return s * c / time
