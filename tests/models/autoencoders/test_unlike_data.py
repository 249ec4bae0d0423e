"""Images unlike those of training: no number runs away, and those of data do not move."""

import pytest
import torch

import zoo
from zoo.distributions.factorised import bounded, diagonal_gaussian
from zoo.distributions.flow import LogTails
from zoo.models import (
    DBVAE,
    IWAE,
    VAE,
    VAEGAN,
    BetaTCVAE,
    ConditionalVAE,
    FactorVAE,
    FlowVAE,
    HierarchicalVAE,
    VampPriorVAE,
)

SHIPPED = [name for name in zoo.list_models(verb="posterior") if "vae" in name]
RATE = 50_000.0  # nats; where scales were not bounded, 10^10 to 10^23 and NaN

FAMILIES = (BetaTCVAE, ConditionalVAE, FactorVAE, FlowVAE, HierarchicalVAE, IWAE, VAE, VampPriorVAE)


def unlike(x):
    torch.manual_seed(0)
    noise = torch.rand_like(x)
    return {"black": 0 * x, "white": 0 * x + 1, "noise": noise, "inverted": 1 - x}


def test_scales_of_trained_models_are_left_alone_and_others_bounded():
    inside = torch.linspace(-9, 1.5, 1001)
    assert torch.equal(bounded(inside), inside)
    far = torch.tensor([-1e30, -30.0, 3.0, 35.0, 1e30], requires_grad=True)
    held = bounded(far)
    assert (held >= -10).all()
    assert (held <= 2.5).all()
    assert (held.diff() >= 0).all()
    held.sum().backward()
    assert (far.grad[1:4] > 0).all()  # so that training leads back
    q = diagonal_gaussian(torch.tensor([[0.0, 1e4]]))
    assert q.stddev.item() == pytest.approx(2.71828**2.5, rel=1e-3)


def test_log_tails_are_the_identity_on_codes_and_a_bijection_beyond():
    tails = LogTails()
    z = torch.linspace(-10, 10, 101)[None]
    pushed, log_det = tails.call_and_ladj(z)
    assert torch.equal(pushed, z)
    assert log_det.item() == 0
    z = torch.tensor([[-300.0, -10.5, 0.3, 12.0, 5e3]], dtype=torch.float64)
    pushed, log_det = tails.call_and_ladj(z)
    torch.testing.assert_close(tails.inv(pushed), z)
    jacobian = torch.autograd.functional.jacobian(lambda z: tails.call_and_ladj(z)[0], z)
    torch.testing.assert_close(jacobian.reshape(5, 5).logdet(), log_det[0])
    torch.testing.assert_close(tails.log_abs_det_jacobian(z, pushed), log_det)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_gives_images_of_any_kind_a_rate(name):
    model = zoo.from_pretrained(name)
    x = model.golden_outputs()["x"]
    if model.conditions:
        model = model.given(torch.arange(len(x)) % len(model.conditions))
    for kind, images in unlike(x).items():
        with torch.no_grad():
            distortion, rate = zoo.inference.elbo(model, images)
        assert distortion.isfinite().all(), kind
        assert (rate < RATE).all(), (kind, rate)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_gives_any_number_leaves_loss_and_gradients_finite(family):
    torch.manual_seed(0)
    arguments = {
        ConditionalVAE: {"labels": ("a", "b"), "latent_dim": 4},
        HierarchicalVAE: {"width": 16},
    }
    model = family(x_shape=(1, 8, 8), hidden=(16,), **arguments.get(family, {"latent_dim": 4}))
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.mul_(30)
    x = torch.rand(8, 1, 8, 8)
    for kind, images in unlike(x).items():
        loss = model.loss({"image": images, "label": torch.arange(8) % 2})["loss"]
        assert loss.isfinite(), kind
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None), kind


@pytest.mark.parametrize("family", [DBVAE, VAEGAN])
def test_the_other_posteriors_are_bounded_too(family):
    torch.manual_seed(0)
    model = family(x_shape=(1, 16, 16), latent_dim=4, hidden=(8, 16))
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.mul_(100)
        assert (model.posterior(torch.rand(8, 1, 16, 16)).stddev < 2.71829**2.5).all()
