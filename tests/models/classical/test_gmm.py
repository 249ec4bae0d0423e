"""The Gaussian mixture against scikit-learn, torch.distributions, closed forms and itself."""

import math
import multiprocessing
import resource
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.utils.data import DataLoader, IterableDataset

import zoo
from zoo.datamodules import FakeImages
from zoo.datamodules.loader import Batches
from zoo.errors import ConvergenceWarning
from zoo.models import GMM
from zoo.training.seeding import SeedEpoch

KINDS = ["full", "tied", "diag", "spherical"]
every_kind = pytest.mark.parametrize("kind", KINDS)
without_validation = pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")


def groups(n=600, k=3, dim=4, distance=3.0):
    """Data of a mixture of full covariances, (n, dim) float64, and which component each is of."""
    label = torch.arange(n) % k
    centres = distance * torch.randn(k, dim).double()
    mixing = torch.randn(k, dim, dim).double() / 2 + 0.5 * torch.eye(dim)
    noise = torch.randn(n, dim).double()
    return centres[label] + torch.einsum("nij,nj->ni", mixing[label], noise), label


def identity(kind, k, dim):
    """Unit covariances of a kind; they are their own inverses."""
    shapes = {
        "full": torch.eye(dim).repeat(k, 1, 1),
        "tied": torch.eye(dim),
        "diag": torch.ones(k, dim),
        "spherical": torch.ones(k),
    }
    return shapes[kind].double()


def started(kind, x, k=3, **arguments):
    """A float64 model at k of the data, with unit covariances."""
    model = GMM((x.shape[1],), k, kind, **arguments).double()
    model.set_components(torch.ones(k), x[:k], identity(kind, k, x.shape[1]))
    return model


def matrices(model):
    """The covariances of a model as matrices, (K, D, D)."""
    found, (k, dim) = model.covariances, model.centres.shape
    if model.covariance == "tied":
        return found.expand(k, dim, dim)
    if model.covariance == "diag":
        return torch.diag_embed(found)
    if model.covariance == "spherical":
        return found[:, None, None] * torch.eye(dim).to(found)
    return found


def parameters(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


# --- against other implementations ---------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("iterations", [1, 7])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_iterations_are_those_of_scikit_learn(kind, iterations):
    x, _ = groups()
    x += 50  # sums of squares must not cancel
    model = started(kind, x, floor=1e-3)
    model.fit(x, max_epochs=iterations, tol=-1)
    assert len(model.history) == iterations + 1
    other = GaussianMixture(
        3,
        covariance_type=kind,
        tol=0,
        reg_covar=1e-3,
        max_iter=iterations,
        weights_init=np.full(3, 1 / 3),
        means_init=x[:3].numpy(),
        precisions_init=identity(kind, 3, 4).numpy(),
    ).fit(x.numpy())
    assert other.n_iter_ == iterations
    assert model.history[-2] == pytest.approx(other.lower_bound_, abs=1e-10)
    assert model.history[-1] == pytest.approx(other.score(x.numpy()), abs=1e-10)
    for found, wanted in (
        (model.weights, other.weights_),
        (model.decode(torch.arange(3)), other.means_),
        (model.covariances, other.covariances_),
        (model.log_prob(x), other.score_samples(x.numpy())),
        (model.posterior(x).probs, other.predict_proba(x.numpy())),
    ):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=1e-8)
    assert (model.encode(x).numpy() == other.predict(x.numpy())).all()


@every_kind
def test_density_and_responsibilities_are_those_of_torch(kind):
    x, _ = groups()
    model = started(kind, x).fit(x, max_epochs=3)
    components = MultivariateNormal(model.decode(torch.arange(3)), matrices(model))
    mixture = MixtureSameFamily(Categorical(model.weights), components)
    torch.testing.assert_close(model.log_prob(x), mixture.log_prob(x), rtol=0, atol=1e-10)
    joint = model.weights.log() + components.log_prob(x[:, None])
    torch.testing.assert_close(model.posterior(x).probs, joint.softmax(1), rtol=0, atol=1e-10)
    # and the factors of the model make the same density
    own = MixtureSameFamily(model.prior(), model.likelihood(torch.arange(3)), validate_args=False)
    torch.testing.assert_close(own.log_prob(x), mixture.log_prob(x), rtol=0, atol=1e-10)


@every_kind
def test_one_component_is_the_gaussian_of_the_data(kind):
    x, _ = groups()
    model = GMM((4,), 1, kind, floor=0.01).double().fit(x)
    covariance = torch.from_numpy(np.cov(x.T.numpy(), ddof=0))
    if kind in ("diag", "spherical"):
        covariance = covariance.diagonal().diag()
    if kind == "spherical":
        covariance = covariance.trace() / 4 * torch.eye(4).double()
    floor = 0.01 * torch.eye(4).double()
    torch.testing.assert_close(model.decode(torch.tensor([0]))[0], x.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrices(model)[0], covariance + floor, rtol=1e-10, atol=1e-12)
    exact = MultivariateNormal(x.mean(0), covariance + floor).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), exact, rtol=0, atol=1e-10)
    assert len(model.history) == 2  # the first step is exact, the second sees that


def test_full_with_one_dimension_is_diag_and_spherical():
    x, _ = groups(dim=1)
    full, *others = [started(k, x).fit(x, max_epochs=20) for k in ("full", "diag", "spherical")]
    for other in others:
        np.testing.assert_allclose(full.history, other.history, rtol=0, atol=1e-12)
        torch.testing.assert_close(full.log_prob(x), other.log_prob(x), rtol=0, atol=1e-10)


def test_pca_is_the_mixture_on_the_projections_with_white_noise_beside():
    x, _ = groups(dim=6)
    model = GMM((6,), 3, pca=2, floor=1e-9).double().fit(x, max_epochs=10)
    pca = PCA(2).fit(x.numpy())
    basis = model.basis.detach()
    projector = torch.from_numpy(pca.components_.T @ pca.components_)
    torch.testing.assert_close(basis @ basis.mT, projector, rtol=0, atol=1e-10)
    noise = pca.noise_variance_ * 599 / 600 + 1e-9
    # each component written out as a Gaussian of x
    outside = torch.eye(6).double() - projector
    covariances = basis @ model.covariances @ basis.mT + noise * outside
    components = MultivariateNormal(model.decode(torch.arange(3)), covariances)
    mixture = MixtureSameFamily(Categorical(model.weights), components)
    torch.testing.assert_close(model.log_prob(x), mixture.log_prob(x), rtol=0, atol=1e-10)
    z = torch.arange(3).repeat(200)
    torch.testing.assert_close(
        model.likelihood(z).log_prob(x), components.log_prob(x[:, None])[range(600), z]
    )
    # the noise is that of greatest likelihood
    best = model.log_prob(x).mean()
    for factor in (0.97, 1.03):
        model.noise.data = torch.tensor(noise * factor).double()
        assert model.log_prob(x).mean() < best


@pytest.mark.parametrize(("kind", "pca"), [(k, None) for k in KINDS] + [("full", 2), ("diag", 2)])
def test_samples_have_the_moments_of_the_mixture(kind, pca):
    x, _ = groups(dim=3)
    model = GMM((3,), 3, kind, pca=pca).double().fit(x, max_epochs=5)
    n = 40_000
    draws = model.sample(n)
    means = model.decode(torch.arange(3)).detach()
    within = matrices(model)
    if pca:
        basis = model.basis.detach()
        outside = torch.eye(3).double() - basis @ basis.mT
        within = basis @ within @ basis.mT + model.noise.detach() * outside
    w = model.weights.detach()
    mean = w @ means
    spread = means - mean
    covariance = torch.einsum("k,kij->ij", w, within + spread[:, :, None] * spread[:, None, :])
    error = (covariance.diagonal() / n).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * error).all()
    # the variance of a product of two coordinates, as the draws have it
    centred = draws - mean
    products = centred[:, :, None] * centred[:, None, :]
    error = products.flatten(1).std(0).view(3, 3) / n**0.5
    assert ((products.mean(0) - covariance).abs() < 5 * error).all()
    # and log p(x) of draws averages to minus the entropy that importance weights agree on
    torch.manual_seed(3)
    z = model.prior().sample((n,))
    assert ((z.bincount(minlength=3) / n - w).abs() < 5 * (w * (1 - w) / n).sqrt()).all()


def test_a_well_separated_mixture_is_recovered():
    torch.manual_seed(1)
    x, label = groups(n=1500, k=5, dim=3, distance=12.0)
    model = GMM((3,), 5, restarts=3).double().fit(x)
    found = model.encode(x)
    pairs = torch.stack([label, found]).unique(dim=1)
    assert pairs.shape[1] == 5  # one component a group
    for k in range(5):
        mean, covariance = x[label == k].mean(0), x[label == k].T.cov(correction=0)
        z = found[label == k][:1]
        torch.testing.assert_close(model.decode(z)[0], mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(model.covariances[z[0]], covariance, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.weights, torch.full((5,), 0.2).double(), rtol=0, atol=1e-6)


# --- EM ------------------------------------------------------------------------------------------


def images(**arguments):
    return FakeImages(**{"x_shape": (1, 12, 12), "n": 96, "binarization": "none", **arguments})


def trainer(folder, **arguments):
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "precision": "64-true",
            "max_epochs": 4,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [SeedEpoch(0)],
            **arguments,
        }
    )


class Likelihoods(Callback):
    """Writes the log-likelihood of each epoch where the parent process can read it."""

    def __init__(self, folder):
        self.path = Path(folder, "likelihoods")

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(f"{trainer.callback_metrics['train/log_likelihood'].item()!r}\n")

    def read(self):
        return [float(line) for line in self.path.read_text().split()]


def of_images(**arguments):
    """A model that was started on all images, so that processes need not agree on a start."""
    torch.manual_seed(0)
    model = GMM(**{"x_shape": (1, 12, 12), "components": 3, "pca": 4, "floor": 1e-9, **arguments})
    module = images(batch_size=96)
    module.setup()
    with torch.no_grad():
        model.double().start(module.train_dataloader())
    model.started.fill_(True)
    return model


@pytest.mark.parametrize("arguments", [{}, {"pca": None, "covariance": "spherical"}])
def test_em_climbs_and_neither_processes_nor_batches_change_it(tmp_path, arguments):
    ends = {}
    for devices, batch_size in ((1, 96), (1, 7), (2, 8)):
        name = f"{devices}-{batch_size}"
        (tmp_path / name).mkdir()
        noted = Likelihoods(tmp_path / name)
        model = of_images(**arguments)
        trainer(
            tmp_path,
            devices=devices,
            strategy="ddp_fork" if devices == 2 else "auto",
            callbacks=[noted],
            max_epochs=6,
        ).fit(model, images(batch_size=batch_size))
        values = noted.read()
        assert len(values) == 6
        assert all(after > before - 1e-9 for before, after in pairwise(values)), name
        assert values[-1] > values[0] + 0.05
        ends[name] = (parameters(model), values)
    whole = ends["1-96"]
    assert (whole[0] - parameters(of_images(**arguments))).abs().max() > 1e-3  # it did train
    for name in ("1-7", "2-8"):
        torch.testing.assert_close(ends[name][0], whole[0], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(ends[name][1], whole[1], rtol=0, atol=1e-9)


@every_kind
def test_em_climbs_without_a_trainer_and_stops(kind):
    x, _ = groups(distance=1.0)
    model = started(kind, x, floor=0.0)
    model.fit(x, max_epochs=300, tol=1e-5, batch_size=100)
    assert all(b >= a - 1e-12 for a, b in pairwise(model.history))
    assert 5 < len(model.history) < 300
    assert model.history[-1] - model.history[-2] < 1e-5
    whole = started(kind, x, floor=0.0).fit(x, max_epochs=len(model.history) - 1, tol=-1)
    torch.testing.assert_close(parameters(whole), parameters(model), rtol=0, atol=1e-9)


def test_a_trainer_and_fit_do_the_same(tmp_path):
    by_trainer, by_fit = of_images(), of_images()
    module = images(batch_size=20)
    trainer(tmp_path).fit(by_trainer, module)
    x = (module.splits["train"]["image"].float() / 255).double()  # as the loader makes it
    by_fit.fit(x, max_epochs=4, tol=-1, warm_start=True)
    torch.testing.assert_close(parameters(by_trainer), parameters(by_fit), rtol=0, atol=1e-9)


@without_validation
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_stepwise_em_comes_near_batch_em(tmp_path):
    x, _ = groups(n=1000)
    best = started("full", x).fit(x, max_epochs=500, tol=1e-9).history[-1]
    gaps = []
    for epochs in (1, 4, 12):
        model = started("full", x, kappa=0.7)
        loader = Batches({"x": x}, 50, finish=dict, shuffle=True)
        trainer(tmp_path, max_epochs=epochs).fit(model, loader)
        gaps.append(best - model.log_prob(x).mean().item())
    start = best - started("full", x).log_prob(x).mean().item()
    assert start > 5
    assert 0.5 > gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("kappa", [None, 0.6])
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, kappa):
    def run(folder, epochs, **arguments):
        torch.manual_seed(0)
        model = GMM((1, 12, 12), 3, pca=4, kappa=kappa)
        keep = ModelCheckpoint(dirpath=tmp_path / folder, save_last=True)
        trainer(
            tmp_path,
            max_epochs=epochs,
            callbacks=[SeedEpoch(0), keep],
            enable_checkpointing=True,
            precision="32-true",
        ).fit(model, images(batch_size=20), **arguments)
        return parameters(model)

    whole, half = run("whole", 5), run("half", 2)
    assert not torch.equal(half, whole)
    last = tmp_path / "half" / "last.ckpt"
    assert torch.equal(run("half", 5, ckpt_path=last, weights_only=True), whole)


def test_the_best_of_several_starts_is_kept():
    x, _ = groups(n=400, k=12, dim=2, distance=3.0)
    ends = {}
    for restarts in (1, 8):
        values = []
        for seed in range(6):
            torch.manual_seed(seed)
            model = GMM((2,), 12, "full", floor=1e-2, restarts=restarts).double()
            values.append(model.fit(x, max_epochs=30).history[-1])
        ends[restarts] = torch.tensor(values)
    assert ends[8].mean() > ends[1].mean() + 0.01
    assert ends[8].min() > ends[1].min()


@without_validation
def test_a_loader_of_vectors(tmp_path):
    x, _ = groups(n=200)
    loader = DataLoader([{"x": row} for row in x], batch_size=32)
    by_trainer, by_fit = started("full", x), started("full", x)
    trainer(tmp_path).fit(by_trainer, loader)
    by_fit.fit(x, max_epochs=4, tol=-1)
    torch.testing.assert_close(parameters(by_trainer), parameters(by_fit), rtol=0, atol=1e-9)
    # and one that has to find its start in the loader
    model = GMM((4,), 3)
    trainer(tmp_path).fit(model, loader)
    alone = GMM((4,), 1).double().fit(x)
    torch.testing.assert_close(model.offset, x.mean(0), rtol=0, atol=1e-12)
    assert model.log_prob(x).mean() > alone.log_prob(x).mean() + 0.1


def test_a_fit_does_not_depend_on_the_one_before():
    x = torch.from_numpy(load_iris().data)
    shared = GMM((4,), 3).double()
    for fold in range(5):
        held_out = torch.arange(150) % 5 == fold
        scores = []
        for model in (shared, GMM((4,), 3).double()):
            torch.manual_seed(fold)
            scores.append(model.fit(x[~held_out]).log_prob(x[held_out]).mean().item())
        assert scores[0] == scores[1]


def test_what_was_given_starts_every_fit():
    x, _ = groups()
    model = started("full", x)
    first = model.fit(x, max_epochs=5).history
    assert model.fit(x, max_epochs=5).history == first
    again = model.fit(x, max_epochs=5, warm_start=True).history
    assert again[0] == pytest.approx(first[-1], abs=1e-12)
    assert again[-1] > first[-1]


def test_how_a_fit_ended_is_said():
    x, _ = groups(distance=1.0)
    model = started("full", x)
    with pytest.warns(ConvergenceWarning, match="raise max_epochs") as caught:
        model.fit(x, max_epochs=5)
    assert caught[0].filename == __file__
    assert not model.converged
    assert len(model.history) == 6
    assert model.history[-1] == pytest.approx(model.log_prob(x).mean().item(), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, max_epochs=1000)
        assert model.converged
        assert model.history[-1] == pytest.approx(model.log_prob(x).mean().item(), abs=1e-12)
        model.fit(x, max_epochs=2, tol=-1)  # which asks for all iterations
    assert not model.converged
    assert len(model.history) == 3
    with pytest.raises(ValueError, match="max_epochs is 0"):
        model.fit(x, max_epochs=0)


class Stream(IterableDataset):
    """Data one by one, of which nobody knows how many there are."""

    def __init__(self, x, endless=False):
        self.x, self.endless = x, endless

    def __iter__(self):
        yield from ({"x": row} for row in self.x)
        while self.endless:
            yield from ({"x": row} for row in self.x)


@without_validation
@pytest.mark.parametrize("kappa", [None, 0.7])
def test_a_loader_without_a_length(tmp_path, kappa):
    x, _ = groups(n=200)
    ends = []
    for rows in ([{"x": row} for row in x], Stream(x)):
        torch.manual_seed(0)
        model = GMM((4,), 3, kappa=kappa).double()
        trainer(tmp_path).fit(model, DataLoader(rows, batch_size=50))
        ends.append(parameters(model))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)
    endless = GMM((4,), 3, kappa=kappa).double()
    loader = DataLoader(Stream(x, endless=True), batch_size=50)
    trainer(tmp_path, limit_train_batches=4).fit(endless, loader)
    torch.testing.assert_close(endless.means.mean(0), model.means.mean(0), rtol=0, atol=1.0)
    once = Stream(iter(x))
    with pytest.raises(ValueError, match="EM reads them in every epoch"):
        trainer(tmp_path).fit(GMM((4,), 3), DataLoader(once, batch_size=50))


@without_validation
def test_every_batch_of_images_is_checked(tmp_path):
    x = torch.rand(32, 1, 4, 4)
    model = GMM((1, 4, 4), 2).fit(x, max_epochs=2)
    before = parameters(model)
    x[20, 0, 1, 1] = 7.0
    with pytest.raises(ValueError, match="divide by 255"):
        trainer(tmp_path).fit(model, DataLoader([{"image": i} for i in x], batch_size=8))
    assert torch.equal(parameters(model), before)


def test_a_fitted_model_goes_on_where_it_is(tmp_path):
    x, _ = groups()
    model = GMM((4,), 3).double().fit(x, max_epochs=5, tol=-1)
    model.save_pretrained(tmp_path / "gmm")
    again = zoo.from_pretrained(str(tmp_path / "gmm"))
    assert again.started
    torch.testing.assert_close(
        again.log_prob(x.float()).double(), model.log_prob(x), atol=1e-4, rtol=0
    )
    again.fit(x, max_epochs=1, warm_start=True)
    assert again.history[0] > model.history[-1] - 1e-6


# --- precision, gradients, memory ----------------------------------------------------------------


@pytest.mark.parametrize(("kind", "pca"), [(k, None) for k in KINDS] + [("full", 2)])
def test_gradients_of_the_density(kind, pca):
    x, _ = groups(n=60)
    model = GMM((4,), 3, kind, pca=pca).double().fit(x, max_epochs=3)
    few = x[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(model.log_prob, (few,))
    model.loss({"x": x})["loss"].backward()
    for name in ("logits", "centres", "factors"):
        gradient = getattr(model, name).grad
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name
    assert model.offset.grad is None


def test_gradient_at_convergence_is_zero():
    x, _ = groups()
    model = started("full", x, floor=0.0).fit(x, max_epochs=2000, tol=1e-15)
    model.loss({"x": x})["loss"].backward()
    # EM's fixed points are the stationary points of the likelihood
    assert model.centres.grad.abs().max() < 1e-6
    assert model.factors.grad.triu().abs().max() < 1e-6


@every_kind
def test_single_precision_ends_near_double(kind):
    x, _ = groups()
    x += 1000
    double = started(kind, x)
    single = started(kind, x).float()
    for model in (double, single):
        model.fit(x, max_epochs=20, tol=-1)
    np.testing.assert_allclose(single.history, double.history, rtol=0, atol=1e-4)


@every_kind
@pytest.mark.parametrize("mean", [1e8, 1.7e9])  # the latter as of time stamps
def test_a_large_mean_costs_no_digits(kind, mean):
    rng = np.random.default_rng(0)
    near = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 6])
    peer = GaussianMixture(2, covariance_type=kind, random_state=0).fit(near)
    far = torch.from_numpy(near + mean)
    model = GMM((2,), 2, kind).fit(far)
    assert model.factors.dtype == model.log_prob(far).dtype == torch.float32
    assert model.log_prob(far).double().mean().item() == pytest.approx(peer.score(near), abs=1e-5)
    assert adjusted_rand_score(peer.predict(near), model.encode(far)) == 1
    order = peer.means_[:, 0].argsort()
    found = model.means[model.means[:, 0].argsort()].numpy() - mean
    np.testing.assert_allclose(found, peer.means_[order], atol=1e-3)


def test_bursts_of_seconds_a_year_apart():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(1.70e9, 1, (200, 1)), rng.normal(1.73e9, 2, (200, 1))])
    model = GMM((1,), 2).fit(x)
    order = model.means[:, 0].argsort()
    centred = x.reshape(2, 200) - x.reshape(2, 200).mean(1, keepdims=True)
    np.testing.assert_allclose(model.means[order, 0], x.reshape(2, 200).mean(1), atol=1e-6, rtol=0)
    # the squares of a year of seconds leave a variance two digits
    np.testing.assert_allclose(model.covariances[order, 0, 0], (centred**2).mean(1), rtol=0.1)
    assert (
        model.encode(torch.from_numpy(x)).numpy().reshape(2, 200) == order.numpy()[:, None]
    ).all()


def test_the_subspace_of_data_with_a_large_mean():
    x, _ = groups(dim=6)
    values = []
    for mean in (0.0, 1.7e9):
        torch.manual_seed(0)
        model = GMM((6,), 3, pca=2).fit(x + mean)
        values.append(model.log_prob(x + mean).double().mean().item())
    assert values[0] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize(("kind", "pca"), [(k, None) for k in KINDS] + [("full", 2), ("diag", 2)])
def test_the_mixture_that_is_read_can_be_set(kind, pca):
    x, _ = groups(dim=3)
    x = x + 1e4
    model = GMM((3,), 3, kind, pca=pca).fit(x)
    value = model.log_prob(x).double().mean().item()
    assert model.means.shape == (3, 3)
    torch.testing.assert_close(model.means.float(), model.decode(torch.arange(3)))
    model.set_components(model.weights, model.means, model.covariances)
    assert model.log_prob(x).double().mean().item() == pytest.approx(value, abs=1e-5)
    if pca is None:
        other = GMM((3,), 3, kind)
        other.set_components(model.weights, model.means, model.covariances)
        assert other.log_prob(x).double().mean().item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "pca", "count"),
    [
        # of scikit-learn's GaussianMixture(2)._n_parameters() in 5 dimensions
        ("full", None, 41),
        ("tied", None, 26),
        ("diag", None, 21),
        ("spherical", None, 13),
        # a weight, two means and covariances in a plane; the plane, the mean and variance off it
        ("full", 2, 1 + 4 + 6 + 6 + 3 + 1),
        ("diag", 2, 1 + 4 + 4 + 6 + 3 + 1 + 1),  # and how the axes lie in the plane
    ],
)
def test_free_parameters_are_counted(kind, pca, count):
    assert GMM((5,), 2, kind, pca=pca).summary()["parameters"] == count


@pytest.mark.parametrize(("kind", "pca"), [(k, None) for k in KINDS] + [("full", 2)])
def test_responsibilities_far_from_all_components(kind, pca):
    x, _ = groups(dim=3)
    model = GMM((3,), 3, kind, pca=pca).fit(x.float())
    exact = GMM((3,), 3, kind, pca=pca).double()
    exact.load_state_dict(model.state_dict())
    direction = torch.tensor([[1.0, -0.5, 0.3], [-1.0, 1.0, 0.2]])
    for far in (1e5, 1e9, 1e19, 1e30, 3e38):
        p = model.posterior(far * direction).probs
        torch.testing.assert_close(p.sum(1), torch.ones(2))
        torch.testing.assert_close(p, exact.posterior(far * direction).probs.float())
        assert not model.log_prob(far * direction).isnan().any()
    for far in (1e160, 1e300):
        p = exact.posterior(far * direction.double()).probs
        torch.testing.assert_close(p.sum(1), torch.ones(2).double())


def test_densities_are_float32_under_bfloat16():
    x, _ = groups()
    model = GMM((4,), 3, pca=2).fit(x.float(), max_epochs=3)
    exact = model.log_prob(x.float())
    z = torch.zeros(600, dtype=torch.int64)
    conditional = model.likelihood(z).log_prob(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.log_prob(x.float()), exact)
        assert torch.equal(model.likelihood(z).log_prob(x.float()), conditional)
        sums = model.expectation({"x": x.float()})
    assert sums["log_likelihood"].item() == pytest.approx(exact.sum().item(), rel=1e-5)


def memory(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def fit_in_little_memory(path, allowed, copy, answer):
    """Fit to an array on disk, or to a copy of it, and send how many epochs that took."""
    torch.set_num_threads(1)
    try:
        data = np.load(path, mmap_mode="r")
        limit = memory("VmData") + allowed
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        model = GMM((64,), 2, "diag").fit(np.array(data) if copy else data, max_epochs=2, tol=-1)
        answer.send(len(model.history) - 1)
    except (MemoryError, RuntimeError) as error:
        answer.send(repr(error))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_fit_to_an_array_four_times_the_memory_it_may_take(tmp_path):
    n, dim = 524_288, 64
    path = tmp_path / "x.npy"
    x = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dim))
    tile = np.random.default_rng(0).normal(size=(4096, dim)).astype(np.float32)
    for i in range(0, n, len(tile)):
        x[i : i + len(tile)] = tile + 0.1 * (i % 3)
    x.flush()
    allowed = x.nbytes // 4
    assert allowed == 32 * 2**20

    def answer(copy):
        context = multiprocessing.get_context("spawn")  # a fork has what its parent left free
        ours, theirs = context.Pipe()
        child = context.Process(target=fit_in_little_memory, args=(path, allowed, copy, theirs))
        child.start()
        theirs.close()
        found = ours.recv()
        child.join()
        return found

    assert answer(copy=False) == 2
    assert "Error" in answer(copy=True)  # the limit does limit


# --- verbs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"covariance": "diag"}, {"pca": 3}])
def test_verbs_of_images(arguments):
    model = GMM((1, 4, 4), 3, floor=1e-3, **arguments)
    x = torch.rand(50, 1, 4, 4)
    model.fit(x, max_epochs=3)
    z = model.encode(x)
    assert z.shape == (50,)
    assert z.dtype == torch.int64
    assert torch.equal(z, model.posterior(x).probs.argmax(1))
    assert model.decode(z).shape == x.shape
    torch.testing.assert_close(model.reconstruct(x), model.decode(z))
    torch.manual_seed(7)
    samples = model.sample(20)
    assert samples.shape == (20, 1, 4, 4)
    assert samples.dtype == torch.float32
    assert 0 <= samples.min() <= samples.max() <= 1
    torch.manual_seed(7)
    assert torch.equal(model.sample(20), samples)
    assert model.prior().batch_shape == model.prior().event_shape == ()
    assert model.posterior(x).batch_shape == (50,)
    assert model.likelihood(z).batch_shape == (50,)
    assert model.likelihood(z).event_shape == (1, 4, 4)
    torch.testing.assert_close(model.likelihood(z).mean.clamp(0, 1), model.decode(z))
    assert model.log_prob(x).shape == (50,)
    assert zoo.log_likelihood(model, x).kind == "exact"
    assert GMM().verbs() == (
        "sample",
        "prior",
        "posterior",
        "likelihood",
        "encode",
        "decode",
        "log_prob",
        "reconstruct",
    )


def test_an_unfitted_model_is_a_standard_gaussian():
    model = GMM((3,), 2)
    x = torch.randn(5, 3)
    wanted = MultivariateNormal(torch.zeros(3), torch.eye(3)).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), wanted)


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": 0}, "components is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"floor": -1e-3}, "floor is -0.001"),
        ({"floor": math.nan}, "floor is nan"),
        ({"covariance": "ful"}, "did you mean full"),
        ({"x_shape": ()}, "x_shape is"),
        ({"x_shape": (0, 3)}, "x_shape is"),
        ({"pca": 4}, "give 1 to 3"),
        ({"pca": 0}, "give 1 to 3"),
        ({"kappa": 0.5}, "0.5 < kappa"),
        ({"kappa": 1.5}, "0.5 < kappa"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GMM(**{"x_shape": (4,), **arguments})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(0, 4), "at least one datum"),
        (torch.zeros(2, 4), "there are 2 data"),
        (torch.zeros(9, 5), "data has shape"),
        (torch.zeros(4), "data has shape"),
        ([["a"] * 4] * 9, "data is a list of type <U1, but must be numbers"),
        ([[0.0, 1.0], [0.0]], "data is a list whose rows differ in length"),
        ([[0.0, math.nan, 0.0, 0.0]] * 9, "datum 0 holds NaN"),
        (torch.eye(4).repeat(3, 1).index_fill(0, torch.tensor(7), math.inf), "datum 7 holds NaN"),
    ],
)
@every_kind
def test_data_that_do_not_fit_are_refused(data, message, kind):
    with pytest.raises(ValueError, match=message):
        GMM((4,), 3, kind).fit(data)


@without_validation
def test_images_that_are_none_are_refused(tmp_path):
    model = GMM((1, 4, 4), 2)
    for bad, message in (
        (255 * torch.rand(8, 1, 4, 4), "divide by 255"),
        (torch.full((8, 1, 4, 4), math.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
        with pytest.raises(ValueError, match=message):
            model.encode(bad)
        with pytest.raises(ValueError, match=message):
            trainer(tmp_path).fit(GMM((1, 4, 4), 2), DataLoader([{"image": i} for i in bad]))


@without_validation
def test_data_that_turn_bad_after_the_start_stop_the_fit(tmp_path):
    x, _ = groups(n=60)
    model = started("full", x)
    before = parameters(model)
    x[41, 2] = math.nan
    with pytest.raises(ValueError, match="datum 41 holds NaN"):
        model.fit(x)
    with pytest.raises(ValueError, match="datum 9 holds NaN"):  # of the third batch
        trainer(tmp_path).fit(model, DataLoader([{"x": row} for row in x], batch_size=16))
    assert torch.equal(parameters(model), before)  # nothing was spoilt
    for verb in (model.log_prob, model.posterior, model.encode):
        with pytest.raises(ValueError, match="NaN or infinite values"):
            verb(x)


@pytest.mark.parametrize(
    "z", [torch.tensor([3]), torch.tensor([-1]), torch.tensor([0.0]), torch.tensor([[0]])]
)
def test_codes_that_are_none_are_refused(z):
    with pytest.raises(ValueError, match=r"^z "):
        GMM((4,), 3).decode(z)
    with pytest.raises(ValueError, match=r"^z "):
        GMM((4,), 3).likelihood(z)


def test_components_that_do_not_fit_are_refused():
    model, good = GMM((2,), 2), (torch.ones(2), torch.zeros(2, 2), torch.eye(2).repeat(2, 1, 1))
    for i in range(3):
        bad = [v[:1] if i == j else v for j, v in enumerate(good)]
        with pytest.raises(ValueError, match="has shape"):
            model.set_components(*bad)
    with pytest.raises(ValueError, match="not positive definite"):
        model.set_components(*good[:2], -good[2])
    assert not model.started


@every_kind
@pytest.mark.parametrize("pca", [None, 2])
def test_limits_are_finite(kind, pca):
    one = torch.tensor([[1.0, 2.0, 3.0]]).double()
    equal = one.repeat(20, 1)
    line = torch.linspace(0, 1, 20).double()[:, None] * one  # of rank 1
    constant = torch.randn(40, 3).double()
    constant[:, 1] = 5.0
    two = torch.cat([equal, -equal])  # fewer different data than components
    for x, k in ((one, 1), (equal, 3), (line, 2), (constant, 2), (two, 4)):
        model = GMM((3,), k, kind, pca=pca, floor=1e-4).double().fit(x, max_epochs=20)
        assert parameters(model).isfinite().all()
        assert model.log_prob(x).isfinite().all()
        assert torch.linalg.eigvalsh(matrices(model)).min() > 0.9e-4
    if pca is None:
        assert model.history[-1] > model.history[0] - 1e-9
    model = GMM((3,), 1, kind, pca=pca, floor=1e-4).double().fit(one)
    # one datum: its Gaussian has the floor as variance, in the subspace and beside it
    wanted = -1.5 * math.log(2 * math.pi * 1e-4)
    assert model.log_prob(one).item() == pytest.approx(wanted, abs=1e-9)
    torch.testing.assert_close(model.decode(torch.tensor([0])), one)


def test_a_singular_covariance_without_a_floor_is_an_error():
    x = torch.randn(20, 2).double()
    x[:, 1] = 3.0
    with pytest.raises(ValueError, match="raise the floor"):
        GMM((2,), 1, "full", floor=0.0).double().fit(x)
    with pytest.raises(ValueError, match="must be positive"):
        GMM((2,), 1, "diag", floor=0.0).double().fit(torch.zeros(9, 2))
