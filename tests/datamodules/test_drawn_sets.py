import inspect
import types
import typing

import pytest
import torch

from zoo import datamodules
from zoo.datamodules import (
    MNIST,
    BagOfWords,
    Digits,
    FakeBagOfWords,
    FakeImages,
    FakeTaggedText,
    TaggedText,
)
from zoo.datamodules.base import DataModule


def loaded(data):
    data.prepare_data()
    data.setup()
    return data


def test_digits_have_the_sizes_and_frame_of_mnist():
    data = loaded(Digits(binarization="none"))
    assert [len(t["image"]) for t in data.splits.values()] == [1297, 250, 250]
    images = torch.cat([t["image"] for t in data.splits.values()])
    labels = torch.cat([t["label"] for t in data.splits.values()])
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    ink = images.float().mean((0, 1))
    assert ink[:4].max() == ink[-4:].max() == ink[:, :4].max() == ink[:, -4:].max() == 0
    assert ink[4:-4].min(1).values.shape == (20,)
    assert (ink[4:-4].max(1).values > 30).all()  # all 20 rows within the frame are written on
    assert images.amax() == 255
    # scikit-learn's digits are 0.3053 white, of which the frame leaves (20 / 28)^2
    assert images.float().mean() / 255 == pytest.approx(0.3053 * (20 / 28) ** 2, abs=0.005)


def test_digits_shrink_back_to_the_originals():
    from sklearn.datasets import load_digits

    images = loaded(Digits(size=28)).splits
    small = torch.cat([t["image"] for t in images.values()])[:, :, 4:-4, 4:-4].float()
    small = torch.nn.functional.adaptive_avg_pool2d(small, 8).flatten(1) * 16 / 255
    original = torch.tensor(load_digits().data, dtype=torch.float32)
    distance, nearest = torch.cdist(small, original).min(1)
    # the enlarging blurs: the rms error in grey values of 0 to 16 is below 2, and none is confused
    assert (distance / 8).square().mean().sqrt() < 2
    labels = torch.cat([t["label"] for t in images.values()])
    assert (torch.tensor(load_digits().target)[nearest] == labels).float().mean() > 0.99


@pytest.mark.parametrize("size", [8, 9, 16, 32])
def test_digits_of_other_sizes(size):
    data = loaded(Digits(size=size, batch_size=4))
    assert data.x_shape == (1, size, size)
    assert next(iter(data.val_dataloader()))["image"].shape == (4, 1, size, size)


@pytest.mark.parametrize("x_shape", [(1, 28, 28), (3, 20, 32)])
def test_fake_images_follow_the_seed_and_can_be_told_apart(x_shape):
    data = loaded(FakeImages(x_shape, n=400, classes=4, binarization="none"))
    train, test = data.splits["train"], data.splits["test"]
    assert train["image"].shape == (400, *x_shape)
    assert len(test["image"]) == len(data.splits["val"]["image"]) == 100
    again = loaded(FakeImages(x_shape, n=400, classes=4))
    assert torch.equal(again.splits["train"]["image"], train["image"])
    other = loaded(FakeImages(x_shape, n=400, classes=4, seed=1))
    assert not torch.equal(other.splits["train"]["image"], train["image"])
    x, y = (t["image"].float().amax(1).flatten(1) for t in (train, test))
    guess = train["label"][torch.cdist(y, x).argmin(1)]
    # one nearest neighbour on raw pixels; chance is 0.25 with a standard error of 0.043
    assert (guess == test["label"]).float().mean() > 0.25 + 5 * 0.043
    assert 0.05 < train["image"].float().mean() / 255 < 0.6


def test_batches_have_the_same_keys_everywhere():
    for data in (FakeImages(n=8), Digits()):
        batch = next(iter(loaded(data).train_dataloader()))
        kinds = {key: tensor.dtype for key, tensor in batch.items()}
        assert kinds == {"image": torch.float32, "label": torch.int64, "index": torch.int64}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MNIST(batch_size=0), "batch_size is 0, but must be at least 1"),
        (lambda: MNIST(val_size=0), "val_size is 0, but must be at least 1"),
        (lambda: MNIST(digits=[]), r"digits is \[\], but must be some of 0 to 9"),
        (lambda: MNIST(digits=[3, 10]), r"digits is \[3, 10\], but must be some of 0 to 9"),
        (lambda: MNIST(seed=-1), "seed is -1, but must be at least 0"),
        (lambda: Digits(seed=2**32), r"seed is 4294967296, but must be below 2\^32"),
        (lambda: FakeImages(n=400_000), "n is 400000, .* take at most 342392"),
        (lambda: MNIST(binarization="dynamics"), "did you mean 'dynamic'"),
        (lambda: Digits(binarization="non"), "did you mean 'none'"),
        (lambda: Digits(binarization="Static"), "did you mean 'static'"),
        (lambda: Digits(size=7), "size is 7, but must be at least 8"),
        (lambda: FakeImages(x_shape=(28, 28)), r"x_shape is \(28, 28\)"),
        (lambda: FakeImages(x_shape=(1, 0, 28)), "three positive numbers"),
        (lambda: FakeImages(n=0), "n is 0"),
        (lambda: FakeImages(classes=-1), "classes is -1"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_loaders_need_setup():
    with pytest.raises(RuntimeError, match=r"Call Digits.setup\(\) before"):
        Digits().train_dataloader()


def plain(kind):
    args = typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, tuple, list, typing.Union):
        return all(plain(arg) for arg in args)
    if typing.get_origin(kind) is typing.Literal:
        return all(type(arg) in (int, str) for arg in args)
    return kind in (int, float, bool, str, type(None))


@pytest.mark.parametrize("name", datamodules.__all__)
def test_constructors_are_data(name):
    cls = getattr(datamodules, name)
    parameters = list(inspect.signature(cls).parameters.values())
    hints = typing.get_type_hints(cls.__init__)
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    assert all(plain(hints[p.name]) for p in parameters)
    assert all(f"{p.name}: " in cls.__doc__ for p in parameters)
    data = cls("x") if name in ("ImageFolder", "Sequences") else cls()
    assert not data.hparams
    assert isinstance(data, DataModule)


@pytest.mark.parametrize("name", [n for n in datamodules.__all__ if n.startswith("Fake")])
def test_examples_and_facts_need_setup(name):
    data = getattr(datamodules, name)()
    for look in (data.facts, lambda: data.examples(1)):
        with pytest.raises(RuntimeError, match=rf"Call {name}.setup\(\) before"):
            look()
    with pytest.raises(ValueError, match="n is 0, but must be at least 1"):
        data.examples(0)


def test_examples_are_the_first_training_images_and_their_labels():
    data = loaded(FakeImages((2, 9, 9), n=5, binarization="static"))
    examples = data.examples(3)
    train = data.splits["train"]
    assert [int(e.text) for e in examples] == train["label"][:3].tolist()
    # a page has grey or colour: of two channels the first is shown
    assert all(torch.equal(e.image, x[:1]) for e, x in zip(examples, train["image"], strict=False))
    colour = loaded(FakeImages((3, 9, 9), n=5))
    assert torch.equal(colour.examples(9)[4].image, colour.splits["train"]["image"][4])
    assert len(colour.examples(9)) == 5
    assert colour.facts() == {"train": "5 examples", "val": "1 examples", "test": "1 examples"}


def test_drawn_texts_have_the_batches_of_real_ones(tmp_path):
    from test_bag_of_words import write as write_bags
    from test_tagged_text import write as write_sentences

    write_sentences(tmp_path)
    write_bags(tmp_path)
    root = str(tmp_path)
    for real, fake in (
        (TaggedText(root=root), FakeTaggedText()),
        (BagOfWords(root=root), FakeBagOfWords()),
    ):
        a, b = (next(iter(loaded(data).train_dataloader())) for data in (real, fake))
        assert {k: (v.dtype, v.ndim) for k, v in a.items()} == {
            k: (v.dtype, v.ndim) for k, v in b.items()
        }
