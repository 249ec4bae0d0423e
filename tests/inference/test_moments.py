"""Means and covariances in one pass, and the fits from them, against NumPy and the likelihood."""

import math

import numpy as np
import pytest
import torch

from zoo.inference import linear_gaussian, moments
from zoo.inference.linear_gaussian import LinearGaussian


def data(n=300, dim=8, rank=3, noise=0.3):
    W = torch.randn(dim, rank, dtype=torch.float64)
    scale = noise * (0.5 + torch.rand(dim, dtype=torch.float64))
    return torch.randn(n, rank).double() @ W.T + scale * torch.randn(n, dim).double() + 5


def of(x, origin=None, whole=False):
    origin = x[:10].mean(0) if origin is None else origin
    return moments.moments(moments.sums(x, origin, whole), origin)


def covariance(x):
    return torch.from_numpy(np.cov(x.double().numpy(), rowvar=False, bias=True))


def test_moments_are_numpys_however_the_data_are_cut(monkeypatch):
    x = data()
    for rows in (1024, 7):
        monkeypatch.setattr(moments, "ROWS", rows)
        origin = x[0]
        parts = [moments.sums(part, origin) for part in x.split(41)]
        total = {name: sum(part[name] for part in parts) for name in parts[0]}
        found = moments.moments(total, origin)
        assert found.n == 300
        torch.testing.assert_close(found.mean, x.mean(0), rtol=0, atol=1e-13)
        torch.testing.assert_close(found.covariance, covariance(x), rtol=0, atol=1e-12)


def test_a_large_mean_costs_no_digits():
    # multiples of 2^-20, so that adding 1e8 rounds nothing
    x = (data() * 2**20).round() / 2**20
    near = of(x)
    far = of(x + 1e8)
    torch.testing.assert_close(far.covariance, near.covariance, rtol=0, atol=1e-12)
    torch.testing.assert_close(far.mean - 1e8, near.mean, rtol=0, atol=1e-7)


def test_float32_data_lose_a_few_hundred_millionths():
    x = data(20_000).float()
    exact = covariance(x)
    scale = exact.diagonal().sqrt()
    error = (of(x).covariance - exact) / torch.outer(scale, scale)
    assert error.square().mean().sqrt() < 5e-8


def test_bytes_are_data_too():
    x = torch.randint(0, 256, (500, 6), dtype=torch.uint8)
    found = of(x, origin=torch.full((6,), 128.0))
    # sums of 500 products below 2^15 are whole numbers that float32 holds
    torch.testing.assert_close(found.covariance, covariance(x), rtol=1e-13, atol=0)


def test_few_data_are_kept_and_their_products_are_not_made():
    x = data(5, 40)
    statistics = moments.sums(x, x[0], whole=True)
    assert "dd" not in statistics
    few, full = of(x, whole=True), of(x)
    assert few.covariance is None
    torch.testing.assert_close(few.variance(), full.variance(), rtol=0, atol=1e-13)
    V = torch.randn(40, 3).double()
    torch.testing.assert_close(few.times(V), full.times(V), rtol=0, atol=1e-12)
    for q in (3, 4, 7):  # their rank is 4
        psi = 0.5 + torch.rand(40).double()
        values, vectors = moments.leading(few, psi, q)
        others, _ = moments.leading(full, psi, q)
        torch.testing.assert_close(values, others, rtol=0, atol=1e-11)
        gram = vectors.T @ vectors
        rank = min(q, 4)
        wanted = torch.diag((torch.arange(q) < rank).double())
        torch.testing.assert_close(gram, wanted, rtol=0, atol=1e-10)


def test_leading_eigenpairs_are_numpys():
    x = data()
    psi = 0.5 + torch.rand(8).double()
    values, vectors = moments.leading(of(x), psi, 4)
    S = covariance(x) / psi.sqrt() / psi.sqrt()[:, None]
    wanted = torch.from_numpy(np.linalg.eigvalsh(S.numpy())).flip(0)[:4]
    torch.testing.assert_close(values, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(S @ vectors, vectors * values, rtol=0, atol=1e-11)


@pytest.mark.parametrize("whole", [False, True])
def test_log_likelihood_of_moments_is_the_mean_over_data(whole):
    x = data(6 if whole else 300)
    model = LinearGaussian(torch.randn(8, 3).double(), x[0], 0.5 + torch.rand(8).double())
    found = moments.log_likelihood(model, of(x, whole=whole))
    wanted = linear_gaussian.log_prob(model, x).mean()
    assert found.item() == pytest.approx(wanted.item(), abs=1e-10)


def gradient(model, x):
    """Of the mean log-likelihood with respect to W, mu and log psi."""
    leaves = [p.clone().requires_grad_() for p in (model.W, model.mu, model.psi.log())]
    W, mu, log_psi = leaves
    linear_gaussian.log_prob(LinearGaussian(W, mu, log_psi.exp()), x).mean().backward()
    return torch.cat([leaf.grad.flatten() for leaf in leaves])


@pytest.mark.parametrize("whole", [False, True])
def test_factor_analysis_climbs_to_where_the_likelihood_is_flat(whole):
    x = data(30, 40) if whole else data()
    found, history = moments.factor_analysis(of(x, whole=whole), 3, max_iter=3000, tol=1e-13)
    assert (torch.tensor(history).diff() > -1e-11).all()
    assert history[-1] > history[0] + 0.1
    assert history[-1] == pytest.approx(linear_gaussian.log_prob(found, x).mean().item(), abs=1e-9)
    floor = moments.noise_floor(x.var(0, correction=0), x.mean(0), 0.0)
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
        found, _ = moments.factor_analysis(of(x), 3, max_iter=steps, tol=0)
        # in the first step it is exact, and later the subspace is one product behind
        assert (found.psi / psi - 1).abs().max() < (1e-12 if steps == 1 else 1e-4)


def test_noise_stops_at_its_floor():
    """Two entries that are equal, so that a factor can explain both without noise."""
    x = data(dim=6)
    x[:, 1] = x[:, 0]
    x[:, 5] = 0.3
    found, history = moments.factor_analysis(of(x), 2)
    variance = x.var(0, correction=0)
    assert found.psi[0] == pytest.approx(1e-6 * variance[0].item(), rel=1e-9)
    assert found.psi[5] == pytest.approx(1e-6 * variance.mean().item(), rel=1e-9)
    assert (torch.tensor(history).diff() > -1e-9).all()
    assert math.isfinite(history[-1])
    found, _ = moments.factor_analysis(of(x), 2, min_scale=0.05)
    assert found.psi.min().item() == pytest.approx(0.05**2, rel=1e-12)


def test_what_has_no_covariance_is_refused():
    x = data()
    x[100, 2] = torch.nan
    with pytest.raises(ValueError, match='method="em"'):
        of(x)
    x[100, 2] = torch.inf
    with pytest.raises(ValueError, match="infinite"):
        of(x)
    for same in (torch.full((9, 4), 0.1).double(), data(1)):
        for fit in (moments.ppca, moments.factor_analysis):
            with pytest.raises(ValueError, match="all data are the same"):
                fit(of(same), 2)
