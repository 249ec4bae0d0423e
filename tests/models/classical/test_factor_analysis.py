"""Factor analysis against scikit-learn's, its and conditions of optimality."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import FactorAnalysis as Peer

from zoo.models import PPCA, FactorAnalysis


def wine():
    """178 chemical analyses, 13 quantities whose scales differ by a factor of thousands."""
    return load_wine().data


def standardised(load):
    x = load().data
    return x / x.std(0)


def fitted(x, q, **arguments):
    return FactorAnalysis(x.shape[1:], q, **{"tol": 1e-11, **arguments}).double().fit(x)


def variances(model):
    return model.log_scale.detach().exp().square().numpy()


@pytest.mark.parametrize(
    ("load", "q"),
    [(load_wine, 1), (load_wine, 2), (load_breast_cancer, 1), (load_breast_cancer, 3)],
)
def test_scikit_learn_finds_the_same_factors(load, q):
    x = standardised(load)
    model = fitted(x, q)
    peer = Peer(q, svd_method="lapack", tol=1e-6, max_iter=3000).fit(x)  # of all data together
    assert peer.n_iter_ < 3000
    assert (np.diff(model.history) > -1e-11).all()
    exact = model.log_prob(torch.from_numpy(x)).mean().item()
    assert model.history[-1] == pytest.approx(exact, abs=1e-9)
    assert peer.score(x) - 1e-9 < model.history[-1] < peer.score(x) + 1e-6
    np.testing.assert_allclose(variances(model), peer.noise_variance_, atol=1e-3)
    W = peer.components_.T
    np.testing.assert_allclose((model.W @ model.W.T).detach(), W @ W.T, atol=1e-3)


def test_the_likelihood_is_flat_at_the_optimum():
    x = standardised(load_wine)
    model = fitted(x, 3)
    model.loss({"x": torch.from_numpy(x)})["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() < 1e-4, name
    # there the model has the variances of the data (Lawley & Maxwell 1971)
    explained = model.W.detach().square().sum(1).numpy()
    np.testing.assert_allclose(explained + variances(model), x.var(0), rtol=1e-4)


def test_units_do_not_matter():
    x = wine()
    scale = 10.0 ** np.arange(-6, 7)
    model, scaled = fitted(x, 3), fitted(x * scale, 3)
    np.testing.assert_allclose(variances(scaled) / scale**2, variances(model), rtol=1e-6)
    torch.testing.assert_close(
        scaled.encode(torch.from_numpy(x * scale)),
        model.encode(torch.from_numpy(x)),
        rtol=0,
        atol=1e-6,
    )


def test_with_equal_noise_it_is_no_better_than_ppca():
    W = torch.linalg.qr(torch.randn(10, 2).double())[0] * torch.tensor([4.0, 2.0])
    x = (torch.randn(50_000, 2).double() @ W.T + torch.randn(50_000, 10).double()).numpy()
    general, special = fitted(x, 2), PPCA((10,), 2).double().fit(x)
    # twice the gain of 9 more parameters is a chi-squared variable of mean 9
    assert 0 < 2 * len(x) * (general.history[-1] - special.history[-1]) < 30


def test_the_order_of_factors_and_their_signs_are_fixed():
    model = fitted(wine(), 3)
    W, psi = model.W.detach(), model.log_scale.detach().exp().square()
    inner = W.T @ (W / psi[:, None])
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-9 * inner.max()
    assert (inner.diagonal().diff() < 0).all()
    assert all(column[column.abs().argmax()] > 0 for column in W.T)


def test_pixels_that_never_vary_keep_the_floor_of_the_noise():
    x = load_digits().data / 16
    same = x.std(0) == 0
    for min_scale in (0.0, 0.02):
        model = FactorAnalysis((64,), 5, min_scale=min_scale).double().fit(x)
        psi = variances(model)
        floor = np.maximum(1e-6 * np.where(same, x.var(0).mean(), x.var(0)), min_scale**2)
        np.testing.assert_allclose(psi[same], floor[same], rtol=1e-9)
        assert (psi >= floor * (1 - 1e-9)).all()
        assert np.isfinite(model.history).all()
        assert (np.diff(model.history) > -1e-9).all()


def test_steps_and_tolerance_bound_the_work():
    x = wine()
    assert len(fitted(x, 3, max_iter=5, tol=0.0).history) == 6
    assert len(fitted(x, 3, max_iter=0).history) == 1
    rough, fine = fitted(x, 3, tol=1e-2), fitted(x, 3)
    assert len(rough.history) < len(fine.history)
    assert rough.history[-1] < fine.history[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_scale": -1.0}, "min_scale is -1"),
        ({"max_iter": -1}, "max_iter is -1"),
        ({"tol": float("nan")}, "tol is nan"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FactorAnalysis((4,), 2, **arguments)
