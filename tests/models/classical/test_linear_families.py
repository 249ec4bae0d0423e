"""What PPCA and factor analysis have in common, each way of learning: verbs, passes, processes."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributions import MultivariateNormal, kl_divergence
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import zoo
from zoo.datamodules import FakeImages
from zoo.errors import ConvergenceWarning
from zoo.inference import elbo, importance_weighted_bound
from zoo.models import PPCA, FactorAnalysis

CASES = [(PPCA, "closed"), (PPCA, "em"), (FactorAnalysis, None)]
every = pytest.mark.parametrize(("family", "method"), CASES)
both = pytest.mark.parametrize("family", [PPCA, FactorAnalysis])


def vectors(n=200, dim=9, rank=3):
    """Three factors well above the noise, which differs by entry."""
    W = torch.linalg.qr(torch.randn(dim, rank).double())[0] * torch.tensor([5.0, 3.0, 2.0])
    noise = (0.3 + 0.3 * torch.rand(dim).double()) * torch.randn(n, dim).double()
    return torch.randn(n, rank).double() @ W.T + noise + 4


def made(family, method, *arguments):
    return family(*arguments, **({} if method is None else {"method": method}))


def fitted(family, x=None, q=3, method=None, **arguments):
    x = vectors() if x is None else x
    return made(family, method, x.shape[1:], q).double().fit(x, **arguments)


def covariance(model):
    W, _, psi = model._theta.double()
    return (W @ W.T + psi.diag()).detach()


# --- verbs ---------------------------------------------------------------------------------------


@both
def test_log_prob_is_exact(family):
    model, x = fitted(family), vectors(30)
    marginal = MultivariateNormal(model.mu, covariance(model))
    torch.testing.assert_close(model.log_prob(x), marginal.log_prob(x), rtol=0, atol=1e-9)
    value, kind, error = zoo.log_likelihood(family((2, 2, 2), 3), torch.rand(5, 2, 2, 2))
    assert kind == "exact"
    assert not error.any()
    assert value.shape == (5,)


@both
def test_bayes_rule_holds_at_every_code(family):
    model, x = fitted(family), vectors(10)
    log_p = model.log_prob(x)
    # p(x | z) p(z) / p(z | x) is p(x), whatever z
    bound = importance_weighted_bound(model, x, 5)
    torch.testing.assert_close(bound.value, log_p.detach(), rtol=0, atol=1e-9)
    # and so is the ELBO, whose expected distortion has a closed form
    q, psi = model.posterior(x), model._theta.double().psi
    spread = (model.W @ q.covariance_matrix @ model.W.T).diagonal(dim1=1, dim2=2)  # (B, D)
    distortion = -model.likelihood(q.mean).log_prob(x) + 0.5 * (spread / psi).sum(1)
    rate = kl_divergence(q, model.prior())
    torch.testing.assert_close(-(distortion + rate), log_p, rtol=0, atol=1e-9)
    # the estimate from one draw is right on average
    drawn = -sum(elbo(model, x.repeat_interleave(2000, 0))).reshape(10, 2000)
    error = drawn.std(1) / 2000**0.5
    assert ((drawn.mean(1) - log_p).abs() < 5 * error).all()


@both
def test_samples_have_the_moments_of_the_model(family):
    model = fitted(family)
    n = 200_000
    x = model.sample(n)
    C = covariance(model)
    assert ((x.mean(0) - model.mu).abs() < 5 * (C.diagonal() / n).sqrt()).all()
    error = ((torch.outer(C.diagonal(), C.diagonal()) + C.square()) / n).sqrt()
    assert ((torch.cov(x.T) - C).abs() < 5 * error).all()
    torch.manual_seed(1)
    first = model.sample(3)
    torch.manual_seed(1)
    assert torch.equal(model.sample(3), first)


@both
def test_codes_and_images(family):
    module = FakeImages((1, 6, 6), n=64, binarization="none")
    module.setup()
    x = module.splits["train"]["image"] / 255
    model = family((1, 6, 6), 4).fit(x)
    z = model.encode(x)
    assert z.shape == (64, 4)
    assert model.verbs() == (
        "sample",
        "prior",
        "posterior",
        "likelihood",
        "encode",
        "decode",
        "log_prob",
        "reconstruct",
    )
    torch.testing.assert_close(z, model.posterior(x).mean)
    torch.testing.assert_close(model.reconstruct(x), model.decode(z))
    assert (model.reconstruct(x) - x).square().mean() < 0.8 * x.var(0).mean()
    for images in (model.sample(50), model.decode(3 * torch.randn(50, 4))):
        assert images.shape == (50, 1, 6, 6)
        assert images.dtype == torch.float32
        assert (images.min(), images.max()) == (0, 1)
    assert model.likelihood(z).event_shape == (1, 6, 6)
    assert model.log_prob(x).dtype == torch.float32
    terms = model.loss({"image": x})
    assert terms["loss"] == -terms["log_likelihood"] == -model.log_prob(x).mean()


@both
def test_every_parameter_has_a_gradient(family):
    model = family((1, 4, 4), 3)
    model.loss({"image": torch.rand(8, 1, 4, 4)})["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.all(), name


# --- missing entries -----------------------------------------------------------------------------


@both
def test_missing_entries_are_marginalised_and_completed(family):
    model = fitted(family)
    x = vectors(4)
    x[:, 2:5] = torch.nan
    seen = ~x[0].isnan()
    mean, C = model.mu.detach(), covariance(model)
    part = MultivariateNormal(mean[seen], C[seen][:, seen])
    torch.testing.assert_close(model.log_prob(x), part.log_prob(x[:, seen]), rtol=0, atol=1e-9)
    gain = C[~seen][:, seen] @ torch.linalg.inv(C[seen][:, seen])
    wanted = mean[~seen] + (x[:, seen] - mean[seen]) @ gain.T
    torch.testing.assert_close(model.reconstruct(x)[:, ~seen], wanted, rtol=0, atol=1e-9)
    # nothing seen: the prior
    nothing = torch.full((1, 9), torch.nan, dtype=torch.float64)
    assert model.log_prob(nothing).item() == pytest.approx(0, abs=1e-12)
    rate = kl_divergence(model.posterior(nothing), model.prior())
    assert rate.item() == pytest.approx(0, abs=1e-12)


def test_em_learns_from_what_is_there():
    whole = vectors(400)
    x = whole.masked_fill(torch.rand(whole.shape) < 0.2, torch.nan)
    model = fitted(PPCA, x, method="em", max_epochs=300, tol=1e-9)
    assert (np.diff(model.history) > -1e-10).all()
    gradients = torch.autograd.grad(model.train().log_prob(x).mean(), list(model.parameters()))
    assert max(g.abs().max() for g in gradients) < 1e-3  # the likelihood is flat there
    # the holes are filled better than by means
    holes = x.isnan()
    error = (model.reconstruct(x) - whole)[holes].square().mean()
    assert error < 0.3 * (x.nanmean(0) - whole)[holes].square().mean()
    # and data that lack the same entries give nearly what all of the data give
    complete = fitted(PPCA, whole)
    gain = complete.log_prob(whole).mean() - model.log_prob(whole).mean()
    assert 0 < gain < 0.1


@both
@pytest.mark.parametrize("row", [3, 1500])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_one_pass_needs_all_entries(family, row, value):
    x = vectors(2000)
    x[row, 3] = value
    model = family((9,), 3).double()
    with pytest.raises(ValueError, match=r"NaN or infinite|infinite values"):
        model.fit(x)
    assert all(p.isfinite().all() for p in model.parameters())


def test_an_entry_that_is_never_seen_is_as_likely_everywhere():
    x = vectors()
    x[:, 4] = torch.nan
    model = fitted(PPCA, x, method="em", max_epochs=50)
    assert all(p.isfinite().all() for p in model.parameters())
    assert (np.diff(model.history) > -1e-10).all()
    seen = torch.arange(9) != 4
    part = fitted(PPCA, x[:, seen], method="em", max_epochs=1000, tol=1e-13)
    assert model.log_prob(x).mean().item() == pytest.approx(part.history[-1], abs=0.05)


# --- passes over the data ------------------------------------------------------------------------


@every
def test_the_likelihood_never_falls(family, method):
    model = fitted(family, method=method, max_epochs=60)
    assert (np.diff(model.history) > -1e-10).all()
    x = vectors()
    torch.manual_seed(3)
    again = fitted(family, x, method=method, max_epochs=60)
    last = again.log_prob(x).mean().item()
    assert again.history[-1] <= last + 1e-9
    if method != "em":
        assert again.history[-1] == pytest.approx(last, abs=1e-9)


@every
@pytest.mark.parametrize("size", [1, 64])
def test_the_batch_size_changes_nothing(family, method, size):
    x = vectors(100)
    results = []
    for batch_size in (None, size):
        torch.manual_seed(0)
        model = fitted(family, x, method=method, max_epochs=4, batch_size=batch_size)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-10)


def test_em_comes_to_the_solution():
    x = vectors()
    solution = fitted(PPCA, x)
    model = fitted(PPCA, x, method="em", max_epochs=1000, tol=1e-14)
    assert model.history[-1] == pytest.approx(solution.history[-1], abs=1e-9)
    torch.testing.assert_close(covariance(model), covariance(solution), rtol=0, atol=1e-4)


class Rows(Dataset):
    """Vectors one by one, under the key of vectors."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index]}


class Vectors(LightningDataModule):
    def __init__(self, x, batch_size):
        super().__init__()
        self.x, self.batch_size = x, batch_size
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def train_dataloader(self):
        world, rank = self.trainer.world_size, self.trainer.global_rank
        sampler = DistributedSampler(Rows(self.x), world, rank, shuffle=False)
        return DataLoader(Rows(self.x), self.batch_size, sampler=sampler)

    def val_dataloader(self):
        return DataLoader(Rows(self.x), 50)


def trainer(folder, **arguments):
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            **arguments,
        }
    )


@every
def test_two_processes_equal_one(family, method, tmp_path):
    x = vectors(200)
    results = []
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        torch.manual_seed(0)
        # begun alike: where EM starts depends on the data that the first process sees first
        model = made(family, method, (9,), 3).double().fit(x[:20], max_epochs=1)
        before = covariance(model)
        run = trainer(tmp_path, devices=devices, strategy=strategy, max_epochs=3)
        run.fit(model, Vectors(x, 50 // devices))
        assert (covariance(model) - before).abs().max() > 0.1
        results.append((covariance(model), run.callback_metrics["train/log_likelihood"].item()))
    (a, a_value), (b, b_value) = results
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert a_value == pytest.approx(b_value, abs=1e-10)


@every
def test_processes_start_alike(family, method, tmp_path):
    x = vectors(200)
    torch.manual_seed(0)
    model = made(family, method, (9,), 3).double()
    run = trainer(tmp_path, devices=2, strategy="ddp_fork", max_epochs=2)
    run.fit(model, Vectors(x, 100))
    assert model.started
    alone = fitted(family, x, method=method, max_epochs=500, tol=1e-12)
    gap = alone.log_prob(x).mean() - model.log_prob(x).mean()
    assert -1e-9 < gap < (0.5 if method == "em" else 1e-9)


@every
@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_trainer_keeps_the_best_epoch_and_goes_on_from_it(family, method, tmp_path):
    x = vectors(60)

    def run(epochs, seed, **arguments):
        torch.manual_seed(seed)
        model = made(family, method, (9,), 3).double()
        best = ModelCheckpoint(tmp_path, "best", "val/log_likelihood", mode="max", save_last=True)
        loop = trainer(tmp_path, max_epochs=epochs, enable_checkpointing=True, callbacks=[best])
        loop.fit(model, Vectors(x, 25), **arguments)
        return model, loop, best

    model, loop, best = run(2, seed=0)
    assert loop.global_step == 6  # batches
    value = model.log_prob(x).mean().item()
    assert best.best_model_score.item() == pytest.approx(value, abs=1e-6)
    resumed, _, _ = run(4, seed=5, ckpt_path=best.last_model_path, weights_only=True)
    straight, _, _ = run(4, seed=0)
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)


# --- types, files, bad input ---------------------------------------------------------------------


@every
def test_float32_is_near_float64(family, method):
    x = vectors()
    exact = fitted(family, x, method=method, max_epochs=30)
    torch.manual_seed(1)
    single = made(family, method, (9,), 3).fit(x.numpy(), max_epochs=30)
    assert single.W.dtype == single.log_prob(x).dtype == single.sample(2).dtype == torch.float32
    assert single.history[-1] == pytest.approx(exact.history[-1], abs=1e-4)
    torch.testing.assert_close(
        covariance(single), covariance(exact), rtol=0, atol=1e-2 if method == "em" else 1e-4
    )


@every
@pytest.mark.parametrize("mean", [1e8, 1.7e9])  # the latter as of time stamps
def test_a_large_mean_costs_float32_no_digits(family, method, mean):
    x = vectors()
    values = []
    for offset in (0.0, mean):
        torch.manual_seed(1)
        model = made(family, method, (9,), 3).fit(x + offset)
        assert model.W.dtype == model.log_prob(x + offset).dtype == torch.float32
        values.append(model.log_prob(x + offset).double().mean().item())
        assert model.history[-1] == pytest.approx(values[-1], abs=1e-5)
    assert values[0] == pytest.approx(values[1], abs=1e-4)


@every
def test_bf16_mixed_costs_no_digits(family, method, tmp_path):
    module = FakeImages((1, 6, 6), n=64, batch_size=16, binarization="none")
    values = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        model = made(family, method, (1, 6, 6), 3)
        run = trainer(tmp_path, precision=precision, max_epochs=2)
        run.fit(model, module)
        values.append(run.callback_metrics["val/log_likelihood"].item())
    assert values[0] == pytest.approx(values[1], abs=1e-6)


@every
def test_a_saved_model_is_the_same_and_learns_on(family, method, tmp_path):
    x = vectors().float()
    torch.manual_seed(0)
    model = made(family, method, (9,), 3).fit(x, max_epochs=3)
    model.save_pretrained(tmp_path / "saved")
    again = zoo.from_pretrained(str(tmp_path / "saved"))
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert again.started
    again.fit(x, max_epochs=3)
    assert again.history[-1] >= model.history[-1] - 1e-5


@both
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(2, 1, 5, 4), "built for"),
        (torch.rand(1, 4, 4), "add the batch dimension"),
        (torch.rand(2, 1, 4, 4) * 255, "divide by 255"),
        (torch.full((2, 1, 4, 4), torch.inf), r"\[inf, inf\]"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "uint8|floats"),
    ],
)
def test_wrong_images_are_refused(family, x, message):
    model = family((1, 4, 4), 2)
    for verb in (model.encode, model.reconstruct, model.fit):
        with pytest.raises(ValueError, match=message):
            verb(x)


@both
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(2, 5), "built for"),
        (torch.rand(4), "add the batch dimension"),
        (torch.full((2, 4), torch.inf), "infinite"),
    ],
)
def test_wrong_vectors_are_refused(family, x, message):
    model = family((4,), 2)
    for verb in (model.posterior, model.log_prob, model.encode, model.fit):
        with pytest.raises(ValueError, match=message):
            verb(x)


@every
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 4), "at least one datum"),
        (torch.rand(1, 4), "two different data"),
        (torch.rand(1, 4).expand(9, 4), "two different data"),
    ],
)
def test_too_few_data_are_refused(family, method, x, message):
    with pytest.raises(ValueError, match=message):
        made(family, method, (4,), 2).double().fit(x)


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 16}, "must be less than the 16 numbers"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"x_shape": (0, 4)}, r"x_shape\[0\] is 0"),
    ],
)
def test_wrong_arguments_are_refused(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        family(**{"x_shape": (1, 4, 4), "latent_dim": 3, **arguments})


def test_a_wrong_method_is_refused():
    with pytest.raises(ValueError, match="did you mean closed"):
        PPCA((4,), 2, method="closd")


@both
def test_wrong_codes_are_refused(family):
    with pytest.raises(ValueError, match="z has shape"):
        family((4,), 2).decode(torch.zeros(2, 3))


@both
def test_a_fit_does_not_depend_on_the_one_before(family):
    near, far = vectors(), vectors() + 1e4
    far[:, 2] = 0.1  # a constant is one, about whatever origin
    model = fitted(family, far).fit(near).fit(far)
    torch.testing.assert_close(model.state_dict(), fitted(family, far).state_dict())


@every
def test_how_a_fit_ended_is_said(family, method):
    x = vectors()
    model = made(family, method, (9,), 3).double().fit(x, max_epochs=1000)
    assert model.converged
    assert model.history[-1] == pytest.approx(model.log_prob(x).mean().item(), abs=1e-9)
    short = {"max_iter": 2} if family is FactorAnalysis else {"method": method}
    model = family((9,), 3, **short).double()
    if method == "closed":
        assert model.fit(x, max_epochs=1).converged
        return
    with pytest.warns(ConvergenceWarning):
        model.fit(x, max_epochs=2)
    assert not model.converged
    assert model.history[-1] == pytest.approx(model.log_prob(x).mean().item(), abs=1e-9)


def test_a_fit_by_em_does_not_depend_on_the_one_before():
    x = vectors()
    model = fitted(PPCA, 100 * vectors(), method="em")
    torch.manual_seed(2)
    again = model.fit(x, max_epochs=5)
    new = made(PPCA, "em", (9,), 3).double()
    torch.manual_seed(2)
    torch.testing.assert_close(again.state_dict(), new.fit(x, max_epochs=5).state_dict())


@pytest.mark.parametrize(
    ("q", "shared", "own"), [(1, 5 + 5 + 1, 5 + 5 + 5), (2, 15, 19), (4, 20, 20)]
)
def test_free_parameters_are_counted(q, shared, own):
    """Of the mean, W up to rotations, and the noise; at most those of any Gaussian, 20."""
    assert PPCA((5,), q).summary()["parameters"] == shared
    assert FactorAnalysis((5,), q).summary()["parameters"] == own


@every
@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_missing_pixels_are_learned_from_by_em_alone(family, method, tmp_path):
    x = torch.rand(40, 1, 4, 4)
    x[20:][torch.rand(20, 1, 4, 4) < 0.1] = torch.nan
    loader = DataLoader([{"image": i} for i in x], batch_size=10)
    model = made(family, method, (1, 4, 4), 2)
    run = trainer(tmp_path, max_epochs=2, limit_val_batches=0)
    if method == "em":
        run.fit(model, loader)
        assert all(p.isfinite().all() for p in model.parameters())
        return
    with pytest.raises(ValueError, match="remove the NaNs"):
        run.fit(model, loader)


@every
def test_as_few_data_as_codes_leave_no_nan(family, method):
    x = vectors(3, 30)
    model = fitted(family, x, q=5, method=method, max_epochs=20)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.log_prob(x).isfinite().all()
    torch.testing.assert_close(model.reconstruct(x), x, rtol=0, atol=0.5)
