"""The Wasserstein autoencoder: its discrepancy by loops, at its zero, and as a pull."""

import pytest
import torch

from zoo.models import WAE
from zoo.models.autoencoders.wae import SCALES, squared_discrepancy


def small(**arguments):
    return WAE(**{"x_shape": (1, 4, 4), "latent_dim": 3, "hidden": (16,), **arguments})


def test_discrepancy_is_the_definition_pair_by_pair():
    torch.manual_seed(0)
    a, b = torch.randn(5, 3).double(), torch.randn(4, 3).double() + 1

    def k(x, y):
        distance = sum((p - q) ** 2 for p, q in zip(x.tolist(), y.tolist(), strict=True))
        return sum(6 * s / (6 * s + distance) for s in SCALES)

    within_a = sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / 20
    within_b = sum(k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / 12
    across = sum(k(x, y) for x in a for y in b) / 20
    expected = within_a + within_b - 2 * across
    assert squared_discrepancy(a, b).item() == pytest.approx(expected, abs=1e-12)


def test_discrepancy_of_one_distribution_is_zero_in_the_mean():
    torch.manual_seed(0)
    values = torch.stack(
        [squared_discrepancy(torch.randn(40, 3), torch.randn(40, 3)) for _ in range(400)]
    )
    assert abs(values.mean()) < 4 * values.std() / 20
    apart = squared_discrepancy(torch.randn(400, 3), torch.randn(400, 3) + 0.5)
    assert apart > 5 * values.std() / 10


def test_codes_are_pulled_to_the_prior():
    torch.manual_seed(0)
    z = (1.5 * torch.randn(200, 2) + 1.5).requires_grad_()
    optimizer = torch.optim.Adam([z], 0.1)
    before = squared_discrepancy(z, torch.randn(200, 2)).item()
    for _ in range(100):
        optimizer.zero_grad()
        squared_discrepancy(z, torch.randn(200, 2)).backward()
        optimizer.step()
    after = torch.stack([squared_discrepancy(z, torch.randn(200, 2)) for _ in range(20)])
    assert after.mean().item() < before / 20
    assert z.median(0).values.abs().max() < 0.3


def test_loss_is_distortion_and_weighted_discrepancy():
    torch.manual_seed(0)
    model, x = small(weight=10.0), (torch.rand(6, 1, 4, 4) < 0.5).float()
    terms = model.loss({"image": x})
    expected = terms["distortion"] + 10 * terms["discrepancy"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    log_p = model.likelihood(model.encode(x)).log_prob(x)
    assert terms["distortion"].item() == pytest.approx(-log_p.mean().item(), rel=1e-5)


def test_posterior_is_refused_with_the_reason():
    assert "posterior" not in small().verbs()
    with pytest.raises(NotImplementedError, match="the code of an image is a point"):
        small().posterior(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="a batch of one image"):
        small().loss({"image": torch.zeros(1, 1, 4, 4)})
