import math
import pickle
from itertools import chain

import pytest
import torch

from zoo.datamodules import FakeImages
from zoo.datamodules.loader import Batches, binarize, binarized


def images(n, pixels=4):
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (n, 1, pixels, pixels), generator=generator)
    return {"image": values.to(torch.uint8), "label": torch.arange(n)}


def indices(loader):
    return [batch["index"].tolist() for batch in loader]


def flat(lists):
    return list(chain.from_iterable(lists))


def test_order_depends_on_seed_and_epoch_only():
    torch.manual_seed(1)
    loader = Batches(images(50), 8, shuffle=True, seed=3)
    first = indices(loader)
    torch.manual_seed(2)
    assert indices(Batches(images(50), 8, shuffle=True, seed=3)) == first
    assert indices(Batches(images(50), 8, shuffle=True, seed=4)) != first
    loader.sampler.set_epoch(1)
    assert indices(loader) != first
    loader.sampler.set_epoch(0)
    assert indices(loader) == first


def test_order_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    indices(Batches(images(50), 8, shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_epoch_is_a_permutation_with_a_smaller_last_batch():
    loader = Batches(images(50), 8, shuffle=True)
    seen = indices(loader)
    assert [len(b) for b in seen] == [8] * 6 + [2]
    assert len(loader) == 7
    assert sorted(flat(seen)) == list(range(50))
    assert flat(seen) != list(range(50))


def test_rows_belong_together():
    data = images(50)
    for batch in Batches(data, 8, shuffle=True):
        assert torch.equal(batch["label"], batch["index"])
        assert torch.equal(batch["image"], data["image"][batch["index"]] / 255)
        assert batch["image"].dtype == torch.float32


@pytest.mark.parametrize("shuffle", [True, False])
def test_changing_a_batch_does_not_change_the_split(shuffle):
    data = images(50) | {"wide": torch.arange(50 * 100).view(50, 100)}  # 800 bytes in a row
    before = {key: tensor.clone() for key, tensor in data.items()}
    for batch in Batches(data, 8, shuffle=shuffle):
        assert torch.equal(batch["wide"][:, 0], 100 * batch["label"])
        for tensor in batch.values():
            tensor.zero_()
    assert all(torch.equal(data[key], before[key]) for key in data)


@pytest.mark.parametrize("world_size", [2, 3])
def test_batches_of_all_ranks_are_one_batch_of_a_single_process(world_size):
    n, size = 48, 4
    ranks = [
        indices(Batches(images(n), size, shuffle=True, rank=r, world_size=world_size))
        for r in range(world_size)
    ]
    single = indices(Batches(images(n), size * world_size, shuffle=True))
    together = [sorted(flat(parts)) for parts in zip(*ranks, strict=True)]
    assert together == [sorted(b) for b in single]


@pytest.mark.parametrize(
    ("n", "world_size", "size"), [(50, 3, 8), (17, 2, 8), (33, 2, 16), (7, 4, 2), (5, 2, 1)]
)
def test_training_sees_each_image_once_in_equally_many_batches(n, world_size, size):
    orders = set()
    for epoch in range(4):
        seen = []
        for rank in range(world_size):
            loader = Batches(images(n), size, shuffle=True, rank=rank, world_size=world_size)
            loader.sampler.set_epoch(epoch)
            seen.append(indices(loader))
            assert len(seen[-1]) == len(loader)
        assert sorted(flat(map(flat, seen))) == list(range(n))
        assert len({len(part) for part in seen}) == 1
        assert all(1 <= len(batch) <= max(2, size) for part in seen for batch in part)
        orders.add(tuple(flat(map(flat, seen))))
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("n", "world_size", "size"), [(50, 1, 8), (50, 3, 8), (17, 2, 8), (33, 2, 16), (7, 4, 2)]
)
def test_evaluation_sees_each_image_once_in_equally_many_batches(n, world_size, size):
    loaders = [Batches(images(n), size, rank=r, world_size=world_size) for r in range(world_size)]
    seen = [indices(loader) for loader in loaders]
    assert sorted(flat(map(flat, seen))) == list(range(n))
    assert {len(part) for part in seen} == {len(loader) for loader in loaders}
    assert len({len(part) for part in seen}) == 1
    assert all(1 <= len(b) <= size for part in seen for b in part)
    if world_size == 1:
        assert flat(seen[0]) == list(range(n))


def test_more_ranks_than_images_leaves_some_without_a_batch():
    loaders = [Batches(images(2), 4, rank=r, world_size=3) for r in range(3)]
    assert [len(loader) for loader in loaders] == [1, 1, 0]
    assert [indices(loader) for loader in loaders] == [[[0]], [[1]], []]


def test_binarized_mean_is_v_over_255():
    n = 20_000
    values = torch.arange(256, dtype=torch.uint8)
    mean = binarize(values.expand(n, -1), torch.Generator().manual_seed(0)).mean(0)
    p = values.double() / 255
    error = (p * (1 - p) / n).sqrt()
    assert mean[0] == 0
    assert mean[255] == 1
    z = (mean - p)[1:255] / error[1:255]
    # 254 standard normals: the largest stays below 4.5 in all but 0.2 % of seeds, and the mean of
    # their squares is 1 with a standard error of sqrt(2 / 254)
    assert z.abs().max() < 4.5
    assert abs(z.square().mean() - 1) < 4 * math.sqrt(2 / 254)


def test_pixels_of_one_word_are_independent():
    # four pixels share a 64-bit random word
    grey = torch.full((40_000, 4), 100, dtype=torch.uint8)
    drawn = binarize(grey, torch.Generator().manual_seed(0))
    correlation = torch.corrcoef(drawn.T) - torch.eye(4)
    assert correlation.abs().max() < 4.5 / math.sqrt(40_000)


def test_white_is_always_on_and_black_never():
    generator = torch.Generator().manual_seed(0)
    assert binarize(torch.full((1_000_001,), 255, dtype=torch.uint8), generator).min() == 1
    assert binarize(torch.zeros(1_000_001, dtype=torch.uint8), generator).max() == 0


def test_dynamic_pixels_follow_the_global_generator():
    loader = Batches(images(64, 28), 64, finish=binarized)

    def draw(seed):
        torch.manual_seed(seed)
        return next(iter(loader))["image"]

    assert torch.equal(draw(0), draw(0))
    grey = (loader.tensors["image"] > 0) & (loader.tensors["image"] < 255)
    # ranks are given different seeds; two draws of a pixel differ with probability 2 p (1 - p)
    p = loader.tensors["image"][grey] / 255
    expected = (2 * p * (1 - p)).mean()
    differ = (draw(0) != draw(1))[grey].float().mean()
    assert abs(differ - expected) < 4 * math.sqrt(0.25 / grey.sum())


def module(binarization, **args):
    data = FakeImages(x_shape=(1, 16, 16), n=60, binarization=binarization, **args)
    data.setup()
    return data


def whole(loader):
    batches = list(loader)
    order = torch.cat([b["index"] for b in batches]).argsort()
    return torch.cat([b["image"] for b in batches])[order]


def test_training_pixels_change_if_dynamic_and_stay_if_static():
    dynamic, static = module("dynamic"), module("static")
    for _ in range(2):
        assert set(whole(dynamic.train_dataloader()).unique().tolist()) == {0, 1}
    loader = dynamic.train_dataloader()
    assert not torch.equal(whole(loader), whole(loader))
    first = whole(static.train_dataloader())
    assert set(first.unique().tolist()) == {0, 1}
    assert torch.equal(whole(static.train_dataloader()), first)
    assert torch.equal(whole(module("static").train_dataloader()), first)
    assert not torch.equal(whole(module("static", seed=1).train_dataloader()), first)


def test_no_binarization_gives_grey_values():
    data = module("none")
    assert torch.equal(whole(data.train_dataloader()), data.splits["train"]["image"] / 255)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_pixels_are_fixed(split):
    def pixels(data):
        return whole(getattr(data, f"{split}_dataloader")())

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = pixels(module("dynamic"))
    assert torch.equal(torch.get_rng_state(), state)
    assert set(first.unique().tolist()) == {0, 1}
    assert torch.equal(pixels(module("dynamic", batch_size=4)), first)
    assert torch.equal(pixels(module("static")), first)
    data = module("dynamic")
    tensors = getattr(data, f"{split}_dataloader")().tensors
    parts = [list(Batches(tensors, 4, rank=r, world_size=2)) for r in range(2)]
    assert torch.equal(whole(parts[0] + parts[1]), first)


def test_splits_are_drawn_with_different_noise():
    data = module("static")
    val, test = data.val_dataloader(), data.test_dataloader()
    data.splits["test"] = data.splits["val"]
    assert torch.equal(whole(val), whole(data.val_dataloader()))
    assert not torch.equal(whole(data.test_dataloader()), whole(val))
    assert len(test) == len(val)


def test_rows_drawn_for_an_epoch_are_sliced_like_the_others():
    def draw(epoch):
        return {"turn": torch.arange(50) + 100 * epoch}

    loader = Batches(images(50), 8, shuffle=True, draw=draw)
    for epoch in (0, 3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert torch.equal(batch["turn"], batch["index"] + 100 * epoch)
    for batch in Batches(images(50), 8, draw=draw):
        assert torch.equal(batch["turn"], batch["index"])


def test_loader_can_be_pickled():
    loader = Batches(images(20), 8, shuffle=True)
    assert indices(pickle.loads(pickle.dumps(loader))) == indices(loader)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_a_loader_goes_on_where_another_was(shuffle, taken):
    whole = Batches(images(50), 8, shuffle=shuffle)
    whole.sampler.set_epoch(2)
    expected = indices(whole)
    first = Batches(images(50), 8, shuffle=shuffle)
    first.sampler.set_epoch(2)
    iterator = iter(first)
    seen = [next(iterator)["index"].tolist() for _ in range(taken)]
    rest = Batches(images(50), 8, shuffle=shuffle)
    rest.load_state_dict(first.state_dict())
    assert rest.state_dict() == first.state_dict()
    rest.sampler.set_epoch(2)
    remaining = indices(rest)
    assert seen + remaining == expected if taken < 7 else remaining == expected
    assert indices(rest) == expected  # and from the start thereafter


def test_a_place_in_one_epoch_is_none_in_the_next():
    loader, other = (Batches(images(50), 8, shuffle=True) for _ in range(2))
    iterator = iter(loader)
    next(iterator)
    other.load_state_dict(loader.state_dict())
    other.sampler.set_epoch(1)
    loader.sampler.set_epoch(1)
    assert indices(other) == indices(loader)


def test_an_iteration_within_an_epoch_keeps_its_place():
    loader = Batches(images(50), 8, shuffle=True)
    iterator = iter(loader)
    next(iterator)
    place = loader.state_dict()
    assert len(list(loader)) == 7
    next(iter(loader))
    assert loader.state_dict() == place
    next(iterator)
    assert loader.state_dict() == place | {"taken": 2}


def test_examples_keep_their_weights_in_the_middle_of_an_epoch():
    loader, other = (Batches(images(50), 8, shuffle=True) for _ in range(2))
    loader.weigh(torch.arange(50.0))
    iterator = iter(loader)
    next(iterator)
    other.load_state_dict(loader.state_dict())
    assert indices(other) == [batch["index"].tolist() for batch in iterator]


def test_a_place_among_other_batches_is_refused():
    loader, other = Batches(images(50), 8), Batches(images(50), 10)
    iterator = iter(loader)
    next(iterator)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match="an epoch of 7 batches, but here it has 5; resume with"):
        next(iter(other))
