"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017), in torchvision's layout.

The eight files of a data set are in `$ZOO_DATA/<name>/raw`: the four published `.gz`, and the same
four unpacked. Either kind is enough. A `.gz` must have its published md5. An unpacked file must
have the length in its header, and match the checksum in its `.gz` if both are there.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from http.client import HTTPException
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.datamodules.base import (
    Binarization,
    ImageDataModule,
    Split,
    check_at_least,
    split_indices,
    take,
)
from zoo.datamodules.files.download import TIMEOUT_S, socket_timeout
from zoo.datamodules.files.places import DataError, Inventory, set_dir

# Published md5 of each archive, by data set.
MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}
# Names of the labels of Fashion-MNIST.
CLOTHING = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class MNIST(ImageDataModule):
    """Handwritten digits, 28 x 28 grey pixels: 60,000 to train and validate with, 10,000 to test.

    Args:
        batch_size: Images per batch and process.
        binarization: "dynamic" draws pixels as 0 or 1 in each epoch, "static" draws them once, and
            "none" keeps them grey.
        seed: Seed of the split, the order of training images, and pixels that are drawn once.
        root: Folder that holds `MNIST/raw`; `$ZOO_DATA` or the user's cache when None.
        val_size: Number of training images held out for validation.
        digits: Digits for training and validation; all when None. The test set stays whole, and
            its batches have `anomaly`, bool (B,), true for images of other digits.
    """

    about = (
        "MNIST (LeCun, Cortes & Burges), 55,000 of the 60,000 training images; the other 5,000 "
        "chose the best epoch. Usually cited as CC BY-SA 3.0."
    )
    hub_id = "ylecun/mnist"
    knows = "centred grey digits of American writers, and was not made to read handwriting"
    feature_network = "lenet-mnist"

    def __init__(
        self,
        batch_size: int = 128,
        binarization: Binarization = "dynamic",
        seed: int = 0,
        root: str | None = None,
        val_size: int = 5000,
        digits: list[int] | None = None,
    ) -> None:
        super().__init__((1, 28, 28), batch_size, binarization, seed)
        check_at_least(1, val_size=val_size)
        if digits is not None and not (digits and {*digits} <= {*range(10)}):
            raise ValueError(f"digits is {digits}, but must be some of 0 to 9.")
        self.root = root
        self.val_size = val_size
        self.digits = digits

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return the inventory of archives, packed or unpacked."""
        return inventory("MNIST", root)

    def prepare_data(self) -> None:
        """Download missing files."""
        download("MNIST", self.root)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `image` uint8 (N, 1, 28, 28) and `label` int64 (N,)."""
        splits = load("MNIST", self.root, self.val_size, self.seed)
        if self.digits is None:
            return splits
        normal = {s: torch.isin(p["label"], torch.tensor(self.digits)) for s, p in splits.items()}
        for split in ("train", "val"):
            splits[split] = take(splits[split], normal[split].nonzero().flatten())
            if not len(splits[split]["label"]):
                raise DataError(
                    f"none of the {split} images of {raw_dir('MNIST', self.root)} is of the digits "
                    f"{self.digits}; name others, or change val_size."
                )
        splits["test"]["anomaly"] = ~normal["test"]
        return splits


class FashionMNIST(ImageDataModule):
    """Pictures of ten kinds of clothing (Fashion-MNIST), as many and as large as MNIST's.

    Args:
        batch_size: Images per batch and process.
        binarization: "dynamic" draws pixels as 0 or 1 in each epoch, "static" draws them once, and
            "none" keeps them grey.
        seed: Seed of the split, the order of training images, and pixels that are drawn once.
        root: Folder that holds `FashionMNIST/raw`; `$ZOO_DATA` or the user's cache when None.
        val_size: Number of training images held out for validation.
    """

    about = (
        "Fashion-MNIST (Xiao et al. 2017), 55,000 of the 60,000 training images; the other 5,000 "
        "chose the best epoch. MIT licence."
    )
    hub_id = "zalando-datasets/fashion_mnist"
    knows = "small grey pictures of one shop's clothes"

    def __init__(
        self,
        batch_size: int = 128,
        binarization: Binarization = "dynamic",
        seed: int = 0,
        root: str | None = None,
        val_size: int = 5000,
    ) -> None:
        super().__init__((1, 28, 28), batch_size, binarization, seed)
        check_at_least(1, val_size=val_size)
        self.root = root
        self.val_size = val_size

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return the inventory of archives, packed or unpacked."""
        return inventory("FashionMNIST", root)

    def label_name(self, label: int) -> str:
        """Return the kind of clothing that a label stands for."""
        return CLOTHING[label]

    def prepare_data(self) -> None:
        """Download missing files."""
        download("FashionMNIST", self.root)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `image` uint8 (N, 1, 28, 28) and `label` int64 (N,)."""
        return load("FashionMNIST", self.root, self.val_size, self.seed)


def load(name: str, root: str | None, val_size: int, seed: int) -> dict[Split, dict[str, Tensor]]:
    """Read one of the two data sets and split its training images by the seed."""
    raw = raw_dir(name, root)
    if missing := missing_files(name, raw):
        raise DataError(f"{raw} lacks {', '.join(missing)}; call prepare_data() to download them.")
    train, test = (read_pair(raw, part, MD5[name]) for part in ("train", "t10k"))
    n = len(train["image"])
    if val_size >= n:
        raise ValueError(f"val_size is {val_size}, but {raw} has only {n} training images.")
    parts = split_indices(n, val_size, 0, seed)
    return {"train": take(train, parts["train"]), "val": take(train, parts["val"]), "test": test}


def raw_dir(name: str, root: str | None) -> Path:
    """Return the folder of the data set's files."""
    return set_dir(root, name) / "raw"


def inventory(name: str, root: str | None) -> Inventory:
    """Return the inventory of a data set's archives, packed or unpacked."""
    raw = raw_dir(name, root)
    missing = missing_files(name, raw)
    return Inventory(
        raw,
        found=tuple(archive for archive in MD5[name] if archive not in missing),
        missing=tuple(missing),
        remedy="they are downloaded when training starts, or put them there",
    )


def missing_files(name: str, raw: Path) -> list[str]:
    """Return the archives that are missing both packed and unpacked."""
    return [
        archive
        for archive in MD5[name]
        if not (raw / archive).exists() and not (raw / archive.removesuffix(".gz")).exists()
    ]


def read_pair(raw: Path, part: str, md5: dict[str, str]) -> dict[str, Tensor]:
    """Read the images and labels of one part, "train" or "t10k"."""
    image, label = (
        read_idx(raw / f"{part}-{kind}-ubyte", md5[f"{part}-{kind}-ubyte.gz"])
        for kind in ("images-idx3", "labels-idx1")
    )
    if image.shape[1:] != (28, 28) or label.ndim != 1 or len(image) != len(label):
        raise DataError(
            f"{raw} is damaged: its {part} images have shape {tuple(image.shape)} and its labels "
            f"{tuple(label.shape)}; delete the {part} files there and run again."
        )
    return {"image": image[:, None], "label": label.long()}


def read_idx(path: Path, md5: str) -> Tensor:
    """Read an unpacked idx file, or the archive beside it, and check both if both are there.

    Args:
        path: The unpacked file; the archive has `.gz` added to its name.
        md5: The archive's published checksum.

    Returns:
        Tensor, uint8, in the shape that the header gives.
    """
    archive = path.with_name(path.name + ".gz")
    packed = archive.read_bytes() if archive.exists() else None
    if packed is not None and hashlib.md5(packed, usedforsecurity=False).hexdigest() != md5:
        raise damaged(archive, f"its md5 is not {md5}")
    if not path.exists():
        if packed is None:
            raise DataError(f"{path} is not there, and neither is {archive.name}.")
        return parse_idx(gzip.decompress(packed), archive)
    data = path.read_bytes()
    values = parse_idx(data, path)
    # an archive ends with the CRC-32 and the length of its content
    if packed is not None and zlib.crc32(data) != int.from_bytes(packed[-8:-4], "little"):
        raise damaged(path, f"it is not what {archive.name} holds")
    return values


def parse_idx(data: bytes, path: Path) -> Tensor:
    """Return the array in an idx file: zeros, type 8 (uint8), rank, sizes (big endian), values."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise damaged(path, "it does not begin like an idx file of bytes")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise damaged(path, f"it ends within its header, after {len(data)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], dtype=">u4"))
    if len(data) != start + prod(shape):
        raise damaged(path, f"it has {len(data)} bytes, but should have {start + prod(shape)}")
    values = np.frombuffer(data, dtype=np.uint8, offset=start)
    return torch.tensor(values).view(shape)


def damaged(path: Path, why: str) -> DataError:
    """Return the error for a damaged file."""
    return DataError(
        f"{path} is damaged ({why}): delete it and run again, or put a good copy of it there."
    )


def download(name: str, root: str | None) -> None:
    """Download missing files with torchvision, and move them into place when complete.

    The files are downloaded into a folder beside their place and renamed, so that neither two
    processes at once nor a killed process leave a half-written file.
    """
    raw = raw_dir(name, root)
    missing = missing_files(name, raw)
    if not missing:
        return
    remedy = (
        "put them there, or point the environment variable ZOO_DATA to a folder that has "
        f"{name}/raw with these files"
    )
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=raw) as folder:
            fetched = Path(folder) / name / "raw"
            fetched.mkdir(parents=True)
            for archive in MD5[name].keys() - missing:
                if (raw / archive).exists():  # torchvision skips existing good files
                    shutil.copyfile(raw / archive, fetched / archive)
            with socket_timeout(TIMEOUT_S):
                fetch(name, folder)
            for archive in missing:
                for file in (archive, archive.removesuffix(".gz")):
                    os.replace(fetched / file, raw / file)
    except (OSError, RuntimeError, EOFError, HTTPException, zlib.error) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
        raise DataError(
            f"{raw} lacks {', '.join(missing)}, and they could not be downloaded ({reason}): "
            f"{remedy}."
        ) from error


def fetch(name: str, folder: str) -> None:
    """Download and unpack a data set into `folder` with torchvision, which checks the md5."""
    from torchvision import datasets

    {"MNIST": datasets.MNIST, "FashionMNIST": datasets.FashionMNIST}[name](folder, download=True)
