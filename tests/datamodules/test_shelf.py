import pytest
import torch
from PIL import Image

from zoo import datamodules
from zoo.datamodules import MNIST, FashionMNIST, ImageFolder
from zoo.datamodules.files.places import Inventory, set_dir
from zoo.datamodules.shelf import entries, entry


def test_every_data_module_is_on_the_shelf(tmp_path):
    found = entries(str(tmp_path / "data"))
    assert [*found] == datamodules.__all__
    for name, shelved in found.items():
        assert shelved.module is getattr(datamodules, name)
        assert shelved.summary.endswith(".")
        assert shelved.sources
        for inventory in shelved.sources.values():
            assert not inventory.found
            assert bool(inventory.missing) == bool(inventory.remedy)
            if inventory.folder is not None:
                assert inventory.folder.is_relative_to(tmp_path)
                assert inventory.missing
    assert [*tmp_path.iterdir()] == []  # to look is not to make folders


def test_sets_that_ship_with_the_package_need_no_files():
    for name in ("Digits", "FakeImages", "FakeTaggedText", "FakeBagOfWords", "IceCream"):
        assert entry(name).sources == {"": Inventory(folder=None)}


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
