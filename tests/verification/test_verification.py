"""`zoo verify` passes what is as stated, and nothing else."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.checkpoints import catalog
from zoo.checkpoints.card import write_card
from zoo.checkpoints.files import sha256
from zoo.checkpoints.metrics import write_metrics
from zoo.cli.main import main
from zoo.datamodules.images.mnist import missing_files, raw_dir
from zoo.evaluation.protocol import QUICK, Protocol, with_quick_values
from zoo.evaluation.suites import run
from zoo.models import VAE

FAKE = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 400}}


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    """A checkpoint folder with measured numbers and a card."""
    folder = tmp_path_factory.mktemp("models") / "vae-stars"
    torch.manual_seed(0)
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    vae.data = FAKE
    vae.save_pretrained(folder)
    full, quick = (run(vae, ["likelihood"], p) for p in (Protocol(samples=50), QUICK))
    write_metrics(folder, with_quick_values(full, quick))
    write_card(folder)
    return folder


@pytest.fixture
def folder(stated, tmp_path):
    """A copy to damage."""
    return shutil.copytree(stated, tmp_path / stated.name)


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def metric(content, name):
    return next(m for m in content["metrics"] if m["name"] == name)


def failures(folder, **options):
    return [check.what for check in zoo.verify(str(folder), **options) if not check.passed]


@pytest.mark.parametrize("quick", [False, True])
def test_an_honest_checkpoint_passes(stated, quick):
    checks = {check.what: check for check in zoo.verify(str(stated), quick=quick)}
    assert all(check.passed for check in checks.values()), checks
    assert checks.keys() == {
        *("files", "strict load", "golden outputs", "summary", "card"),
        *("elbo", "rate", "distortion", "nll", "active_units"),
    }
    for name in ("elbo", "rate", "distortion", "nll"):  # the same draws on the same machine
        assert checks[name].measured == pytest.approx(checks[name].stated, abs=1e-4)


def test_the_errors_are_those_of_other_seeds_and_images():
    """Values of many seeds spread as their Monte Carlo error says, and so do halves of the data."""
    torch.manual_seed(0)
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    vae.data = FAKE
    with torch.no_grad():
        vae.decoder[0][0].weight *= 3
    runs = [
        {m.name: m for m in run(vae, ["likelihood"], Protocol(100, 40, seed))} for seed in range(20)
    ]
    for name in ("elbo", "distortion", "nll"):
        spread = torch.tensor([found[name].value for found in runs]).std().item()
        stated = sum(found[name].monte_carlo_error for found in runs) / len(runs)
        # the spread of 20 values has a relative error of 1 / sqrt(38) = 0.16; three of them
        assert spread == pytest.approx(stated, rel=0.49)
        assert stated < runs[0][name].standard_error


@pytest.mark.parametrize("name", ["elbo", "rate", "distortion", "nll"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_value_off_by_three_standard_errors_fails(folder, name, quick):
    def change(content):
        entry = metric(content, name)
        entry = entry["quick"] if quick else entry
        entry["value"] = round(entry["value"] + 3 * entry["standard_error"], 4)

    rewrite(folder / "metrics.json", change)
    write_card(folder)
    assert failures(folder, quick=quick) == [name]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda c: metric(c, "active_units").update(value=2), "active_units"),
        (lambda c: metric(c, "elbo").update(standard_error=50.0), "elbo"),
        (lambda c: metric(c, "elbo").update(count=101), "elbo"),
        (lambda c: metric(c, "nll").update(seed=5, monte_carlo_error=9.0), None),
        (lambda c: metric(c, "nll").update(name="bits"), "bits"),
        (lambda c: c.update(weights="0" * 64), "metrics"),
        (lambda c: c.update(metrics=[]), None),  # fewer numbers are no wrong ones
        (lambda c: metric(c, "elbo").update(dataset="FakeImage"), "metrics"),
    ],
)
def test_what_metrics_json_may_not_state(folder, change, failed):
    rewrite(folder / "metrics.json", change)
    (folder / "README.md").unlink()
    assert failures(folder) == ([failed] if failed else [])


@pytest.mark.parametrize(
    ("tensor", "place", "also"),
    [
        ("decoder.0.0.weight", (3, 1), "metrics"),  # too small to be seen in the golden outputs
        ("decoder.0.2.bias", (20,), "golden outputs"),
    ],
)
def test_a_weight_off_by_a_thousandth_fails(folder, tensor, place, also):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[tensor][place] += 1e-3
    save_file(weights, path)
    assert failures(folder) == ["files"]
    # and so it does with a hash to go with it
    rewrite(
        folder / "config.json",
        lambda c: c["sha256"].update({"model.safetensors": sha256(path)}),
    )
    assert failures(folder) == [also]


def test_weights_that_changed_after_the_measurement_fail(folder):
    vae = zoo.from_pretrained(str(folder))
    with torch.no_grad():
        vae.decoder[0][0].weight[3, 1] += 1e-3
    numbers = {name: (folder / name).read_text() for name in ("metrics.json", "README.md")}
    vae.save_pretrained(folder)  # with golden outputs of its own
    assert failures(folder) == []  # what was measured of the old ones is gone
    for name, text in numbers.items():
        (folder / name).write_text(text)
    assert failures(folder) == ["metrics"]


def test_a_model_without_numbers_is_checked_but_for_these(folder, capsys):
    (folder / "metrics.json").unlink()
    (folder / "README.md").unlink()
    checks = {check.what: check for check in zoo.verify(str(folder))}
    assert [*checks][:5] == ["files", "strict load", "golden outputs", "summary", "card"]
    assert all(check.passed for check in checks.values())
    assert "none are stated" in checks["metrics"].note
    assert main(["verify", str(folder), "--quick"]) == 0
    assert "`zoo evaluate --write` measures them" in capsys.readouterr().out
    (folder / "golden.safetensors").unlink()
    assert failures(folder) == ["files"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("| elbo | ", "| elbo | 1"), ("| nll | ", "| nll | 2"), ("value: ", "value: 3")],
)
def test_a_card_that_contradicts_metrics_json_fails(folder, old, new):
    card = folder / "README.md"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new, 1))
    assert failures(folder) == ["card"]


def test_a_card_without_front_matter_that_can_be_read_fails(folder):
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert failures(folder) == ["card"]


def test_a_card_of_ones_own_need_not_state_metrics(folder):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    assert failures(folder) == []


@pytest.mark.parametrize("file", ["model.safetensors", "golden.safetensors"])
def test_missing_and_damaged_files_fail(folder, file):
    data = bytearray((folder / file).read_bytes())
    data[-1] ^= 1
    (folder / file).write_bytes(data)
    assert failures(folder) == ["files"]
    (folder / file).unlink()
    assert failures(folder) == ["files"]


def test_a_summary_that_is_not_the_models_fails(folder):
    rewrite(folder / "config.json", lambda c: c["summary"].update(parameters=5))
    assert failures(folder) == ["summary"]


def test_the_command_prints_a_table_and_an_exit_code(folder, capsys):
    assert main(["verify", str(folder), "--quick", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["check", "stated", "measured", "tolerance"]
    assert [line.split()[0] for line in lines[-5:]] == [
        *("elbo", "rate", "distortion", "nll", "active_units")
    ]
    rewrite(folder / "metrics.json", lambda c: metric(c, "rate")["quick"].update(value=1.0))
    assert main(["verify", str(folder), "--quick"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED" in out
    assert "failed 1 of 10 checks: rate." in err


def test_the_command_as_json(folder, capsys):
    assert main(["verify", str(folder), "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert {"what", "passed", "stated", "measured", "tolerance", "note"} == report["checks"][
        0
    ].keys()
    (folder / "config.json").unlink()
    assert main(["verify", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    assert report["checks"][-1]["what"] == "files"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify", "vae-minst"], "did you mean vae-mnist"),
        (["verify", "vae-mnist", "--device", "gpu:7"], "no device 'gpu:7'"),
        (["verify", "vae-mnist", "--revision", "a b"], "no revision"),
        (["verify"], "model"),
        (["reproduce", "vae-mnist", "--budget", "0"], "in (0, 1]"),
        (["reproduce", "vae-mnist", "--budget", "0.1", "--record"], "leave out --budget"),
        (["reproduce", "somebody/vae"], "neither a folder nor a shipped model"),
    ],
)
def test_wrong_words(words, message, capsys):
    assert main(words) in (1, 2)
    out, err = capsys.readouterr()
    assert (len(err.splitlines()), out) == (1, "")
    assert message in err


@pytest.mark.parametrize("name", catalog.list_models())
def test_shipped_checkpoints_pass_the_quick_check(name):
    if missing_files("MNIST", raw_dir("MNIST", None)):
        pytest.skip("$ZOO_DATA holds no MNIST")
    checks = zoo.verify(name, quick=True)
    assert len(checks) > 5
    assert [check for check in checks if not check.passed] == []
