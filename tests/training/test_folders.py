"""Where runs lie, and which checkpoint a run goes on from: its own, and nobody loses a file."""

import os
import shlex
import signal
from pathlib import Path

import pytest
import torch
import yaml

from zoo.cli.main import main
from zoo.models import VAE

RECIPE = """
seed_everything: 3
model:
  class_path: VAE
  init_args: {x_shape: [1, 8, 8], latent_dim: 3, hidden: [6]}
data:
  class_path: FakeImages
  init_args: {x_shape: [1, 8, 8], n: 64, batch_size: 16}
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_model_summary: false
  enable_progress_bar: false
  log_every_n_steps: 1
  callbacks:
    - class_path: ModelCheckpoint
      init_args: {monitor: val/loss, mode: min, filename: best, save_last: true}
    - class_path: SampleGrid
      init_args: {n: 4}
  logger:
    class_path: CSVLogger
    init_args: {save_dir: runs, name: tiny}
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*exists and is not empty")


@pytest.fixture
def fit(capfd):
    """Train by the recipe with flags; return the last line of what is said, and the exit code."""
    Path("tiny.yaml").write_text(RECIPE)

    def train(*flags, command="fit"):
        code = main([command, "tiny.yaml", *map(str, flags)])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return err.strip().splitlines()[-1] if code else out.strip(), code

    return train


def contents(folder):
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def epochs(path):
    return torch.load(path, weights_only=True)["epoch"] + 1


def test_last_is_of_the_run_that_the_flags_name(fit):
    for name in ("a", "b"):
        assert fit("--trainer.logger.name", name)[1] == 0
    others = contents("runs/b")
    more = ["--ckpt_path", "last", "--trainer.max_epochs", 3]
    assert fit("--trainer.logger.name", "a", *more)[1] == 0
    assert epochs("runs/a/version_0/checkpoints/last.ckpt") == 3
    says, code = fit("--trainer.logger.name", "c", *more)
    assert "no run under runs/c has a last.ckpt to resume; leave out --ckpt_path" in says
    assert code == 1
    assert "no run under runs/tiny has" in fit(*more)[0]
    assert fit("--trainer.logger.name", "a", "--trainer.logger.version", 7, *more)[1] == 1
    assert contents("runs/b") == others


def test_a_run_of_another_name_leaves_the_checkpoints_that_it_starts_from(fit):
    assert fit("--trainer.logger.name", "a")[1] == 0
    before = contents("runs/a")
    start = "runs/a/version_0/checkpoints/last.ckpt"
    flags = ["--ckpt_path", start, "--trainer.max_epochs", 3]
    assert fit("--trainer.logger.name", "b", *flags)[1] == 0
    assert contents("runs/a") == before
    assert epochs("runs/b/version_0/checkpoints/last.ckpt") == 3


def test_a_resumed_run_may_log_into_a_folder_of_its_own(fit):
    assert fit("--trainer.logger.version", "first")[1] == 0
    logs = (Path("runs/tiny/first/metrics.csv")).read_bytes()
    flags = ["--trainer.logger.version=first/resumed-1", "--ckpt_path=last"]
    assert fit(*flags, "--trainer.max_epochs=3")[1] == 0
    assert Path("runs/tiny/first/metrics.csv").read_bytes() == logs
    assert [str(path) for path in Path("runs").rglob("last.ckpt")] == [
        "runs/tiny/first/checkpoints/last.ckpt"
    ]
    assert epochs("runs/tiny/first/checkpoints/last.ckpt") == 3


def test_a_version_that_exists_is_not_trained_into(fit):
    assert fit()[1] == 0
    before = contents("runs")
    says, code = fit("--trainer.logger.version", 0)
    assert "runs/tiny/version_0 holds a run already; leave out the version" in says
    says, code = fit("--trainer.logger.version", 0, "--ckpt_path", "last", command="test")
    assert "runs/tiny/version_0 holds a run already" in says
    assert code == 1
    assert contents("runs") == before


def test_each_checkpoint_is_exported_with_the_recipe_that_wrote_it(fit):
    assert fit("--model.lr", 0.01)[1] == 0
    folder = Path("runs/tiny/version_0")
    first = (folder / "config.yaml").read_text()
    assert main(["export", str(folder / "checkpoints" / "last.ckpt"), "first"]) == 0
    more = ["--ckpt_path", "last", "--trainer.max_epochs", 3, "--model.lr", 0.02]
    assert fit(*more)[1] == 0
    assert main(["export", str(folder / "checkpoints" / "last.ckpt"), "second"]) == 0
    rates = [
        yaml.safe_load(Path(name, "recipe.yaml").read_text())["model"]["init_args"]["lr"]
        for name in ("first", "second")
    ]
    assert rates == [0.01, 0.02]
    assert (folder / "config.yaml").read_text() == first
    second = yaml.safe_load((folder / "config-1.yaml").read_text())
    assert second["ckpt_path"] == "runs/tiny/version_0/checkpoints/last.ckpt"


def test_without_a_logger_only_checkpoints_and_pictures_are_written(fit):
    Path("config.yaml").write_text("mine: 1\n")
    Path("pictures").mkdir()
    assert fit("--trainer.logger", "false")[1] == 0
    assert fit("--trainer.logger=false", "--ckpt_path=last", "--trainer.max_epochs=3")[1] == 0
    assert Path("config.yaml").read_text() == "mine: 1\n"
    assert [*Path("pictures").iterdir()] == []
    assert {p.name for p in Path().iterdir()} == {
        *("tiny.yaml", "config.yaml", "pictures", "checkpoints")
    }
    assert epochs("checkpoints/last.ckpt") == 3
    assert main(["export", "checkpoints/best.ckpt", "out"]) == 0
    assert yaml.safe_load(Path("out/recipe.yaml").read_text())["trainer"]["logger"] is False


def test_a_trial_run_writes_nothing(fit):
    assert fit("--trainer.fast_dev_run", 1)[1] == 0
    assert [p.name for p in Path().iterdir()] == ["tiny.yaml"]


def test_runs_of_weights_and_biases_have_folders_of_their_own(fit):
    import wandb

    flags = ["--trainer.logger=WandbLogger", "--trainer.logger.save_dir=wb"]
    flags += ["--trainer.logger.project=p", "--trainer.logger.offline=true"]
    for name, rate in (("A", 0.01), ("B", 0.02)):
        assert fit(*flags, f"--trainer.logger.name={name}", f"--model.lr={rate}")[1] == 0
        wandb.finish()
    rates = {
        yaml.safe_load(path.read_text())["model"]["init_args"]["lr"]: path.parent
        for path in Path("wb/p").glob("*/config.yaml")
    }
    assert rates.keys() == {0.01, 0.02}
    resumed = ["--trainer.logger.name=A", "--ckpt_path=last", "--trainer.max_epochs=3"]
    assert fit(*flags, *resumed)[1] == 0
    wandb.finish()
    ends = {rate: epochs(run / "checkpoints" / "last.ckpt") for rate, run in rates.items()}
    assert ends == {0.01: 3, 0.02: 2}
    assert not Path("wb/config.yaml").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--model", "IWAE"], "is of a VAE, not of a IWAE as the recipe"),
        (["--model.latent_dim", "4"], "holds other weights (latent_dim is 3 there and 4 here)"),
        (["--data", "FakeFaces"], "was trained on FakeImages, not on FakeFaces as the recipe says"),
        (["--trainer.max_epochs", "1"], "2 epochs, more than the 1 that are asked for; raise"),
        (["--trainer.max_steps", "3"], "8 steps, more than the 3 that are asked for; raise"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(fit, flags, says):
    assert fit()[1] == 0
    before = contents("runs")
    last = "runs/tiny/version_0/checkpoints/last.ckpt"
    for given in ("last", last):
        said, code = fit(*flags, "--ckpt_path", given)
        assert (says in said, code) == (True, 1), said
    assert contents("runs") == before


def test_a_checkpoint_of_weights_alone_is_refused(fit):
    checkpoint = "--trainer.callbacks+=ModelCheckpoint"
    flags = ["--trainer.callbacks.save_weights_only=true", "--trainer.callbacks.dirpath=w"]
    assert fit(checkpoint, *flags, "--trainer.callbacks.filename=w")[1] == 0
    assert "w/w.ckpt holds weights alone" in fit("--ckpt_path", "w/w.ckpt")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(fit, monkeypatch, number):
    step = VAE.training_step
    flags = ["--trainer.logger.name", "a b", "--trainer.max_epochs=3"]

    def interrupted(self, batch, i):
        if self.current_epoch == when and i == 1:
            os.kill(os.getpid(), number)
        return step(self, batch, i)

    monkeypatch.setattr(VAE, "training_step", interrupted)
    when = 0
    says, code = fit(*flags)
    assert code == 130
    assert says == "zoo: interrupted; no checkpoint was written yet: the first comes after the " + (
        "first validation"
    )
    when = 1
    says, code = fit(*flags)
    assert code == 130
    kept, _, command = says.partition(" is kept; to go on: ")
    assert kept == "zoo: interrupted; runs/a b/version_1/checkpoints/last.ckpt"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    when = -1
    assert main(shlex.split(command)[1:]) == 0
    assert epochs("runs/a b/version_1/checkpoints/last.ckpt") == 3
