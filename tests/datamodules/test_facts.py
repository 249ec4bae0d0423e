import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from zoo import datamodules
from zoo.checkpoints.card import card
from zoo.checkpoints.files import write_json
from zoo.datamodules import MNIST, FakeFaces, FashionMNIST, ImageFolder
from zoo.datamodules.files.places import Inventory, set_dir

SETS = [getattr(datamodules, name) for name in datamodules.__all__]


def test_every_set_says_what_it_is_and_what_it_needs(tmp_path):
    for cls in SETS:
        assert cls.summary().endswith(".")
        assert cls.inventories()
        for inventory in cls.inventories(str(tmp_path / "data")).values():
            assert not inventory.found
            assert bool(inventory.missing) == bool(inventory.remedy)
            if inventory.folder is not None:
                assert inventory.folder.is_relative_to(tmp_path)
                assert inventory.missing
    assert [*tmp_path.iterdir()] == []  # to look is not to make folders


def test_directions_are_along_attributes_that_the_set_has():
    shown = [cls for cls in SETS if cls.directions or cls.balanced]
    assert shown
    for cls in shown:
        assert {*cls.directions, *cls.balanced} <= {*cls().attribute_names}
        assert not {*cls.directions} & {*cls.balanced}


@pytest.fixture
def card_of(tmp_path):
    """The card of a checkpoint that was trained on a set of some name."""
    shipped = Path(datamodules.__file__).parents[1] / "hub_cards" / "vae-celeba"
    config = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "directions.png").touch()

    def write(name):
        write_json(tmp_path / "config.json", {**config, "data": {"class_path": name}})
        return card(tmp_path)

    return write


@pytest.mark.parametrize("cls", SETS)
def test_cards_say_what_the_set_says_of_itself(card_of, cls):
    text = card_of(cls.__name__)
    assert f"## Training data\n\n{cls.about or cls.__name__}" in text
    assert f"The model knows {cls.knows}:" in text
    assert ("\ndatasets:\n" in text) == (cls.hub_id is not None)
    assert cls.hub_id is None or f"\n- {cls.hub_id}\n" in text
    assert ("along the direction of" in text) == bool(cls.directions)


def test_cards_name_directions_and_what_they_leave_alone(card_of, monkeypatch):
    sentence = "along the direction of Smiling, then of Eyeglasses: `zoo.direction`"
    monkeypatch.setattr(FakeFaces, "directions", ("Smiling", "Eyeglasses"))
    assert f"{sentence}. In the middle, the reconstruction." in card_of("FakeFaces")
    monkeypatch.setattr(FakeFaces, "balanced", {"Bald": "hairline", "Pale_Skin": "colour"})
    alike = ", with as many of each hairline and colour on both sides."
    assert f"{sentence}{alike}" in card_of("FakeFaces")


@pytest.mark.parametrize("name", ["mine.Pictures", "base", "__all__"])
def test_cards_of_unknown_sets_say_their_names_alone(card_of, name):
    text = card_of(name)
    assert f"## Training data\n\n{name}. Pixels" in text
    assert "The model knows what it was trained on and nothing else:" in text


def test_sets_that_ship_with_the_package_need_no_files():
    for name in ("Digits", "FakeImages", "FakeTaggedText", "FakeBagOfWords", "IceCream"):
        assert getattr(datamodules, name).inventories() == {"": Inventory(folder=None)}


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST])
def test_idx_sets_count_either_kind_of_file(made, tmp_path, cls):
    name = cls.__name__
    assert len(cls.inventory(str(tmp_path)).missing) == 4
    raw = made(name, packed=True, unpacked=False)
    assert cls.inventory(str(tmp_path)).missing == ()
    (raw / "t10k-labels-idx1-ubyte.gz").rename(raw / "t10k-labels-idx1-ubyte")
    assert len(cls.inventory(str(tmp_path)).found) == 4
    (raw / "t10k-labels-idx1-ubyte").unlink()
    inventory = cls.inventory(str(tmp_path))
    assert inventory.folder == raw
    assert inventory.missing == ("t10k-labels-idx1-ubyte.gz",)
    assert len(inventory.found) == 3


def test_labels_have_their_names(made, tmp_path):
    made("FashionMNIST")
    data = FashionMNIST(root=str(tmp_path), val_size=10)
    data.setup()
    labels = data.splits["train"]["label"][:5].tolist()
    kinds = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot"
    expected = [kinds.split()[label].replace("-boot", " boot") for label in labels]
    assert [example.text for example in data.examples(5)] == expected


def test_a_folder_of_pictures_names_its_classes(tmp_path):
    assert ImageFolder.inventory().missing
    nowhere = str(tmp_path / "nowhere")
    assert ImageFolder.inventory(nowhere).missing == (nowhere,)
    for name, grey in (("cats", 10), ("dogs", 200)):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), grey).save(tmp_path / name / f"{i}.png")
    assert ImageFolder.inventory(str(tmp_path)) == Inventory(tmp_path, found=(tmp_path.name,))
    data = ImageFolder(str(tmp_path), size=8, channels=1)
    data.setup()
    for example in data.examples(9):
        assert torch.all(example.image == {"cats": 10, "dogs": 200}[example.text])


def test_where_a_set_is(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/ann")
    assert set_dir(None, "ap") == tmp_path / "ap"
    assert str(set_dir("~/data", "ap")) == "/home/ann/data/ap"
    assert str(set_dir("/data", "/other/ap")) == "/other/ap"
    assert str(set_dir(None, "~/ap")) == "/home/ann/ap"
