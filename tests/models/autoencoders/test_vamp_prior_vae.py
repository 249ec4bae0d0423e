"""The VampPrior against torch's mixture of the posteriors of its pseudo-inputs."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import zoo
from zoo.models import VampPriorVAE


def small(**arguments):
    return VampPriorVAE(
        **{"x_shape": (1, 4, 4), "latent_dim": 3, "hidden": (16,), "pseudo_inputs": 7, **arguments}
    )


def images(n):
    return (torch.rand(n, 1, 4, 4) < 0.5).float()


def reference(model):
    q = model.posterior(model.pseudo_inputs.sigmoid())
    mixed = Independent(Normal(q.mean, q.stddev), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(q.mean)).to(q.mean)), mixed)


def test_the_prior_is_the_mixture_of_the_posteriors_of_pseudo_inputs():
    torch.manual_seed(0)
    model = small().double()
    z = 3 * torch.randn(5, 2, 3).double()
    expected = reference(model)
    torch.testing.assert_close(model.prior().log_prob(z), expected.log_prob(z), atol=1e-9, rtol=0)
    torch.testing.assert_close(model.prior().mean, expected.mean)


def test_float32_keeps_the_density_of_narrow_components():
    """Where z^2 / sigma^2 is 10^5 the difference of large numbers must not show."""
    torch.manual_seed(0)
    model = small()
    with torch.no_grad():
        model.encoder[-1][-1].bias[3:] = -4.0
    z = reference(model).sample((100,))
    expected = reference(model.double()).log_prob(z.double())
    torch.testing.assert_close(
        model.float().prior().log_prob(z).double(), expected, atol=1e-3, rtol=0
    )


def test_draws_of_the_prior_have_its_moments():
    torch.manual_seed(0)
    model = small().double()
    z = model.prior().sample((20_000,))
    expected = reference(model)
    error = expected.stddev / 20_000**0.5
    assert ((z.mean(0) - expected.mean).abs() < 5 * error).all()
    torch.testing.assert_close(z.std(0), expected.stddev, rtol=0.03, atol=0)


def test_loss_is_minus_the_elbo_with_the_rate_at_the_draw():
    torch.manual_seed(0)
    model, x = small().double(), images(6).double()
    torch.manual_seed(1)
    terms = model.loss({"image": x})
    torch.manual_seed(1)
    q = model.posterior(x)
    z = q.rsample()
    log_p = model.likelihood(z).log_prob(x) + reference(model).log_prob(z)
    expected = (log_p - q.log_prob(z)).mean().item()
    assert terms["elbo"].item() == pytest.approx(expected, abs=1e-9)
    assert terms["loss"].item() == pytest.approx(-expected, abs=1e-9)


def test_the_pseudo_inputs_are_trained():
    torch.manual_seed(0)
    model = small()
    model.loss({"image": images(8)})["loss"].backward()
    assert model.pseudo_inputs.grad.abs().sum() > 0


def test_the_elbo_is_measured_with_this_prior():
    torch.manual_seed(0)
    model, x = small().double().eval(), images(40).double()
    found = {m.name: m for m in zoo.evaluate(model, [{"image": x}], samples=200)}
    with torch.no_grad():
        draws = [model.loss({"image": x})["elbo"].item() for _ in range(50)]
    assert found["elbo"].value == pytest.approx(
        sum(draws) / 50, abs=6 * found["elbo"].monte_carlo_error
    )
    assert -found["nll"].value > found["elbo"].value
