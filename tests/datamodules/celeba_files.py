"""Small CelebAs in the real layouts: the official folder, and npz shards."""

import io
from functools import cache

import numpy as np
from PIL import Image

from zoo.datamodules import CelebA
from zoo.datamodules.faces.source import ATTRIBUTES

TEXTS = ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt")
PARTITION = {0: range(1, 13), 1: range(13, 17), 2: range(17, 22)}  # numbers of the pictures

SPLITS = {"train": PARTITION[0], "val": PARTITION[1], "test": PARTITION[2]}


def load(root, **arguments):
    """A CelebA that is ready."""
    data = CelebA(root=str(root), **arguments)
    data.prepare_data()
    data.setup()
    return data


def numbers(data):
    """The numbers of the pictures in each split."""
    return {split: tensors["image_id"].tolist() for split, tensors in data.splits.items()}


def stores(tmp_path):
    """The names of what has been prepared."""
    return sorted(path.name for path in (tmp_path / "zoo" / "prepared").glob("[!.]*"))


def square(number, crop=148, size=64):
    """The picture of the official folder as it should be delivered, (size, size, 3)."""
    image = Image.open(io.BytesIO(jpeg(number)))
    left, top = (178 - crop) // 2, (218 - crop) // 2
    image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def same(image, pixels):
    return np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


def same_as_shard(image, number):
    return same(image, np.asarray(Image.open(io.BytesIO(jpeg(number, (64, 64))))))


@cache
def jpeg(number, size=(178, 218)):
    """A smooth picture that is another one for each number, as a JPEG file."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    return file.getvalue()


def attributes(number):
    """The 40 attributes of a picture, -1 or 1."""
    return np.random.default_rng(1000 + number).choice([-1, 1], 40)


def identity(number):
    return 100 + number // 3


def rows(partition=PARTITION):
    """(number, partition) of all pictures."""
    return [(number, part) for part, numbers in partition.items() for number in numbers]


def texts(partition=PARTITION):
    """The three text files, as they are published."""
    numbers = [number for number, _ in rows(partition)]
    marks = [" ".join(f"{value:2d}" for value in attributes(number)) for number in numbers]
    lines = [f"{n:06}.jpg {mark}\n" for n, mark in zip(numbers, marks, strict=True)]
    return {
        TEXTS[0]: f"{len(numbers)}\n{' '.join(ATTRIBUTES)} \n" + "".join(lines),
        TEXTS[1]: "".join(f"{n:06}.jpg {part}\n" for n, part in rows(partition)),
        TEXTS[2]: "".join(f"{n:06}.jpg {identity(n)}\n" for n in numbers),
    }


def write_folder(root, partition=PARTITION):
    """Write the official layout, and return its folder."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for number, _ in rows(partition):
        (folder / "img_align_celeba" / f"{number:06}.jpg").write_bytes(jpeg(number))
    for name, text in texts(partition).items():
        (folder / name).write_text(text)
    return folder


def shard(numbers, partition, labelled=True):
    """The arrays of a shard."""
    files = [jpeg(number, (64, 64)) for number in numbers]
    marks = np.stack([attributes(number) for number in numbers]).astype(np.int8)
    n = len(numbers)
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "image_id": np.array(numbers, np.int32),
        "partition": np.full(n, partition, np.int8),
        "identity": np.array([identity(number) for number in numbers], np.int32),
        "attributes": marks if labelled else np.zeros_like(marks),
        "attribute_names": np.array(ATTRIBUTES),
        "source_height": np.full(n, 218, np.int16),
    }


def shards():
    """All shards by their names: two to train, one without attributes, to validate and to test."""
    return {
        "train_0": shard(range(1, 8), 0),
        "train_1": shard(range(8, 13), 0),
        "train_unlabelled_0": shard(range(30, 36), 0, labelled=False),
        "valid_0": shard(PARTITION[1], 1),
        "test_0": shard(PARTITION[2], 2),
    }


def write_shards(root, arrays=None):
    """Write npz shards, and return their folder."""
    folder = root / "celeba64"
    folder.mkdir(parents=True)
    for name, content in (arrays or shards()).items():
        np.savez_compressed(folder / f"{name}.npz", **content)
    return folder
