"""Estimates of log p(x) against a linear Gaussian model, of which everything is known."""

import itertools

import pytest
import torch

from zoo.inference import (
    annealed_importance_sampling,
    bidirectional_monte_carlo,
    elbo,
    importance_weighted_bound,
    inference_gap,
    refine,
)


def mean_and_error(values):
    """Over the leading dimension."""
    return values.mean(0), values.std(0) / len(values) ** 0.5


def test_one_sample_of_the_exact_posterior_gives_log_p(linear):
    model = linear("exact")
    _, x = model.simulate(20)
    found = importance_weighted_bound(model, x, 1)
    torch.testing.assert_close(found.value, model.log_prob(x), rtol=0, atol=1e-9)
    many = importance_weighted_bound(model, x, 50)
    torch.testing.assert_close(many.value, model.log_prob(x), rtol=0, atol=1e-9)
    assert many.standard_error.max() < 1e-6  # the root of rounding


@pytest.mark.parametrize("q", ["mean_field", "poor"])
def test_elbo_is_below_log_p_by_the_divergence_from_the_posterior(linear, q):
    model = linear(q)
    _, x = model.simulate(5)
    copies = x.repeat(20_000, 1)
    distortion, rate = elbo(model, copies)
    value, error = mean_and_error(-(distortion + rate).reshape(20_000, 5))
    gap = model.gap(model.posterior(x), x)
    assert gap.min() > 30 * error.max()  # so that there is something to see
    assert ((model.log_prob(x) - value - gap).abs() < 4.5 * error).all()


def test_mean_field_gap_has_its_closed_form(linear):
    """1/2 (sum_i log L_ii - log det L) for a posterior precision L, whatever x is."""
    model = linear("mean_field")
    _, x = model.simulate(5)
    expected = 0.5 * (model.precision.diagonal().log().sum() - model.precision.logdet())
    gap = model.gap(model.posterior(x), x)
    torch.testing.assert_close(gap, expected.expand(5), rtol=0, atol=1e-9)
    distortion, rate = elbo(model, x[:1].repeat(100_000, 1))
    value, error = mean_and_error(-(distortion + rate))
    assert (model.log_prob(x[:1]) - value).item() == pytest.approx(
        expected.item(), abs=4 * error.item()
    )


def test_importance_weighted_bound_rises_with_k_to_log_p(linear):
    model = linear("poor")
    _, x = model.simulate(3)
    copies = x.repeat(3000, 1)
    found = [
        mean_and_error(importance_weighted_bound(model, copies, k, 100_000).value.reshape(3000, 3))
        for k in (1, 2, 5, 20)
    ]
    for (low, low_error), (high, high_error) in itertools.pairwise(found):
        assert (high - low > 3 * torch.hypot(low_error, high_error)).all()
        assert (high < model.log_prob(x) + 3 * high_error).all()


def test_a_bound_that_is_decoded_in_parts_is_the_same(linear, monkeypatch):
    model = linear("poor")
    _, x = model.simulate(3)  # 18 numbers
    bounds = []
    for part in (10**9, 40):  # all draws at once, or two
        monkeypatch.setattr("zoo.inference.bounds.PART", part)
        torch.manual_seed(0)
        bounds.append(importance_weighted_bound(model, x, 25, 30))
    torch.testing.assert_close(*bounds, rtol=1e-12, atol=1e-12)


def test_annealing_over_1000_distributions_finds_log_p(linear):
    model = linear("poor", dim=2, pixels=4)
    _, x = model.simulate(4)
    found = annealed_importance_sampling(model, x, 1000, 100, leapfrog_steps=1)
    assert found.standard_error.max() < 0.01
    assert (found.value - model.log_prob(x)).abs().max() < 0.03


def test_annealing_over_one_distribution_is_importance_sampling(linear):
    model = linear("poor")
    _, x = model.simulate(3)
    torch.manual_seed(1)
    annealed = annealed_importance_sampling(model, x, 1, 50)
    torch.manual_seed(1)
    plain = importance_weighted_bound(model, x, 50)
    torch.testing.assert_close(annealed, plain, rtol=0, atol=1e-9)


def test_annealed_weights_have_p_as_their_mean(linear):
    """What makes it a bound: few, coarse steps are as unbiased as many fine ones are."""
    model = linear("poor", dim=2, pixels=4)
    _, x = model.simulate(2)
    copies = x.repeat(4000, 1)  # one chain each
    log_w = annealed_importance_sampling(model, copies, 6, 1, leapfrog_steps=1).value
    mean, error = mean_and_error((log_w.reshape(4000, 2) - model.log_prob(x)).exp())
    assert error.max() < 0.1
    assert ((mean - 1).abs() < 4 * error).all()


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_bidirectional_monte_carlo_brackets_log_p(linear, start):
    model = linear("poor", dim=2, pixels=4)
    z, x = model.simulate(500)
    exact = model.log_prob(x)
    gaps = []
    for distributions in (4, 40):
        lower, upper = bidirectional_monte_carlo(
            model, x, z, distributions, 4, start, leapfrog_steps=2
        )
        below, below_error = mean_and_error(exact - lower.value)
        above, above_error = mean_and_error(upper.value - exact)
        assert below > -4 * below_error
        assert above > -4 * above_error
        gaps.append((below + above).item())
    assert gaps[0] > 4 * gaps[1]  # the bracket closes


def test_data_are_annealed_in_parts_that_keep_their_order(linear, monkeypatch):
    model = linear("exact")
    z, x = model.simulate(7)
    monkeypatch.setattr("zoo.inference.ais.CHUNK", 6)
    found = annealed_importance_sampling(model, x, 3, 2)
    torch.testing.assert_close(found.value, model.log_prob(x), rtol=0, atol=1e-9)
    for side in bidirectional_monte_carlo(model, x, z, 3, 2):
        torch.testing.assert_close(side.value, model.log_prob(x), rtol=0, atol=1e-9)


def test_refinement_finds_the_best_gaussian(linear):
    model = linear("poor")
    _, x = model.simulate(30)
    best, start, found = model.mean_field(x), model.posterior(x), refine(model, x)
    lost = model.gap(found, x) - model.gap(best, x)
    whole = model.gap(start, x) - model.gap(best, x)
    assert whole.min() > 0.5
    # A stationary point: errors of a few hundredths in mean and scale cost their squares.
    assert lost.mean() < 0.002
    assert lost.max() < 0.01
    assert ((found.mean - best.mean) / best.stddev).abs().max() < 0.15
    assert (found.stddev / best.stddev).log().abs().max() < 0.15


def test_the_gap_is_what_a_gaussian_costs_and_what_the_encoder_costs(linear):
    model = linear("poor")
    _, x = model.simulate(20)
    gap = inference_gap(model, x, samples=2000, distributions=2, chains=2, draws=300)
    exact = model.log_prob(x)
    total = gap.approximation.value + gap.amortisation.value
    torch.testing.assert_close(total, gap.log_p.value - gap.amortised.value, rtol=0, atol=1e-12)
    best = model.gap(model.mean_field(x), x)
    for found, expected in (
        (gap.approximation, best),
        (gap.amortisation, model.gap(model.posterior(x), x) - best),
    ):
        error = found.standard_error.square().sum().sqrt().item() / 20
        # and what refinement leaves, two thousandths at the most
        assert found.value.mean().item() == pytest.approx(
            expected.mean().item(), abs=4 * error + 0.002
        )
    assert (gap.log_p.value - exact).abs().max() < 0.2


@pytest.mark.parametrize(("samples", "distributions"), [(1, 30), (3000, 1)])
def test_log_p_of_the_gap_is_the_sharper_one(linear, samples, distributions):
    model = linear("poor")
    _, x = model.simulate(100)
    gap = inference_gap(model, x, samples, distributions, chains=4, draws=2)
    lost, error = mean_and_error(model.log_prob(x) - gap.log_p.value)
    assert error < 0.05
    assert lost < 0.15  # the duller ones lose 1.5 and 0.3 nats


def test_what_cannot_be_estimated_is_refused(linear):
    model = linear("poor")
    _, x = model.simulate(2)
    for name in ("distributions", "chains", "leapfrog_steps"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            annealed_importance_sampling(model, x, **{name: 0})
    with pytest.raises(ValueError, match="start cannot be 'prio'; did you mean prior"):
        annealed_importance_sampling(model, x, start="prio")
    with pytest.raises(ValueError, match="draws in pairs"):
        refine(model, x, samples=3)
    with pytest.raises(ValueError, match="at least 2"):
        inference_gap(model, x, draws=1)
