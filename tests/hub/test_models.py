"""Models through the Hub: by name in Python, and by `zoo push` and `zoo pull`."""

import json

import pytest
import torch

import zoo
from tests.hub.conftest import TOKEN
from zoo import cards
from zoo.checkpoint import sha256
from zoo.cli import main
from zoo.models import VAE


@pytest.fixture
def staged(tmp_path):
    """A model folder with a card, and the model."""
    vae = VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(5,)).eval()
    vae.data = {"class_path": "MNIST", "init_args": {"binarization": "dynamic"}}
    vae.save_pretrained(tmp_path / "vae-tiny")
    cards.write_card(tmp_path / "vae-tiny")
    return tmp_path / "vae-tiny", vae


def test_push_then_load_by_name(hub, staged, monkeypatch, capsys):
    folder, vae = staged
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", str(folder), "org/vae-tiny"]) == 0
    monkeypatch.delenv("HF_TOKEN")
    loaded = zoo.from_pretrained("org/vae-tiny", revision="main", lr=0.5)
    assert loaded.base_model == "org/vae-tiny"
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


def test_a_revision_means_the_hub():
    with pytest.raises(zoo.ZooError, match="organisation/name"):
        zoo.from_pretrained("vae-mnist", revision="main")
    assert main(["pull", "vae-mnist"]) == 1
