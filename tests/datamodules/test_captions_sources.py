"""Splits, vocabularies and inventories of each source of captions."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from caption_files import (
    FILES,
    WRITE,
    coco,
    count,
    describe,
    emoji,
    flat,
    flickr,
    load,
    name,
    number_of,
    said,
    texts,
)

from zoo.datamodules import Captions
from zoo.datamodules.captions.scenes import all_factors, draw, parse
from zoo.datamodules.captions.tokenizer import PAD, Tokenizer
from zoo.datamodules.files.places import DataError

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
