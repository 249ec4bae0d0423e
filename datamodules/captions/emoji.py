"""Emoji: small pictures with a clean background, each with its name and keywords as captions.

The pictures are Noto Emoji's at 64 x 64 on white, the captions the English annotations of the
Unicode CLDR. The folder `$ZOO_DATA/emoji` has

- `images_64.npz`: `images` uint8 (N, 64, 64, 3) and their `file_names` (N,);
- `captions.json`: a list in the same order of objects with `image` (a file name), `index`,
  `captions` (the short name, then keywords), `family`, `skin_tones` (a list) and `split`.

The files define the split. A split keeps a family together: the variants of one emoji by skin tone,
gender and direction, which differ in a few pixels and one word.
"""

import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.datamodules.base import Split
from zoo.datamodules.captions.pairs import (
    Pairs,
    PassedOver,
    at_size,
    check_memory,
    check_name,
    check_splits,
    read_json,
    tidy,
)
from zoo.datamodules.files.places import DataError, Inventory

IMAGES, TABLE = "images_64.npz", "captions.json"
SIDE = 64
REMEDY = f"put {IMAGES} and {TABLE} there"


def inventory(folder: Path) -> Inventory:
    """Return the inventory of the folder of emoji."""
    found = tuple(name for name in (IMAGES, TABLE) if (folder / name).exists())
    missing = tuple(name for name in (IMAGES, TABLE) if name not in found)
    return Inventory(folder, found, missing, REMEDY)


def read_emoji(folder: Path, size: int, skin_tones: bool) -> dict[Split, Pairs]:
    """Read the pictures and captions of all splits.

    Args:
        folder: The folder of the data set.
        size: Height and width in pixels to which the pictures are resized.
        skin_tones: Whether to keep the variants that differ by skin tone only.

    Raises:
        DataError: If a file is missing, damaged, or does not fit the other, a family is in two
            splits, or a split is empty.
    """
    rows = read_table(folder / TABLE)
    images, names = read_images(folder / IMAGES)
    if len(images) != len(rows) or any(
        row["image"] != name for row, name in zip(rows, names, strict=False)
    ):
        raise DataError(
            f"{folder / TABLE} does not list the pictures of {IMAGES} in their order: put copies "
            "there that belong together."
        )
    passed = PassedOver(folder)
    captions = tidy({row["image"]: row["captions"] for row in rows}, passed)
    splits: dict[Split, Pairs] = {}
    for split in get_args(Split):
        chosen = [
            i
            for i, row in enumerate(rows)
            if row["split"] == split and row["image"] in captions
            if skin_tones or not row["skin_tones"]
        ]
        picked = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2).contiguous()
        kept = [names[i] for i in chosen]
        splits[split] = Pairs(at_size(picked, size), [captions[name] for name in kept], kept)
    for row in rows:
        if row["image"] not in captions:
            passed.add("pictures without a caption", row["image"])
    passed.warn()
    check_splits(splits, folder, "put good copies there")
    return splits


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `captions.json`, checked."""
    rows = read_json(path, REMEDY)
    if not isinstance(rows, list):
        raise malformed(path, "it is no list")
    split_of: dict[str, str] = {}
    seen = set()
    for i, row in enumerate(rows):
        if (
            not isinstance(row, dict)
            or not all(isinstance(row.get(key), str) for key in ("image", "family", "split"))
            or not all(isinstance(row.get(key), list) for key in ("captions", "skin_tones"))
            or not all(isinstance(text, str) for text in row["captions"])
        ):
            raise malformed(
                path, f"row {i} lacks image, family, split, captions or skin_tones of their types"
            )
        if type(row.get("index")) is not int or row["index"] != i:
            raise malformed(path, f"row {i} has the index {row.get('index')!r}")
        if row["split"] not in get_args(Split):
            raise malformed(path, f"row {i} has the split {row['split'][:40]!r}")
        if check_name(row["image"], str(path)) in seen:
            raise malformed(path, f"row {i} repeats the picture {row['image']}")
        seen.add(row["image"])
        if split_of.setdefault(row["family"], row["split"]) != row["split"]:
            raise malformed(path, f"the family {row['family'][:60]} is in two splits")
    return rows


def read_images(path: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the pictures (N, 64, 64, 3) and their names, after a check of the headers.

    Arrays of objects are refused, because unpickling can run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shape, dtype = read_header(archive, "images.npy")
            if shape[1:] != (SIDE, SIDE, 3) or dtype != np.uint8:
                raise ValueError(f"images are {dtype} {shape}, not uint8 (N, 64, 64, 3)")
            n = shape[0]
            shape, dtype = read_header(archive, "file_names.npy")
            if shape != (n,) or dtype.kind != "U":
                raise ValueError(f"file_names are {dtype} {shape}, not {n} texts")
        check_memory(n * SIDE * SIDE * 3 + n * dtype.itemsize, f"the pictures of {path}")
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["images"], arrays["file_names"].tolist()
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: {REMEDY}.") from error
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy raise almost anything on a damaged file
        reason = " ".join(str(error).split()).strip("'\".") or type(error).__name__
        raise DataError(f"{path} is damaged ({reason}): put a good copy there.") from error


def read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype of an array in an archive, after a check of its size.

    Raises:
        ValueError: If the size of the array differs from its header.
    """
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        start = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} is an array of objects")
    n_bytes = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if archive.getinfo(name).file_size != n_bytes:
        raise ValueError(f"{name} has {archive.getinfo(name).file_size} bytes, not {n_bytes}")
    return shape, dtype


def malformed(path: Path, why: str) -> DataError:
    """Return the error for a malformed table."""
    return DataError(f"{path} is not as it should be ({why}): put a good copy there.")
