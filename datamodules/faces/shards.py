"""CelebA in npz shards, cropped and resized to 64 x 64 already."""

import os
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.datamodules.faces.source import (
    ATTRIBUTES,
    PARTITION,
    PARTS,
    Source,
    read_face,
    refused,
    slices,
)
from zoo.datamodules.files.arrays import Arrays, read_npz
from zoo.datamodules.files.places import DataError
from zoo.datamodules.files.prepared import Chunk, Plan, named

SIZE, CROP = 64, 148
# Number of dimensions of each array, and the kinds of values that it may hold.
ARRAYS = {
    "jpeg": (1, "u"),
    "offsets": (1, "iu"),
    "image_id": (1, "iu"),
    "partition": (1, "iu"),
    "identity": (1, "iu"),
    "attributes": (2, "i"),
    "attribute_names": (1, "U"),
}
COLUMNS = ("attributes", "identity", "image_id")


class ShardSource(Source):
    """`*.npz`, each with N JPEG files end to end in `jpeg`, and N + 1 boundaries in `offsets`.

    `image_id`, `partition` (0 to train, 1 to validate, 2 to test), `identity` and `attributes`
    (1, -1, or all 0 where they are not known) have a row for each, `attribute_names` is CelebA's
    40. A damaged shard, or one that repeats a picture of another, is refused.

    Args:
        folder: Where the shards are.
        size: Must be 64, the size of the pictures.
        crop: Must be 148, the crop of the pictures.

    Raises:
        ValueError: if size or crop has another value.
    """

    def __init__(self, folder: Path, size: int, crop: int) -> None:
        if (size, crop) != (SIZE, CROP):
            raise ValueError(
                f"{folder} has pictures of {SIZE} pixels from a crop of {CROP}, and none of {size} "
                f"from {crop}; these are made from the official folder (source='folder')."
            )
        super().__init__(folder, size, crop)

    @property
    def remedy(self) -> str:
        """How to get shards, and where to put them."""
        return f"put CelebA's npz shards into {self.folder}, or use the official folder"

    def download(self) -> None:
        """Raise a DataError, because shards cannot be downloaded."""
        raise DataError(f"{self.folder} holds no npz shards: {self.remedy} (source='folder').")

    def found(self) -> tuple[str, ...]:
        """Return the names of all shards."""
        return tuple(sorted(path.name for path in self.folder.glob("*.npz")))

    def missing(self) -> tuple[str, ...]:
        """Return `*.npz` where there is no shard."""
        return () if self.found() else ("*.npz",)

    def files(self) -> list[os.DirEntry[str]]:
        """Return all shards."""
        found = self.found()
        return [entry for entry in os.scandir(self.folder) if entry.name in found]

    def plan(self) -> Plan:
        """Read the labels of the pictures, and plan to decode the pictures."""
        paths = [self.folder / name for name in self.found()]
        ids: dict[int, str] = {}
        n, left_out, where = 0, [], []
        for path in paths:
            shard = read_shard(path)
            for number in shard["image_id"].tolist():
                if number in ids:
                    raise refused(path, f"picture {number} is also in {ids[number]}")
                ids[number] = path.name
            part = part_of(shard)
            n += int((part >= 0).sum())
            left_out += [str(number) for number in shard["image_id"][part < 0]]
            where.append(part)
        note = (
            f"pictures without attributes, left out as they are not for training: {len(left_out):,}"
        )

        def chunks() -> Iterator[Chunk]:
            for number, part in enumerate(PARTS):
                for path, parts in zip(paths, where, strict=True):
                    rows = np.flatnonzero(parts == number)
                    if len(rows):
                        yield from shard_chunks(path, part, rows)

        return Plan(
            source=self.folder,
            shape=(3, SIZE, SIZE),
            parts=PARTS,
            n=n,
            chunks=chunks(),
            decode=partial(read_face, expected=(SIZE, SIZE), crop=SIZE, size=SIZE),
            notes=(note + named(left_out),) if left_out else (),
        )


def part_of(shard: Arrays) -> NDArray[np.int64]:
    """Return the index in `PARTS` of each picture's part, -1 for none: (N,)."""
    place = np.array([PARTS.index(part) for part in PARTITION])[shard["partition"]]
    unlabelled = (shard["attributes"] == 0).any(1)
    elsewhere = np.where(shard["partition"] == 0, PARTS.index("unlabelled"), -1)
    return np.where(unlabelled, elsewhere, place)


def shard_chunks(path: Path, part: str, rows: NDArray[np.int64]) -> Iterator[Chunk]:
    """Yield some pictures of one shard."""
    shard = read_shard(path)
    labels = {**shard, "attributes": (shard["attributes"] > 0).astype(np.uint8)}
    ends = shard["offsets"].astype(np.int64)
    for some in (rows[cut] for cut in slices(len(rows))):
        yield Chunk(
            part,
            [f"{path.name} {number}" for number in shard["image_id"][some]],
            [BytesIO(shard["jpeg"][ends[i] : ends[i + 1]].tobytes()) for i in some],
            {key: labels[key][some] for key in COLUMNS},
        )


def read_shard(path: Path) -> Arrays:
    """Read a shard and check its arrays.

    Raises:
        DataError: if an array is malformed, or the file is damaged.
    """
    try:
        shard = read_npz(path)
    except ValueError as error:
        raise refused(path, str(error)) from error
    if why := unfit(shard):
        raise refused(path, why)
    numbers = {key: shard[key].astype(np.int64) for key in ("image_id", "identity", "partition")}
    return shard | numbers


def unfit(shard: Arrays) -> str | None:
    """Return the error in the arrays of a shard, or None."""
    if missing := [key for key in ARRAYS if key not in shard]:
        return f"it lacks {', '.join(missing)}"
    for key, (rank, kinds) in ARRAYS.items():
        array = shard[key]
        if array.ndim != rank or array.dtype.kind not in kinds:
            return f"its {key} is {array.dtype} of shape {array.shape}"
    if shard["jpeg"].dtype != np.uint8:
        return "its jpeg does not hold bytes"
    n = len(shard["image_id"])
    lengths = {key: len(shard[key]) for key in ("offsets", "partition", "identity", "attributes")}
    if lengths != {"offsets": n + 1, "partition": n, "identity": n, "attributes": n}:
        return f"it has {n} image_id, but {', '.join(f'{n} {key}' for key, n in lengths.items())}"
    if tuple(shard["attribute_names"]) != ATTRIBUTES:
        return "its attribute_names are not CelebA's 40 in their order"
    if shard["attributes"].shape[1] != len(ATTRIBUTES):
        return f"its attributes have {shard['attributes'].shape[1]} columns, not {len(ATTRIBUTES)}"
    ends = shard["offsets"].astype(np.int64)
    if ends[0] != 0 or ends[-1] != len(shard["jpeg"]) or (np.diff(ends) < 0).any():
        return f"its offsets do not cut the {len(shard['jpeg'])} bytes of jpeg into pieces"
    if not np.isin(shard["partition"], range(len(PARTITION))).all():
        return "its partition has other numbers than 0, 1 and 2"
    given = np.abs(shard["attributes"].astype(np.int64))
    if given.max(initial=0) > 1 or (given.min(1, initial=1) != given.max(1, initial=0)).any():
        return "its attributes are not 1 or -1, or 0 in a whole row"
    return None
