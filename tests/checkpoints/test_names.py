"""Names: found by folder, in any case; a load reads and hashes each file once."""

import json
import shutil
import sys
from collections import Counter

import pytest
import torch

import zoo
from zoo.checkpoints import catalog
from zoo.cli.main import main
from zoo.datamodules import FakeFaces, FakeImages
from zoo.errors import in_any_case
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import run
from zoo.models import VAE, ConditionalVAE

OPENED: list[Counter] = []


def _audit(event, args):
    if OPENED and event == "open" and isinstance(args[0], str):
        OPENED[-1][args[0]] += 1


sys.addaudithook(_audit)


@pytest.fixture
def opened():
    """How often Python opens each file."""
    OPENED.append(Counter())
    yield OPENED[-1]
    OPENED.clear()


@pytest.fixture
def cards(tmp_path, monkeypatch):
    """A package that ships three small models."""
    monkeypatch.setattr(catalog, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(catalog, "PINS", tmp_path / "cards" / "sha256.json")
    for name in ("vae-a", "vae-b", "vae-c"):
        vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(6,))
        vae.data = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}}
        vae.save_pretrained(catalog.CARDS / name)
        (catalog.CARDS / name / "samples.png").write_bytes(b"")
    catalog.write_pins()
    return catalog.CARDS


def test_a_load_reads_one_card_and_hashes_its_weights_once(cards, opened):
    zoo.from_pretrained("vae-b")
    files = {path.removeprefix(f"{cards}/"): n for path, n in opened.items() if str(cards) in path}
    # the weights: for their hash, and for the length of their header
    assert files == {"sha256.json": 1, "vae-b/config.json": 1, "vae-b/model.safetensors": 2}


def test_names_are_listed_without_reading_a_card(cards, opened):
    assert zoo.list_models() == ["vae-a", "vae-b", "vae-c"]
    assert not [path for path in opened if str(cards) in path]


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 9}'])
def test_one_damaged_card_breaks_no_other_name(cards, capsys, text):
    (cards / "vae-b" / "config.json").write_text(text)
    assert zoo.list_models() == ["vae-a", "vae-b", "vae-c"]
    assert zoo.list_models(verb="encode") == ["vae-a", "vae-c"]
    assert zoo.from_pretrained("vae-c").latent_shape == (3,)
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["vae-a", "VAE"],
        ["vae-b", "damaged"],
        ["vae-c", "VAE"],
    ]
    assert len(err.splitlines()) == 1
    assert "vae-b/config.json" in err
    with pytest.raises(zoo.ZooError, match=r"vae-b/config\.json .*pinned"):
        zoo.from_pretrained("vae-b")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "golden.safetensors"])
def test_a_shipped_file_that_was_changed_is_found(cards, file):
    path = cards / "vae-a" / file
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    checks = {check.what: check.passed for check in zoo.verify("vae-a")}
    assert checks["files"] is False
    if file != "golden.safetensors":  # which no load reads
        with pytest.raises(zoo.ZooError, match=r"again"):
            zoo.from_pretrained("vae-a")


def test_a_card_with_hashes_of_its_own_is_not_the_pinned_one(cards):
    shutil.copytree(cards / "vae-b", cards / "vae-a", dirs_exist_ok=True)
    with pytest.raises(zoo.ZooError, match="pinned"):
        zoo.from_pretrained("vae-a")
    with pytest.raises(zoo.ZooError, match="pinned"):
        zoo.describe("vae-a")


# --- any case ------------------------------------------------------------------------------------


def test_models_verbs_jobs_and_data_in_any_case(cards):
    model = zoo.from_pretrained("VAE-a")
    assert model.loaded_from == zoo.describe("Vae-A").name == "vae-a"
    assert zoo.list_models("VAE-*", verb="Encode") == ["vae-a", "vae-b", "vae-c"]
    assert run(model, ["Likelihood"], Protocol(samples=5)) == run(
        model, ["likelihood"], Protocol(samples=5)
    )
    (row, _) = (*zoo.compare(["VAE-A"], "fakeimages", "Quick"), None)
    assert (row.name, row.note) == ("VAE-A", "")


def test_labels_and_attributes_in_any_case():
    module = FakeFaces(size=16, n=32, attributes=["smiling", "Bald"])
    assert module.attribute_names == ("Smiling", "Bald")
    module.setup()
    batch = next(iter(module.test_dataloader()))
    found = [module.attribute(batch, name) for name in ("Smiling", "smiling", "SMILING")]
    assert all(torch.equal(one, found[0]) for one in found)
    with pytest.raises(ValueError, match="did you mean 'Smiling'"):
        module.attribute(batch, "smilling")
    model = ConditionalVAE(x_shape=(1, 8, 8), latent_dim=2, hidden=(4,), labels=["Cat", "dog"])
    assert model.given("cat").y.tolist() == [0]
    assert model.given("DOG").y.tolist() == [1]


def test_names_that_differ_by_case_alone_are_told_apart():
    assert in_any_case("a", ["A", "a"]) == "a"
    assert in_any_case("A", ["A", "a"]) == "A"
    assert in_any_case("STRASSE", ["straße", "Strasse"]) == "STRASSE"  # which of the two?
    assert in_any_case("b", ["A", "a"]) == "b"


def test_words_of_the_command_line_in_any_case(cards, capsys):
    assert main(["info", "Vae-B"]) == 0
    assert main(["list", "VAE-*", "--verb", "Sample"]) == 0
    assert main(["data", "fakeimages", "--set", "n=64"]) == 0
    assert capsys.readouterr().out.count("FakeImages: ") == 1
    assert main(["evaluate", "vae-a", "--data", "FAKEimages", "--suite", "Quick", *SET]) == 0
    assert main(["interpolate", "vae-a", "-n", "2", "--path", "Spherical"]) == 0
    assert json.loads((cards / "sha256.json").read_text()).keys() == {"vae-a", "vae-b", "vae-c"}


SET = ["--set", "x_shape=[1, 8, 8]", "--set", "n=48"]


def test_every_data_set_is_found_by_its_name_in_lower_case():
    from zoo import datamodules
    from zoo.evaluation.data import data_class

    for name in datamodules.__all__:
        assert data_class(name.lower()) is data_class(name.upper()) is getattr(datamodules, name)
    assert data_class("FAKEIMAGES") is FakeImages
