"""Fits from means and covariances against NumPy and the likelihood of the data."""

import math

import numpy as np
import pytest
import torch

from zoo.inference.linear import fits, gaussian
from zoo.inference.linear.gaussian import LinearGaussian


def data(n=300, dim=8, rank=3, noise=0.3):
    W = torch.randn(dim, rank, dtype=torch.float64)
    scale = noise * (0.5 + torch.rand(dim, dtype=torch.float64))
    return torch.randn(n, rank).double() @ W.T + scale * torch.randn(n, dim).double() + 5


def of(x):
    """Mean and covariance."""
    return x.mean(0), covariance(x)


def covariance(x):
    return torch.from_numpy(np.cov(x.double().T.numpy(), bias=True))


@pytest.mark.parametrize("n", [6, 300])
def test_log_likelihood_of_moments_is_the_mean_over_data(n):
    x = data(n)
    model = LinearGaussian(torch.randn(8, 3).double(), x[0], 0.5 + torch.rand(8).double())
    found = fits.log_likelihood(model, *of(x))
    wanted = gaussian.log_prob(model, x).mean()
    assert found.item() == pytest.approx(wanted.item(), abs=1e-10)


def gradient(model, x):
    """Of the mean log-likelihood with respect to W, mu and log psi."""
    leaves = [p.clone().requires_grad_() for p in (model.W, model.mu, model.psi.log())]
    W, mu, log_psi = leaves
    gaussian.log_prob(LinearGaussian(W, mu, log_psi.exp()), x).mean().backward()
    return torch.cat([leaf.grad.flatten() for leaf in leaves])


@pytest.mark.parametrize("shape", [(300, 8), (30, 40)])
def test_factor_analysis_climbs_to_where_the_likelihood_is_flat(shape):
    x = data(*shape)
    found, history = fits.factor_analysis(*of(x), 3, max_iter=3000, tol=1e-13)
    assert (torch.tensor(history).diff() > -1e-11).all()
    assert history[-1] > history[0] + 0.1
    assert history[-1] == pytest.approx(gaussian.log_prob(found, x).mean().item(), abs=1e-9)
    floor = fits.noise_floor(x.var(0, correction=0), x.mean(0), 0.0)
    assert (found.psi > 10 * floor).all()
    assert gradient(found, x).abs().max() < 1e-5


def test_each_step_of_factor_analysis_is_the_exact_one():
    """The subspace that is carried along gives what eigenproblems solved in full give."""
    x = data(dim=12, n=500)
    S = covariance(x)
    psi = S.diagonal().clone()
    for steps in range(1, 6):
        values, vectors = torch.linalg.eigh(S / psi.sqrt() / psi.sqrt()[:, None])
        kept = (values[-3:] - 1).clamp(min=0).sqrt()
        W = psi.sqrt()[:, None] * vectors[:, -3:] * kept
        psi = (S - W @ W.T).diagonal().clone()  # where W is the best for psi, the EM step is this
        found, _ = fits.factor_analysis(*of(x), 3, max_iter=steps, tol=0)
        # in the first step it is exact, and later the subspace is one product behind
        assert (found.psi / psi - 1).abs().max() < (1e-12 if steps == 1 else 1e-4)


def test_noise_stops_at_its_floor():
    """Two entries that are equal, so that a factor can explain both without noise."""
    x = data(dim=6)
    x[:, 1] = x[:, 0]
    x[:, 5] = 0.3
    found, history = fits.factor_analysis(*of(x), 2)
    variance = x.var(0, correction=0)
    assert found.psi[0] == pytest.approx(1e-6 * variance[0].item(), rel=1e-9)
    assert found.psi[5] == pytest.approx(1e-6 * variance.mean().item(), rel=1e-9)
    assert (torch.tensor(history).diff() > -1e-9).all()
    assert math.isfinite(history[-1])
    found, _ = fits.factor_analysis(*of(x), 2, min_scale=0.05)
    assert found.psi.min().item() == pytest.approx(0.05**2, rel=1e-12)


def test_data_that_are_all_the_same_are_refused():
    for same in (torch.full((9, 4), 0.1).double(), data(1)):
        for fit in (fits.ppca, fits.factor_analysis):
            with pytest.raises(ValueError, match="all data are the same"):
                fit(*of(same), 2)
