"""What one pass over data finds, against NumPy, scikit-learn and counting."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.decomposition import PCA

from zoo.inference.streams import Moments, UniformSample, principal_components


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_mean_and_covariance_of_a_stream(offset):
    x = torch.randn(1000, 4).double() @ torch.randn(4, 4).double() + offset
    moments = Moments(4, True, x.device)
    for part in x.split(64):
        moments.update(part)
    assert moments.count == 1000
    wanted = np.cov((x - offset).T.numpy(), ddof=0)
    np.testing.assert_allclose(moments.mean().numpy(), x.mean(0).numpy(), rtol=1e-14, atol=1e-14)
    # the offset rounds the data at 1e-10
    np.testing.assert_allclose(moments.covariance().numpy(), wanted, rtol=0, atol=1e-8)


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
    moments = Moments(6, True, x.device)
    moments.update(x)
    basis, noise = principal_components(moments.covariance(), 2)
    pca = PCA(2).fit(x.numpy())
    projector = torch.from_numpy(pca.components_.T @ pca.components_)
    torch.testing.assert_close(basis @ basis.mT, projector, rtol=0, atol=1e-10)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(2).double(), rtol=0, atol=1e-12)
    # scikit-learn divides by N - 1
    assert noise.item() == pytest.approx(pca.noise_variance_ * 399 / 400, rel=1e-10)
    spread = (x - x.mean(0)) @ basis
    assert spread[:, 0].var() > spread[:, 1].var()  # the leading one first
