"""A repository's card stays its owner's, but not when it states numbers of other weights."""

import pytest
import torch

from tests.hub.conftest import TOKEN
from zoo.checkpoints.card import write_card
from zoo.checkpoints.metrics import write_metrics
from zoo.cli.main import main
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import run
from zoo.models import PPCA, VAE

FAKE = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 4, 4], "n": 64}}
REPO = "org/mine"


def vae(seed=0, hidden=5):
    torch.manual_seed(seed)
    model = VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(hidden,)).eval()
    model.data = FAKE
    return model


@pytest.fixture
def pushed(hub, tmp_path, monkeypatch):
    """A repository with a measured model and its card, and the model's folder."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = tmp_path / "measured"
    vae().save_pretrained(folder)
    write_metrics(folder, run(vae(), ["likelihood"], Protocol(samples=5)))
    write_card(folder)
    assert main(["push", str(folder), REPO]) == 0
    assert "| nll |" in card(hub)
    return folder


def card(hub):
    return hub.files(REPO)["README.md"].decode()


def test_other_weights_bring_their_own_card(hub, pushed, tmp_path):
    vae(seed=1).save_pretrained(tmp_path / "other")
    write_card(tmp_path / "other")
    assert main(["push", str(tmp_path / "other"), REPO]) == 0
    assert "None measured yet" in card(hub)
    assert {"README.md", "metrics.json"} & hub.files(REPO).keys() == {"README.md"}


def test_a_model_that_pushes_itself_brings_its_own_card(hub, pushed):
    vae(seed=1).push_to_hub(REPO, token=TOKEN)
    assert "| nll |" not in card(hub)


def test_another_model_brings_its_own_card_though_none_has_numbers(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    vae().push_to_hub(REPO)
    assert "A VAE" in card(hub) or "variational" in card(hub)
    ppca = PPCA(x_shape=(1, 4, 4), latent_dim=2)
    ppca.data = FAKE
    ppca.push_to_hub(REPO)
    assert "rincipal component" in card(hub)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_card_of_the_owners_own_stays(hub, pushed, tmp_path, seed):
    mine = tmp_path / "mine"
    vae().save_pretrained(mine)
    (mine / "README.md").write_text("---\nlicense: mit\n---\n\n# Written by hand\n")
    assert main(["push", str(mine), REPO, "--replace-card"]) == 0
    model = vae(seed)
    model.push_to_hub(REPO, token=TOKEN)
    assert "# Written by hand" in card(hub)


def test_the_same_model_keeps_a_card_that_was_edited(hub, pushed):
    text = (pushed / "README.md").read_text()
    (pushed / "README.md").write_text(text.replace("## Limits", "## Edited"))
    assert main(["push", str(pushed), REPO, "--replace-card"]) == 0
    (pushed / "README.md").write_text(text)
    assert main(["push", str(pushed), REPO]) == 0
    assert "## Edited" in card(hub)


def test_numbers_of_other_weights_are_not_pushed(hub, pushed, tmp_path, capsys):
    other = tmp_path / "other"
    vae(seed=1).save_pretrained(other)
    for name in ("metrics.json", "README.md"):
        (other / name).write_bytes((pushed / name).read_bytes())
    with hub.watched() as seen:
        assert main(["push", str(other), REPO]) == 1
    assert not seen
    assert "metrics.json was measured on other weights" in capsys.readouterr().err
