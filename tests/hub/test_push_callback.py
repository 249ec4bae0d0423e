"""PushToHub: the best checkpoint goes out while the run goes on, whatever the Hub does."""

import logging
import threading
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import zoo
from tests.hub.conftest import TOKEN, set_endpoint
from zoo import hub as zoo_hub
from zoo.datamodules import FakeImages
from zoo.models import VAE
from zoo.pretrained.runs import load_training_checkpoint
from zoo.training.push import PushToHub
from zoo.training.seeding import SeedEpoch

REPO = "org/vae-stars"


@pytest.fixture(autouse=True)
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def train(folder, push=None, epochs=4, devices=1, also=()):
    """Train a small model; return it and the callback that knows the best checkpoint."""
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,), lr=1e-2)
    best = ModelCheckpoint(folder / "checkpoints", monitor="val/elbo", mode="max", filename="best")
    Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SeedEpoch(0), *([push] if push else []), *also, best],
    ).fit(model, FakeImages(x_shape=(1, 8, 8), n=64, batch_size=16))
    return model, best


def check_best_is_on_the_hub(hub, best, revision=None):
    trained = load_training_checkpoint(Path(best.best_model_path)).state_dict()
    pulled = zoo.from_pretrained(REPO, revision=revision).state_dict()
    assert all(torch.equal(pulled[name], value) for name, value in trained.items())


def test_the_best_is_on_the_hub_when_the_run_ends(hub, tmp_path, caplog):
    _, best = train(tmp_path, PushToHub(REPO))
    check_best_is_on_the_hub(hub, best)
    assert 'zoo.from_pretrained("org/vae-stars")' in hub.files(REPO)["README.md"].decode()
    assert not [r for r in caplog.records if r.name == "zoo.training.push"]


def test_the_training_is_the_same_with_and_without(hub, tmp_path):
    with_push, _ = train(tmp_path / "a", PushToHub(REPO))
    without, _ = train(tmp_path / "b")
    for name, value in without.state_dict().items():
        assert torch.equal(with_push.state_dict()[name], value)


def test_to_a_branch_of_a_private_repository(hub, tmp_path):
    _, best = train(tmp_path, PushToHub(REPO, private=True, revision="trial"))
    check_best_is_on_the_hub(hub, best, "trial")
    with pytest.raises(OSError, match="private"):
        zoo.from_pretrained(REPO, revision="trial", token=False)


@pytest.mark.parametrize("fault", ["down", "refused", "no token"])
def test_a_hub_that_fails_is_named_and_the_training_ends_well(
    hub, tmp_path, monkeypatch, caplog, fault
):
    if fault == "down":
        set_endpoint(monkeypatch, "http://127.0.0.1:9")
    elif fault == "refused":
        monkeypatch.setenv("HF_TOKEN", "hf_" + "wr0ng" * 7)
    else:
        monkeypatch.delenv("HF_TOKEN")
    with caplog.at_level(logging.WARNING):
        model, best = train(tmp_path, PushToHub(REPO))
    without, _ = train(tmp_path / "b")
    for name, value in without.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    said = [r.getMessage() for r in caplog.records if r.name == "zoo.training.push"]
    assert f"zoo export {best.best_model_path} FOLDER" in said[-1]
    assert "hf_" not in "".join(said)


def test_what_failed_is_tried_again_at_the_end(hub, tmp_path, monkeypatch, caplog):
    """The Hub takes nothing until the training has ended."""
    ended, real = threading.Event(), zoo_hub.push

    class End(Callback):
        def on_train_end(self, trainer, pl_module):
            ended.set()

    def push(*args, **kwargs):
        if not ended.is_set():
            raise zoo_hub.HubError("The Hub is out of order.")
        return real(*args, **kwargs)

    monkeypatch.setattr(zoo_hub, "push", push)
    _, best = train(tmp_path, PushToHub(REPO), also=[End()])
    check_best_is_on_the_hub(hub, best)
    assert "FOLDER" not in caplog.text


def test_training_goes_on_while_an_upload_hangs(hub, tmp_path, monkeypatch, caplog):
    """A push that waits for the end of the training would never end if training waited for it."""
    ended, real = threading.Event(), zoo_hub.push

    class End(Callback):
        def on_train_end(self, trainer, pl_module):
            ended.set()

    def push(*args, **kwargs):
        assert ended.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(zoo_hub, "push", push)
    _, best = train(tmp_path, PushToHub(REPO), also=[End()])
    check_best_is_on_the_hub(hub, best)  # the newest, and not only that which hung
    assert "not pushed" not in caplog.text


def test_an_upload_that_never_ends_is_given_up(hub, tmp_path, monkeypatch, caplog):
    never = threading.Event()
    monkeypatch.setattr(zoo_hub, "push", lambda *args, **kwargs: never.wait(60))
    callback = PushToHub(REPO, wait=0.05)
    train(tmp_path, callback)
    assert "zoo push FOLDER org/vae-stars" in caplog.text
    never.set()
    callback.wait = 60.0
    callback._join()  # before the next test, which forks and has the real push again


def test_one_of_two_processes_pushes(hub, tmp_path):
    train(tmp_path, PushToHub(REPO), epochs=2, devices=2)
    pulled = zoo.from_pretrained(REPO)
    assert pulled.latent_shape == (3,)


def test_what_it_needs(tmp_path):
    with pytest.raises(ValueError, match="organisation/name"):
        PushToHub("vae")
    with pytest.raises(zoo.ZooError, match="ModelCheckpoint with a monitor"):
        Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=[PushToHub(REPO)],
        ).fit(VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)), FakeImages((1, 8, 8), 64))
