"""Probabilistic PCA against its closed form in eigenvalues and scikit-learn's PCA."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from zoo.datamodules import MNIST
from zoo.datamodules.images.mnist import missing_files
from zoo.models import PPCA


@pytest.fixture(scope="module")
def digits():
    """1797 images of 64 pixels, of which 3 are the same in all images."""
    x = load_digits().data / 16
    assert (x.std(0) == 0).sum() == 3
    return x


def eigenvalues(x):
    return np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True))[::-1]


@pytest.mark.parametrize("q", [1, 10, 40])
def test_the_solution_is_that_of_the_eigenvalues(digits, q):
    model = PPCA((64,), q).double().fit(digits)
    values = eigenvalues(digits)
    sigma2 = values[q:].mean()
    assert model.log_scale.exp().square().item() == pytest.approx(sigma2, rel=1e-10)
    # eq. 7 put into the likelihood
    logs = np.log(values[:q]).sum() + (64 - q) * math.log(sigma2) + 64
    wanted = -0.5 * (64 * math.log(2 * math.pi) + logs)
    assert model.history == pytest.approx((wanted,), abs=1e-8)
    assert model.log_prob(torch.from_numpy(digits)).mean().item() == pytest.approx(wanted, abs=1e-8)
    # W: orthogonal columns, by the variance that they explain, with a definite sign
    W = model.W.detach().numpy()
    np.testing.assert_allclose(W.T @ W, np.diag(values[:q] - sigma2), atol=1e-10)
    S = np.cov(digits, rowvar=False, bias=True)
    np.testing.assert_allclose(S @ W, W * values[:q], atol=1e-9)
    assert (W[np.abs(W).argmax(0), range(q)] > 0).all()
    np.testing.assert_allclose(model.mu.detach(), digits.mean(0), atol=1e-13)


def test_scikit_learn_agrees(digits):
    q, n = 10, len(digits)
    model = PPCA((64,), q).double().fit(digits)
    peer = PCA(q, svd_solver="full").fit(digits)
    # its variances are divided by n - 1, those of maximum likelihood by n
    peer.explained_variance_ *= (n - 1) / n
    peer.noise_variance_ *= (n - 1) / n
    assert model.log_scale.exp().square().item() == pytest.approx(peer.noise_variance_, abs=1e-6)
    np.testing.assert_allclose(
        model.log_prob(torch.from_numpy(digits)).detach(), peer.score_samples(digits), atol=1e-6
    )
    # codes differ by the scale of each axis and the shrinkage of the posterior
    codes = model.encode(torch.from_numpy(digits)).detach().numpy()
    ours = codes / codes.std(0)
    theirs = peer.transform(digits)
    theirs = theirs / theirs.std(0)
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-8)


def test_em_comes_to_the_solution(digits):
    solution = PPCA((64,), 5).double().fit(digits)
    model = PPCA((64,), 5, method="em").double().fit(digits, max_epochs=500, tol=1e-13)
    assert (np.diff(model.history) > -1e-11).all()
    assert model.history[-1] == pytest.approx(solution.history[-1], abs=1e-9)
    torch.testing.assert_close(model.log_scale, solution.log_scale, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.W, solution.W, rtol=0, atol=1e-5)


def test_fewer_data_than_entries(digits):
    x = digits[:40]
    model = PPCA((64,), 5).double().fit(x)
    sigma2 = eigenvalues(x)[5:].mean()
    assert model.log_scale.exp().square().item() == pytest.approx(sigma2, rel=1e-10)


@pytest.mark.parametrize("method", ["closed", "em"])
def test_without_noise_sigma_stops_at_its_floor(method):
    z = torch.randn(100, 3).double()
    x = z @ torch.randn(3, 20).double() + 2
    model = PPCA((20,), 3, method=method).double().fit(x, max_epochs=200)
    floor = 1e-10 * x.var(0, correction=0).mean().item()
    assert model.log_scale.exp().square().item() == pytest.approx(floor, rel=1e-6)
    torch.testing.assert_close(model.reconstruct(x), x, rtol=0, atol=1e-6)
    assert (np.diff(model.history) > -1e-6).all()
    assert model.log_prob(x).isfinite().all()
    wanted = torch.cov(x.T, correction=0)
    torch.testing.assert_close(model.W @ model.W.T, wanted, rtol=0, atol=1e-6)


def test_columns_that_never_vary(digits):
    same = digits.std(0) == 0
    model = PPCA((64,), 10).double().fit(digits)
    assert not model.W[torch.from_numpy(same)].abs().gt(1e-12).any()
    assert np.isfinite(model.history).all()


def test_a_large_mean_costs_no_digits(digits):
    near = PPCA((64,), 5).double().fit(digits)
    far = PPCA((64,), 5).double().fit(digits + 2.0**20)  # sixteenths are added exactly
    torch.testing.assert_close(far.W, near.W, rtol=0, atol=1e-9)
    torch.testing.assert_close(far.log_scale, near.log_scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "dim", "rank", "q"), [(100, 3, 2, 2), (20, 64, 64, 32), (50, 9, 4, 6)]
)
def test_data_of_a_lower_rank(n, dim, rank, q, dtype):
    """Collinear or few data, of which the components leave nothing but the floor of the noise."""
    x = torch.randn(n, rank).double() @ torch.randn(rank, dim).double() + 3
    x = x.to(dtype)
    exact = PPCA((dim,), q).double().fit(x)
    values = torch.linalg.eigvalsh(torch.cov(x.double().T, correction=0)).flip(0)
    floor = 1e-10 * values.mean()
    kept = values[:q].clamp(min=floor)
    wanted = -0.5 * (dim * math.log(2 * math.pi) + kept.log().sum() + (dim - q) * floor.log())
    wanted -= 0.5 * (values.clamp(min=0) / torch.cat([kept, floor.expand(dim - q)])).sum()
    assert exact.history[-1] == pytest.approx(wanted.item(), abs=1e-3)
    model = PPCA((dim,), q).fit(x)
    assert model.history[-1] == pytest.approx(wanted.item(), abs=0.01)
    assert model.log_prob(x).mean().item() == pytest.approx(model.history[-1], abs=0.01)


@pytest.fixture
def mnist():
    root = os.environ.get("ZOO_DATA", "")
    if not root or missing_files("MNIST", Path(root) / "MNIST" / "raw"):
        pytest.skip("$ZOO_DATA holds no MNIST")
    module = MNIST(root=root, binarization="none")
    module.setup()
    return module


def test_real_digits(mnist):
    x = mnist.splits["train"]["image"][:3000].float() / 255
    model = PPCA((1, 28, 28), 32).fit(x)
    values = eigenvalues(x.flatten(1).double().numpy())
    assert model.log_scale.exp().square().item() == pytest.approx(values[32:].mean(), rel=1e-5)
    # of a half of the pixels, the other half says most
    held = mnist.splits["val"]["image"][:500].float() / 255
    missing = torch.rand(held.shape) < 0.5
    error = (
        (model.reconstruct(held.masked_fill(missing, torch.nan)) - held)[missing].square().mean()
    )
    mean = (x.mean(0) - held)[missing].square().mean()
    assert error < 0.4 * mean
