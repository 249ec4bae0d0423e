"""Checkpoints of every format that was ever written load, and a new way to write has a new number.

The folders in `tests/fixtures` were written once, by the first version that wrote their format.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import zoo
from zoo.checkpoints.card import write_card
from zoo.checkpoints.config import FORMAT, READERS, read_config
from zoo.checkpoints.files import sha256
from zoo.checkpoints.metrics import read_metrics, write_metrics
from zoo.checkpoints.weights import read_header, read_tensors
from zoo.models import VAE
from zoo.pretrained.loading import check_golden

FIXTURES = Path(__file__).parent / "fixtures"
CARDS = Path(__file__).resolve().parents[2] / "hub_cards"
DIGESTS = {
    1: {
        "config.json": "2a349653aee04c056207507251b4d93c00f3f45e543e7f81f3c7d03c1880b68b",
        "golden.safetensors": "1f417b31c509d3b4e339b2eb0aafdb4f64280edc8109e68b10b1af49208249c8",
        "metrics.json": "8b5a6f08082b7e1d6bee063f95cd78a52da2fa0a485f31d764b80f086bce05cb",
        "model.safetensors": "452a08144b8b9c81e7c6518ab6e2493011977a6ab1f348c9b882dfd68d6f8afc",
    }
}

every_format = pytest.mark.parametrize("number", sorted(READERS))


def fixture(number: int) -> Path:
    return FIXTURES / f"format-{number}"


def layout(document):
    """Keys and types of a JSON document, without its values."""
    if isinstance(document, dict):
        return {key: layout(value) for key, value in document.items()}
    if isinstance(document, list):
        return [layout(value) for value in document[:1]]
    return type(document).__name__


def test_the_newest_format_is_written_and_none_was_skipped():
    assert sorted(READERS) == [*range(1, FORMAT + 1)]
    assert DIGESTS.keys() == READERS.keys()


@every_format
def test_the_fixture_is_what_it_was(number):
    """Who fails this has rewritten a fixture: restore it, and write a new format beside it."""
    files = {file.name: sha256(file) for file in fixture(number).iterdir()}
    assert files == DIGESTS[number]


@every_format
def test_the_fixture_is_of_its_format(number):
    assert json.loads((fixture(number) / "config.json").read_text())["format"] == number


@every_format
def test_it_loads_and_gives_its_golden_outputs(number):
    model = zoo.from_pretrained(str(fixture(number)))
    check_golden(model, fixture(number))
    golden = read_tensors(fixture(number) / "golden.safetensors")
    outputs = model.golden_outputs(golden["x"])
    for name, expected in golden.items():
        torch.testing.assert_close(outputs[name], expected, rtol=1e-5, atol=1e-6)


def test_format_1_reads_as_it_was_written():
    config = read_config(fixture(1))
    assert (config.family, config.license, config.base_model) == ("VAE", "mit", "vae-elder")
    assert config.data == {
        "class_path": "FakeImages",
        "init_args": {"x_shape": [1, 2, 2], "binarization": "none"},
    }
    given = {"x_shape": [1, 2, 2], "latent_dim": 1, "hidden": [2], "likelihood": "gaussian"}
    given |= {"beta": 2.0, "lr": 0.01, "lr_schedule": "cosine"}
    assert given.items() <= config.init_args.items()
    described = zoo.describe(str(fixture(1)))
    assert (described.latent_shape, described.parameters, described.bytes > 0) == ((1,), 33, True)
    (metric,) = described.metrics
    assert (metric.name, metric.value, metric.standard_error) == ("nll", 4.25, 0.5)


@every_format
def test_a_card_can_be_written(number, tmp_path):
    folder = shutil.copytree(fixture(number), tmp_path / "old")
    write_card(folder)
    assert (folder / "README.md").is_file()


def test_another_layout_has_another_number(tmp_path):
    """Who fails this has changed what is written: raise FORMAT, add a reader and a fixture."""
    newest = fixture(FORMAT)
    VAE.from_pretrained(str(newest)).save_pretrained(tmp_path, license="mit")
    write_metrics(tmp_path, read_metrics(newest))
    assert {f.name for f in tmp_path.iterdir()} == {f.name for f in newest.iterdir()}
    for name in ("config.json", "metrics.json"):
        old, new = (json.loads((folder / name).read_text()) for folder in (newest, tmp_path))
        if name == "config.json":  # a constructor may gain arguments, whose defaults old files take
            given = old.pop("init_args")
            assert given.items() <= new.pop("init_args").items()
        assert layout(new) == layout(old)
    for name in ("model.safetensors", "golden.safetensors"):
        old, new = (read_tensors(folder / name) for folder in (newest, tmp_path))
        assert {k: (v.dtype, v.shape) for k, v in new.items()} == {
            k: (v.dtype, v.shape) for k, v in old.items()
        }
        assert read_header(newest / name) == read_header(tmp_path / name)
