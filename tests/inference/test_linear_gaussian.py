"""The linear-Gaussian model against the Gaussians that it stands for, built in full."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from zoo.inference.linear import gaussian
from zoo.inference.linear.gaussian import LinearGaussian

D, Q, B = 7, 3, 20


@pytest.fixture
def model():
    W = torch.randn(D, Q, dtype=torch.float64)
    return LinearGaussian(W, torch.randn(D).double(), torch.rand(D).double() + 0.1)


@pytest.fixture
def x(model):
    return model.mu + 2 * torch.randn(B, D, dtype=torch.float64)


def with_holes(x, share=0.4):
    """Entries go at random; of the first datum all, of the second none."""
    missing = torch.rand(x.shape) < share
    missing[0], missing[1] = True, False
    return x.masked_fill(missing, torch.nan)


def joint(model):
    """Mean and covariance of (z, x) side by side."""
    W, mu, psi = model
    identity = torch.eye(Q, dtype=torch.float64)
    covariance = torch.cat(
        [torch.cat([identity, W.T], 1), torch.cat([W, W @ W.T + psi.diag()], 1)], 0
    )
    return torch.cat([torch.zeros(Q, dtype=torch.float64), mu]), covariance


def conditional(model, x):
    """Mean and covariance of (z, x) given what is there of one x, (D,)."""
    mean, C = joint(model)
    seen = torch.cat([torch.zeros(Q, dtype=torch.bool), ~x.isnan()])
    value = torch.cat([torch.zeros(Q, dtype=torch.float64), x])
    if not seen.any():
        return mean, C
    gain = C[:, seen] @ torch.linalg.inv(C[seen][:, seen])
    return mean + gain @ (value - mean)[seen], C - gain @ C[seen]


def log_density(model, x):
    """Log p of what is there of each x, by the full covariance."""
    mean, C = joint(model)
    values = []
    for row in x:
        seen = ~row.isnan()
        if not seen.any():
            values.append(torch.zeros((), dtype=torch.float64))
            continue
        part = MultivariateNormal(mean[Q:][seen], C[Q:, Q:][seen][:, seen])
        values.append(part.log_prob(row[seen]))
    return torch.stack(values)


@pytest.mark.parametrize("holes", [False, True])
def test_density(model, x, holes):
    x = with_holes(x) if holes else x
    found = gaussian.log_prob(model, x)
    torch.testing.assert_close(found, log_density(model, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("holes", [False, True])
def test_posterior(model, x, holes):
    x = with_holes(x) if holes else x
    q = gaussian.posterior(model, x)
    for i, row in enumerate(x):
        wanted, covariance = conditional(model, row)
        torch.testing.assert_close(q.mean[i], wanted[:Q], rtol=0, atol=1e-10)
        found = q.covariance_matrix[i]
        torch.testing.assert_close(found, covariance[:Q, :Q], rtol=0, atol=1e-10)


def test_density_where_the_noise_is_a_millionth_of_the_signal():
    """With orthogonal columns the covariance is diagonal in a known basis."""
    basis = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64))[0]
    scale = torch.tensor([1e3, 1.0, 1e-2], dtype=torch.float64)
    sigma2 = 1e-12
    model = LinearGaussian(
        basis[:, :Q] * scale, torch.zeros(D).double(), torch.full((D,), sigma2).double()
    )
    variances = torch.cat([scale.square() + sigma2, torch.full((D - Q,), sigma2).double()])
    coordinates = variances.sqrt() * torch.randn(B, D, dtype=torch.float64)
    wanted = torch.distributions.Normal(0, variances.sqrt()).log_prob(coordinates).sum(1)
    found = gaussian.log_prob(model, coordinates @ basis.T)
    # x is rounded to 1e-16 of 1e3, which is 1e-7 of the noise's standard deviation, 1e-6
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_gradients_are_those_of_the_density(model, x):
    x = with_holes(x)
    found, wanted = [], []
    for function, gradients in (
        (gaussian.log_prob, found),
        (log_density, wanted),
    ):
        leaves = [parameter.clone().requires_grad_() for parameter in model]
        function(LinearGaussian(*leaves), x).sum().backward()
        gradients += [leaf.grad for leaf in leaves]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_identified_turns_the_axes_and_leaves_the_density(model):
    turned = gaussian.identified(model)
    torch.testing.assert_close(turned.W @ turned.W.T, model.W @ model.W.T, rtol=0, atol=1e-12)
    inner = turned.W.T @ (turned.W / model.psi[:, None])
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-12
    assert (inner.diagonal().diff() < 0).all()
    for column in turned.W.T:
        assert column[column.abs().argmax()] > 0
    again = gaussian.identified(turned._replace(W=-turned.W.flip(1)))
    torch.testing.assert_close(again.W, turned.W, rtol=0, atol=1e-12)


@pytest.mark.parametrize("holes", [False, True])
def test_expectations_are_those_of_the_conditional_gaussian(model, x, holes, monkeypatch):
    x = with_holes(x) if holes else x
    monkeypatch.setattr(gaussian, "ROWS", 6)  # in several parts
    found = gaussian.expectation(model, x)
    mean, covariance = zip(*(conditional(model, row) for row in x), strict=True)
    mean, covariance = torch.stack(mean), torch.stack(covariance)
    mean[:, Q:] -= model.mu
    second = (covariance + mean[:, :, None] * mean[:, None, :]).sum(0)  # of (z, d)
    wanted = {
        "count": torch.tensor(B).double(),
        "log_likelihood": log_density(model, x).sum(),
        "d": mean[:, Q:].sum(0),
        "dd": second[Q:, Q:].diagonal(),
        "z": mean[:, :Q].sum(0),
        "dz": second[Q:, :Q],
        "zz": second[:Q, :Q],
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("holes", [False, True])
def test_em_climbs_to_where_the_likelihood_is_flat(model, holes):
    z, noise = torch.randn(300, Q).double(), torch.randn(300, D).double()
    data = model.mu + z @ model.W.T + noise  # noise enough for no variance to go to zero
    data = with_holes(data, 0.15) if holes else data
    values = []
    for _ in range(500):
        statistics = gaussian.expectation(model, data)
        values.append(float(statistics["log_likelihood"]))
        model, variance = gaussian.maximization(model, statistics)
        assert (variance > model.psi).all()
    assert (torch.tensor(values).diff() > -1e-9).all()
    assert values[-1] - values[0] > 10
    if not holes:  # found at the first step
        torch.testing.assert_close(model.mu, data.nanmean(0), rtol=0, atol=1e-12)
    leaves = [p.clone().requires_grad_() for p in (model.W, model.mu, model.psi.log())]
    W, mu, log_psi = leaves
    log_density(LinearGaussian(W, mu, log_psi.exp()), data).mean().backward()
    for leaf in leaves:
        assert leaf.grad.abs().max() < 1e-4


def test_infinite_entries_are_refused(model, x):
    x[3, 2] = torch.inf
    with pytest.raises(ValueError, match="infinite"):
        gaussian.expectation(model, x)
