"""The ladder against the plain VAE, the factors of the paper, Monte Carlo and quadrature."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

import zoo
from zoo.inference import annealed_importance_sampling, elbo, importance_weighted_bound
from zoo.models import VAE, HierarchicalVAE


def small(**arguments):
    """A model whose residual blocks are not the identity, as they are at the start."""
    torch.manual_seed(0)
    sizes = {"x_shape": (1, 4, 4), "latent_dims": (2, 3), "width": 8, "hidden": (16,)}
    model = HierarchicalVAE(**{**sizes, "activation": "tanh", **arguments}).double()
    with torch.no_grad():
        for p in model.ladder.parameters():
            p.add_(0.1 * torch.randn_like(p))  # with 0.3, scales reach their bound
    return model


GRIDS = {"latent_dims": (2,), "grid_channels": (2, 1), "network": "conv", "hidden": (6,)}
"""A layer that is a vector, and two on a grid of 2 x 2."""


def images(n):
    return (torch.rand(n, 1, 4, 4) < 0.5).double()


def factors(model, x, code):
    """Mean and scale of p(z_l | above) and of q(z_l | above, x), and z_l: in the paper's terms."""
    h, parts = model.ladder.start, code.split(model.ladder.dims, -1)
    for rung, part, evidence in zip(model.ladder.rungs, parts, model.evidence(x), strict=True):
        mean, log_scale = rung.prior(h).expand(len(x), -1).chunk(2, -1)
        scale = log_scale.exp()
        shift, log_ratio = rung.posterior(h + rung.evidence(evidence)).chunk(2, -1)
        z = mean + scale * part
        yield Normal(mean, scale), Normal(mean + scale * shift, scale * log_ratio.exp()), z
        h = rung.block(h + rung.embed(z))


def test_one_layer_is_a_vae_of_the_same_blocks():
    model, x = small(latent_dims=(3,)), images(10)
    rung, start = model.ladder.rungs[0], model.ladder.start
    mean, log_scale = rung.prior(start).chunk(2)
    with torch.no_grad():
        into = nn.Linear(8, 8).double()  # the state at the start, added to the evidence
        into.weight.copy_(torch.eye(8))
        into.bias.copy_(start)
        out = nn.Linear(3, 8).double()  # W (mu + sigma epsilon) + h
        out.weight.copy_(rung.embed.weight * log_scale.exp())
        out.bias.copy_(rung.embed(mean) + start)
    vae = VAE(x_shape=(1, 4, 4), latent_dim=3, hidden=(16,)).double()
    vae.encoder = nn.Sequential(model.encoder, rung.evidence, into, rung.posterior)
    vae.decoder = nn.Sequential(out, rung.block, model.decoder)
    torch.manual_seed(1)
    ours = model.loss({"image": x})
    torch.manual_seed(1)
    theirs = vae.loss({"image": x})
    for name in ("loss", "elbo", "rate", "distortion"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-10, rtol=0)
    torch.testing.assert_close(model.encode(x), vae.encode(x))
    z = torch.randn(10, 3, dtype=torch.float64)
    torch.testing.assert_close(model.decode(z), vae.decode(z))


@pytest.mark.parametrize("arguments", [{"latent_dims": (2, 3, 1)}, GRIDS])
def test_terms_are_those_of_the_factors_of_the_paper(arguments):
    model, x = small(**arguments), images(10)
    torch.manual_seed(1)
    terms = model.loss({"image": x})
    torch.manual_seed(1)
    q = model.posterior(x)
    code = q.rsample()
    log_ratio, rates = 0, []
    for p_l, q_l, z in factors(model, x, code):
        rates.append(kl_divergence(q_l, p_l).sum(-1))
        log_ratio = log_ratio + (q_l.log_prob(z) - p_l.log_prob(z)).sum(-1)
    torch.testing.assert_close(q.log_prob(code) - model.prior().log_prob(code), log_ratio)
    for layer, rate in zip((3, 2, 1), rates, strict=True):
        torch.testing.assert_close(terms[f"rate_{layer}"], rate.mean())
    torch.testing.assert_close(terms["rate"], sum(rates).mean())
    log_p = model.likelihood(code).log_prob(x)
    torch.testing.assert_close(terms["elbo"], (log_p - sum(rates)).mean())


def test_rate_of_the_layers_is_the_whole_by_monte_carlo():
    model, x = small(), images(3)
    draws, copies = 10_000, x.repeat(10_000, 1, 1, 1)
    with torch.no_grad():
        q = model.posterior(x)
        z = q.sample((draws,))
        whole = q.log_prob(z) - model.prior().log_prob(z)  # (draws, B)
        layers = model.loss({"image": copies})
    error = whole.mean(1).std() / math.sqrt(draws)
    # the closed form given the layers above has an error too, and no larger one
    assert abs(layers["rate"] - whole.mean()) < 5 * math.sqrt(2) * error
    assert whole.mean() > 0.1


@pytest.mark.parametrize(("arguments", "dims"), [({}, 5), (GRIDS, 2 + 4 * 3)])
def test_density_of_a_draw_is_that_of_the_same_code(arguments, dims):
    model, x = small(**arguments), images(5)
    q = model.posterior(x)
    for shape in ((), (7,), (2, 3)):
        z = q.rsample(shape)
        drawn = q.log_prob(z)
        assert q.log_prob(z) is drawn
        torch.testing.assert_close(q.log_prob(z.clone()), drawn, atol=1e-10, rtol=0)
        assert (z.shape, drawn.shape) == ((*shape, 5, dims), (*shape, 5))
    one = model.posterior(x[3:4])  # no image sees another
    torch.testing.assert_close(one.log_prob(z[..., 3:4, :]), drawn[..., 3:4])
    assert model.latent_shape == (dims,)


@pytest.mark.parametrize("arguments", [{}, GRIDS])
def test_a_layer_depends_on_those_above_it_alone(arguments):
    model, x = small(**arguments), images(1)
    q = model.posterior(x)

    def means(code):
        return torch.cat([f[1].mean for f in factors(model, x, code)], -1)[0]

    jacobian = torch.autograd.functional.jacobian(means, q.sample())[:, 0]  # (D, D)
    start = 0
    for dim in model.ladder.dims:
        layer = jacobian[start : start + dim]
        assert (layer[:, :start] != 0).all()
        assert (layer[:, start:] == 0).all()
        start += dim


def test_code_is_the_means_from_the_top_down():
    model, x = small(), images(6)
    code = model.encode(x)
    for (p_l, q_l, z), part in zip(factors(model, x, code), code.split((2, 3), -1), strict=True):
        torch.testing.assert_close(z, q_l.mean)
        torch.testing.assert_close(part, (q_l.mean - p_l.mean) / p_l.stddev)
    top = model.posterior(x).sample((20_000,))[..., :2]
    error = model.posterior(x).stddev[:, :2] / math.sqrt(20_000)
    assert ((top.mean(0) - code[:, :2]).abs() < 5 * error).all()
    torch.testing.assert_close(top.std(0), 20_000**0.5 * error, rtol=5 / math.sqrt(40_000), atol=0)


ON_ONE_PLACE = {"latent_dims": (1,), "grid_channels": (1,), "network": "conv", "hidden": (6, 8)}
"""A vector of one number, and one on a grid of 1 x 1."""


@pytest.fixture(scope="module", params=[{"latent_dims": (1, 1), "hidden": (8,)}, ON_ONE_PLACE])
def one_dimensional(request):
    """Two layers of one dimension each, and log p(x) by quadrature."""
    model = small(**request.param).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2)
        for rung in model.ladder.rungs:  # near the prior, so that no weight has a heavy tail
            *_, last = (m for m in rung.posterior.modules() if [*m.parameters(recurse=False)])
            for parameter in last.parameters():
                parameter.mul_(0.3)
    x = images(4)
    # The trapezoidal rule on a smooth integrand that vanishes at the border converges
    # geometrically: halving the step changes log p(x) by less than 1e-9.
    line = torch.linspace(-8, 8, 161, dtype=torch.float64)
    code = torch.cartesian_prod(line, line)
    with torch.no_grad():
        log_p = model.likelihood(code).log_prob(x[:, None]) + model.prior().log_prob(code)
    return model, x, log_p.logsumexp(1) + 2 * math.log(16 / 160)


def test_bounds_rise_with_k_and_stay_below_log_p(one_dimensional):
    model, x, log_p = one_dimensional
    repeats = 500
    copies = x.repeat_interleave(repeats, 0)
    with torch.no_grad():
        terms = torch.stack(elbo(model, copies)).sum(0).reshape(-1, repeats)
    bounds, errors = [-terms.mean(1)], [terms.std(1) / repeats**0.5]
    for k in (2, 16):
        value = importance_weighted_bound(model, copies, k, chunk=100_000).value
        value = value.reshape(-1, repeats)
        bounds.append(value.mean(1))
        errors.append(value.std(1) / repeats**0.5)
    for (low, low_error), (high, high_error) in itertools.pairwise(
        zip(bounds, errors, strict=True)
    ):
        assert (high - low > -4 * (low_error**2 + high_error**2).sqrt()).all()
    assert bounds[-1].sum() - bounds[0].sum() > 0.1  # there is a gap, and it closes
    assert (bounds[-1] < log_p + 4 * errors[-1]).all()
    exact = zoo.log_likelihood(model, x, samples=40_000)
    assert ((exact.value - log_p).abs() < 5 * exact.standard_error + 1e-9).all()


def test_annealing_meets_the_integral(one_dimensional):
    model, x, log_p = one_dimensional
    found = annealed_importance_sampling(model, x, 15, 50)
    assert found.standard_error.max() < 0.3
    assert ((found.value - log_p).abs() < 4.5 * found.standard_error).all()


def test_warmup_weighs_the_rate_in_training_only():
    model, x = small(kl_warmup_steps=10), {"image": images(20)}
    terms = model.train().loss(x)  # step 0 of 10: a tenth of the rate
    torch.testing.assert_close(terms["loss"], terms["distortion"] + terms["rate"] / 10)
    terms = model.eval().loss(x)
    torch.testing.assert_close(terms["loss"], -terms["elbo"])


def test_latents_on_a_grid_start_as_noise():
    torch.manual_seed(0)
    model, x = HierarchicalVAE(x_shape=(1, 4, 4), activation="tanh", **GRIDS), images(5).float()
    for p_l, q_l, _ in [*factors(model, x, model.posterior(x).sample())][1:]:
        for factor in (p_l, q_l):
            assert (factor.mean == 0).all()
            assert (factor.stddev == 1).all()


@pytest.mark.parametrize("grid_channels", [(), (2, 1)])
def test_every_parameter_is_trained(grid_channels):
    sizes = {"network": "conv", "hidden": (4, 6), "residual_blocks": 1}
    model = small(**sizes, grid_channels=grid_channels)
    model.loss({"image": images(8)})["loss"].backward()
    for name, p in model.named_parameters():
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"latent_dims": ()}, "layers is 0"),
        ({"latent_dims": (3, 0)}, r"latent_dims\[1\] is 0"),
        ({"width": 0}, "width is 0"),
        ({**GRIDS, "grid_channels": (2, 0)}, r"grid_channels\[1\] is 0"),
        ({**GRIDS, "network": "mlp"}, "set network=conv"),
        ({**GRIDS, "hidden": (4, 4, 4)}, "cannot be divided"),
        ({"kl_warmup_steps": -1}, "kl_warmup_steps is -1"),
    ],
)
def test_wrong_sizes_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        HierarchicalVAE(x_shape=(1, 4, 4), **arguments)
