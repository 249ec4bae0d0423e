"""Anomaly scores against their formulas, areas under closed forms, thresholds by simulation."""

import math

import pytest
import torch
from torch.distributions import Normal
from torchmetrics.classification import BinaryAUROC

import zoo
from zoo.base import LatentVariableModel
from zoo.inference import importance_weighted_bound
from zoo.metrics import auroc
from zoo.metrics.auroc import placements
from zoo.models import GMM, HMM, PPCA, VAE, VQVAE


def small_vae():
    return VAE(x_shape=(1, 4, 4), latent_dim=3, hidden=(16,), likelihood="gaussian").eval()


def standard_gaussian(dim):
    """A GMM of one component that was not fitted: N(0, I)."""
    return GMM((dim,), components=1).eval()


class Autoencoder(LatentVariableModel):
    """Keeps the first of two numbers, and knows no density."""

    modality = "vector"

    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.x_shape, self.latent_shape = (2,), (1,)

    def loss(self, batch):
        return {"loss": (batch["x"] - self.reconstruct(batch["x"])).square().sum(1).mean()}

    def encode(self, x):
        return x[:, :1]

    def decode(self, z):
        return torch.cat([z, torch.zeros_like(z)], 1)


# --- scores --------------------------------------------------------------------------------------


def test_likelihood_is_minus_log_p():
    x = 3 * torch.randn(20, 5)
    scores = zoo.anomaly_scores(standard_gaussian(5), x)
    torch.testing.assert_close(scores, -Normal(0.0, 1.0).log_prob(x).sum(1))
    model = PPCA((5,), 2)
    torch.testing.assert_close(zoo.anomaly_scores(model, x), -model.log_prob(x))
    assert not zoo.anomaly_scores(model, x).requires_grad


def test_likelihood_of_sequences():
    model = HMM(states=2, symbols=3)
    batch = {"tokens": torch.randint(3, (4, 6)), "lengths": torch.tensor([6, 2, 5, 1])}
    torch.testing.assert_close(zoo.anomaly_scores(model, batch), -model.log_prob(batch))


def test_likelihood_of_a_vae_is_its_bound():
    vae, x = small_vae(), torch.rand(6, 1, 4, 4)
    torch.manual_seed(3)
    scores = zoo.anomaly_scores(vae, x, samples=7)
    torch.manual_seed(3)
    torch.testing.assert_close(scores, -importance_weighted_bound(vae, x, 7).value)


def test_error_is_what_the_code_leaves_out():
    x = torch.randn(20, 2)
    torch.testing.assert_close(zoo.anomaly_scores(Autoencoder(), x), x[:, 1].square())
    vae, x = small_vae(), torch.rand(6, 1, 4, 4)
    expected = [(a - vae.reconstruct(a[None])[0]).norm() ** 2 for a in x]
    scores = zoo.anomaly_scores(vae, x, by="error")
    torch.testing.assert_close(scores, torch.stack(expected))


def test_distortion_of_a_gaussian_is_the_error_in_nats():
    """-log N(x; m, s^2 I) = |x - m|^2 / 2 s^2 + D/2 log(2 pi s^2), where m is not clipped."""
    model, x = PPCA((6,), 2), torch.randn(10, 6)
    variance = 0.3**2
    model.log_scale.data.fill_(math.log(0.3))
    error = zoo.anomaly_scores(model, x, by="error")
    expected = error / (2 * variance) + 3 * math.log(2 * math.pi * variance)
    torch.testing.assert_close(zoo.anomaly_scores(model, x, by="distortion"), expected)


def test_rate_is_the_divergence_of_gaussians():
    vae, x = small_vae(), torch.rand(6, 1, 4, 4)
    q = vae.posterior(x)
    expected = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log()).sum(1)
    torch.testing.assert_close(zoo.anomaly_scores(vae, x, by="rate"), expected)


def test_rate_of_a_linear_model_is_half_the_squared_length_of_its_code():
    model, x = PPCA((6,), 2), torch.randn(10, 6)
    rate = zoo.anomaly_scores(model, x, by="rate")
    constant = rate - model.encode(x).square().sum(1) / 2  # all posteriors have one covariance
    torch.testing.assert_close(constant, constant[:1].expand(10))


def test_rate_of_a_mixture():
    """KL(p(z | x) || p(z)) = sum_k r_k log(r_k / pi_k)."""
    model = GMM((2,), components=3).fit(torch.randn(200, 2), max_epochs=3)
    x = torch.randn(10, 2)
    r = model.posterior(x).probs
    expected = (r * (r / model.weights.float()).log()).sum(1)
    rate = zoo.anomaly_scores(model, x, by="rate")
    torch.testing.assert_close(rate, expected, atol=1e-5, rtol=1e-4)


def test_what_has_no_such_score_says_so():
    with pytest.raises(NotImplementedError, match="Autoencoder has no anomaly score by rate"):
        zoo.anomaly_scores(Autoencoder(), torch.randn(3, 2), by="rate")
    with pytest.raises(NotImplementedError, match=r"by likelihood, which needs log_prob or lik"):
        zoo.anomaly_scores(Autoencoder(), torch.randn(3, 2), by="likelihood")

    class Blind(Autoencoder):
        decode = LatentVariableModel.decode

    with pytest.raises(NotImplementedError, match="Blind has no anomaly score: it lacks"):
        zoo.anomaly_scores(Blind(), torch.randn(3, 2))


def test_rate_without_a_closed_form_is_drawn():
    torch.manual_seed(0)
    arguments = {"x_shape": (1, 8, 8), "hidden": (4, 4), "prior_width": 8, "prior_heads": 2}
    model, x = VQVAE(codes=5, code_dim=3, **arguments).eval(), torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        expected = -model.prior().log_prob(model.encode(x))  # all mass is at one code
    torch.testing.assert_close(zoo.anomaly_scores(model, x, by="rate"), expected)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="did you mean likelihood"):
        zoo.anomaly_scores(small_vae(), torch.rand(2, 1, 4, 4), by="likelyhood")
    with pytest.raises(ValueError, match="divide by 255"):
        zoo.anomaly_scores(small_vae(), 255 * torch.ones(2, 1, 4, 4))
    with pytest.raises(ValueError, match="has shape"):
        zoo.anomaly_scores(small_vae(), torch.rand(1, 4, 4), by="error")
    with pytest.raises(ValueError, match="samples is 0, but must be at least 1"):
        zoo.anomaly_scores(small_vae(), torch.rand(2, 1, 4, 4), samples=0)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        zoo.anomaly_scores(Autoencoder(), torch.tensor([[1.0, 2.0], [1.0, math.nan]]))
    with pytest.raises(ValueError, match="must be floats"):
        zoo.anomaly_scores(HMM(2, symbols=3), torch.zeros(2, 4, dtype=torch.int64), by="error")


# --- areas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_area_of_a_shifted_gaussian(distance):
    """N(0, 1) is normal, N(d, 1) is not, and the score is |x| but for scale.

    |a| > |b| is (a - b)(a + b) > 0, of which the factors are independent, both of mean d and
    variance 2: the area is Phi(d')^2 + Phi(-d')^2 with d' = d / sqrt(2).
    """
    n = 20_000
    anomaly = torch.arange(2 * n) >= n
    x = torch.randn(2 * n, 1) + distance * anomaly[:, None]
    area, error = auroc(zoo.anomaly_scores(standard_gaussian(1), x), anomaly)
    side = Normal(0.0, 1.0).cdf(torch.tensor(distance / math.sqrt(2))).item()
    assert area.item() == pytest.approx(side**2 + (1 - side) ** 2, abs=4 * error.item())
    assert error < 0.004


def test_area_of_a_wide_gaussian():
    """N(0, I) against N(0, s^2 I) in the plane: |x|^2 is exponential, so the area s^2/(1 + s^2)."""
    n = 20_000
    anomaly = torch.arange(2 * n) >= n
    x = torch.randn(2 * n, 2) * (1 + anomaly[:, None].float())
    area, error = auroc(zoo.anomaly_scores(standard_gaussian(2), x), anomaly)
    assert area.item() == pytest.approx(4 / 5, abs=4 * error.item())


def test_area_agrees_with_torchmetrics_also_with_ties():
    anomaly = torch.rand(500) < 0.3
    scores = ((torch.randn(500) + anomaly).sigmoid() * 20).round() / 20  # 21 values in [0, 1]
    area, _ = auroc(scores, anomaly)
    assert area.item() == pytest.approx(BinaryAUROC()(scores, anomaly.long()).item(), abs=1e-6)
    shifted, _ = auroc(1e4 + 1e3 * scores, anomaly)  # where a sigmoid would be 1 for all
    assert shifted.item() == pytest.approx(area.item(), abs=1e-12)
    torch.testing.assert_close(placements(scores, anomaly)[~anomaly].mean(), area)


def test_error_of_the_area_is_its_spread():
    areas, errors = [], []
    for _ in range(300):
        anomaly = torch.arange(250) >= 100
        area, error = auroc(torch.randn(250) + anomaly, anomaly)
        areas.append(area)
        errors.append(error)
    spread = torch.stack(areas).std().item()  # known to 1 in 24
    assert torch.stack(errors).mean().item() == pytest.approx(spread, rel=0.15)


def test_area_refuses_what_has_none():
    scores, anomaly = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, False])
    assert auroc(scores, anomaly)[0] == 0
    assert auroc(scores, anomaly)[1].isnan()
    with pytest.raises(ValueError, match="one kind only"):
        auroc(scores, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="have no rank"):
        auroc(torch.tensor([1.0, math.nan, 3.0]), anomaly)
    with pytest.raises(ValueError, match="do not fit"):
        auroc(scores, torch.tensor([1, 0, 0]))


def test_evaluate_measures_the_area_where_anomalies_are_marked():
    model = standard_gaussian(2)
    anomaly = torch.arange(3000) % 3 == 0
    x = torch.randn(3000, 2) * (1 + anomaly[:, None].float())
    batches = [
        {"x": a, "anomaly": b} for a, b in zip(x.split(700), anomaly.split(700), strict=True)
    ]
    found = {m.name: m for m in zoo.evaluate(model, batches)}
    area, error = auroc(-model.log_prob(x), anomaly)
    assert found["auroc"].value == pytest.approx(area.item(), abs=6e-5)
    assert found["auroc"].standard_error == pytest.approx(error.item(), abs=6e-5)
    normal = -model.log_prob(x[~anomaly]).mean().item()
    assert found["nll"].value == pytest.approx(normal, abs=6e-5)
    assert (found["nll"].count, found["auroc"].count) == (2000, 3000)


def test_evaluate_of_a_bound_measures_it_too():
    vae = small_vae()
    anomaly = torch.arange(60) % 3 == 0
    x = torch.rand(60, 1, 4, 4) * (1 - 0.9 * anomaly.float())[:, None, None, None]
    found = {m.name: m for m in zoo.evaluate(vae, [{"image": x, "anomaly": anomaly}], 500)}
    exact, _ = auroc(zoo.anomaly_scores(vae, x, samples=5000), anomaly)
    assert found["auroc"].value == pytest.approx(exact.item(), abs=0.02)
    nll = zoo.anomaly_scores(vae, x[~anomaly], samples=5000).mean().item()
    assert found["nll"].value == pytest.approx(nll, abs=5 * found["nll"].monte_carlo_error)
    assert found["nll"].count == found["active_units"].count == 40


# --- thresholds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "false_alarms", "rank"),
    [(99, 0.01, 99), (99, 0.07, 93), (100, 0.07, 94), (9, 0.5, 5), (1, 0.5, 1), (999, 0.001, 999)],
)
def test_threshold_is_the_smallest_that_keeps_the_promise(n, false_alarms, rank):
    scores = torch.randperm(n) + 1.0  # whose k-th smallest is k
    assert zoo.anomaly_threshold(scores, false_alarms) == rank


@pytest.mark.parametrize(("n", "false_alarms"), [(99, 0.1), (57, 0.05)])
def test_false_alarms_are_as_rare_as_promised(n, false_alarms):
    """Of another datum, over many sets: exactly 1 - k / (n + 1) where scores are continuous."""
    trials = 4000
    scores = torch.randn(trials, n + 1).exp()  # skewed
    alarms = [row[-1] > zoo.anomaly_threshold(row[:-1], false_alarms) for row in scores]
    rate = torch.stack(alarms).double().mean().item()
    expected = math.floor((n + 1) * false_alarms + 1e-9) / (n + 1)
    assert expected <= false_alarms
    assert rate == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / trials))


def test_the_share_of_one_set_is_beta_distributed():
    n, k, trials = 199, 190, 2000
    thresholds = torch.stack([zoo.anomaly_threshold(torch.rand(n), 0.05) for _ in range(trials)])
    shares = 1 - thresholds.double()  # of uniform scores above the threshold
    a, b = n + 1 - k, k
    deviation = math.sqrt(a * b / (n + 1)) / (n + 1) / math.sqrt((n + 2) / (n + 1))
    assert shares.mean().item() == pytest.approx(0.05, abs=4 * deviation / math.sqrt(trials))
    assert shares.std().item() == pytest.approx(deviation, rel=0.1)  # known to 1 in 60


def test_equal_scores_give_no_more_alarms():
    trials, n = 2000, 99
    scores = torch.randint(5, (trials, n + 1)).float()
    alarms = [row[-1] > zoo.anomaly_threshold(row[:-1], 0.1) for row in scores]
    assert torch.stack(alarms).double().mean() <= 0.1


def test_threshold_refuses_what_keeps_no_promise():
    with pytest.raises(ValueError, match=r"98 scores are too few .* give 99 of normal data"):
        zoo.anomaly_threshold(torch.rand(98))
    with pytest.raises(ValueError, match="0 scores are too few"):
        zoo.anomaly_threshold(torch.rand(0), 0.5)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        zoo.anomaly_threshold(torch.rand(98), 1)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        zoo.anomaly_threshold(torch.rand(98), math.nan)
    with pytest.raises(ValueError, match="have no rank"):
        zoo.anomaly_threshold(torch.tensor([1.0, math.nan]), 0.5)
    with pytest.raises(ValueError, match="must be floats"):
        zoo.anomaly_threshold(torch.rand(2, 2), 0.5)
