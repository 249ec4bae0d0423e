"""Scores of codes whose answers are known, and against other implementations."""

import math

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score
from torchmetrics import MetricCollection

from zoo.metrics import DCI, MIG, SAP, FactorVAEScore, Modularity
from zoo.metrics import disentanglement as scores
from zoo.metrics.boosting import boosted_trees

SIZES = (4, 3, 5)


def grid(repeats=1, sizes=SIZES):
    """All combinations of factors, each as often."""
    every = torch.cartesian_prod(*map(torch.arange, sizes))
    return every.repeat(repeats, 1)


def score(metric, codes, factors):
    metric.update(codes, factors)
    return metric.compute()


def rotated(codes):
    """Codes whose first two dimensions, of equal distribution, are turned by 45 degrees."""
    turn = torch.tensor([[1.0, 1], [-1, 1]]) / math.sqrt(2)
    return torch.cat([codes[:, :2] @ turn.T, codes[:, 2:]], 1)


# --- known answers -------------------------------------------------------------------------------


def test_a_perfect_code_has_the_highest_scores():
    factors = grid(20)
    codes = (
        factors[:, [2, 0, 1]] * torch.tensor([-3.0, 0.5, 1]) + 7
    )  # order, sign, scale: no matter
    assert score(MIG(), codes, factors) == pytest.approx(1, abs=1e-9)
    assert score(Modularity(), codes, factors) == pytest.approx(1, abs=1e-9)
    found = score(DCI(), codes, factors)
    # the sample is cut in two thirds and one, so other dimensions may help by chance, a little
    assert found["disentanglement"] > 0.999
    assert found["completeness"] > 0.999
    assert found["informativeness"] == 1


def test_sap_of_a_perfect_code_of_two_values_is_a_half():
    """The second best dimension tells nothing, so its accuracy is that of a coin."""
    factors = grid(500, (2, 2))
    codes = 20.0 * factors - 10
    # the coin is tossed for 667 test data: a standard error of 0.02, and the better of two
    assert score(SAP(), codes, factors) == pytest.approx(0.5, abs=0.04)


def test_a_code_that_says_everything_twice_has_no_gap():
    factors = grid(20)
    codes = factors.float().repeat(1, 2)
    assert score(MIG(), codes, factors) == 0
    assert score(SAP(), codes, factors) == 0
    assert score(Modularity(), codes, factors) == pytest.approx(1, abs=1e-9)  # each knows one


def test_a_turned_code_mixes_what_it_knows():
    factors = grid(20, (4, 4))
    codes = rotated(factors.float())
    assert score(MIG(), codes, factors) == pytest.approx(0, abs=1e-9)
    assert score(Modularity(), codes, factors) == pytest.approx(0, abs=1e-9)
    found = score(DCI(), codes, factors)
    assert found["disentanglement"] < 0.1
    assert found["completeness"] < 0.1
    assert found["informativeness"] == 1  # nothing was lost


def test_a_code_of_noise_is_worth_nothing():
    factors = grid(50)
    codes = torch.randn(len(factors), 4)
    # plug-in information of 20 cells and 5 values is up to 19 x 4 / 2N = 0.013 nats too large
    assert score(MIG(), codes, factors) < 0.01
    assert score(SAP(), codes, factors) < 0.05
    found = score(DCI(), codes, factors)
    chance = sum(1 / size for size in SIZES) / 3
    assert found["informativeness"] == pytest.approx(chance, abs=0.06)


def test_forty_values_in_twenty_cells_cost_a_perfect_code():
    """Two neighbours share a cell: I = log 20 of H = log 40."""
    factors = grid(1, (40, 2))
    assert score(MIG(), factors.float(), factors) == pytest.approx(
        (math.log(20) / math.log(40) + 1) / 2
    )


def test_dimensions_that_do_not_vary_are_pruned():
    factors = grid(20)
    codes = factors.float()
    idle = torch.cat([codes, 0.05 * torch.randn(len(codes), 3)], 1)
    for metric in (MIG, Modularity, SAP, DCI):
        assert score(metric(), idle, factors) == score(metric(), codes, factors)
    for metric in (MIG, Modularity, SAP):
        assert score(metric(), 0 * codes, factors) == 0
    assert score(DCI(), 0 * codes, factors)["informativeness"] == 0
    assert score(MIG(min_variance=1e-6), 0.01 * codes, factors) == pytest.approx(1)


# --- against other implementations ---------------------------------------------------------------


def test_mutual_information_is_scikit_learns():
    factors = grid(10)
    codes = torch.randn(len(factors), 3).double() + factors / 2
    information, entropies = scores.mutual_information(codes, factors)
    for i, z in enumerate(codes.numpy().T):
        cells = np.digitize(z, np.histogram(z, 20)[1][:-1])
        for j, v in enumerate(factors.numpy().T):
            assert information[i, j] == pytest.approx(mutual_info_score(cells, v), abs=1e-9)
    assert entropies.tolist() == pytest.approx([math.log(size) for size in SIZES])


def test_boosted_trees_are_scikit_learns():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 30, (400, 3)).astype(float)  # few values: a cell for each
    y = (x[:, 0] > 9) + 2 * (x[:, 1] > 20) * (rng.random(400) < 0.8)
    own = boosted_trees(x[:300], y[:300], x[300:], y[300:])
    theirs = GradientBoostingClassifier(random_state=0).fit(x[:300], y[:300])
    # ties are broken at random there
    assert own.importance == pytest.approx(theirs.feature_importances_, abs=0.01)
    assert own.accuracy == pytest.approx(theirs.score(x[300:], y[300:]), abs=0.03)


def test_boosted_trees_split_between_quantiles_of_many_values():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 2))
    y = (x[:, 1] > 0.3).astype(int)
    own = boosted_trees(x[:2000], y[:2000], x[2000:], y[2000:])
    assert own.importance[1] > 0.99
    assert own.accuracy > 1 - 2 / 128  # what is within a cell of the border may be wrong


def test_purity_is_one_minus_the_entropy():
    importance = torch.tensor([[0.8, 0.2], [0.0, 0.6], [0.2, 0.2]])
    entropy = -(0.8 * math.log2(0.8) + 0.2 * math.log2(0.2))
    assert scores._purity(importance) == pytest.approx((1 - entropy) / 2 + 0.6 / 2)


# --- the FactorVAE score -------------------------------------------------------------------------


def groups(n, size, sizes=SIZES):
    """Factors of batches that agree on one, and on which; (n, size, F) and (n,)."""
    factors = torch.stack([torch.randint(k, (n, size)) for k in sizes], -1)
    fixed = torch.randint(len(sizes), (n,))
    for m, j in enumerate(fixed):
        factors[m, :, j] = factors[m, 0, j].clone()
    return factors, fixed


def test_factor_vae_score_of_known_codes():
    factors, fixed = groups(300, 32)
    perfect = factors.float()[..., [1, 2, 0]]
    assert score(FactorVAEScore(3), perfect, fixed) == 1
    twice = perfect.repeat(1, 1, 2)
    assert score(FactorVAEScore(6), twice, fixed) == 1  # it asks for no completeness
    idle = torch.cat([perfect, 0.01 * torch.randn(300, 32, 1)], -1)
    assert score(FactorVAEScore(4), idle, fixed) == 1
    noise = torch.randn(300, 32, 5)
    # the best reading of 5 meaningless votes: chance, with an error of sqrt(2 / 9 / 100)
    assert score(FactorVAEScore(5), noise, fixed) == pytest.approx(1 / 3, abs=0.15)
    assert score(FactorVAEScore(3), 0 * perfect, fixed) == 0


def test_variances_are_relative_to_those_of_all_codes():
    """A dimension of small scale would win every vote otherwise."""
    factors, fixed = groups(300, 32)
    scaled = factors * torch.tensor([1.0, 10, 0.3])
    metric = FactorVAEScore(3)
    assert score(metric, scaled, fixed) == 1
    variance = metric.square_sum / metric.count - (metric.mean_sum / metric.count).square()
    torch.testing.assert_close(variance, scaled.double().flatten(0, 1).var(0, unbiased=False))


# --- streams and processes -----------------------------------------------------------------------


def test_neither_batches_nor_their_order_matter():
    factors = grid(10)
    codes = factors + 0.7 * torch.randn(len(factors), 3)
    for metric in (MIG, Modularity, SAP, DCI):
        whole, parts = metric(), metric()
        whole.update(codes, factors)
        order = torch.randperm(len(codes))
        for part in order.split(97):
            parts.update(codes[part], factors[part])
        assert parts.compute() == whole.compute()


def test_two_processes_get_what_one_does(by_one, by_two):
    factors = grid(10)
    codes = factors + 0.7 * torch.randn(len(factors), 3)
    batches = list(zip(codes.split(60), factors.split(60), strict=True))

    def metrics():
        return MetricCollection([MIG(), Modularity(), SAP(), DCI()])

    found = by_one(metrics(), batches)
    assert 0.01 < found["MIG"] < 0.9
    assert by_two(metrics(), batches) == [found, found]
    fixed_factors, fixed = groups(100, 16)
    codes = fixed_factors + 2.5 * torch.randn(100, 16, 3)
    batches = list(zip(codes.split(10), fixed.split(10), strict=True))
    found = by_one(FactorVAEScore(3), batches)
    assert 0.4 < found < 1
    assert by_two(FactorVAEScore(3), batches) == [found, found]


# --- what is refused -----------------------------------------------------------------------------


def test_bad_input_is_refused_in_a_sentence():
    factors = grid()
    with pytest.raises(ValueError, match=r"must be \(B, D\) and \(B, F\)"):
        MIG().update(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="NaN"):
        MIG().update(torch.full((len(factors), 2), math.nan), factors)
    with pytest.raises(ValueError, match="factor 1 has one value only"):
        score(MIG(), factors.float(), factors * torch.tensor([1, 0, 1]))
    with pytest.raises(ValueError, match="at least 3"):
        score(SAP(), torch.eye(2), torch.eye(2).long())
