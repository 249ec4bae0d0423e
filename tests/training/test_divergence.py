"""A training that diverges stops in a sentence, and its checkpoints hold numbers."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from zoo.datamodules import FakeImages
from zoo.errors import ZooError
from zoo.models import VAE
from zoo.training.divergence import StopWhenDiverged
from zoo.training.fit import run
from zoo.training.saving import AtomicCheckpointIO, SaveLast


class Leap(Callback):
    """From the second epoch on, steps are so long that the next loss is no number."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            trainer.optimizers[0].param_groups[0]["lr"] = 1e30


def train(folder, callbacks, precision="32-true"):
    model = VAE(x_shape=(1, 12, 12), latent_dim=4, hidden=(32,))
    Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        precision=precision,
        num_sanity_val_steps=0,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            ModelCheckpoint(folder, "best", monitor="val/elbo", mode="max", save_last=True),
            SaveLast(),
            *callbacks,
        ],
    ).fit(model, FakeImages(x_shape=(1, 12, 12), n=96, batch_size=16))


def finite(path):
    weights = torch.load(path, weights_only=True)["state_dict"].values()
    return all(tensor.isfinite().all() for tensor in weights)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_stops_before_the_step_and_names_the_last_checkpoint(tmp_path, precision):
    with pytest.raises(ZooError, match=r"diverged at step \d+ \(epoch 2\): .*last\.ckpt is from"):
        train(tmp_path, [Leap(), StopWhenDiverged()], precision)
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert all(finite(path) for path in tmp_path.iterdir())


def test_weights_that_are_no_number_replace_no_checkpoint(tmp_path):
    with pytest.raises(ZooError, match=r"is not a number, so .*\.ckpt is not written"):
        train(tmp_path, [Leap()])
    assert all(finite(path) for path in tmp_path.iterdir())


def test_a_recipe_says_so_where_nothing_was_saved_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data", "FakeImages", "--data.x_shape", "[1, 28, 28]", "--model.lr", "1e30"]
    flags += ["--model.lr_warmup_steps", "0", "--trainer.enable_progress_bar", "false"]
    flags += ["--trainer.log_every_n_steps", "1"]
    flags += ["--trainer.max_epochs", "1", "--data.n", "2000"]
    with pytest.raises(ZooError, match=r"diverged at step .*no checkpoint was written before"):
        run("fit", "vae-mnist", flags)
    assert not [*tmp_path.rglob("*.ckpt")]
