"""The parts of the rate against discrete codes that can be enumerated, and Gaussians."""

import itertools
import math

import pytest
import torch

from zoo.distributions.factorised import gaussian
from zoo.inference.total_correlation import log_weights, rate_terms


def posteriors(means, scale):
    means = torch.tensor(means, dtype=torch.float64)
    return gaussian(means, torch.full_like(means, scale), 1)


def prior(dim):
    origin = torch.zeros(dim, dtype=torch.float64)
    return gaussian(origin, torch.ones_like(origin), 1)


def test_the_parts_sum_to_the_rate_at_the_draw():
    torch.manual_seed(0)
    q = gaussian(torch.randn(6, 3).double(), torch.rand(6, 3).double() + 0.1, 1)
    z = q.sample()
    for estimator in ("weighted", "stratified"):
        terms = rate_terms(q, prior(3), z, log_weights(6, 50, estimator))
        whole = q.log_prob(z) - prior(3).log_prob(z)
        torch.testing.assert_close(sum(terms), whole, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("codes", "information", "correlation"),
    [
        ([[0.0, 0.0], [1.0, 1.0]], math.log(2), math.log(2)),  # one is a copy of the other
        ([[0.0, 0], [0, 1], [1, 0], [1, 1]], math.log(4), 0.0),  # independent
        ([[0.0, 0], [0, 1], [1, 0], [1, 0]], math.log(4) - 0.5 * math.log(2), None),
    ],
)
def test_of_codes_far_apart_they_are_those_of_the_discrete_variables(
    codes, information, correlation
):
    """Codes of tiny width are a discrete variable, whose entropies are sums over the table."""
    torch.manual_seed(0)
    n = len(codes)
    if correlation is None:  # entropies of the dimensions less that of the pair

        def entropy(values):
            shares = [values.count(v) / n for v in set(values)]
            return -sum(p * math.log(p) for p in shares)

        rows = [tuple(code) for code in codes]
        correlation = sum(entropy([r[j] for r in rows]) for j in range(2)) - entropy(rows)
    q = posteriors(codes, 1e-4)
    exact = torch.full((n, n), -math.log(n))
    found = [rate_terms(q, prior(2), q.sample(), exact) for _ in range(20)]
    for name, expected in (("mutual_information", information), ("total_correlation", correlation)):
        mean = torch.stack([getattr(terms, name) for terms in found]).mean().item()
        assert mean == pytest.approx(expected, abs=1e-6)


def test_stratified_weights_estimate_the_density_without_bias():
    """The mean over every batch that a datum may be in, in any order, is the whole sum."""
    torch.manual_seed(0)
    n, m = 5, 3
    means = torch.randn(n, 1).double()
    z = torch.randn(1, 1).double()
    every = gaussian(means, torch.ones(n, 1).double(), 1).log_prob(z).exp()  # (n,)
    weights = log_weights(m, n, "stratified").exp().double()
    estimates = [
        (weights[0] * every[[0, *others]]).sum()
        for others in itertools.permutations(range(1, n), 2)
    ]
    assert torch.stack(estimates).mean().item() == pytest.approx(every.mean().item(), abs=1e-8)
    assert log_weights(m, n, "weighted").exp().unique().tolist() == pytest.approx([1 / 15])


def test_of_a_correlated_gaussian_it_is_the_closed_form():
    """Many posteriors whose mixture is nearly a Gaussian with correlation r: -log(1 - r^2) / 2."""
    torch.manual_seed(0)
    n, r, width = 1000, 0.8, 0.3
    root = torch.linalg.cholesky(torch.tensor([[1 - width**2, r], [r, 1 - width**2]]).double())
    means = torch.randn(n, 2).double() @ root.mT
    q = gaussian(means, torch.full_like(means, width), 1)
    terms = rate_terms(q, prior(2), q.sample(), torch.full((n, n), -math.log(n)))
    expected = -0.5 * math.log(1 - r**2)
    # own draws lie where q(z) has its own bump: a bias of order 1 / (n times the overlap)
    assert terms.total_correlation.mean().item() == pytest.approx(expected, abs=0.06)
