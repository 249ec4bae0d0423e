"""Samplers of codes against the posterior of a linear Gaussian model, and against definitions."""

import pytest
import torch
from scipy.stats import norm

from zoo.inference import effective_sample_size, hmc, langevin
from zoo.inference.hamiltonian import state_at, transition


@pytest.mark.parametrize("sampler", [hmc, langevin])
def test_draws_have_the_mean_and_covariance_of_the_posterior(linear, sampler):
    model = linear("poor")
    _, x = model.simulate(4)
    exact = model.exact(x)
    found = sampler(model, x, draws=200, chains=40, warmup=100)
    n = effective_sample_size(found.z)  # (B, D)
    assert n.min() > 200
    error = exact.stddev / n.sqrt()
    assert ((found.z.mean((0, 1)) - exact.mean).abs() < 4.5 * error).all()
    # a covariance c_ij of n draws has the variance (c_ii c_jj + c_ij^2) / n
    centred = found.z - exact.mean
    products = torch.einsum("scbi,scbj->scbij", centred, centred)
    n = effective_sample_size(products)
    c = exact.covariance_matrix
    variances = c.diagonal(dim1=1, dim2=2)
    error = ((variances[:, :, None] * variances[:, None] + c.square()) / n).sqrt()
    assert ((products.mean((0, 1)) - c).abs() < 4.5 * error).all()


@pytest.mark.parametrize(("sampler", "target"), [(hmc, 0.8), (langevin, 0.574)])
def test_step_sizes_are_adapted_to_the_acceptance_aimed_at(linear, sampler, target):
    model = linear("poor", dim=8, pixels=16)
    _, x = model.simulate(5)
    found = sampler(model, x, draws=60, chains=20, warmup=100)
    assert found.acceptance.shape == found.step_size.shape == (5,)
    # HMC's acceptance is not monotone in the step where trajectories are long
    assert (found.acceptance - target).abs().max() < 0.1
    assert found.z.shape == (60, 20, 5, 8)


def test_transitions_leave_a_distribution_invariant_at_any_step_size():
    """Chains that start in the distribution stay in it, however few moves are accepted."""
    z = torch.randn(40_000, 1, 1, dtype=torch.float64)

    def density(z):  # a standard normal
        return -0.5 * z.square().sum(-1)

    state, scale = state_at(density, z), torch.ones(1, 1, dtype=torch.float64)
    for step_size, leapfrog_steps in ((0.3, 4), (1.9, 3), (2.5, 2)):
        size = torch.tensor([step_size], dtype=torch.float64)
        state, acceptance = transition(density, state, size, leapfrog_steps, scale)
    assert acceptance.mean() < 0.7
    sample = state.z.flatten().sort().values.numpy()
    levels = (torch.arange(40_000).double() + 0.5).numpy() / 40_000
    # Kolmogorov's distance exceeds 1.95 / sqrt(n) once in a thousand samples
    assert abs(norm.cdf(sample) - levels).max() < 1.95 / 200


def test_leapfrog_steps_are_of_second_order():
    """The energy is off by O(step^2), so half the step refuses a quarter as often."""
    torch.manual_seed(3)
    z = torch.randn(20_000, 1, 2, dtype=torch.float64)

    def density(z):
        return -(z.square() / 2 + z.pow(4) / 4).sum(-1)

    state, scale = state_at(density, z), torch.ones(1, 2, dtype=torch.float64)
    lost = []
    for step_size in (0.2, 0.1):
        size = torch.tensor([step_size], dtype=torch.float64)
        steps = round(1 / step_size)
        _, acceptance = transition(density, state, size, steps, scale)
        lost.append(1 - acceptance.mean().item())
    assert 3 < lost[0] / lost[1] < 6


def test_diverged_trajectories_are_rejected():
    z = torch.ones(5, 2, 1)

    def density(z):
        return -z.pow(4).sum(-1)

    start = state_at(density, z)
    huge = torch.full((2,), 1e6)
    state, acceptance = transition(density, start, huge, 5, torch.ones(2, 1))
    assert acceptance.tolist() == torch.zeros(5, 2).tolist()
    assert torch.equal(state.z, z)
    assert state.gradient.isfinite().all()


def test_effective_sample_size_of_an_autoregression():
    """Draws x_t = a x_{t-1} + e are worth (1 - a) / (1 + a) of independent ones."""
    a = torch.tensor([0.0, 0.5, 0.9, -0.4]).double()
    x = torch.randn(20, 4, dtype=torch.float64)
    draws = []
    for _ in range(5000):
        x = a * x + (1 - a.square()).sqrt() * torch.randn_like(x)
        draws.append(x)
    n = effective_sample_size(torch.stack(draws))
    expected = 100_000 * (1 - a) / (1 + a)
    expected[3] = 100_000  # it is never more than there are draws
    torch.testing.assert_close(n, expected, rtol=0.1, atol=0)
    apart = torch.stack(draws) + 10 * torch.arange(20)[:, None]  # chains that do not mix
    assert effective_sample_size(apart).max() < 100
    with pytest.raises(ValueError, match="at least 4"):
        effective_sample_size(torch.zeros(3, 2))


def test_samplers_refuse_what_makes_no_chain(linear):
    model = linear("poor")
    _, x = model.simulate(2)
    for name in ("draws", "chains", "warmup", "leapfrog_steps"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            hmc(model, x, **{"draws": 1, name: 0})
    with pytest.raises(ValueError, match="real numbers"):
        state_at(lambda z: -z.square().sum(-1), torch.ones(2, 2, 1, dtype=torch.int64))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="use torch"):
        hmc(model, x, draws=1)


def test_parameters_and_the_global_gradient_mode_are_left_alone(linear):
    model = linear("poor")
    model.W.requires_grad_()
    _, x = model.simulate(2)
    with torch.no_grad():
        found = hmc(model, x.detach(), draws=2, chains=2, warmup=2)
        assert not torch.is_grad_enabled()
    assert model.W.grad is None
    assert not found.z.requires_grad
