"""`zoo reproduce` trains a shipped checkpoint again, goes on where it was killed, and compares."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import t as student_t

import zoo
from zoo import recipes
from zoo.checkpoints import catalog
from zoo.checkpoints.card import refresh
from zoo.checkpoints.metrics import write_metrics
from zoo.cli.main import main
from zoo.evaluation import suites
from zoo.evaluation.protocol import QUICK, Protocol, with_quick_values
from zoo.pretrained.export import export
from zoo.pretrained.runs import load_training_checkpoint
from zoo.training.fit import run

RECIPE = """# A VAE on drawn stars, for tests.
seed_everything: 7
model:
  class_path: VAE
  init_args:
    x_shape: [1, 8, 8]
    latent_dim: 3
    hidden: [16]
    kl_warmup_steps: 24
    lr: 5.0e-3
data:
  class_path: FakeImages
  init_args:
    x_shape: [1, 8, 8]
    n: 96
    batch_size: 16
trainer:
  accelerator: cpu
  max_epochs: 4
  log_every_n_steps: 2
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: ModelCheckpoint
      init_args:
        monitor: val/elbo
        mode: max
        filename: best
        save_last: true
"""


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package that ships one checkpoint, `vae-tiny`, with its recipe."""
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "recipes")
    monkeypatch.setattr(catalog, "CARDS", tmp_path / "hub_cards")
    monkeypatch.setattr(catalog, "PINS", tmp_path / "hub_cards" / "sha256.json")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "vae-tiny.yaml").write_text(RECIPE)
    folder = catalog.CARDS / "vae-tiny"
    model = export(
        run(
            "fit",
            "vae-tiny",
            ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "first"],
        ).best_checkpoint(),
        folder,
    )
    protocols = (Protocol(samples=10), QUICK)
    full, quick = (suites.run(model, ["likelihood"], p) for p in protocols)
    write_metrics(folder, with_quick_values(full, quick))
    refresh(folder)
    return folder


def by_name(result):
    return {check.what: check for check in result.checks}


def test_the_recipes_own_seed_gives_the_same_weights(shipped):
    result = zoo.reproduce("vae-tiny", full=True)
    again = load_training_checkpoint(result.checkpoint).state_dict()
    for name, value in load_file(shipped / "model.safetensors").items():
        assert torch.equal(again[name], value)
    assert result.note == ""
    for check in result.checks:
        assert check.passed
        assert check.measured == check.stated
        assert "too few for a band" in check.note
    assert by_name(result).keys() >= {"elbo (quick)", "nll (quick)", "elbo", "nll"}
    assert "runs/reproduce/vae-tiny/seed-7" in result.checkpoint.as_posix()


def test_a_band_over_seeds_holds_the_next_one(shipped, capsys):
    for seed in (1, 2, 3):
        zoo.reproduce("vae-tiny", seed=seed, record=True)
    metrics = json.loads((shipped / "metrics.json").read_text())["metrics"]
    elbo = metrics[0]["quick"]["seeds"]
    assert elbo.keys() == {"7", "1", "2", "3"}  # the checkpoint's own first
    assert len(set(elbo.values())) == 4
    check = by_name(zoo.reproduce("vae-tiny", seed=4))["elbo (quick)"]
    values = list(elbo.values())
    half = student_t.ppf(0.995, 3) * statistics.stdev(values) * (5 / 4) ** 0.5
    assert check.tolerance >= half
    assert check.tolerance == pytest.approx(half, abs=1.0)  # and the Monte Carlo error
    assert check.passed == (abs(check.measured - statistics.mean(values)) <= check.tolerance)
    assert zoo.verify("vae-tiny", quick=True)  # the pins were written with the band
    assert all(c.passed for c in zoo.verify("vae-tiny", quick=True))

    path = shipped / "metrics.json"
    content = json.loads(path.read_text())
    for metric in content["metrics"]:
        if "quick" in metric:
            shifted = {seed: value + 50 for seed, value in metric["quick"]["seeds"].items()}
            metric["quick"]["seeds"] = shifted
    path.write_text(json.dumps(content))
    refresh(shipped)
    capsys.readouterr()
    assert main(["reproduce", "vae-tiny", "--seed", "4"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED" in out
    assert "elbo (quick)" in err


def test_a_run_that_was_killed_goes_on(shipped):
    whole = load_training_checkpoint(zoo.reproduce("vae-tiny", seed=5).checkpoint)
    Path("runs").rename("kept")
    # Two of four epochs, as a killed run leaves them.
    flags = ["--seed_everything", "5", "--trainer.max_epochs", "2", "--trainer.logger", "CSVLogger"]
    flags += ["--trainer.logger.save_dir", "runs/reproduce"]
    flags += ["--trainer.logger.name", "vae-tiny", "--trainer.logger.version", "seed-5"]
    run("fit", "vae-tiny", flags)
    again = zoo.reproduce("vae-tiny", seed=5).checkpoint
    resumed = load_training_checkpoint(again)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    written = again.stat().st_mtime_ns
    assert zoo.reproduce("vae-tiny", seed=5).checkpoint.stat().st_mtime_ns == written  # all done


def test_a_budget_shortens_and_says_so(shipped, capsys):
    assert main(["reproduce", "vae-tiny", "--budget", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "shortened to 2 of 4 epochs" in out
    assert "not compared" in out
    model = load_training_checkpoint(zoo.reproduce("vae-tiny", budget=0.5).checkpoint)
    assert model.kl_warmup_steps == 12


def test_what_does_not_ship_is_not_trained(shipped):
    with pytest.raises(zoo.ZooError, match="did you mean vae-tiny"):
        zoo.reproduce("vae-tin")
    with pytest.raises(zoo.ZooError, match="neither a folder nor a shipped model"):
        zoo.reproduce(str(shipped))
