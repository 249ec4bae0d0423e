"""The DB-VAE against its terms written out, and what its training draws, in one process and two."""

import json
import logging
import math
from itertools import chain

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

import zoo
from zoo.datamodules import FakeFaces
from zoo.errors import ZooError
from zoo.inference.resampling import resampling_weights
from zoo.models import DBVAE
from zoo.training.seeding import SeedEpoch

NAMES = ["Smiling", "Bald", "Eyeglasses"]


def small(**arguments):
    known = {"x_shape": (3, 16, 16), "attributes": tuple(NAMES), "latent_dim": 3, "hidden": (4, 8)}
    return DBVAE(**{**known, **arguments})


def faces(n=45, batch_size=8):
    return FakeFaces(size=16, n=n, batch_size=batch_size, attributes=NAMES)


def batch_of(n):
    return {"image": torch.rand(n, 3, 16, 16), "attributes": torch.randint(2, (n, 3))}


# --- terms and scores by hand --------------------------------------------------------------------


def test_loss_is_the_weighted_classification_and_minus_the_elbo():
    model, batch = small(c1=7.0).double(), batch_of(20)
    x, y = batch["image"].double(), batch["attributes"][:, 0]
    torch.manual_seed(1)
    terms = model.loss({**batch, "image": x})
    torch.manual_seed(1)
    mean, log_scale, logit = model.encoder(x).split([3, 3, 1], 1)
    z = mean + log_scale.exp() * torch.randn_like(mean)
    s = model.log_scale
    log_p = -0.5 * ((x - model.decoder(z)) / s.exp()) ** 2 - s - 0.5 * math.log(2 * math.pi)
    kl = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
    p = 1 / (1 + (-logit[:, 0]).exp())
    surprise = -torch.where(y == 1, p, 1 - p).log().mean()
    elbo = (log_p.sum((1, 2, 3)) - kl).mean()
    assert terms["classification"].item() == pytest.approx(surprise.item(), rel=1e-6)
    assert terms["elbo"].item() == pytest.approx(elbo.item(), rel=1e-6)
    assert terms["loss"].item() == pytest.approx((7 * surprise - elbo).item(), rel=1e-6)
    torch.testing.assert_close(model.classify(x)[:, 1], p)
    torch.testing.assert_close(model.classify(x).sum(1), torch.ones(20).double())


def test_scores_count_each_group(monkeypatch):
    model = small()
    logit = torch.tensor([1.0, 1, -1, 1, -1, 2])
    monkeypatch.setattr(model, "_heads", lambda x: (None, logit))
    attributes = torch.tensor(
        [[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]]  # found: 1 1 0 1 0 1
    )
    found = model.scores({"image": torch.rand(6, 3, 16, 16), "attributes": attributes})
    counts = {name: (int(right.sum()), int(of.sum())) for name, (right, of) in found.items()}
    assert counts == {
        "accuracy": (4, 6),
        "label_precision": (3, 4),
        "label_recall": (3, 4),
        "recall_Bald": (1, 1),
        "recall_no_Bald": (2, 3),
        "recall_Eyeglasses": (0, 1),
        "recall_no_Eyeglasses": (3, 3),
    }
    assert model.scores({"image": torch.rand(1, 3, 16, 16)}) == {}


def test_exhibits_are_the_rarest_and_the_commonest_codes(monkeypatch):
    model, x = small(alpha=0.01), torch.rand(7, 3, 16, 16)
    codes = torch.zeros(7, 3)
    codes[2] = 3.0  # each the only one of its kind among those with y = 1
    codes[[0, 6]] = -3.0
    monkeypatch.setattr(model, "encode", lambda images: codes[:6])
    y = torch.tensor([1, 1, 1, 1, 1, 1, 0])
    attributes = torch.stack([y, y, y], 1)
    (page,) = model.exhibits({"image": x, "attributes": attributes})["examples.png"]
    assert page.shape == (3, 2 + 2 * 18, 2 + 3 * 18)
    first = {tuple(page[:, 2:18, 2 + 18 * i : 18 + 18 * i].flatten().tolist()) for i in range(2)}
    assert first == {tuple(x[i].flatten().tolist()) for i in (0, 2)}
    assert model.exhibits({"image": x, "attributes": 0 * attributes}) == {}


def test_evaluate_measures_the_bound_and_the_scores():
    model, batch = small().eval(), batch_of(12)
    found = {m.name: m for m in zoo.evaluate(model, [batch], samples=5)}
    assert {"nll", "elbo", "accuracy", "label_precision", "recall_no_Bald"} <= {*found}
    y = batch["attributes"][:, 0] > 0
    right = ((model.classify(batch["image"])[:, 1] > 0.5) == y).float().mean().item()
    assert found["accuracy"].value == pytest.approx(right, abs=1e-4)


def test_every_parameter_learns():
    model = small()
    model.loss(batch_of(8))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_has_the_verbs_of_a_vae_and_of_a_classifier():
    verbs = ("sample", "prior", "posterior", "likelihood", "encode", "decode", "classify")
    assert DBVAE().verbs() == (*verbs, "reconstruct")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0, but must be above 0"),
        ({"bins": 4}, "bins is 4, but must be odd"),
        ({"attributes": ()}, "at least 1"),
        ({"attributes": ("a", "a")}, "must be different names"),
        ({"c1": -1.0}, "c1 is -1.0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_attributes_that_do_not_fit_are_refused():
    batch = {**batch_of(2), "attributes": torch.ones(2, 2, dtype=torch.int64)}
    with pytest.raises(ValueError, match="has 2 attributes, but this model knows 3"):
        small().loss(batch)
    with pytest.raises(ValueError, match="the batch has image, but no attributes"):
        small().loss({"image": batch["image"]})


# --- what training draws -------------------------------------------------------------------------


@pytest.fixture
def _quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)


class Watched(DBVAE):
    """Writes the weights and what was drawn to a file of its process."""

    def __init__(self, folder, **arguments):
        super().__init__(**arguments)
        self.folder, self.seen, self.weights = folder, [], []

    def sampling_weights(self):
        weights = super().sampling_weights()
        self.weights.append(weights.tolist())
        return weights

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["index"].tolist())
        return super().training_step(batch, batch_idx)

    def on_train_end(self):
        path = self.folder / f"{self.trainer.world_size}-{self.global_rank}.json"
        path.write_text(json.dumps({"weights": self.weights, "seen": self.seen}))


def trainer(**arguments):
    return Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "max_epochs": 2,
            "callbacks": [SeedEpoch(0)],
            **arguments,
        }
    )


def spread(model):
    """A model whose codes differ between images."""
    with torch.no_grad():
        model.encoder[-1].weight.mul_(20)
    return model


@pytest.mark.usefixtures("_quiet")
@pytest.mark.filterwarnings("ignore")
def test_two_processes_draw_what_one_does(tmp_path):
    known = {"x_shape": (3, 16, 16), "attributes": tuple(NAMES), "latent_dim": 3, "hidden": (4, 8)}
    for devices, size in ((1, 8), (2, 4)):
        torch.manual_seed(0)
        model = spread(Watched(tmp_path, lr=0.0, alpha=0.1, **known))  # so codes stay the same
        strategy = "auto" if devices == 1 else "ddp_fork"
        trainer(devices=devices, strategy=strategy).fit(model, faces(batch_size=size))
    one, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")
    )
    assert first["weights"] == second["weights"]
    for alone, together in zip(one["weights"], first["weights"], strict=True):
        # convolutions of other batches round otherwise, and may move a code over a bin's edge
        torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), rtol=1e-5, atol=0)
    assert len(one["seen"]) == len(first["seen"]) == 12
    last = (5, 11)  # the rest of an epoch is dealt in another way
    for i, (alone, a, b) in enumerate(zip(one["seen"], first["seen"], second["seen"], strict=True)):
        if i not in last:
            assert sorted(alone) == sorted(a + b)
    data = faces()
    data.setup()
    y = data.splits["train"]["attributes"][:, 0] > 0
    weights = torch.tensor(one["weights"][0])
    assert (weights[~y] == 1).all()
    assert weights[y].mean().item() == pytest.approx(1, rel=1e-6)
    x = data.splits["train"]["image"].float() / 255
    expected = resampling_weights(model.encode(x[y]).detach(), 0.1, 11)
    torch.testing.assert_close(weights[y].double(), expected, rtol=1e-5, atol=0)
    assert weights.max() > 2


@pytest.mark.usefixtures("_quiet")
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_goes_on_ends_like_one_that_was_not_stopped(tmp_path):
    def fitted(epochs, ckpt=None):
        torch.manual_seed(0)
        model = spread(small(lr=0.01, alpha=0.1))
        run = trainer(max_epochs=epochs)
        run.fit(model, faces(), ckpt_path=ckpt, weights_only=True)
        return run, model

    run, _ = fitted(1)
    run.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = fitted(3, str(tmp_path / "half.ckpt"))
    _, whole = fitted(3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.usefixtures("_quiet")
@pytest.mark.filterwarnings("ignore")
def test_without_debiasing_each_image_is_seen_once(tmp_path):
    known = {"x_shape": (3, 16, 16), "attributes": tuple(NAMES), "latent_dim": 3, "hidden": (4, 8)}
    model = Watched(tmp_path, debias=False, **known)
    trainer(max_epochs=1).fit(model, faces())
    assert sorted(chain(*model.seen)) == [*range(45)]
    assert model.weights == []


@pytest.mark.usefixtures("_quiet")
@pytest.mark.filterwarnings("ignore")
def test_other_loaders_are_refused():
    data = faces()
    data.setup()
    rows = [{"image": torch.rand(3, 16, 16), "attributes": torch.ones(3)} for _ in range(4)]
    with pytest.raises(ZooError, match="trains by a DataModule only"):
        trainer(max_epochs=1).fit(small(), DataLoader(rows, batch_size=2))
