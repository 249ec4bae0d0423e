"""CelebA (Liu, Luo, Wang & Tang, 2015): aligned faces with 40 attributes and identities.

There are two sources. The official layout, in `$ZOO_DATA/celeba`, has `img_align_celeba` with
pictures of 178 x 218 pixels beside `list_attr_celeba.txt`, `list_eval_partition.txt` and
`identity_CelebA.txt` (each plain or `.gz`; all of them may be incomplete). Npz shards with
pictures of 64 x 64 are in `$ZOO_DATA/celeba64`. The pictures are decoded once, into
`$ZOO_DATA/prepared`, and then mapped into memory.
"""

import warnings
from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from zoo.datamodules.base import Split, check_at_least, check_one_of
from zoo.datamodules.faces.base import FaceDataModule
from zoo.datamodules.faces.folder import PICTURES, WIDTH, FolderSource
from zoo.datamodules.faces.shards import CROP, SIZE, ShardSource
from zoo.datamodules.faces.source import ATTRIBUTES, Source
from zoo.datamodules.files.arrays import reason
from zoo.datamodules.files.places import DataError, Inventory, data_dir
from zoo.datamodules.files.prepared import Prepared, fingerprint, prepare
from zoo.datamodules.loader import Rows

SourceName = Literal["auto", "folder", "shards"]


class CelebA(FaceDataModule):
    """202,599 faces of 10,177 people, or a part of them, split by the official partition.

    Pictures are cropped to their central square and resized with a Lanczos filter. Prepared
    pictures are in a folder in `$ZOO_DATA/prepared`, whose name depends on all settings and on the
    names, lengths and modification times of the source's files, so that other settings or files
    are prepared anew. The folder can be deleted at any time. A warning counts unreadable pictures,
    rows without a picture and pictures without a row. They are left out, except that training
    pictures without attributes are unlabelled. Contradictions are refused.

    The loaders map prepared pictures of up to 512 MiB into memory, and read larger sets by the
    batch, so that pictures take at most 512 MiB of the process's memory. There are two exceptions:
    an accelerator holds a copy of all pictures if they fit, and `splits` always maps the pictures,
    so that other code which indexes `splits` takes memory for all pictures that it reads.

    Args:
        size: Height and width to resize to, in pixels, at most `crop`.
        crop: Side of the central square, in pixels of the aligned picture, at most 178.
        batch_size: Pictures per batch and process.
        seed: Seed of the order of training pictures.
        root: Folder that holds `celeba` or `celeba64`; `$ZOO_DATA` or the user's cache when None.
        attributes: Names of the attributes to deliver, in this order; all 40 when None.
        unlabelled: Whether training pictures without attributes are mixed in; batches then have
            `labelled`, and attributes are 0 where it is False.
        source: "folder" for the official layout, "shards" for the npz shards, which have size 64
            and crop 148 alone; "auto" takes the folder if `celeba/img_align_celeba` is there, else
            the shards if there are any, and else downloads the official files.
    """

    about = (
        "CelebA (Liu et al. 2015), aligned and cropped faces of celebrities with 40 attributes; "
        "for non-commercial research alone."
    )
    knows = (
        "faces of celebrities before 2015, which are no sample of people, and labels that "
        "annotators gave by impression"
    )
    feature_network = "attributes-celeba"
    directions = ("Smiling", "Eyeglasses", "Black_Hair")
    balanced: ClassVar[dict[str, str]] = {"Male": "sex", "Young": "age"}

    def __init__(
        self,
        size: int = 64,
        crop: int = 148,
        batch_size: int = 128,
        seed: int = 0,
        root: str | None = None,
        attributes: list[str] | None = None,
        unlabelled: bool = False,
        source: SourceName = "auto",
    ) -> None:
        check_at_least(1, size=size, crop=crop)
        check_one_of(get_args(SourceName), source=source)
        if not size <= crop <= WIDTH:
            raise ValueError(
                f"size is {size} and crop {crop}, but size must be at most crop, and crop {WIDTH}."
            )
        super().__init__(size, batch_size, seed, attributes, unlabelled, ATTRIBUTES)
        self.crop = crop
        self.root = root
        self.source = source
        self._store: Prepared | None = None

    @classmethod
    def inventory(cls, root: str | None = None) -> dict[str, Inventory]:
        """Return the inventory of each source of CelebA, and of the one that "auto" takes."""
        found = {}
        for name in get_args(SourceName):
            source = chosen(name, root, SIZE, CROP)
            missing = source.missing()
            remedy = source.remedy if missing else ""
            found[name] = Inventory(source.folder, source.found(), missing, remedy)
        return found

    def prepare_data(self) -> None:
        """Download missing files and decode the pictures, unless both have been done."""
        source = self._chosen()
        if source.missing():
            source.download()
        place = stored(source)
        prepare(place, source.plan)
        store = Prepared(place)
        empty = [f"no picture for {part}" for part in ("val", "test") if not store.parts[part]]
        if notes := [*store.notes, *empty]:
            warnings.warn(f"{source.folder}: {'; '.join(notes)}.", stacklevel=2)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Map all splits; their `image` is uint8 (N, 3, size, size) and must not be written to."""
        source = self._chosen()
        if missing := source.missing():
            raise DataError(f"{source.folder} lacks {', '.join(missing)}; call prepare_data().")
        self._store = Prepared(stored(source))
        splits = {split: self._split(split) for split in get_args(Split)}
        if not len(splits["train"]["image"]):
            raise DataError(
                f"{source.folder} has no training picture with attributes, and "
                f"{len(self._store.parts['unlabelled']):,} without (which unlabelled=True takes): "
                "put more of CelebA there."
            )
        return splits

    def tensors(self, split: Split) -> dict[str, Rows]:
        """Return the rows that the loader of a split slices."""
        assert self._store is not None  # no loader before setup()
        return {**self.splits[split], "image": self._store.image_rows(*self._parts(split))}

    def _chosen(self) -> Source:
        return chosen(self.source, self.root, self.size, self.crop)

    def _parts(self, split: Split) -> tuple[str, ...]:
        return ("train", "unlabelled") if split == "train" and self.unlabelled else (split,)

    def _split(self, split: Split) -> dict[str, Tensor]:
        assert self._store is not None
        tensors = self._store.rows(*self._parts(split))
        tensors["attributes"] = tensors["attributes"][:, self.columns].long()
        if self.unlabelled:
            labelled = len(self._store.parts[split])
            tensors["labelled"] = torch.arange(len(tensors["image"])) < labelled
        return tensors


def chosen(name: SourceName, root: str | None, size: int, crop: int) -> Source:
    """Return the source of CelebA of this name; "auto" takes the one that is there."""
    base = data_dir() if root is None else Path(root).expanduser()
    folder, shards = base / "celeba", base / "celeba64"
    if name == "auto":
        alone = any(shards.glob("*.npz")) and not (folder / PICTURES).is_dir()
        name = "shards" if alone else "folder"
    return {"folder": FolderSource, "shards": ShardSource}[name](
        shards if name == "shards" else folder, size, crop
    )


def stored(source: Source) -> Path:
    """Return the folder of the prepared pictures.

    Raises:
        DataError: if the source's files cannot be listed.
    """
    settings = f"{source.folder.name}-size{source.size}-crop{source.crop}"
    try:
        mark = fingerprint(source.files())
    except OSError as error:
        raise DataError(f"{source.folder} could not be read ({reason(error)}).") from error
    return data_dir() / "prepared" / f"{settings}-{mark}"
