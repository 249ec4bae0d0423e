"""What was measured on other weights is neither shown nor pushed, and no path is published."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import zoo
from zoo.checkpoints.card import write_card
from zoo.checkpoints.files import FILES
from zoo.checkpoints.metrics import write_metrics
from zoo.checkpoints.models import check_measured
from zoo.checkpoints.paths import without_paths
from zoo.cli.main import main
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import run
from zoo.models import VAE

FAKE = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}}
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def vae(hidden=6):
    torch.manual_seed(hidden)
    model = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(hidden,)).eval()
    model.data = FAKE
    return model


def number(folder):
    """The NLL that a folder states."""
    return [m.value for m in zoo.describe(str(folder)).metrics if m.name == "nll"]


@pytest.fixture
def measured(tmp_path):
    """A folder with everything that a checkpoint may have."""
    folder = tmp_path / "vae-old"
    vae().save_pretrained(folder)
    write_metrics(folder, run(vae(), ["likelihood"], Protocol(samples=5)))
    for name in ("map.png", "samples.png", "recipe.yaml", "tokenizer.json"):
        (folder / name).write_bytes(b"of the old model")
    write_card(folder)
    assert number(folder)
    return folder


def test_another_model_in_the_same_folder_takes_over_nothing(measured):
    (measured / "notes.txt").write_text("mine")
    vae(hidden=7).save_pretrained(measured)
    assert {p.name for p in measured.iterdir()} == {
        *("config.json", "model.safetensors", "golden.safetensors"),
        "notes.txt",
    }
    assert number(measured) == []


def test_the_same_weights_keep_what_was_measured(measured):
    before = {p.name: p.read_bytes() for p in measured.iterdir()}
    vae().save_pretrained(measured)
    assert {p.name: p.read_bytes() for p in measured.iterdir()} == before


def test_a_card_of_ones_own_stays(measured):
    (measured / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    vae(hidden=7).save_pretrained(measured)
    assert "# Mine" in (measured / "README.md").read_text()


def test_old_numbers_that_were_put_beside_new_weights_are_not_shown(measured, tmp_path, capsys):
    old = number(measured)[0]
    new = tmp_path / "vae-new"
    vae(hidden=7).save_pretrained(new)
    for name in ("metrics.json", "README.md"):
        shutil.copyfile(measured / name, new / name)
    assert number(new) == []
    assert main(["info", str(new)]) == 0
    assert str(old) not in capsys.readouterr().out
    with pytest.raises(zoo.ZooError, match=r"was measured on other weights"):
        check_measured(new)
    (new / "metrics.json").unlink()
    with pytest.raises(zoo.ZooError, match=r"README.md's model index states .*`zoo card"):
        check_measured(new)
    write_card(new)
    check_measured(new)
    assert "None measured yet" in (new / "README.md").read_text()


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/alice/texts", "texts"),
        ("~/texts/", "texts"),
        ("~alice/texts", "texts"),
        ("../alice/a b.csv", "a b.csv"),
        ("C:\\Users\\alice\\texts", "texts"),
        ("\\\\server\\alice\\texts", "texts"),
        ("file:///home/alice/runs", "runs"),
        ("sqlite:////home/alice/runs.db", "runs.db"),
        ("train=/home/alice/a.csv,test=/home/alice/b.csv", "train=a.csv,test=b.csv"),
        ("//home/alice", "alice"),
        # names, addresses, signs
        *[
            (name, name)
            for name in (
                *("ud_english_ewt", "me/my-vae", "val/elbo", "https://host/a/b", "s3://bucket/a"),
                *("/", "..", "\\d+", "nats / image", "zoo.from_pretrained", ""),
            )
        ],
    ],
)
def test_of_a_path_the_name_is_left(text, left):
    assert without_paths({"a": [{"b": text}, 3, None]}) == {"a": [{"b": left}, 3, None]}


def test_of_a_home_nothing_is_left(monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    for text in ("/home/alice", "/home/alice/", "~", "~/"):
        assert without_paths(text) == "."


def test_a_folder_that_is_here_is_no_name_of_the_hub():
    Path("alice/my-vae").mkdir(parents=True)
    assert without_paths("alice/my-vae") == "my-vae"


def test_no_path_of_this_machine_is_in_what_is_exported(tmp_path):
    """Texts of the user's own, logs and checkpoints below a folder with a name of its own."""
    secret = tmp_path / "of alice"
    texts = secret / "texts"
    texts.mkdir(parents=True)
    for i in range(30):
        (texts / f"{i}.txt").write_text(f"apple banana cherry {'date elder fig' * (i % 3)}\n" * 9)
    flags = [
        *("--data.source=texts", f"--data.name={texts}", "--data.min_df=0"),
        *(
            "--model.topics=2",
            "--model.terms=7",
            "--trainer.max_epochs=1",
            "--trainer.log_every_n_steps=1",
            f"--trainer.default_root_dir={secret / 'out'}",
        ),
        *("--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={secret / 'runs'}"),
        *("--trainer.logger.name=own", *QUIET),
    ]
    assert main(["fit", "lda-ap", *flags]) == 0
    (ckpt,) = (secret / "runs" / "own").glob("version_0/checkpoints/last.ckpt")
    folder = tmp_path / "lda-own"
    assert main(["export", str(ckpt), str(folder)]) == 0
    for name in FILES:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            assert b"of alice" not in content, name
            assert str(tmp_path).encode() not in content, name
    data = json.loads((folder / "config.json").read_text())["data"]["init_args"]
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert data["name"] == recipe["data"]["init_args"]["name"] == "texts"
    assert recipe["trainer"]["logger"]["init_args"]["save_dir"] == "runs"
    # and what is gone is given again
    assert main(["evaluate", str(folder), "--set", f"name={texts}", "--write"]) == 0
    assert main(["verify", str(folder), "--set", f"name={texts}"]) == 0
    assert "of alice" not in (folder / "metrics.json").read_text()
