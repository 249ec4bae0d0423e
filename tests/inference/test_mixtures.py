"""Mixtures as pure functions, against torch.distributions, NumPy, scikit-learn and definitions."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.cluster import KMeans
from torch.distributions import MultivariateNormal, Normal

from zoo.inference import mixtures

KINDS = ["full", "tied", "diag", "spherical"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def some_mixture(kind, k=3, dim=4):
    """Weights, means, covariances of the kind, and the same covariances as matrices (K, D, D)."""
    weights = torch.rand(k).double() + 0.2
    means = 2 * torch.randn(k, dim).double()
    mixing = torch.randn(k, dim, dim).double() / 2
    matrices = mixing @ mixing.mT + 0.3 * torch.eye(dim)
    if kind == "full":
        covariances = matrices
    elif kind == "tied":
        covariances = matrices[0]
        matrices = matrices[:1].expand(k, dim, dim)
    elif kind == "diag":
        covariances = matrices.diagonal(dim1=1, dim2=2).clone()
        matrices = torch.diag_embed(covariances)
    else:
        covariances = matrices[:, 0, 0].clone()
        matrices = covariances[:, None, None] * torch.eye(dim).double()
    return weights / weights.sum(), means, covariances, matrices


@every_kind
def test_densities_are_those_of_torch(kind, monkeypatch):
    _, means, covariances, matrices = some_mixture(kind)
    monkeypatch.setattr(mixtures, "_PART", 1)  # parts of 256 data
    x = 3 * torch.randn(600, 4).double()
    factors = mixtures.precision_factors(covariances, kind)
    found = mixtures.log_densities(x, means, factors, kind)
    wanted = MultivariateNormal(means, matrices).log_prob(x[:, None])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@every_kind
def test_factors_and_covariances_are_inverse(kind):
    _, _, covariances, _ = some_mixture(kind)
    factors = mixtures.precision_factors(covariances, kind)
    again = mixtures.covariances(factors, kind)
    torch.testing.assert_close(again, covariances, rtol=1e-12, atol=1e-12)
    if kind in ("full", "tied"):
        torch.testing.assert_close(factors @ factors.mT, torch.linalg.inv(covariances))
        assert torch.equal(factors, factors.triu())


@every_kind
def test_statistics_are_their_definition(kind, monkeypatch):
    weights, means, covariances, matrices = some_mixture(kind)
    monkeypatch.setattr(mixtures, "_PART", 1)
    x = 2 * torch.randn(600, 4).double()
    factors = mixtures.precision_factors(covariances, kind)
    found = mixtures.statistics(x, weights.log(), means, factors, kind)
    joint = weights.log() + MultivariateNormal(means, matrices).log_prob(x[:, None])
    r = joint.softmax(1)
    outer = x[:, :, None] * x[:, None, :]
    second = {
        "full": torch.einsum("nk,nij->kij", r, outer),
        "tied": outer.sum(0),
        "diag": torch.einsum("nk,ni->ki", r, x**2),
        "spherical": torch.einsum("nk,ni->k", r, x**2),
    }[kind]
    wanted = {
        "count": torch.tensor(600.0).double(),
        "weight": r.sum(0),
        "first": torch.einsum("nk,ni->ki", r, x),
        "second": second,
        "log_likelihood": joint.logsumexp(1).sum(),
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-11, atol=1e-9, msg=name)
        assert found[name].dtype == torch.float64
    hard = mixtures.moments(x, r, kind)
    for name, value in hard.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-11, atol=1e-9, msg=name)


@every_kind
def test_the_m_step_is_the_weighted_mean_and_covariance(kind):
    _, means, covariances, _ = some_mixture(kind)
    x = torch.randn(50, 4).double()
    r = torch.rand(50, 3).double()
    r /= r.sum(1, keepdim=True)
    weights, mu, found = mixtures.maximization(
        mixtures.moments(x, r, kind), means, covariances, kind, floor=0.1
    )
    matrices = torch.stack(
        [torch.from_numpy(np.cov(x.T.numpy(), aweights=w.numpy(), ddof=0)) for w in r.T]
    )
    floor = 0.1 * torch.eye(4).double()
    wanted = {
        "full": matrices + floor,
        "tied": torch.einsum("k,kij->ij", r.mean(0), matrices) + floor,
        "diag": matrices.diagonal(dim1=1, dim2=2) + 0.1,
        "spherical": matrices.diagonal(dim1=1, dim2=2).mean(1) + 0.1,
    }[kind]
    torch.testing.assert_close(weights, r.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(mu, (r.mT @ x) / r.sum(0)[:, None], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@every_kind
def test_an_empty_component_stays_and_a_collapsed_one_has_the_floor(kind):
    _, means, covariances, _ = some_mixture(kind)
    x = torch.cat([torch.full((5, 4), 0.7), torch.randn(20, 4)]).double()
    r = torch.zeros(25, 3).double()
    r[:5, 0] = 1  # five equal data
    r[5:, 2] = 1
    weights, mu, found = mixtures.maximization(
        mixtures.moments(x, r, kind), means, covariances, kind, floor=1e-3
    )
    assert 0 < weights[1] < 1e-30
    torch.testing.assert_close(weights[[0, 2]], torch.tensor([0.2, 0.8]).double())
    assert torch.equal(mu[1], means[1])
    torch.testing.assert_close(mu[0], x[0], rtol=1e-12, atol=0)
    if kind != "tied":
        assert torch.equal(found[1], covariances[1])
        ones = {"full": torch.eye(4), "diag": torch.ones(4), "spherical": torch.ones(())}
        wanted = 1e-3 * ones[kind].double()
        torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-14)
    assert mixtures.precision_factors(found, kind).isfinite().all()


def test_rounding_below_the_floor_is_lifted_to_it():
    # Variances of 1e12 round at 1e-4, so a floor of 1e-6 does not show in the sums.
    x = 1e6 * torch.randn(8, 1).double() @ torch.randn(1, 4).double()  # on a line
    ones = torch.ones(8, 1).double()
    sums = mixtures.moments(x, ones, "full")
    start = torch.zeros(1, 4).double(), torch.eye(4)[None].double()
    _, _, found = mixtures.maximization(sums, *start, "full", floor=1e-2)
    assert torch.linalg.eigvalsh(found).min() > 0
    assert mixtures.precision_factors(found, "full").isfinite().all()


@pytest.mark.parametrize("separation", [1e2, 1e4])
def test_single_precision_keeps_small_covariances_far_away(separation):
    """Two components `separation` standard deviations from the origin, in float32."""
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.6], [0.6, 1.0]])).double()
    x = torch.randn(2000, 2).double() @ root.T
    x[:1000] += separation
    x[1000:] -= separation
    x = x.float()  # as the E-step has them
    means = torch.stack([x[:1000].mean(0), x[1000:].mean(0)])
    covariances = torch.eye(2).expand(2, 2, 2).contiguous()
    weights = torch.tensor([0.5, 0.5])
    sums = mixtures.statistics(x, weights.log(), means, covariances, "full")
    _, _, found = mixtures.maximization(sums, means, covariances, "full", floor=0.0)
    for k, part in enumerate((x[:1000], x[1000:])):
        wanted = torch.from_numpy(np.cov(part.double().T.numpy(), ddof=0))
        # squares of the separation, 1e8, would leave nothing of a variance in float32
        torch.testing.assert_close(found[k], wanted, rtol=0, atol=2e-7 * separation)


def test_a_single_precision_expansion_does_not_cancel():
    means = torch.tensor([[3000.0], [-3000.0]])
    scale = torch.tensor([0.5, 2.0])
    x = means[:1] + torch.randn(100, 1)
    wanted = Normal(means[:, 0].double(), scale.double()).log_prob(x.double())
    for kind, factors in (("diag", 1 / scale[:, None]), ("spherical", 1 / scale)):
        found = mixtures.log_densities(x, means, factors, kind)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_an_indefinite_covariance_is_refused(kind):
    bad = torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double()
    with pytest.raises(ValueError, match="not positive definite"):
        mixtures.precision_factors(bad if kind == "tied" else bad[None], kind)


@pytest.mark.parametrize("kind", ["diag", "spherical"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_variance_that_is_none_is_refused(kind, value):
    variances = torch.ones(2, 3) if kind == "diag" else torch.ones(2)
    variances[0] = value
    with pytest.raises(ValueError, match="must be positive"):
        mixtures.precision_factors(variances, kind)


@every_kind
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_data_that_are_no_numbers_stop_the_m_step(kind, value):
    weights, means, covariances, _ = some_mixture(kind)
    x = torch.randn(10, 4).double()
    x[3, 1] = value
    factors = mixtures.precision_factors(covariances, kind)
    sums = mixtures.statistics(x, weights.log(), means, factors, kind)
    with pytest.raises(ValueError, match="NaN and infinite"):
        mixtures.maximization(sums, means, covariances, kind, floor=0.1)


# --- start ---------------------------------------------------------------------------------------


def test_squared_distances_are_those_of_cdist(monkeypatch):
    monkeypatch.setattr(mixtures, "_PART", 1)
    x, centres = torch.randn(600, 5), torch.randn(4, 5)
    wanted = torch.cdist(x.double(), centres.double()).square()
    found = mixtures.squared_distances(x, centres)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_kmeans_plus_plus_draws_proportionally_to_squared_distance():
    x = torch.tensor([[0.0], [1.0], [3.0], [3.5], [10.0]])
    draws = 2000
    counts = torch.zeros(5, 5)
    for _ in range(draws):
        first, second = mixtures.kmeans_plus_plus(x, 2, trials=1).tolist()
        counts[first, second] += 1
    squares = (x - x.T).square()
    expected = draws / 5 * squares / squares.sum(1, keepdim=True)
    assert (counts.diagonal() == 0).all()
    cells = expected > 0
    statistic = ((counts - expected).square()[cells] / expected[cells]).sum().item()
    # 20 cells of one sum; a right sampler is beyond this once in 10,000 seeds
    assert statistic < chi2.ppf(1 - 1e-4, df=19)
    # and the bound tells: drawing evenly is far beyond it
    even = (torch.full((5, 5), draws / 20) - expected).square()[cells] / expected[cells]
    assert even.sum() > 5 * chi2.ppf(1 - 1e-4, df=19)


def test_greedy_draws_leave_smaller_distances():
    x = torch.randn(300, 2) + 8 * torch.randint(0, 5, (300, 1))

    def left(trials):
        chosen = mixtures.kmeans_plus_plus(x, 5, trials)
        return mixtures.squared_distances(x, x[chosen]).amin(1).sum()

    plain = torch.stack([left(1) for _ in range(50)]).mean()
    greedy = torch.stack([left(None) for _ in range(50)]).mean()
    assert greedy < 0.8 * plain


def test_equal_data_may_be_chosen_again():
    chosen = mixtures.kmeans_plus_plus(torch.ones(3, 2), 5)
    assert chosen.shape == (5,)
    assert ((chosen >= 0) & (chosen < 3)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lloyd_is_the_kmeans_of_scikit_learn():
    x = torch.randn(500, 3).double()
    start = x[:4].clone()
    for steps in (1, 3, 100):
        centres, nearest = mixtures.lloyd(x, start, steps)
        other = KMeans(4, init=start.numpy(), n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
        other.fit(x.numpy())
        torch.testing.assert_close(centres, torch.from_numpy(other.cluster_centers_))
        assert (nearest.numpy() == other.labels_).all()


def test_a_centre_without_data_stays():
    x = torch.tensor([[0.0], [1.0], [2.0]]).double()
    centres, nearest = mixtures.lloyd(x, torch.tensor([[1.0], [50.0]]).double(), 10)
    assert centres.tolist() == [[1.0], [50.0]]
    assert nearest.tolist() == [0, 0, 0]
