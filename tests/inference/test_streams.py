"""What one pass over data finds, against NumPy, scikit-learn and counting."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.decomposition import PCA

from zoo.inference import streams
from zoo.inference.streams import UniformSample


def summed(x, origin, size):
    parts = [streams.sums(part, origin) for part in x.split(size)]
    return {name: sum(part[name] for part in parts) for name in parts[0]}


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
def test_mean_and_covariance_of_a_stream(offset, monkeypatch):
    x = torch.randn(1000, 4).double() @ torch.randn(4, 4).double() + offset
    wanted = np.cov((x - offset).T.numpy(), ddof=0)
    for size, rows in ((64, 8192), (1, 8192), (1000, 96), (1000, 8192)):
        monkeypatch.setattr(streams, "ROWS", rows)
        sums = summed(x, x[0], size)
        assert sums["count"] == 1000
        found = streams.mean(sums, x[0]).numpy()
        np.testing.assert_allclose(found, x.mean(0).numpy(), rtol=1e-14, atol=1e-14)
        # the offset rounds the data at 1e-10
        np.testing.assert_allclose(streams.covariance(sums).numpy(), wanted, rtol=0, atol=1e-8)
        few = streams.sums(x, x[0], products=False)
        assert "second" not in few
        torch.testing.assert_close(few["first"], sums["first"])


@pytest.mark.parametrize("offset", [0.0, 1.5, 1000.0])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_float32_data_cost_no_digits_whatever_the_mean(offset, is_sorted):
    x = torch.randn(20_000, 8) @ torch.linalg.qr(torch.randn(8, 8))[0] + offset
    x = x.sort(0).values if is_sorted else x
    exact = torch.from_numpy(np.cov(x.double().T.numpy(), ddof=0))
    found = streams.covariance(summed(x, x[0], 20_000))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_what_has_no_covariance_is_refused():
    x = torch.randn(50, 3).double()
    for value in (torch.nan, torch.inf, 1e200):
        x[7, 1] = value
        with pytest.raises(ValueError, match="needs every entry"):
            streams.covariance(summed(x, x[0], 20))


def test_a_sample_of_few_data_is_all_of_them_in_order():
    x = torch.randn(30, 2)
    sample = UniformSample(30)
    for part in x.split(7):
        sample.update(part)
    assert torch.equal(sample.data(), x)


def test_every_datum_is_as_likely_in_the_sample():
    n, rows, repeats = 20, 5, 1000
    counts = torch.zeros(n)
    for _ in range(repeats):
        sample = UniformSample(rows)
        for part in torch.arange(n, dtype=torch.float64)[:, None].split(6):
            sample.update(part)
        found = sample.data()[:, 0].long()
        assert len(found.unique()) == rows
        counts[found] += 1
    expected = repeats * rows / n
    # draws without replacement vary less than a multinomial: by the factor (n - rows) / (n - 1)
    statistic = ((counts - expected).square() / expected).sum() * (n - 1) / (n - rows)
    assert chi2.ppf(1e-4, df=n - 1) < statistic < chi2.ppf(1 - 1e-4, df=n - 1)


def test_principal_components_are_those_of_scikit_learn():
    x = torch.randn(400, 6).double() @ torch.randn(6, 6).double()
    covariance = streams.covariance(streams.sums(x, x[0]))
    basis, values, noise = streams.principal_components(covariance, 2)
    pca = PCA(2).fit(x.numpy())
    projector = torch.from_numpy(pca.components_.T @ pca.components_)
    torch.testing.assert_close(basis @ basis.mT, projector, rtol=0, atol=1e-10)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(2).double(), rtol=0, atol=1e-12)
    # scikit-learn divides by N - 1
    np.testing.assert_allclose(values, pca.explained_variance_ * 399 / 400, rtol=1e-10)
    assert noise.item() == pytest.approx(pca.noise_variance_ * 399 / 400, rel=1e-10)
    spread = (x - x.mean(0)) @ basis
    assert spread[:, 0].var() > spread[:, 1].var()  # the leading one first
