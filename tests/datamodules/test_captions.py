import csv
import json
import math
import pickle
import shutil
import struct
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from zoo.datamodules import Captions
from zoo.datamodules.captions import pairs
from zoo.datamodules.captions.captions import Turns
from zoo.datamodules.captions.scenes import all_factors, draw, parse
from zoo.datamodules.captions.tokenizer import BOS, EOS, PAD, Tokenizer
from zoo.datamodules.files.places import DataError

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
KINDS = ["square", "box", "block", "field", "patch"]


def photo(path, number):
    """A plain picture whose grey value says which one it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (10 * number,) * 3).save(path, quality=95)


def number_of(image):
    """Which picture it is, of pixels in [0, 1] or 0 to 255; JPEG is off by a grey value or two."""
    mean = image.float().mean()
    return round(float(mean * 255 if image.is_floating_point() else mean) / 10)


def describe(number, k):
    """The k-th caption of a picture; it says both."""
    return f"A {KINDS[k]} of grey , number {' '.join(NUMBERS[int(d)] for d in str(number))} ."


def name(number):
    return f"{number:03}.jpg"


def said(text):
    """Which picture and which of its captions a text says it is."""
    words = text.lower().split()
    return int("".join(str(NUMBERS.index(w)) for w in words[6:-1])), KINDS.index(words[1])


def flickr(root, n=24, official=None, captions=5):
    """Write a small Flickr8k of n photos; `official` gives words for splits.csv."""
    folder = root / "flickr8k"
    for i in range(n):
        photo(folder / "Images" / name(i), i)
    with open(folder / "captions.txt", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("image", "caption")]
            + [(name(i), describe(i, k)) for i in range(n) for k in range(captions)]
        )
    if official is not None:
        rows = "".join(f"{name(i)},{word}\n" for i, word in enumerate(official))
        (folder / "splits.csv").write_text("image,official_split\n" + rows)
    return folder


def coco(root, train=20, val=5):
    """Write a small COCO whose validation photos are numbered from 20."""
    folder = root / "coco"
    for part, numbers in (("train2017", range(train)), ("val2017", range(20, 20 + val))):
        if not numbers:
            continue
        for i in numbers:
            photo(folder / part / name(i), i)
        table = {
            "info": {"year": 2017},
            "licenses": [],
            "images": [{"id": 1000 + i, "file_name": name(i), "height": 16} for i in numbers],
            # COCO's annotations are in no order
            "annotations": [
                {"image_id": 1000 + i, "id": 7 * i + k, "caption": describe(i, k)}
                for k in range(5)
                for i in reversed(numbers)
            ],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"captions_{part}.json").write_text(json.dumps(table))
    return folder


def emoji_rows(n=20):
    """Pictures 2i and 2i + 1 are a family; the odd ones have a skin tone."""
    splits = ("train", "train", "val", "test")
    return [
        {
            "image": f"emoji_{i:02}.png",
            "emoji": "x",
            "captions": [describe(i, k) for k in range(1 + i % 3)],
            "group": None,
            "family": f"family {i // 2}",
            "skin_tones": ["light"] if i % 2 else [],
            "split": splits[i // 2 % 4],
            "index": i,
        }
        for i in range(n)
    ]


def emoji(root, rows=None, **arrays):
    """Write small emoji files; arrays replace those of the pictures."""
    folder = root / "emoji"
    folder.mkdir()
    rows = emoji_rows() if rows is None else rows
    n = len(rows)
    grey = (10 * np.arange(n, dtype=np.uint8))[:, None, None, None]
    made = {
        "images": np.broadcast_to(grey, (n, 64, 64, 3)),
        "file_names": np.array([f"emoji_{i:02}.png" for i in range(n)]),
    }
    np.savez_compressed(folder / "images_64.npz", **(made | arrays))
    (folder / "captions.json").write_text(json.dumps(rows, indent=0))
    return folder


WRITE = {"flickr8k": flickr, "coco": coco, "emoji": emoji}
FILES = list(WRITE)


def load(root, source, **args):
    data = Captions(source, **{"root": str(root), "size": 8, "batch_size": 4, **args})
    data.prepare_data()
    data.setup()
    return data


def flat(lists):
    return list(chain.from_iterable(lists))


def texts(loader):
    return flat(batch["text"] for batch in loader)


def rows_of(data, split="train", shuffle=True, rank=0, world_size=1, epoch=0):
    """The batches of one process in one epoch."""
    loader = data.loader(split, shuffle=shuffle, rank=rank, world_size=world_size)
    if shuffle:
        loader.sampler.set_epoch(epoch)
    return list(loader)


# --- what the batches hold -----------------------------------------------------------------------


@pytest.mark.parametrize("source", FILES)
def test_batches_pair_a_picture_with_its_caption(tmp_path, source):
    WRITE[source](tmp_path)
    data = load(tmp_path, source)
    for split in ("train", "val", "test"):
        seen = []
        for batch in getattr(data, f"{split}_dataloader")():
            assert list(batch) == [
                "image", "caption", "mask", "lengths", "picture", "index", "text",
            ]  # fmt: skip
            n, longest = batch["caption"].shape
            assert batch["image"].shape == (n, 3, 8, 8)
            assert batch["image"].dtype == torch.float32
            assert 0 <= batch["image"].min() <= batch["image"].max() <= 1
            assert batch["caption"].dtype == batch["lengths"].dtype == torch.int64
            assert batch["picture"].dtype == batch["index"].dtype == torch.int64
            assert batch["mask"].dtype == torch.bool
            assert torch.equal(batch["mask"].sum(1), batch["lengths"])
            assert torch.equal(batch["mask"], batch["caption"] != PAD)
            assert longest == batch["lengths"].max()
            assert (batch["caption"][:, 0] == BOS).all()
            last = batch["caption"].gather(1, batch["lengths"][:, None] - 1)
            assert (last == EOS).all()
            spoken = data.tokenizer.decode(batch["caption"])
            assert spoken == [text.lower() for text in batch["text"]]
            assert [said(text)[0] for text in batch["text"]] == [*map(number_of, batch["image"])]
            seen += batch["picture"].tolist()
        assert sorted(seen) == list(range(len(data.names[split])))


def test_x_shape_and_sizes(tmp_path):
    emoji(tmp_path)
    for size in (8, 64, 80):
        data = load(tmp_path, "emoji", size=size)
        assert data.x_shape == (3, size, size)
        images = data.splits["train"]["image"]
        assert images.shape[1:] == data.x_shape
        # plain pictures stay plain at any size
        assert (images.amax((1, 2, 3)) == images.amin((1, 2, 3))).all()


def test_resized_pictures_match_pillow(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    emoji(tmp_path, images=images)
    data = load(tmp_path, "emoji", size=16, skin_tones=True)
    resized = data.splits["train"]["image"].permute(0, 2, 3, 1).int().numpy()
    for name, ours in zip(data.names["train"], resized, strict=True):
        original = Image.fromarray(images[int(name[6:8])])
        theirs = np.asarray(original.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
        # both convolve with the same kernel; Pillow rounds after each of the two directions
        assert abs(ours - theirs).max() <= 2


def test_long_captions_are_cut_and_counted(tmp_path):
    flickr(tmp_path)
    with pytest.warns(UserWarning, match=r"120 of 120 captions have more than 7 tokens"):
        data = load(tmp_path, "flickr8k", max_length=7)
    batch = next(iter(data.val_dataloader()))
    assert (batch["lengths"] == 7).all()
    assert (batch["caption"][:, -1] == EOS).all()
    spoken = data.tokenizer.decode(batch["caption"])
    assert all(text.lower().startswith(s) for s, text in zip(spoken, batch["text"], strict=True))


def test_captions_are_held_in_few_bytes(tmp_path):
    flickr(tmp_path)
    assert load(tmp_path, "flickr8k").tables["train"].ids.dtype == torch.int16


# --- which caption -------------------------------------------------------------------------------


def test_training_takes_one_caption_of_each_picture_in_an_epoch(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs.append(texts(loader))
        numbers = [said(text)[0] for text in epochs[-1]]
        assert sorted(numbers) == sorted(int(n[:3]) for n in data.names["train"])
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 3


def test_captions_depend_on_seed_and_epoch_only(tmp_path):
    flickr(tmp_path, official=["train"] * 20 + ["dev", "dev", "test", "test"])

    def choice(seed=0, epoch=1, processes=1, batch_size=4):
        data = load(tmp_path, "flickr8k", seed=seed, batch_size=batch_size)
        batches = [
            rows_of(data, rank=rank, world_size=processes, epoch=epoch) for rank in range(processes)
        ]
        return dict(said(text) for batch in flat(batches) for text in batch["text"])

    torch.manual_seed(1)
    first = choice()
    torch.manual_seed(2)
    assert choice() == first
    assert choice(batch_size=7) == first
    assert choice(processes=2) == first
    assert choice(processes=4) == first
    assert choice(seed=1) != first
    assert choice(epoch=2) != first


def test_drawing_captions_leaves_the_global_generator_alone(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    before = torch.get_rng_state()
    texts(data.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum()


def test_every_caption_of_a_picture_is_as_likely():
    pictures, epochs = 200, 300
    count = torch.tensor([5, 3] * (pictures // 2))
    first = count.cumsum(0) - count
    turns = Turns(first, count, seed=0)
    drawn = np.stack([(turns(epoch)["row"] - first).numpy() for epoch in range(epochs)])  # (E, P)
    fives, threes = drawn[:, ::2], drawn[:, 1::2]
    # a chi-square variable with d degrees of freedom exceeds d + 4 sqrt(2 d) + 8 about once in
    # 10,000 times for d from 2 to 24
    for choices, k in ((fives, 5), (threes, 3)):
        assert chi_square(np.bincount(choices.ravel(), minlength=k)) < bound(k - 1)
        # nor does it depend on the last epoch's, or on the neighbour's
        for other in (np.roll(choices, 1, 0), np.roll(choices, 1, 1)):
            both = np.bincount((k * choices + other).ravel(), minlength=k * k)
            assert chi_square(both) < bound(k * k - 1)
    # single pictures: 100 sums of 4 degrees of freedom each
    each = sum(chi_square(np.bincount(column, minlength=5)) for column in fives.T)
    assert abs(each - 400) < 4 * math.sqrt(2 * 400)


def bound(d):
    return d + 4 * math.sqrt(2 * d) + 8


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_takes_the_first_caption_or_all(tmp_path, split):
    flickr(tmp_path)
    first = rows_of(load(tmp_path, "flickr8k"), split, shuffle=False)
    assert [said(text)[1] for batch in first for text in batch["text"]] == [0, 0, 0]
    data = load(tmp_path, "flickr8k", eval_captions="all")
    every = rows_of(data, split, shuffle=False)
    assert flat(b["picture"].tolist() for b in every) == [p for p in range(3) for _ in range(5)]
    assert flat(b["index"].tolist() for b in every) == list(range(15))
    pairs_seen = [said(text) for batch in every for text in batch["text"]]
    numbers = [int(file[:3]) for file in data.names[split]]
    assert pairs_seen == [(number, k) for number in numbers for k in range(5)]
    assert [number_of(image) for b in every for image in b["image"]] == [n for n, _ in pairs_seen]
    # training goes on with one caption of each picture
    assert len(texts(data.train_dataloader())) == 18


def test_training_in_order_takes_the_first_captions(tmp_path):
    """As to overfit a few batches, which have to stay the same."""
    flickr(tmp_path)
    batches = rows_of(load(tmp_path, "flickr8k"), shuffle=False)
    assert {said(text)[1] for batch in batches for text in batch["text"]} == {0}


# --- processes and training ----------------------------------------------------------------------


@pytest.mark.parametrize(("split", "shuffle"), [("train", True), ("val", False)])
def test_two_processes_see_different_pairs(tmp_path, split, shuffle):
    flickr(tmp_path, official=["train"] * 12 + ["dev"] * 7 + ["test"] * 5)
    data = load(tmp_path, "flickr8k", eval_captions="all")
    ranks = [rows_of(data, split, shuffle, rank, 2) for rank in range(2)]
    seen = [flat(batch["text"] for batch in batches) for batches in ranks]
    assert not set(seen[0]) & set(seen[1])
    whole = flat(batch["text"] for batch in rows_of(data, split, shuffle))
    assert sorted(seen[0] + seen[1]) == sorted(whole)
    assert len({len(batches) for batches in ranks}) == 1


class Recorder(LightningModule):
    """Notes which captions it is trained with."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(str(self.current_epoch), []).extend(batch["text"])
        return (self.weight - batch["image"].mean()) ** 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_end(self):
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(self.seen))


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_draws_captions_anew_in_each_epoch_on_all_processes(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Recorder(tmp_path), data)
    for epoch in range(2):
        expected = [
            flat(b["text"] for b in rows_of(data, "train", True, r, 2, epoch)) for r in (0, 1)
        ]
        seen = [json.loads((tmp_path / f"{r}.json").read_text())[str(epoch)] for r in (0, 1)]
        assert seen == expected


def test_loader_can_be_pickled(tmp_path):
    flickr(tmp_path)
    loader = load(tmp_path, "flickr8k").train_dataloader()
    assert texts(pickle.loads(pickle.dumps(loader))) == texts(loader)


def test_loaders_and_examples_need_setup():
    for ask in (Captions.train_dataloader, lambda data: data.examples(1)):
        with pytest.raises(RuntimeError, match=r"Call Captions.setup\(\) before asking for"):
            ask(Captions())


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_picture_is_in_two_splits(tmp_path, source, seed):
    WRITE[source](tmp_path)
    data = load(tmp_path, source, seed=seed)
    names = flat(data.names.values())
    assert len(names) == len(set(names)) > 9
    spoken = [{said(text)[0] for text in data.tables[split].text} for split in data.names]
    assert sum(map(len, spoken)) == len(set.union(*spoken)) == len(names)


def test_split_without_lists_follows_the_seed(tmp_path):
    flickr(tmp_path)
    first = load(tmp_path, "flickr8k").names
    assert {split: len(names) for split, names in first.items()} == {
        "train": 18, "val": 3, "test": 3,
    }  # fmt: skip
    assert load(tmp_path, "flickr8k").names == first
    assert load(tmp_path, "flickr8k", seed=1).names != first


def test_official_split_is_kept_and_none_is_in_no_split(tmp_path):
    words = ["train"] * 10 + ["dev"] * 5 + ["test"] * 6 + ["none"] * 3
    folder = flickr(tmp_path, official=words)
    expected = {
        split: [name(i) for i, word in enumerate(words) if word == official]
        for split, official in (("train", "train"), ("val", "dev"), ("test", "test"))
    }
    assert load(tmp_path, "flickr8k").names == expected
    # the published lists say the same
    (folder / "splits.csv").unlink()
    for file, split in (("train", "train"), ("dev", "val"), ("test", "test")):
        lines = "".join(f"{n}\n" for n in expected[split])
        (folder / f"Flickr_8k.{file}Images.txt").write_text(lines)
    assert load(tmp_path, "flickr8k", seed=5).names == expected


def test_published_captions_are_the_same_in_the_order_of_their_numbers(tmp_path):
    folder = flickr(tmp_path)
    first = load(tmp_path, "flickr8k")
    (folder / "captions.txt").unlink()
    rows = [f"{name(i)}#{k}\t{describe(i, k)}\n" for i in range(24) for k in reversed(range(5))]
    (folder / "Flickr8k.token.txt").write_text("".join(rows))
    again = load(tmp_path, "flickr8k")
    assert again.names == first.names
    assert all(again.tables[s].text == table.text for s, table in first.tables.items())


def test_both_parts_of_coco_train_validate_and_test(tmp_path):
    coco(tmp_path, train=20, val=5)
    names = load(tmp_path, "coco").names
    assert names["test"] == [name(i) for i in range(20, 25)]
    assert len(names["val"]) == 2
    assert sorted(names["train"] + names["val"]) == [name(i) for i in range(20)]


@pytest.mark.parametrize(("train", "val"), [(20, 0), (0, 20)])
def test_one_part_of_coco_is_split_in_three(tmp_path, train, val):
    coco(tmp_path, train, val if val else 0)
    names = load(tmp_path, "coco").names
    assert [len(part) for part in names.values()] == [16, 2, 2]


def test_captions_of_coco_without_their_pictures_are_left_out(tmp_path):
    folder = coco(tmp_path)
    shutil.rmtree(folder / "train2017")
    names = load(tmp_path, "coco").names
    assert sorted(flat(names.values())) == [name(i) for i in range(20, 25)]


def test_emoji_families_stay_together_and_skin_tones_are_an_option(tmp_path):
    emoji(tmp_path)
    data = load(tmp_path, "emoji")
    assert sorted(flat(data.names.values())) == [f"emoji_{i:02}.png" for i in range(0, 20, 2)]
    data = load(tmp_path, "emoji", skin_tones=True)
    split_of = {file: split for split, names in data.names.items() for file in names}
    assert len(split_of) == 20
    for i in range(0, 20, 2):
        assert split_of[f"emoji_{i:02}.png"] == split_of[f"emoji_{i + 1:02}.png"]


# --- tokenizer -----------------------------------------------------------------------------------


def test_tokenizer_learns_from_training_captions_alone(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    own = Tokenizer.train(data.tables["train"].text, 2048)
    every = flat(table.text for table in data.tables.values())
    assert torch.equal(own.encode(every)[0], data.tokenizer.encode(every)[0])
    [path] = (tmp_path / "prepared").iterdir()
    assert path.name.startswith("tokenizer-")
    before = path.stat().st_mtime_ns
    load(tmp_path, "flickr8k", size=16)
    assert [path] == [*(tmp_path / "prepared").iterdir()]
    assert path.stat().st_mtime_ns == before


def test_captions_are_tokenised_once(tmp_path, monkeypatch):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")

    def refuse(*args):
        raise AssertionError("tokenised again")

    monkeypatch.setattr(Tokenizer, "encode", refuse)
    data.setup("test")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert texts(loader)


def test_tokenizer_of_a_model_can_be_used(tmp_path):
    flickr(tmp_path)
    given = Tokenizer.train(["a square of grey"], 280)
    given.save(tmp_path / "model" / "tokenizer.json")
    data = load(tmp_path, "flickr8k", tokenizer_file=str(tmp_path / "model" / "tokenizer.json"))
    batch = next(iter(data.val_dataloader()))
    assert torch.equal(batch["caption"], given.encode(batch["text"])[0])
    assert not (tmp_path / "prepared").exists()
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        load(tmp_path, "flickr8k", tokenizer_file=str(tmp_path / "nowhere.json"))


# --- what is there -------------------------------------------------------------------------------


def test_inventory_tells_what_is_there(tmp_path):
    before = Captions.inventory(str(tmp_path))
    assert list(before) == ["scenes", "emoji", "flickr8k", "coco"]
    assert before["scenes"].folder is None
    assert not before["scenes"].missing
    for source, write in WRITE.items():
        assert before[source].folder == tmp_path / source
        assert before[source].missing
        assert before[source].remedy
        assert not before[source].found
        write(tmp_path)
    after = Captions.inventory(str(tmp_path))
    assert not any(inventory.missing for inventory in after.values())
    assert after["flickr8k"].found == ("Images", "captions.txt")
    assert len(after["coco"].found) == 4


def test_inventory_of_parts(tmp_path):
    folder = coco(tmp_path)
    shutil.rmtree(folder / "train2017")
    assert not Captions.inventory(str(tmp_path))["coco"].missing
    shutil.rmtree(folder / "val2017")
    assert set(Captions.inventory(str(tmp_path))["coco"].missing) == {"train2017", "val2017"}


def test_examples_are_training_pictures_with_their_first_captions(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    examples = data.examples(3)
    assert [e.text for e in examples] == [describe(int(n[:3]), 0) for n in data.names["train"][:3]]
    assert [number_of(e.image) for e in examples] == [int(n[:3]) for n in data.names["train"][:3]]
    assert all(e.image.dtype == torch.uint8 and e.image.shape == (3, 8, 8) for e in examples)
    assert len(data.examples(1000)) == 18


# --- scenes, which need no files -----------------------------------------------------------------


def drawn(**args):
    return load(args.pop("root"), "scenes", **{"n": 64, "size": 64, **args})


@pytest.mark.parametrize("level", [1, 5])
def test_scenes_come_with_captions_that_say_what_is_there(tmp_path, level):
    data = drawn(root=tmp_path, level=level, batch_size=64)
    assert [len(rows["image"]) for rows in data.splits.values()] == [64, 8, 8]
    for split, rows in data.splits.items():
        text = data.tables[split].text
        for first, n in zip(rows["first"].tolist(), rows["count"].tolist(), strict=True):
            factors = {tuple(parse(caption).tolist()) for caption in text[first : first + n]}
            assert len(factors) == 1
            assert len(factors.pop()) == level
    batch = next(iter(data.train_dataloader()))
    spoken = data.tokenizer.decode(batch["caption"])
    said_again = [parse(text).tolist() for text in spoken]
    assert said_again == [parse(text).tolist() for text in batch["text"]]
    # The picture is most like the undisturbed scene of the factors that its caption says. A small
    # one that is moved may be more like another shape: 96.3 % of 1,024 are right at level 5, so
    # that 64 have a standard error of 2.4 %; by chance it would be one in 240.
    kinds = all_factors(level)
    nearest = torch.cdist(batch["image"].flatten(1), draw(kinds).flatten(1) / 255).argmin(1)
    right = (kinds[nearest] == torch.tensor(said_again)).all(1).float().mean()
    assert right == 1 if level == 1 else right > 0.963 - 4 * 0.024


def test_scenes_follow_the_seed_and_none_is_in_two_splits(tmp_path):
    images = [drawn(root=tmp_path, seed=seed).splits for seed in (0, 0, 1)]
    every = [torch.cat([rows["image"] for rows in splits.values()]) for splits in images]
    assert torch.equal(every[0], every[1])
    both = torch.cat([every[0], every[2]])
    assert len(torch.unique(both.flatten(1), dim=0)) == 160


def test_scenes_of_other_sizes(tmp_path):
    small, large = (drawn(root=tmp_path, size=size, n=8) for size in (16, 64))
    shrunk = torch.nn.functional.avg_pool2d(large.splits["train"]["image"].float(), 4)
    # bicubic resizing and the mean over squares differ at edges only
    assert (shrunk - small.splits["train"]["image"]).abs().mean() < 4


# --- real files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "sizes", "captions"),
    [("emoji", [1312, 149, 189], 11_229), ("flickr8k", [753, 113, 125], 4955)],
)
def test_real_captions(real_captions, source, sizes, captions):
    data = load(real_captions(source), source, size=64, batch_size=128)
    assert [len(rows["image"]) for rows in data.splits.values()] == sizes
    assert count(data) == captions
    for split, table in data.tables.items():
        assert data.tokenizer.decode(table.ids) == [
            " ".join(text.lower().split()) for text in table.text
        ]
        assert torch.equal(table.lengths, (table.ids != PAD).sum(1))
        first, n = data.splits[split]["first"], data.splits[split]["count"]
        assert torch.equal(first, n.cumsum(0) - n)
        assert first[-1] + n[-1] == len(table.text)
    for batch in (*data.train_dataloader(), *data.test_dataloader()):
        assert torch.equal(batch["mask"].sum(1), batch["lengths"])
        assert torch.equal(batch["mask"], batch["caption"] != PAD)
    names = flat(data.names.values())
    assert len(names) == len(set(names)) == sum(sizes)


def test_real_flickr8k_leaves_out_what_the_official_split_does(real_captions):
    root = real_captions("flickr8k")
    data = load(root, "flickr8k", eval_captions="all")
    photos = {path.name for path in (root / "flickr8k" / "Images").iterdir()}
    assert len(photos) == 1000
    with open(root / "flickr8k" / "splits.csv", newline="") as file:
        none = {row["image"] for row in csv.DictReader(file) if row["official_split"] == "none"}
    assert len(none) == 9
    assert set(flat(data.names.values())) == photos - none
    with open(root / "flickr8k" / "captions.txt", newline="") as file:
        rows = [(row["image"], row["caption"]) for row in csv.DictReader(file)]
    assert len(rows) == 5000
    seen = [
        (data.names["test"][picture], text)
        for batch in data.test_dataloader()
        for picture, text in zip(batch["picture"].tolist(), batch["text"], strict=True)
    ]
    assert seen == sorted((r for r in rows if r[0] in data.names["test"]), key=lambda r: r[0])


def test_real_emoji_keep_families_together(real_captions):
    root = real_captions("emoji")
    data = load(root, "emoji", size=64, skin_tones=True)
    assert [len(rows["image"]) for rows in data.splits.values()] == [2827, 269, 434]
    rows = json.loads((root / "emoji" / "captions.json").read_text())
    family = {row["image"]: row["family"] for row in rows}
    families = [{family[file] for file in names} for names in data.names.values()]
    assert sum(map(len, families)) == len(set.union(*families)) == 1541
    captions = {row["image"]: row["captions"] for row in rows}
    with np.load(root / "emoji" / "images_64.npz") as arrays:
        images, order = arrays["images"], arrays["file_names"].tolist()
    for split, names in data.names.items():
        assert data.tables[split].text == flat(captions[file] for file in names)
        theirs = images[[order.index(file) for file in names]]
        assert np.array_equal(data.splits[split]["image"].permute(0, 2, 3, 1).numpy(), theirs)


# --- damage: what is passed over, counted and named ----------------------------------------------


def passed_over(root, source, **args):
    """Load with a warning about what was passed over, and return both."""
    with pytest.warns(UserWarning, match="Passed over") as caught:
        data = load(root, source, **args)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert str(root / source) in message
    assert "\n" not in message
    return data, message


def edit(path, *changes):
    """Replace parts of a text file, each of which is there."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")


def count(data):
    return sum(len(table.text) for table in data.tables.values())


def test_captions_without_a_picture_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    (folder / "Images" / "004.jpg").unlink()
    edit(folder / "captions.txt", ("005.jpg", "005.jpg.1"))  # as in the published file
    data, message = passed_over(tmp_path, "flickr8k")
    assert "captioned pictures that are not there: 2 (004.jpg, 005.jpg.1)" in message
    assert count(data) == 24 * 5 - 5 - 1


def test_pictures_without_a_caption_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    photo(folder / "Images" / "new.jpg", 3)
    (folder / "Images" / "notes.txt").write_text("no picture")
    data, message = passed_over(tmp_path, "flickr8k")
    assert message.endswith("pictures without a caption: 1 (new.jpg).")
    assert len(flat(data.names.values())) == 24


def test_empty_captions_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    edit(
        folder / "captions.txt",
        (f'"{describe(3, 1)}"', ""),
        (f'"{describe(4, 0)}"', '"   "'),
    )
    data, message = passed_over(tmp_path, "flickr8k")
    assert message.endswith("captions that are empty: 2 (003.jpg, 004.jpg).")
    assert count(data) == 24 * 5 - 2


def test_repeated_rows_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    lines = (folder / "captions.txt").read_text().splitlines(keepends=True)
    (folder / "captions.txt").write_text("".join(lines + lines[1:6] + lines[1:2]))
    data, message = passed_over(tmp_path, "flickr8k")
    assert "captions that their picture has already: 6 (000.jpg, 000.jpg, 000.jpg and 3 more)" in (
        message
    )
    assert count(data) == 24 * 5


def png_of_size(side):
    """The bytes of a PNG that says it is side x side, without so many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("source", ["flickr8k", "coco"])
def test_pictures_that_cannot_be_read_are_passed_over(tmp_path, source):
    folder = WRITE[source](tmp_path) / {"flickr8k": "Images", "coco": "train2017"}[source]
    good = (folder / "000.jpg").read_bytes()
    (folder / "000.jpg").write_bytes(good[: len(good) // 2])
    (folder / "001.jpg").write_bytes(b"")
    (folder / "002.jpg").write_bytes(png_of_size(60_000))
    (folder / "003.jpg").write_text("<html>404</html>")
    data, message = passed_over(tmp_path, source)
    assert "pictures that cannot be read: 4 (" in message
    assert "and 1 more" in message
    names = flat(data.names.values())
    assert not {"000.jpg", "001.jpg", "002.jpg", "003.jpg"} & set(names)
    # what is left is still paired
    for split in data.names:
        for batch in rows_of(data, split, shuffle=False):
            assert [said(t)[0] for t in batch["text"]] == [*map(number_of, batch["image"])]


def test_kinds_of_damage_are_told_in_one_warning(tmp_path):
    folder = flickr(tmp_path)
    (folder / "Images" / "001.jpg").write_bytes(b"")
    (folder / "Images" / "002.jpg").unlink()
    photo(folder / "Images" / "new.jpg", 3)
    _, message = passed_over(tmp_path, "flickr8k")
    for kind in ("cannot be read: 1", "not there: 1 (002.jpg)", "without a caption: 1 (new.jpg)"):
        assert kind in message


def test_pictures_that_a_table_of_splits_forgets_are_passed_over(tmp_path):
    flickr(tmp_path, official=["train"] * 10 + ["dev"] * 5 + ["test"] * 7)
    data, message = passed_over(tmp_path, "flickr8k")
    assert message.endswith("pictures that splits.csv does not name: 2 (022.jpg, 023.jpg).")
    assert len(flat(data.names.values())) == 22


def test_coco_captions_of_unknown_pictures_are_passed_over(tmp_path):
    folder = coco(tmp_path)
    edit(folder / "annotations" / "captions_train2017.json", ('"image_id": 1019', '"image_id": 5'))
    data, message = passed_over(tmp_path, "coco")
    assert message.endswith("pictures that the table does not list: 1 (image_id 5).")
    assert count(data) == 25 * 5 - 1


def test_a_part_of_coco_is_enough(tmp_path):
    folder = coco(tmp_path)
    for i in range(0, 20, 2):
        (folder / "train2017" / name(i)).unlink()
    data, message = passed_over(tmp_path, "coco")
    assert "captioned pictures that are not there: 10 (train2017/000.jpg, " in message
    assert [len(names) for names in data.names.values()] == [9, 1, 5]


def test_emoji_without_a_caption_are_passed_over(tmp_path):
    rows = emoji_rows()
    rows[0]["captions"] = []
    rows[2]["captions"] = ["", " "]
    emoji(tmp_path, rows)
    data, message = passed_over(tmp_path, "emoji")
    assert "captions that are empty: 2 (emoji_02.png" in message
    assert "pictures without a caption: 2 (emoji_00.png, emoji_02.png)" in message
    assert len(flat(data.names.values())) == 8


# --- damage: what changes nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.rstrip(b"\n"),
        lambda data: data + b"\n\n  \n",
        lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n") + b"\r\n",
    ],
    ids=["bom", "crlf", "cr", "no last end", "blank lines", "bom and crlf"],
)
def test_ways_to_write_a_text_file_change_nothing(tmp_path, change):
    folder = flickr(tmp_path, official=["train"] * 18 + ["dev"] * 3 + ["test"] * 3)
    first = load(tmp_path, "flickr8k")
    for file in ("captions.txt", "splits.csv"):
        (folder / file).write_bytes(change((folder / file).read_bytes()))
    again = load(tmp_path, "flickr8k")
    assert again.names == first.names
    assert all(again.tables[s].text == table.text for s, table in first.tables.items())


def test_captions_hold_commas_quotes_and_other_scripts(tmp_path):
    folder = flickr(tmp_path)
    odd = ['He said " hi " , and left', '"quoted"', "été 日本語 😀", "a,b", "it's"]
    rows = [("000.jpg", text) for text in odd]
    with open(folder / "captions.txt", "a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    data = load(tmp_path, "flickr8k")
    held = flat(table.text for table in data.tables.values())
    assert set(odd) <= set(held)
    assert data.tokenizer.decode(data.tokenizer.encode(odd)[0]) == [text.lower() for text in odd]


# --- damage: what is refused ---------------------------------------------------------------------


def rewrite(file, change):
    """Return what changes the bytes of a file."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def swap(file, old, new):
    return lambda folder: edit(folder / file, (old, new))


def lines(file, change):
    """Return what changes the list of a file's lines."""

    def apply(folder):
        text = (folder / file).read_text().splitlines(keepends=True)
        (folder / file).write_text("".join(change(text)))

    return apply


def names_twice(folder):
    for part, numbers in (("train", range(20)), ("dev", range(19, 22)), ("test", range(22, 24))):
        text = "".join(f"{name(i)}\n" for i in numbers)
        (folder / f"Flickr_8k.{part}Images.txt").write_text(text)


FLICKR_DAMAGE = {
    "cp1252": (
        rewrite("captions.txt", lambda d: d.replace(b"A square", b"A caf\xe9", 1)),
        r"captions\.txt is not UTF-8: line 2 has the byte 0xe9; .*iconv",
    ),
    "utf-16": (
        rewrite("captions.txt", lambda d: d.decode().encode("utf-16")),
        r"captions\.txt is not UTF-8: line 1 has the byte 0xff",
    ),
    "no header": (
        lines("captions.txt", lambda rows: rows[1:]),
        r"captions\.txt does not begin with the header image,caption",
    ),
    "empty": (rewrite("captions.txt", lambda d: b""), "does not begin with the header"),
    "header alone": (lines("captions.txt", lambda rows: rows[:1]), "no readable picture"),
    "unquoted comma": (
        swap("captions.txt", f'"{describe(0, 1)}"', "a dog , running"),
        r"Line 3 of .*captions\.txt is not a row of image and caption \(it has 3 columns\)",
    ),
    "open quote": (
        swap("captions.txt", f'"{describe(0, 1)}"', f'"{describe(0, 1)}'),
        r"Line 3 of .*captions\.txt is not a row",
    ),
    "quote in quotes": (
        swap("captions.txt", f'"{describe(0, 1)}"', '"a "big" dog"'),
        r"Line 3 of .*captions\.txt is not a row",
    ),
    "no comma": (
        swap("captions.txt", "000.jpg,", "000.jpg "),
        r"Line 2 of .*captions\.txt is not a row|which is no plain file name",
    ),
    "cut": (
        rewrite("captions.txt", lambda d: d[:-20]),
        r"Line 121 of .*captions\.txt is not a row",
    ),
    "long line": (
        rewrite("captions.txt", lambda d: d + b"000.jpg," + b"a" * 200_000 + b"\n"),
        r"Line 122 of .*captions\.txt is not a row .*field larger",
    ),
    "parent folders": (
        swap("captions.txt", "000.jpg", "../../etc/passwd"),
        r"captions\.txt names the picture '\.\./\.\./etc/passwd', which is no plain file name",
    ),
    "absolute path": (swap("captions.txt", "000.jpg", "/etc/passwd"), "which is no plain file"),
    "windows path": (swap("captions.txt", "000.jpg", r"..\x.jpg"), "which is no plain file"),
    "parent": (swap("captions.txt", "000.jpg", ".."), "which is no plain file name"),
    "no name": (swap("captions.txt", "000.jpg", ""), "which is no plain file name"),
    "no captions": (
        lambda folder: (folder / "captions.txt").unlink(),
        r"captions\.txt is not there: get Flickr8k",
    ),
    "no pictures": (
        lambda folder: shutil.rmtree(folder / "Images"),
        r"Images is no folder: get Flickr8k",
    ),
    "other splits": (
        lambda folder: (folder / "splits.csv").write_text("image,official_split\n000.jpg,valid\n"),
        r"splits\.csv puts 000\.jpg into 'valid', but splits are train, dev, test, none",
    ),
    "two splits": (
        lambda folder: (folder / "splits.csv").write_text(
            "image,official_split\n000.jpg,train\n000.jpg,test\n"
        ),
        r"splits\.csv puts 000\.jpg into test, but it is in train already",
    ),
    "none and train": (
        lambda folder: (folder / "splits.csv").write_text(
            "image,official_split\n000.jpg,none\n000.jpg,train\n"
        ),
        r"splits\.csv puts 000\.jpg into train, but it is in none already",
    ),
    "two lists": (names_twice, r"devImages\.txt puts 019\.jpg into val, but it is in train"),
    "one list": (
        lambda folder: (folder / "Flickr_8k.devImages.txt").write_text("000.jpg\n"),
        r"has Flickr_8k\.devImages\.txt, but not Flickr_8k\.trainImages\.txt, Flickr_8k\.test",
    ),
    "path in splits": (
        lambda folder: (folder / "splits.csv").write_text("image,official_split\n../a.jpg,dev\n"),
        r"splits\.csv names the picture '\.\./a\.jpg'",
    ),
    "empty split": (
        lambda folder: (folder / "splits.csv").write_text(
            "image,official_split\n" + "".join(f"{name(i)},train\n" for i in range(24))
        ),
        "no readable picture with a caption for val and test: put pictures of it there, or move",
    ),
}


def tokens(change):
    """Return what puts the published table of captions in the place of captions.txt."""

    def apply(folder):
        (folder / "captions.txt").unlink()
        text = "".join(f"{name(i)}#{k}\t{describe(i, k)}\n" for i in range(24) for k in range(5))
        (folder / "Flickr8k.token.txt").write_bytes(change(text).encode())

    return apply


FLICKR_DAMAGE |= {
    "tokens without tab": (
        tokens(lambda text: text.replace("\t", " ", 1)),
        r"Line 1 of .*Flickr8k\.token\.txt is not a name with a number, a tab and a caption",
    ),
    "tokens without number": (
        tokens(lambda text: text.replace("#1", "", 1)),
        r"Line 2 of .*Flickr8k\.token\.txt is not a name with a number",
    ),
    "tokens with a path": (
        tokens(lambda text: text.replace("000.jpg", "../000.jpg", 1)),
        r"token\.txt names the picture '\.\./000\.jpg'",
    ),
}


def change_table(where, value=None):
    """Return what changes the table of COCO's training captions at a path of keys."""

    def apply(folder):
        path = folder / "annotations" / "captions_train2017.json"
        content = json.loads(path.read_text())
        *keys, last = where
        target = content
        for key in keys:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
        path.write_text(json.dumps(content))

    return apply


TABLE = "annotations/captions_train2017.json"
COCO_DAMAGE = {
    "cut": (rewrite(TABLE, lambda d: d[: len(d) // 2]), r"captions_train2017\.json is damaged \("),
    "empty": (rewrite(TABLE, lambda d: b""), "is damaged"),
    "deep": (rewrite(TABLE, lambda d: b"[" * 100_000), "is damaged .*recursion"),
    "list": (rewrite(TABLE, lambda d: b"[]"), r"it has no list 'images' of objects"),
    "number": (rewrite(TABLE, lambda d: b"5"), r"it has no list 'images' of objects"),
    "cp1252": (
        rewrite(TABLE, lambda d: d.replace(b"A square", b"A caf\xe9", 1)),
        r"captions_train2017\.json is not UTF-8: line 1 has the byte 0xe9",
    ),
    "no annotations": (change_table(["annotations"]), "it has no list 'annotations' of objects"),
    "annotations an object": (change_table(["annotations"], {"a": 1}), "no list 'annotations'"),
    "an annotation a text": (change_table(["annotations", 3], "x"), "no list 'annotations'"),
    "caption a number": (
        change_table(["annotations", 3, "caption"], 5),
        r"annotations\[3\] lacks a number `image_id` and a text `caption`",
    ),
    "image_id a text": (change_table(["annotations", 3, "image_id"], "5"), r"annotations\[3\] lac"),
    "no file_name": (
        change_table(["images", 2, "file_name"]),
        r"images\[2\] lacks a number `id` and a text `file_name`",
    ),
    "id true": (change_table(["images", 2, "id"], True), r"images\[2\] lacks a number `id`"),
    "two ids": (change_table(["images", 2, "id"], 1001), "two images have the id 1001"),
    "path": (
        change_table(["images", 2, "file_name"], "../val2017/020.jpg"),
        r"names the picture '\.\./val2017/020\.jpg', which is no plain file name",
    ),
    "surrogate": (
        change_table(["annotations", 3, "caption"], "half \ud83d"),
        r"coco has for 01.\.jpg the caption 'half .*ud83d', which has a lone surrogate",
    ),
    "no pictures": (
        lambda folder: [shutil.rmtree(folder / part) for part in ("train2017", "val2017")],
        "coco holds no part of COCO with its captions: get 2017's annotations",
    ),
    "no test pictures": (
        lambda folder: [path.unlink() for path in (folder / "val2017").iterdir()],
        "no readable picture with a caption for test",
    ),
}


def change_row(i, **values):
    def apply(folder):
        rows = emoji_rows()
        rows[i] |= values
        (folder / "captions.json").write_text(json.dumps(rows))

    return apply


def change_rows(change):
    return lambda folder: (folder / "captions.json").write_text(json.dumps(change(emoji_rows())))


def arrays(**values):
    def apply(folder):
        with np.load(folder / "images_64.npz") as made:
            kept = dict(made) | values
        kept = {key: value for key, value in kept.items() if value is not None}
        np.savez_compressed(folder / "images_64.npz", **kept)

    return apply


def objects(folder):
    """Arrays whose unpickling would leave a file behind."""

    class Touch:
        def __reduce__(self):
            return Path.touch, (folder / "was unpickled",)

    arrays(file_names=np.array([Touch()] * 20, dtype=object))(folder)


def huge(folder):
    """An archive whose header promises terabytes."""
    import io
    import zipfile

    with np.load(folder / "images_64.npz") as made:
        file_names = made["file_names"]
    with zipfile.ZipFile(folder / "images_64.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64, 3)},
        )
        archive.writestr("images.npy", header.getvalue() + b"\0" * 1000)
        names = io.BytesIO()
        np.lib.format.write_array(names, file_names)
        archive.writestr("file_names.npy", names.getvalue())


N = 20
EMOJI_DAMAGE = {
    "cut pictures": (rewrite("images_64.npz", lambda d: d[:-100]), r"images_64\.npz is damaged"),
    "flipped": (
        rewrite("images_64.npz", lambda d: d[:200] + bytes([d[200] ^ 255]) + d[201:]),
        r"images_64\.npz is damaged",
    ),
    "no archive": (rewrite("images_64.npz", lambda d: b"x"), r"images_64\.npz is damaged \(File"),
    "no pictures": (
        lambda folder: (folder / "images_64.npz").unlink(),
        r"images_64\.npz is not there: put images_64\.npz and captions\.json there",
    ),
    "no array": (arrays(images=None), r"damaged \(There is no item named 'images\.npy'"),
    "floats": (
        arrays(images=np.zeros((N, 64, 64, 3), np.float32)),
        r"images are float32 \(20, 64, 64, 3\), not uint8",
    ),
    "other size": (
        arrays(images=np.zeros((N, 32, 32, 3), np.uint8)),
        r"images are uint8 \(20, 32, 32, 3\), not uint8 \(N, 64, 64, 3\)",
    ),
    "grey": (arrays(images=np.zeros((N, 64, 64), np.uint8)), r"images are uint8 \(20, 64, 64\)"),
    "no shape": (arrays(images=np.zeros((), np.uint8)), r"images are uint8 \(\)"),
    "fewer pictures": (
        arrays(images=np.zeros((N - 1, 64, 64, 3), np.uint8)),
        "file_names are <U12 .20,., not 19 texts",
    ),
    "names as bytes": (
        arrays(file_names=np.array([b"a"] * N)),
        r"file_names are \|S1 \(20,\), not 20 texts",
    ),
    "objects": (objects, r"file_names\.npy is an array of objects"),
    "huge": (huge, r"images\.npy has 1128 bytes, not 12288000000128"),
    "no table": (
        lambda folder: (folder / "captions.json").unlink(),
        r"captions\.json is not there: put",
    ),
    "cut table": (rewrite("captions.json", lambda d: d[:-100]), r"captions\.json is damaged"),
    "table an object": (rewrite("captions.json", lambda d: b'{"a": []}'), "it is no list"),
    "row a text": (change_rows(lambda rows: [*rows[:-1], "x"]), "row 19 lacks image, family"),
    "captions a text": (change_row(3, captions="a dog"), "row 3 lacks image, family, split, capt"),
    "a caption a number": (change_row(3, captions=["a", 5]), "row 3 lacks image, family, split"),
    "skin_tones null": (change_row(3, skin_tones=None), "row 3 lacks image, family, split"),
    "wrong index": (change_row(3, index=4), "row 3 has the index 4"),
    "index true": (change_row(1, index=True), "row 1 has the index True"),
    "other split": (change_row(3, split="dev"), "row 3 has the split 'dev'"),
    "family in two": (change_row(1, split="test"), "the family family 0 is in two splits"),
    "path": (change_row(3, image="../../etc/passwd"), "which is no plain file name"),
    "repeated": (change_row(3, image="emoji_02.png"), r"row 3 repeats the picture emoji_02\.png"),
    "out of order": (
        change_rows(
            lambda rows: [row | {"index": i} for i, row in enumerate([rows[1], rows[0], *rows[2:]])]
        ),
        r"captions\.json does not list the pictures of images_64\.npz in their order",
    ),
    "fewer rows": (change_rows(lambda rows: rows[:-1]), "does not list the pictures of images_64"),
    "surrogate": (
        change_row(0, captions=["half \ud83d"]),
        r"emoji has for emoji_00\.png the caption 'half .*ud83d', which has",
    ),
    "no test": (
        change_rows(lambda rows: [row | {"split": "train"} for row in rows]),
        "no readable picture with a caption for val and test: put good copies there",
    ),
}
REFUSED = [
    (source, case)
    for source, damage in (
        ("flickr8k", FLICKR_DAMAGE), ("coco", COCO_DAMAGE), ("emoji", EMOJI_DAMAGE),
    )
    for case in damage
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Passed over")
@pytest.mark.parametrize(("source", "case"), REFUSED)
def test_damaged_files_are_refused_in_a_sentence(tmp_path, source, case):
    folder = WRITE[source](tmp_path)
    damage, message = {"flickr8k": FLICKR_DAMAGE, "coco": COCO_DAMAGE, "emoji": EMOJI_DAMAGE}[
        source
    ][case]
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, source)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / "was unpickled").exists()


@pytest.mark.parametrize("source", FILES)
def test_missing_folder_is_named(tmp_path, source):
    with pytest.raises(DataError, match=str(tmp_path / source)):
        load(tmp_path, source)


@pytest.mark.parametrize("source", FILES)
def test_pictures_that_do_not_fit_in_memory_are_refused(tmp_path, source, monkeypatch):
    WRITE[source](tmp_path)
    monkeypatch.setattr(pairs, "free_memory", lambda: 200_000)
    load(tmp_path, "flickr8k") if source == "flickr8k" else None
    with pytest.raises(DataError, match=r"200,000 bytes of memory free, but .* take [\d,]+:") as e:
        load(tmp_path, source, size=256)
    assert "choose a smaller size" in str(e.value)


def test_free_memory_is_less_than_there_is():
    free = pairs.free_memory()
    assert free is None or 2**20 < free < 2**50


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"source": "emojis"}, "source is 'emojis', but .* did you mean 'emoji'"),
        ({"source": "flickr"}, "did you mean 'flickr8k'"),
        ({"eval_captions": "al"}, "eval_captions is 'al', .* did you mean 'all'"),
        ({"size": 0}, "size is 0"),
        ({"n": 0}, "n is 0"),
        ({"level": 6}, "level is 6, but must be 1 to 5"),
        ({"vocab_size": 100}, "vocab_size is 100, but must be at least 260"),
        ({"max_length": 1}, "max_length is 1, but must be at least 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(args, message):
    with pytest.raises(ValueError, match=message) as caught:
        Captions(**args)
    assert "\n" not in str(caught.value)
