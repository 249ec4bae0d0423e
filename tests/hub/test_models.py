"""Models through the Hub: by name in Python, and by `zoo push` and `zoo pull`."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants

import zoo
from tests.hub.conftest import TOKEN
from zoo.checkpoints import catalog
from zoo.checkpoints.card import write_card
from zoo.checkpoints.files import sha256
from zoo.cli.main import main
from zoo.datamodules.images.mnist import missing_files, raw_dir
from zoo.models import VAE


@pytest.fixture
def staged(tmp_path):
    """A model folder with a card, and the model."""
    vae = VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(5,)).eval()
    vae.data = {"class_path": "MNIST", "init_args": {"binarization": "dynamic"}}
    vae.save_pretrained(tmp_path / "vae-tiny")
    write_card(tmp_path / "vae-tiny")
    return tmp_path / "vae-tiny", vae


def test_push_then_load_by_name(hub, staged, monkeypatch, capsys):
    folder, vae = staged
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", str(folder), "org/vae-tiny"]) == 0
    monkeypatch.delenv("HF_TOKEN")
    loaded = zoo.from_pretrained("org/vae-tiny", revision="main", lr=0.5)
    assert (loaded.loaded_from, loaded.base_model) == ("org/vae-tiny", None)
    assert loaded.lr == 0.5
    assert not loaded.training
    for name, value in vae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with hub.watched() as seen:
        VAE.from_pretrained("org/vae-tiny", local_files_only=True)
    assert not seen
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", str(folder), "org/vae-tiny"]) == 0
    assert "same files already" in capsys.readouterr().out


def test_a_model_pushes_itself_with_a_card(hub, staged, monkeypatch):
    _, vae = staged
    with pytest.raises(OSError, match="org/vae-own"):
        vae.push_to_hub("org/vae-own", token=False)
    url = vae.push_to_hub("org/vae-own", token=TOKEN)
    assert url.startswith(hub.url)
    assert 'zoo.from_pretrained("org/vae-own")' in hub.files("org/vae-own")["README.md"].decode()
    assert vae.push_to_hub("org/vae-own", token=TOKEN)  # the same again is no second commit
    assert len(hub.history("org/vae-own")) == 2
    loaded = zoo.from_pretrained("org/vae-own")
    for name, value in vae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_pull_to_a_folder(hub, staged, monkeypatch, tmp_path, capsys):
    folder, _ = staged
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", str(folder), "org/vae-tiny", "--private"]) == 0
    assert main(["pull", "org/vae-tiny", str(tmp_path / "mine")]) == 0
    assert {p.name: sha256(p) for p in (tmp_path / "mine").iterdir()} == {
        p.name: sha256(p) for p in folder.iterdir()
    }
    monkeypatch.delenv("HF_TOKEN")
    capsys.readouterr()
    assert main(["pull", "org/vae-tiny", str(tmp_path / "yours")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "yours").exists()


def test_wrong_weights_are_not_pushed(hub, staged, monkeypatch, capsys):
    folder, vae = staged
    with torch.no_grad():
        vae.decoder[0][0].bias += 0.1
    golden = (folder / "golden.safetensors").read_bytes()
    vae.save_pretrained(folder)
    (folder / "golden.safetensors").write_bytes(golden)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"]["golden.safetensors"] = sha256(folder / "golden.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub.watched() as seen:
        assert main(["push", str(folder), "org/vae-tiny"]) == 1
    assert not seen
    assert "golden outputs" in capsys.readouterr().err


@pytest.fixture
def logged_in(hub, monkeypatch):
    """Someone who may write to `org`, which the zoo's bare names stand for."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("ZOO_ORGANISATION", "org")


def test_every_shipped_checkpoint_goes_round(hub, logged_in, monkeypatch, capsys, tmp_path):
    assert main(["push", "--all", "--organisation", "org"]) == 0
    monkeypatch.delenv("HF_TOKEN")
    for name in catalog.list_models():
        folder = catalog.locate(f"org/{name}", cache_dir=str(tmp_path / "cache"))
        assert {p.name: sha256(p) for p in folder.iterdir()} == {
            p.name: sha256(p) for p in (catalog.CARDS / name).iterdir()
        }
        shipped, pulled = zoo.from_pretrained(name), zoo.from_pretrained(str(folder))
        for key, value in shipped.state_dict().items():
            assert torch.equal(pulled.state_dict()[key], value)
        assert main(["pull", f"org/{name}", str(tmp_path / name)]) == 0
    if not missing_files("MNIST", raw_dir("MNIST", None)):  # equal bytes have the shipped numbers
        assert main(["verify", "org/vae-mnist", "--quick"]) == 0
    assert main(["pull", "--all"]) == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    capsys.readouterr()
    with hub.watched() as seen:
        assert main(["pull", "--all"]) == 0
        zoo.from_pretrained("org/vae-mnist")
    assert not seen
    assert len(capsys.readouterr().out.splitlines()) == len(catalog.list_models())


def test_all_says_which_failed(hub, logged_in, monkeypatch, capsys):
    assert main(["pull", "--all"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 + len(catalog.list_models())
    assert "has no org/vae-mnist" in "".join(err)
    assert f"{len(catalog.list_models())} of" in err[-1]
    monkeypatch.delenv("HF_TOKEN")
    assert main(["push", "--all", "--organisation", "org"]) == 1
    assert "log in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["pull"],
        ["pull", "org/vae", "--all"],
        ["pull", "vae-minst"],
        ["push", "--all"],
        ["push", "folder"],
        ["push", "folder", "org/vae", "--all"],
    ],
)
def test_words_that_do_not_fit(hub, words, capsys):
    with hub.watched() as seen:
        assert main(words) == 1
    assert not seen
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_revision_means_the_hub(hub, logged_in, staged):
    _, vae = staged
    # what the Hub has under the zoo's name at another revision is another model
    vae.push_to_hub("org/vae-mnist", revision="older")
    loaded = zoo.from_pretrained("vae-mnist", revision="older")
    assert loaded.x_shape == (1, 4, 4)
    assert zoo.from_pretrained("vae-mnist").x_shape == (1, 28, 28)
    with pytest.raises(zoo.ZooError, match="organisation/name"):
        zoo.from_pretrained("vae-minst", revision="main")


def test_a_registered_name_must_be_what_this_release_was_made_with(hub, logged_in, tmp_path):
    other = shutil.copytree(catalog.CARDS / "vae-mnist", tmp_path / "vae-mnist")
    (other / "metrics.json").write_text((other / "metrics.json").read_text() + "\n")
    assert main(["push", str(other), "org/vae-mnist"]) == 0
    with pytest.raises(OSError, match="the file that this release was made with"):
        zoo.from_pretrained("org/vae-mnist")
    zoo.from_pretrained("org/vae-mnist", revision="main")
    assert main(["push", str(catalog.CARDS / "vae-mnist"), "org/vae-mnist"]) == 0
    zoo.from_pretrained("org/vae-mnist")


def test_a_copy_holds_one_checkpoint_only(hub, logged_in, staged, tmp_path, monkeypatch):
    folder, _ = staged
    mine = tmp_path / "mine"
    assert main(["push", str(folder), "org/vae-tiny"]) == 0
    assert main(["pull", "org/vae-tiny", str(mine)]) == 0
    (mine / "samples.png").write_bytes(b"of another model")
    (mine / "notes.txt").write_text("my own")
    assert main(["pull", "org/vae-tiny", str(mine)]) == 0
    assert {p.name for p in mine.iterdir()} == {p.name for p in folder.iterdir()} | {"notes.txt"}

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    assert main(["pull", "org/vae-tiny", str(mine)]) == 1
    with pytest.raises(zoo.ZooError, match="no checkpoint folder"):
        zoo.from_pretrained(str(mine))


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_fine_tuning_starts_from_the_hub_and_says_so(hub, logged_in, staged, tmp_path, capsys):
    folder, _ = staged
    assert main(["push", str(folder), "org/vae-tiny"]) == 0
    words = ["fit", "finetune/vae-digits", "--model.name", "org/vae-tiny", "--data.size", "8"]
    quick = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    quick += ["--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu"]
    assert main([*words, *quick]) == 1
    assert "this model was built for" in capsys.readouterr().err  # of 4 x 4 pixels
    vae = VAE(x_shape=(1, 8, 8), latent_dim=2, hidden=(5,)).eval()
    vae.push_to_hub("org/vae-eight")
    words[3] = "org/vae-eight"
    assert main([*words, *quick]) == 0
    best = capsys.readouterr().out.split("Checkpoint: ")[1].split("\n")[0]
    assert main(["export", best, str(tmp_path / "tuned")]) == 0
    assert zoo.describe(str(tmp_path / "tuned")).base_model == "org/vae-eight"
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert "base_model: org/vae-eight" in card
    assert "Fine-tuned from `org/vae-eight`" in card
    assert TOKEN not in (tmp_path / "tuned" / "recipe.yaml").read_text()
