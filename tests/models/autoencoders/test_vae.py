"""The VAE against exact answers: closed forms, Monte Carlo, quadrature, a linear Gaussian model."""

import itertools

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import zoo
from zoo.inference import (
    annealed_importance_sampling,
    effective_sample_size,
    elbo,
    hmc,
    importance_weighted_bound,
)
from zoo.inference.bounds import log_joint
from zoo.models import VAE


def small(**arguments):
    return VAE(**{"x_shape": (1, 4, 4), "latent_dim": 3, "hidden": (16,), **arguments})


def binary_images(n, shape=(1, 4, 4)):
    return (torch.rand(n, *shape) < 0.5).float()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_loss_is_minus_the_elbo_at_beta_1(likelihood):
    vae = small(likelihood=likelihood).double()
    x = binary_images(50).double()
    torch.manual_seed(1)
    terms = vae.loss({"image": x})
    # The ELBO written out: one draw of z, sums over pixels and latents, the mean over images.
    torch.manual_seed(1)
    mean, log_scale = vae.encoder(x).chunk(2, -1)
    z = mean + log_scale.exp() * torch.randn_like(mean)
    output = vae.decoder(z)
    if likelihood == "bernoulli":
        p = output.sigmoid()
        log_p = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    else:
        log_p = (-0.5 * (x - output) ** 2 - 0.5 * torch.tensor(2 * torch.pi).log()).sum((1, 2, 3))
    kl = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
    expected = (log_p - kl).mean()
    assert terms["elbo"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert terms["loss"].item() == pytest.approx(-expected.item(), abs=1e-6)
    assert terms["rate"].item() == pytest.approx(kl.mean().item(), abs=1e-6)
    assert terms["distortion"].item() == pytest.approx(-log_p.mean().item(), abs=1e-6)


def test_beta_weighs_the_rate_in_the_loss_and_not_in_the_elbo():
    vae = small(beta=4.0)
    terms = vae.loss({"image": binary_images(20)})
    assert terms["loss"].item() == pytest.approx(
        (terms["distortion"] + 4 * terms["rate"]).item(), rel=1e-6
    )
    assert terms["elbo"].item() == pytest.approx(
        -(terms["distortion"] + terms["rate"]).item(), rel=1e-6
    )


def test_kl_warmup_weighs_the_rate_in_training_only():
    vae = small(kl_warmup_steps=10)
    x = {"image": binary_images(20)}
    terms = vae.train().loss(x)  # step 0 of 10: a tenth of the rate
    assert (terms["loss"] - terms["distortion"]).item() == pytest.approx(
        terms["rate"].item() / 10, rel=1e-4
    )
    terms = vae.eval().loss(x)
    assert (terms["loss"] - terms["distortion"]).item() == pytest.approx(
        terms["rate"].item(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("step", "weight"), [(0, 16 * (1 / 4) ** 0.25), (1, 8.0), (3, 4.0), (9, 4.0)]
)
def test_the_rates_weight_falls_geometrically_from_above_beta(monkeypatch, step, weight):
    vae = small(beta=4.0, kl_warmup_steps=4, rate_start=16.0).train()
    monkeypatch.setattr(VAE, "global_step", step)
    terms = vae.loss({"image": binary_images(20)})
    assert (terms["loss"] - terms["distortion"]).item() == pytest.approx(
        weight * terms["rate"].item(), rel=1e-4
    )


def test_kl_equals_torch_and_monte_carlo():
    vae = small().double()
    q, p = vae.posterior(binary_images(4).double()), vae.prior()
    closed = kl_divergence(q, p)
    base = kl_divergence(q.base_dist, Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(closed, base, rtol=0, atol=1e-12)
    z = q.sample((200_000,))
    log_ratio = q.log_prob(z) - p.log_prob(z)
    error = log_ratio.std(0) / len(z) ** 0.5
    assert ((log_ratio.mean(0) - closed).abs() < 5 * error).all()


@pytest.fixture(scope="module")
def one_dimensional():
    """A VAE with one latent dimension whose posterior is far from Gaussian, and log p(x)."""
    torch.manual_seed(3)
    vae = small(latent_dim=1, hidden=(8,), activation="tanh").double().eval()
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.mul_(3)
    x = binary_images(6).double()
    # The trapezoidal rule on a smooth integrand that vanishes at both ends converges
    # geometrically: the error is far below 1e-9 at this step.
    z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        logits = vae.decoder(z).flatten(1)  # (Z, 16)
        log_joint = (
            x.flatten(1) @ logits.T
            - torch.nn.functional.softplus(logits).sum(1)
            + Normal(0.0, 1.0).log_prob(z[:, 0])
        )  # (B, Z)
        log_p = log_joint.logsumexp(1) + torch.tensor(24 / 20_000).log()
    return vae, x, log_p


def test_bounds_rise_with_k_and_stay_below_log_p(one_dimensional):
    vae, x, log_p = one_dimensional
    repeats = 4000
    copies = x.repeat_interleave(repeats, 0)
    bounds, errors = [], []
    for k in (1, 2, 8, 64):
        value = importance_weighted_bound(vae, copies, k, chunk=200_000).value.reshape(-1, repeats)
        bounds.append(value.mean(1))
        errors.append(value.std(1) / repeats**0.5)
    for (low, low_error), (high, high_error) in itertools.pairwise(
        zip(bounds, errors, strict=True)
    ):
        assert (high - low > -4 * (low_error**2 + high_error**2).sqrt()).all()
    assert bounds[-1].sum() - bounds[0].sum() > 0.1  # there is a gap, and it closes
    assert (bounds[-1] < log_p + 4 * errors[-1]).all()
    # many samples: the bound meets the integral
    exact = importance_weighted_bound(vae, x, 400_000, chunk=200_000)
    assert ((exact.value - log_p).abs() < 5 * exact.standard_error + 1e-9).all()


def test_annealing_meets_the_integral(one_dimensional):
    vae, x, log_p = one_dimensional
    for start in ("prior", "posterior"):
        found = annealed_importance_sampling(vae, x, 60, 100, start)
        assert found.standard_error.max() < 0.2
        assert ((found.value - log_p).abs() < 4.5 * found.standard_error).all()
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_hamiltonian_draws_have_the_moments_of_the_integral(one_dimensional):
    vae, x, log_p = one_dimensional
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64).reshape(-1, 1, 1).expand(-1, 6, 1)
    with torch.no_grad():
        density = (log_joint(vae, x, z) - log_p).exp() * 24 / 4000  # (Z, B)
    found = hmc(vae, x, draws=200, chains=40, warmup=100)
    for power in (1, 2):
        expected = (density * z[..., 0] ** power).sum(0)
        spread = ((density * z[..., 0] ** (2 * power)).sum(0) - expected**2).sqrt()
        draws = found.z[..., 0] ** power  # (S, C, B)
        error = spread / effective_sample_size(draws).sqrt()
        assert error.max() < 0.2
        assert ((draws.mean((0, 1)) - expected).abs() < 4.5 * error).all()


def test_elbo_is_the_bound_with_one_sample(one_dimensional):
    vae, x, _ = one_dimensional
    copies = x.repeat_interleave(20_000, 0)
    with torch.no_grad():
        distortion, rate = elbo(vae, copies)
    one = importance_weighted_bound(vae, copies, 1, chunk=200_000).value
    a, b = -(distortion + rate).reshape(6, -1), one.reshape(6, -1)
    error = (a.var(1) / 20_000 + b.var(1) / 20_000).sqrt()
    assert ((a.mean(1) - b.mean(1)).abs() < 5 * error).all()


def test_chunks_do_not_change_the_bound(one_dimensional):
    vae, x, _ = one_dimensional
    torch.manual_seed(0)
    whole = importance_weighted_bound(vae, x, 64, chunk=10_000)
    torch.manual_seed(0)
    # torch draws normals in blocks of 16, so parts of 96 codes meet the same noise
    parts = importance_weighted_bound(vae, x, 64, chunk=96)
    torch.testing.assert_close(whole.value, parts.value, rtol=0, atol=1e-10)
    torch.testing.assert_close(whole.standard_error, parts.standard_error, rtol=1e-8, atol=0)


def test_linear_vae_with_its_exact_posterior_has_no_gap():
    """x = W z + b + noise with orthogonal columns: log p(x) and p(z | x) are known (PPCA)."""
    vae = small(likelihood="gaussian", hidden=()).double().eval()
    scale = 0.3
    columns = torch.linalg.qr(torch.randn(16, 3, dtype=torch.float64))[0] * torch.tensor(
        [2.0, 1.0, 0.5]
    )
    offset = torch.randn(16, dtype=torch.float64)
    precision = 1 + columns.square().sum(0) / scale**2  # of p(z | x), diagonal
    encoder, decoder = vae.encoder[1][0], vae.decoder[0][0]
    with torch.no_grad():
        vae.log_scale.fill_(scale).log_()
        decoder.weight.copy_(columns)
        decoder.bias.copy_(offset)
        gain = columns.T / scale**2 / precision[:, None]  # E[z | x] = gain (x - b)
        encoder.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
        encoder.bias.copy_(torch.cat([-gain @ offset, -0.5 * precision.log()]))
    x = torch.randn(10, 1, 4, 4, dtype=torch.float64)
    marginal = MultivariateNormal(
        offset, columns @ columns.T + scale**2 * torch.eye(16, dtype=torch.float64)
    )
    log_p = marginal.log_prob(x.flatten(1))
    # every importance weight equals p(x), whatever z was drawn
    torch.testing.assert_close(importance_weighted_bound(vae, x, 5).value, log_p, rtol=0, atol=1e-9)
    # and the ELBO, whose one-draw estimate is noisy, has log p(x) as its mean
    copies = x.repeat_interleave(20_000, 0)
    with torch.no_grad():
        distortion, rate = elbo(vae, copies)
    value = -(distortion + rate).reshape(10, -1)
    error = value.std(1) / 20_000**0.5
    assert ((value.mean(1) - log_p).abs() < 5 * error).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"hidden": ()},
        {"hidden": (16, 16), "activation": "silu", "residual_blocks": 2},
        {"likelihood": "gaussian", "activation": "tanh"},
        {"network": "conv", "hidden": (4, 8)},
        {"network": "conv", "hidden": (4,), "x_shape": (3, 8, 6), "likelihood": "gaussian"},
        {"network": "patch", "hidden": (4, 6, 16), "x_shape": (1, 16, 8), "residual_blocks": 1},
    ],
)
def test_verbs_agree_in_shape_and_every_parameter_learns(arguments):
    vae = small(**arguments)
    shape = vae.x_shape
    x = torch.rand(5, *shape)
    vae.loss({"image": x})["loss"].backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    z = vae.encode(x)
    assert z.shape == (5, *vae.latent_shape)
    assert vae.decode(z).shape == x.shape
    torch.testing.assert_close(vae.reconstruct(x), vae.decode(z))
    torch.manual_seed(7)
    samples = vae.sample(3)
    assert samples.shape == (3, *shape)
    assert samples.dtype == torch.float32
    assert 0 <= samples.min() <= samples.max() <= 1
    torch.manual_seed(7)
    assert torch.equal(vae.sample(3), samples)
    assert not torch.equal(vae.sample(3), samples)
    assert vae.posterior(x).batch_shape == (5,)
    assert vae.likelihood(z).batch_shape == (5,)
    assert vae.likelihood(z).event_shape == shape
    assert vae.prior().event_shape == vae.latent_shape


def test_samples_follow_the_likelihood():
    vae = small(hidden=())
    with torch.no_grad():
        vae.decoder[0][0].weight.zero_()
        vae.decoder[0][0].bias.copy_(torch.linspace(-2, 2, 16))
    mean = vae.sample(20_000).mean(0).flatten()
    p = torch.linspace(-2, 2, 16).sigmoid()
    assert ((mean - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_densities_are_float32_under_bfloat16():
    vae = small(x_shape=(1, 8, 8))
    x = binary_images(8, (1, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = vae.loss({"image": x})
        assert vae.posterior(x).mean.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in terms.values())


def test_what_a_vae_lacks_is_said():
    with pytest.raises(NotImplementedError, match=r"zoo\.log_likelihood"):
        small().log_prob(binary_images(2))
    assert VAE().verbs() == (
        "sample",
        "prior",
        "posterior",
        "likelihood",
        "encode",
        "decode",
        "reconstruct",
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(2, 1, 5, 4), "built for"),
        (torch.rand(1, 4, 4), "add the batch dimension"),
        (torch.rand(2, 1, 4, 4) * 255, "divide by 255"),
        (torch.full((2, 1, 4, 4), torch.nan), "NaN"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "uint8"),
    ],
)
def test_wrong_images_are_refused(x, message):
    vae = small()
    for verb in (vae.encode, vae.reconstruct, lambda x: zoo.log_likelihood(vae, x)):
        with pytest.raises(ValueError, match=message):
            verb(x)


def test_wrong_codes_are_refused():
    with pytest.raises(ValueError, match="z has shape"):
        small().decode(torch.zeros(2, 4))
