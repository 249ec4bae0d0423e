"""Beta-TCVAE and FactorVAE: at no extra weight they are the VAE, and each part learns its own."""

import pytest
import torch

from zoo.models import VAE, BetaTCVAE, FactorVAE
from zoo.models.autoencoders.factor_vae import _shuffled

SMALL = {"x_shape": (1, 4, 4), "latent_dim": 3, "hidden": (16,)}


def images(n):
    return (torch.rand(n, 1, 4, 4) < 0.5).float()


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_at_beta_1_the_loss_is_the_vaes(estimator):
    torch.manual_seed(0)
    model = BetaTCVAE(**SMALL, beta=1.0, estimator=estimator).double()
    vae = VAE(**SMALL).double()
    vae.load_state_dict(model.state_dict())
    x = images(8).double()
    torch.manual_seed(1)
    ours = model.loss({"image": x})
    torch.manual_seed(1)
    theirs = vae.loss({"image": x})
    for name in ("loss", "elbo", "rate", "distortion"):
        torch.testing.assert_close(ours[name], theirs[name])


def test_beta_weighs_the_total_correlation():
    torch.manual_seed(0)
    model, x = BetaTCVAE(**SMALL, beta=5.0), images(8)
    terms = model.loss({"image": x})
    expected = -terms["elbo"] + 4 * terms["total_correlation"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_gamma_weighs_the_discriminators_estimate():
    torch.manual_seed(0)
    model, x = FactorVAE(**SMALL, gamma=7.0, discriminator=(8,)), images(8)
    terms = model.loss({"image": x})
    expected = -terms["elbo"] + 7 * terms["total_correlation"] + terms["discriminator_loss"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family", [BetaTCVAE, FactorVAE])
def test_the_rates_weight_falls_in_training_only(family):
    torch.manual_seed(0)
    model, x = family(**SMALL, kl_warmup_steps=2, rate_start=9.0), {"image": images(8)}
    torch.manual_seed(1)
    held_out = model.eval().loss(x)
    torch.manual_seed(1)
    terms = model.train().loss(x)  # step 0 of 2: the geometric mean of 9 and 1
    added = terms["loss"] - held_out["loss"]
    assert added.item() == pytest.approx(2 * terms["rate"].item(), rel=1e-4)


def test_the_discriminator_learns_from_its_own_loss_and_the_encoder_does_not():
    torch.manual_seed(0)
    model, x = FactorVAE(**SMALL, gamma=7.0, discriminator=(8,)), images(8)
    terms = model.loss({"image": x})
    terms["loss"].backward(retain_graph=True)
    whole = [p.grad.clone() for p in model.discriminator.parameters()]
    model.zero_grad()
    terms["discriminator_loss"].backward()
    own = [p.grad for p in model.discriminator.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(whole, own, strict=True))
    assert all(p.grad is None for p in model.encoder.parameters())


def test_a_trained_discriminator_knows_the_total_correlation():
    """Of a Gaussian with correlation r, E[d] is -log(1 - r^2) / 2 at the best discriminator."""
    torch.manual_seed(0)
    r = 0.8
    model = FactorVAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(4,), discriminator=(64, 64))
    root = torch.linalg.cholesky(torch.tensor([[1.0, r], [r, 1.0]]))
    optimizer = torch.optim.Adam(model.discriminator.parameters(), 2e-3)
    for _ in range(400):
        joint, other = torch.randn(2, 512, 2) @ root.mT
        d, e = model.discriminator(joint), model.discriminator(_shuffled(other))
        loss = torch.nn.functional.softplus(-d).mean() + torch.nn.functional.softplus(e).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = torch.randn(20_000, 2) @ root.mT
    found = model.discriminator(z).mean().item()
    assert found == pytest.approx(0.51, abs=0.08)  # of -log(1 - 0.64) / 2 = 0.511


def test_shuffling_keeps_each_dimension_and_parts_them():
    torch.manual_seed(0)
    z = torch.randn(5000, 1).expand(-1, 2)
    shuffled = _shuffled(z)
    assert torch.equal(shuffled.sort(0).values, z.sort(0).values)
    assert abs(torch.corrcoef(shuffled.T)[0, 1]) < 5 / 5000**0.5


@pytest.mark.parametrize("family", [BetaTCVAE, FactorVAE])
def test_a_single_image_is_refused(family):
    with pytest.raises(ValueError, match="a batch of one image"):
        family(**SMALL).loss({"image": images(1)})
