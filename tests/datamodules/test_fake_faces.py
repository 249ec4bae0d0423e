import pytest
import torch
from celeba_files import load, write_folder

from zoo.datamodules import FakeFaces
from zoo.datamodules.faces.fake import draw_faces
from zoo.datamodules.faces.source import ATTRIBUTES

NAMES = FakeFaces().attribute_names
# Where each attribute is drawn: left, top, right and bottom, in parts of the picture's side, with
# room for the shifts of the head.
PLACES = {
    "Eyeglasses": (0.2, 0.3, 0.8, 0.65),
    "Mouth_Slightly_Open": (0.3, 0.58, 0.7, 0.85),
    "Smiling": (0.3, 0.58, 0.7, 0.85),
}


def ready(**arguments):
    data = FakeFaces(**arguments)
    data.setup()
    return data


def test_faces_follow_the_seed():
    first, again, other = (ready(n=20, size=16, seed=seed).splits for seed in (0, 0, 1))
    for split, tensors in first.items():
        assert all(torch.equal(tensors[key], again[split][key]) for key in tensors)
        assert not torch.equal(tensors["image"], other[split]["image"])
    assert not torch.equal(first["val"]["image"], first["test"]["image"])


@pytest.mark.parametrize("unlabelled", [False, True])
def test_batches_are_like_those_of_celeba(tmp_path, monkeypatch, unlabelled):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "zoo"))
    write_folder(tmp_path)
    chosen = {"attributes": ["Smiling", "Bald"], "unlabelled": unlabelled, "batch_size": 6}
    batches = [
        next(iter(data.train_dataloader()))
        for data in (load(tmp_path, size=32, **chosen), ready(size=32, n=20, **chosen))
    ]
    real, drawn = ({key: (t.dtype, t.shape) for key, t in batch.items()} for batch in batches)
    assert list(real) == list(drawn)
    assert real == drawn


def test_names_are_celebas():
    assert set(NAMES) <= set(ATTRIBUTES)
    with pytest.raises(ValueError, match="no attribute 'Smilin'; did you mean 'Smiling'"):
        FakeFaces(attributes=["Smilin"])


def test_people_are_in_one_split_and_pictures_have_numbers():
    splits = ready(n=100, size=16, unlabelled=True).splits
    people = [set(tensors["identity"].tolist()) for tensors in splits.values()]
    assert len(set.union(*people)) == sum(map(len, people))
    numbers = torch.cat([tensors["image_id"] for tensors in splits.values()])
    assert numbers.tolist() == list(range(1, 251))
    assert [int(tensors["labelled"].sum()) for tensors in splits.values()] == [100, 25, 25]
    assert splits["train"]["attributes"][100:].eq(0).all()


def test_hair_has_one_colour_or_is_not_there():
    data = ready(n=100, size=16, attributes=["Bald", "Black_Hair", "Blond_Hair", "Brown_Hair"])
    assert data.splits["train"]["attributes"].sum(1).eq(1).all()


def test_attributes_can_be_read_from_the_pixels():
    data = ready(size=32, n=800, attributes=list(NAMES))
    x, y = {}, {}
    for split in ("train", "test"):
        pixels = data.splits[split]["image"].flatten(1).float() / 255
        x[split] = torch.cat([pixels, torch.ones(len(pixels), 1)], 1)
        y[split] = data.splits[split]["attributes"].float() * 2 - 1
    weights = torch.linalg.solve(x["train"] @ x["train"].T + 3 * torch.eye(800), y["train"])
    right = (x["test"] @ (x["train"].T @ weights) > 0) == (y["test"] > 0)
    # ridge regression on the pixels of other people; guessing is right half the time, or for each
    # kind of hair three times of four, with a standard error of 0.035
    assert right.float().mean(0).min() > 0.75 + 4 * 0.035


@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_changes_the_picture_where_it_is_drawn(name):
    generator = torch.Generator().manual_seed(0)
    person, scene = torch.rand(20, 3, generator=generator), torch.rand(20, 5, generator=generator)
    off = torch.zeros(20, len(NAMES), dtype=torch.int64)
    on = off.clone()
    on[:, NAMES.index(name)] = 1
    if name == "Bald":  # the same as no colour of hair
        off[:, NAMES.index("Black_Hair")] = 1
    with_it, without = (draw_faces(rows, person, scene, 64).int() for rows in (on, off))
    changed = (with_it - without).abs().amax(1) > 40  # (20, 64, 64)
    assert (changed.flatten(1).sum(1) > 12).all()
    left, top, right, bottom = PLACES.get(name, (0.0, 0.0, 1.0, 1.0))
    changed[:, int(64 * top) : int(64 * bottom), int(64 * left) : int(64 * right)] = False
    assert not changed.any()


def test_examples():
    data = ready(n=5, size=16, attributes=["Smiling"])
    examples = data.examples(3)
    on = data.splits["train"]["attributes"][:3, 0].tolist()
    assert [e.text for e in examples] == [["none of the attributes", "Smiling"][v] for v in on]
    assert all(e.image.shape == (3, 16, 16) and e.image.dtype == torch.uint8 for e in examples)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"size": 15}, "size is 15"), ({"n": 0}, "n is 0")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FakeFaces(**arguments)
