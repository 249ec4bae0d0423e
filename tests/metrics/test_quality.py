"""Distances of Gaussians in closed form, neighbours by brute force, counts by hand."""

import math

import pytest
import torch
from torchmetrics import MetricCollection

from zoo.metrics import (
    CodebookPerplexity,
    DensityCoverage,
    FrechetDistance,
    KernelDistance,
    ModeCoverage,
    PrecisionRecall,
)
from zoo.metrics.quality import kernel_distance


def compare(metric, real, generated):
    for part in real.split(97):
        metric.update(part, real=True)
    for part in generated.split(61):
        metric.update(part, real=False)
    return metric.compute()


# --- Fréchet distance ----------------------------------------------------------------------------


def whitened(n, d):
    """Data whose sample mean is 0 and whose sample covariance is I, exactly."""
    x = torch.randn(n, d, dtype=torch.float64)
    x = x - x.mean(0)
    scatter = x.T @ x / (n - 1)
    return x @ torch.linalg.inv(torch.linalg.cholesky(scatter)).T


def test_frechet_distance_of_gaussians_in_closed_form():
    """Sample moments are set, so there is no noise: covariances that do and do not commute."""
    a, b = (torch.randn(5, 5, dtype=torch.float64) for _ in range(2))
    shift = torch.randn(5, dtype=torch.float64)
    real, generated = whitened(400, 5) @ a.T, whitened(300, 5) @ b.T + shift
    root = symmetric_root(a @ a.T)
    cross = symmetric_root(root @ b @ b.T @ root).trace()
    expected = shift.square().sum() + (a @ a.T + b @ b.T).trace() - 2 * cross
    found = compare(FrechetDistance(5), real, generated)
    assert found == pytest.approx(expected.item(), rel=1e-6)
    diagonal = torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)
    found = compare(FrechetDistance(5), whitened(300, 5), whitened(300, 5) * diagonal)
    assert found == pytest.approx((diagonal - 1).square().sum().item(), rel=1e-6)


def symmetric_root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def test_frechet_distance_survives_singular_covariances_and_large_means():
    x = torch.randn(50, 20).double() @ torch.randn(20, 80).double() + 1000
    assert compare(FrechetDistance(80), x, x) == pytest.approx(0, abs=1e-3)
    # of covariances with trace of 1600: rounding of 1e-15 x 1e6 in the sums, under a square root


def test_frechet_distance_is_biased_by_d_over_n():
    """Of n from N(0, I) each: E = 2 d / n from the means, and from the covariances

    tr(S1 + S2 - 2 (S1 S2)^1/2) = |S1 - S2|^2 / 4 in lowest order, whose mean is
    2 (d^2 + d) / n / 4.
    """
    d, n = 8, 2000
    found = [
        compare(FrechetDistance(d), torch.randn(n, d), torch.randn(n, d)).item() for _ in range(40)
    ]
    mean, spread = torch.tensor(found).mean().item(), torch.tensor(found).std().item()
    expected = 2 * d / n + (d * d + d) / (2 * n)
    assert mean == pytest.approx(expected, abs=4 * spread / 40**0.5 + 0.02 * expected)


# --- kernel distance -----------------------------------------------------------------------------


def test_kernel_distance_is_the_sum_over_pairs():
    x, y = torch.randn(7, 3).double(), torch.randn(7, 3).double() + 1

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    off = [(i, j) for i in range(7) for j in range(7) if i != j]
    expected = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in off) / 42
    expected -= 2 * sum(k(a, b) for a in x for b in y) / 49
    assert kernel_distance(x, y) == pytest.approx(expected)


def test_kernel_distance_is_unbiased_and_states_its_error():
    found = compare(KernelDistance(50), torch.randn(4000, 4), torch.randn(4000, 4))
    error = found["standard_error"].item()
    assert found["kernel_distance"] == pytest.approx(0, abs=4 * error)
    assert error < 0.02
    # E[(x . y / D + 1)^3] of x, y ~ N(0, I) and N(m, I), in D = 1: k = 1 + 3 xy + 3 x2y2 + x3y3
    x, y = torch.randn(20_000, 1), torch.randn(20_000, 1) + 0.5
    m1, m2, m3 = 0.5, 1.25, 0.5**3 + 3 * 0.5
    expected = 3 * m1**2 + 3 * (1 - m2) ** 2 + m3**2
    found = compare(KernelDistance(500), x, y)
    error = found["standard_error"].item()
    assert found["kernel_distance"] == pytest.approx(expected, abs=4 * error)


def test_kernel_distance_needs_a_subset():
    with pytest.raises(ValueError, match="10 real and 30 generated"):
        compare(KernelDistance(20), torch.randn(10, 2), torch.randn(30, 2))
    found = compare(KernelDistance(20), torch.randn(30, 2), torch.randn(30, 2))
    assert math.isnan(found["standard_error"])


# --- neighbours ----------------------------------------------------------------------------------


def balls(x, k):
    """The radius around each by sorting all distances."""
    return [sorted((a - b).norm().item() for b in x)[k] for a in x]


def inside(point, x, radii):
    return [(point - a).norm().item() <= r for a, r in zip(x, radii, strict=True)]


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_are_those_of_brute_force(k):
    real, generated = torch.randn(40, 3).double(), 0.7 * torch.randn(30, 3).double() + 0.5
    real_radii, generated_radii = balls(real, k), balls(generated, k)
    hits = [inside(y, real, real_radii) for y in generated]  # (30, 40)
    precision = sum(map(any, hits)) / 30
    recall = sum(any(inside(x, generated, generated_radii)) for x in real) / 40
    found = compare(PrecisionRecall(k), real, generated)
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert 0.1 < precision < 1
    assert 0.1 < recall < 1
    found = compare(DensityCoverage(k), real, generated)
    assert found["density"] == pytest.approx(sum(map(sum, hits)) / (k * 30))
    assert found["coverage"] == pytest.approx(sum(map(any, zip(*hits, strict=True))) / 40)


def test_what_is_wrong_with_a_generator_shows():
    """Half of the modes missing; noise beside the data; the same datum for ever."""
    centres = torch.tensor([[-10.0, 0], [10, 0]])
    real = centres.repeat(500, 1) + torch.randn(1000, 2)
    half = centres[:1] + torch.randn(1000, 2)
    found = compare(PrecisionRecall(), real, half)
    assert found["precision"] > 0.97
    assert found["recall"] == pytest.approx(0.5, abs=0.02)
    assert compare(DensityCoverage(), real, half)["coverage"] == pytest.approx(0.5, abs=0.02)
    found = compare(PrecisionRecall(), real, torch.cat([real[:500], 100 + 10 * half[:500]]))
    assert found["precision"] == 0.5
    constant = compare(DensityCoverage(), real, real[:1].repeat(50, 1))
    assert constant["coverage"] < 0.02
    assert constant["density"] > 0.1


def test_chunks_change_nothing(monkeypatch):
    real, generated = torch.randn(300, 4), torch.randn(200, 4)
    whole = compare(DensityCoverage(), real, generated)
    monkeypatch.setattr("zoo.metrics.quality.CHUNK", 7)
    assert compare(DensityCoverage(), real, generated) == whole


def test_equal_distributions_have_density_one_and_known_coverage():
    """E[density] = 1 and E[coverage] = 1 - prod (M - i) / (2M - i) ~ 1 - 2^-k at N = M."""
    real, generated = torch.randn(2000, 2), torch.randn(2000, 2)
    found = compare(DensityCoverage(), real, generated)
    assert found["density"] == pytest.approx(1, abs=0.06)
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=4 * (2**-5 / 2000) ** 0.5)


# --- counts --------------------------------------------------------------------------------------


def test_modes_are_counted():
    metric = ModeCoverage(10)
    metric.update(torch.tensor([0, 0, 3]))
    metric.update(torch.tensor([3, 7, 7, 7, 7]))
    found = metric.compute()
    expected = 2 * 0.25 * math.log(2.5) + 0.5 * math.log(5)
    assert found["modes"] == 3
    assert found["kl"] == pytest.approx(expected)
    metric = ModeCoverage()
    metric.update(torch.randint(1000, (26_000,)))
    # plug-in bias: a chi-squared of 999 degrees of freedom over 2n
    assert metric.compute()["kl"] == pytest.approx(
        999 / 52_000, abs=4 * math.sqrt(2 * 999) / 52_000
    )
    with pytest.raises(ValueError, match="they are 0 to 999"):
        metric.update(torch.tensor([1000]))


def test_perplexity_of_a_codebook():
    metric = CodebookPerplexity(8)
    metric.update(torch.tensor([[0, 1], [2, 3]]))
    assert metric.compute() == pytest.approx(4)
    metric.update(torch.zeros(4, dtype=torch.int64))
    entropy = -(5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(1 / 8))
    assert metric.compute() == pytest.approx(math.exp(entropy))


# --- processes -----------------------------------------------------------------------------------


def test_two_processes_get_what_one_does(by_one, by_two):
    parts = [(torch.randn(25, 3) + 0.2 * real, real) for real in (True, True, False, False) * 4]

    def metrics():
        return MetricCollection([KernelDistance(50), PrecisionRecall(), DensityCoverage()])

    found = by_one(metrics(), parts)
    for other in by_two(metrics(), parts):
        assert other.keys() == found.keys()
        for name, value in found.items():
            assert other[name] == pytest.approx(value), name
    found = by_one(FrechetDistance(3), parts)
    for other in by_two(FrechetDistance(3), parts):
        assert other.item() == pytest.approx(found.item(), rel=1e-6)
    parts = [(torch.randint(20, (30,)),) for _ in range(4)]
    assert by_two(ModeCoverage(20), parts) == [by_one(ModeCoverage(20), parts)] * 2
    found = by_one(CodebookPerplexity(20), parts)
    assert by_two(CodebookPerplexity(20), parts) == [found] * 2


def test_bad_input_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="no generated data"):
        compare(PrecisionRecall(), torch.randn(9, 2), torch.randn(0, 2))
    with pytest.raises(ValueError, match="real data have NaN"):
        compare(PrecisionRecall(), torch.full((9, 2), math.nan), torch.randn(9, 2))
    with pytest.raises(ValueError, match="at least 4"):
        compare(PrecisionRecall(), torch.randn(3, 2), torch.randn(9, 2))
