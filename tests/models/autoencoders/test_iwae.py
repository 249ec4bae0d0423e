"""The IWAE against the VAE at k = 1, a linear Gaussian model, and its two gradients' means."""

import math

import pytest
import torch

from zoo.models import IWAE, VAE


def small(**arguments):
    return IWAE(**{"x_shape": (1, 3, 3), "latent_dim": 2, "hidden": (8,), "k": 5, **arguments})


def images(n):
    return (torch.rand(n, 1, 3, 3) < 0.5).float()


def test_k_1_is_the_elbo_of_the_vae():
    torch.manual_seed(0)
    iwae = small(k=1).double()
    vae = VAE(x_shape=(1, 3, 3), latent_dim=2, hidden=(8,)).double()
    vae.load_state_dict(iwae.state_dict())
    x = images(4000).double()
    torch.manual_seed(1)
    ours = iwae.loss({"image": x})
    torch.manual_seed(1)
    theirs = vae.loss({"image": x})
    # One draw estimates the rate here, which the VAE has in closed form: the same in the mean.
    q = vae.posterior(x)
    torch.manual_seed(1)
    z = q.rsample()
    rates = q.log_prob(z) - vae.prior().log_prob(z)
    torch.testing.assert_close(ours["loss"], theirs["distortion"] + rates.mean())
    error = (rates - torch.distributions.kl_divergence(q, vae.prior())).std() / math.sqrt(len(x))
    assert abs(ours["loss"] - theirs["loss"]) < 4 * error


def test_loss_is_the_bound_written_out():
    torch.manual_seed(0)
    model, x = small(k=3).double(), images(4).double()
    torch.manual_seed(1)
    terms = model.loss({"image": x})
    torch.manual_seed(1)
    mean, log_scale = model.encoder(x).chunk(2, -1)
    total = torch.zeros(4, dtype=torch.float64)
    noise = torch.randn(3, 4, 2, dtype=torch.float64)
    for e in noise:
        z = mean + log_scale.exp() * e
        p = model.decoder(z).sigmoid()
        likelihood = (p**x * (1 - p) ** (1 - x)).prod(-1).prod(-1).prod(-1)
        normal = -0.5 * math.log(2 * math.pi)
        log_prior = (normal - 0.5 * z**2).sum(-1)
        log_q = (normal - log_scale - 0.5 * e**2).sum(-1)
        total += likelihood * (log_prior - log_q).exp() / 3
    assert terms["loss"].item() == pytest.approx(-total.log().mean().item(), abs=1e-10)
    assert terms["bound"].item() == pytest.approx(-terms["loss"].item(), abs=1e-12)


@pytest.mark.parametrize("dreg", [False, True])
def test_the_bound_rises_with_k_and_stays_below_the_evidence(dreg):
    """On a model so small that log p(x) is a sum over a fine grid of codes."""
    torch.manual_seed(0)
    model = IWAE(x_shape=(1, 2, 2), latent_dim=1, hidden=(4,), dreg=dreg).double()
    x = images(9)[:, :, :2, :2].double()
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    log_p = model.prior().log_prob(grid)[:, None] + torch.stack(
        [model.likelihood(grid).log_prob(one) for one in x], 1
    )
    evidence = (log_p.logsumexp(0) + math.log(16 / 4000)).mean()
    values = []
    for k in (1, 4, 64):
        model.k = k
        values.append(
            torch.stack([model.loss({"image": x})["bound"] for _ in range(300)]).mean().detach()
        )
    assert values[0] < values[1] < values[2] < evidence + 0.01
    assert evidence - values[2] < 0.02


def test_both_gradients_have_the_same_mean():
    torch.manual_seed(0)
    plain, x = small(k=8).double(), images(1).double()
    doubly = small(k=8, dreg=True).double()
    doubly.load_state_dict(plain.state_dict())
    found = {}
    for name, model in (("plain", plain), ("doubly", doubly)):
        rows = []
        for _ in range(300):
            model.zero_grad()
            model.loss({"image": x})["loss"].backward()
            rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        found[name] = torch.stack(rows)
    a, b = found["plain"], found["doubly"]
    error = ((a.var(0) + b.var(0)) / 300).sqrt()
    score = (a.mean(0) - b.mean(0)) / error.clamp(min=1e-12)
    moved = error > 1e-9
    assert moved.sum() > 100
    assert score[moved].abs().max() < 5  # of some two hundred standard normals


def test_dregs_gradient_has_no_noise_where_q_is_the_posterior():
    """Of a decoder that ignores z the posterior is the prior, which q is; all w are the same."""
    torch.manual_seed(0)
    x = images(4)
    for dreg in (False, True):
        model = small(dreg=dreg)
        with torch.no_grad():
            for last in (model.encoder[-1][-1], model.decoder[0][-1]):
                last.weight.zero_()
                last.bias.zero_()
        model.loss({"image": x})["loss"].backward()
        noise = model.encoder[-1][-1].weight.grad.abs().max()
        assert (noise < 1e-6) == dreg


def test_validation_of_dreg_needs_no_gradient():
    torch.manual_seed(0)
    model = small(dreg=True).eval()
    with torch.no_grad():
        terms = model.loss({"image": images(3)})
    assert terms["loss"].item() == pytest.approx(-terms["bound"].item(), rel=1e-6)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="k is 0, but must be at least 1"):
        small(k=0)
