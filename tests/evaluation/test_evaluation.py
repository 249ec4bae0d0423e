"""Functions over the verbs, held against answers computed another way."""

import pytest
import torch
from torch.distributions import Independent, Normal

import zoo
from zoo.base import LatentVariableModel
from zoo.evaluation.records import rate_metric
from zoo.metrics import ActiveUnits
from zoo.models import HMM, VAE


def small(**arguments):
    return VAE(**{"x_shape": (1, 4, 4), "latent_dim": 3, "hidden": (16,), **arguments}).eval()


class Exact(LatentVariableModel):
    """N(0, I) over vectors, the identity as its code: every verb has an obvious answer."""

    modality = "vector"

    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.x_shape = (4,)
        self.latent_shape = (4,)

    def loss(self, batch):
        return {"loss": -self.log_prob(batch["x"]).mean()}

    def sample(self, n):
        return torch.randn(n, 4)

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def log_prob(self, x):
        return Independent(Normal(torch.zeros(4), 1.0), 1).log_prob(x)


def test_log_likelihood_prefers_the_exact_value():
    x = torch.rand(5, 4)
    value, kind, error = zoo.log_likelihood(Exact(), x)
    assert kind == "exact"
    torch.testing.assert_close(value, Exact().log_prob(x))
    assert error.tolist() == [0] * 5


def test_log_likelihood_of_a_vae_is_a_bound_with_an_honest_error():
    vae = small()
    x = (torch.rand(1, 1, 4, 4) < 0.5).float()
    result = zoo.log_likelihood(vae, x.repeat(300, 1, 1, 1), samples=200)
    assert result.kind == "lower bound"
    # the error that each estimate states is the spread of the estimates
    assert result.value.std().item() == pytest.approx(result.standard_error.mean().item(), rel=0.25)


def test_log_likelihood_anneals_where_it_is_asked_to():
    vae = small()
    x = (torch.rand(100, 1, 4, 4) < 0.5).float()
    sharp = zoo.log_likelihood(vae, x, samples=2000)
    plain = zoo.log_likelihood(vae, x, samples=4)
    annealed = zoo.log_likelihood(vae, x, samples=4, distributions=30)
    assert annealed.kind == "lower bound"
    # from the same number of codes: nearer to log p(x), and surer of it
    assert annealed.standard_error.mean() < 0.5 * plain.standard_error.mean()
    lost = (sharp.value - annealed.value).mean()
    error = (sharp.value - annealed.value).std() / 10
    assert -4 * error < lost < (sharp.value - plain.value).mean()


def test_log_likelihood_needs_a_sample_and_a_density():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="at least one"):
        zoo.log_likelihood(small(), x, samples=0)
    with pytest.raises(ValueError, match="distributions is 0"):
        zoo.log_likelihood(small(), x, distributions=0)

    class SamplerOnly(Exact):
        log_prob = LatentVariableModel.log_prob

    with pytest.raises(NotImplementedError, match="no log-likelihood"):
        zoo.log_likelihood(SamplerOnly(), torch.zeros(1, 4))


def test_active_units_counts_dimensions_that_vary():
    means = torch.randn(1000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) + 5
    metric = ActiveUnits(4)
    for part in means.split(300):
        metric.update(part)
    assert metric.compute() == (means.double().var(0, unbiased=False) > 0.01).sum() == 2


def test_evaluate_averages_over_all_images_and_is_reproducible():
    vae = small().train()
    x = (torch.rand(25, 1, 4, 4) < 0.5).float()
    batches = [{"image": part} for part in x.split(10)]
    metrics = {m.name: m for m in zoo.evaluate(vae, batches, samples=2000, seed=3)}
    assert vae.training
    assert metrics == {m.name: m for m in zoo.evaluate(vae, batches, samples=2000, seed=3)}
    elbo = -(metrics["distortion"].value + metrics["rate"].value)
    assert metrics["elbo"].value == pytest.approx(elbo, abs=2e-4)
    # another estimate, with other noise and more samples
    nll = -zoo.log_likelihood(vae.eval(), x, samples=20_000).value.mean()
    assert metrics["nll"].value == pytest.approx(
        nll.item(), abs=5 * metrics["nll"].monte_carlo_error + 1e-4
    )
    assert metrics["nll"].count == 25
    assert metrics["active_units"].unit == "of 3 latent dimensions"


def test_a_single_datum_has_no_standard_error():
    torch.manual_seed(0)
    model = HMM(states=2, symbols=3)
    x = torch.tensor([[0, 1, 2]])
    (nll,) = zoo.evaluate(model, [{"tokens": x, "lengths": torch.tensor([3])}])
    assert nll.value == pytest.approx(-model.log_prob(x).item(), abs=1e-4)
    assert nll.standard_error is None


def test_evaluate_leaves_the_global_generator_alone():
    vae = small()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    zoo.evaluate(vae, [{"image": torch.zeros(2, 1, 4, 4)}], samples=2)
    assert torch.equal(torch.rand(3), expected)


def test_a_share_of_items_has_the_error_of_a_ratio():
    """Against the spread of the share over many draws of data with different numbers of items."""
    torch.manual_seed(0)

    def draw():
        of = torch.randint(1, 20, (400,)).double()
        right = torch.binomial(of, 0.3 + 0.4 * torch.rand(400).double())  # data differ, too
        return rate_metric("accuracy", right, of)

    found = [draw() for _ in range(200)]
    spread = torch.tensor([m.value for m in found]).std().item()
    stated = sum(m.standard_error for m in found) / 200
    assert stated == pytest.approx(spread, rel=0.2)  # the spread of 200 is known to 1 in 20
    assert sum(m.value for m in found) / 200 == pytest.approx(0.5, abs=0.01)
