"""Small caption sets in the layouts of the real ones, for tests."""

import csv
import json
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from zoo.datamodules import Captions

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
