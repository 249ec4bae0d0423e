"""bfloat16 where the hardware has it."""

import pytest
import torch

from zoo.training import precision
from zoo.training.fit import run
from zoo.training.precision import suited_precision


def test_this_machine_decides():
    cpu = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for asked in ("bf16-mixed", "bf16-true"):
        assert suited_precision(asked, "cpu") == (asked if cpu else "32-true")
    for asked in ("32-true", "16-mixed", "64-true", "None"):
        assert suited_precision(asked, "cpu") == asked
    assert suited_precision("bf16-mixed", "tpu") == "bf16-mixed"


@pytest.mark.parametrize(("has", "runs"), [(False, "32-true"), (True, "bf16-mixed")])
def test_a_recipe_runs_in_what_there_is_and_says_so(has, runs, tmp_path, monkeypatch, capfd):
    # There is one machine to test on; what it has is all that is changed.
    monkeypatch.setattr(precision, "_has_bfloat16", lambda accelerator: has)
    monkeypatch.chdir(tmp_path)
    flags = ["--data", "FakeImages", "--data.x_shape", "[1, 28, 28]", "--data.n", "300"]
    flags += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    flags += ["--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"]
    assert run("fit", "cvae-mnist", flags).trainer.precision == runs
    said = capfd.readouterr()
    assert ("Training in float32" in said.out + said.err) is not has
    (config,) = tmp_path.rglob("config.yaml")
    assert f"precision: {runs}" in config.read_text()
