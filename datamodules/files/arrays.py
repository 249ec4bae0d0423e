"""Arrays in files: npz without pickles, and rows of bytes that are mapped or read one by one."""

import io
import mmap
import os
import warnings
import weakref
import zipfile
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datamodules.files.places import DataError

Arrays = dict[str, NDArray[Any]]


def write_npz(file: BinaryIO, arrays: Arrays) -> None:
    """Write an npz file, never pickling."""
    with zipfile.ZipFile(file, "w") as archive:
        for key, values in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def read_npz(path: Path) -> Arrays:
    """Read all arrays of an npz file after checking their checksums, and never unpickle.

    Raises:
        ValueError: if the file is missing or damaged; the message has the reason.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {
                name.removesuffix(".npy"): io.BytesIO(archive.read(name))
                for name in archive.namelist()
            }
        return {
            key: np.lib.format.read_array(file, allow_pickle=False)
            for key, file in contents.items()
        }
    except Exception as error:  # zipfile, too, raises almost anything on a damaged file
        raise ValueError(reason(error)) from error


def reason(error: Exception) -> str:
    """Return the message of an error, without the path that system errors add."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__


def map_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return a file of bytes as a tensor, uint8 of this shape; writing to it ends the process."""
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a tensor that must not be written to
        return torch.frombuffer(mapping, dtype=torch.uint8).view(shape)


class FileRows:
    """Rows of bytes in a file, which are read on demand.

    They replace a tensor, uint8 (N, *shape), in `Batches`.

    Args:
        path: The file.
        rows: Range of these rows in the file.
        shape: Shape of a row.
    """

    def __init__(self, path: Path, rows: range, shape: tuple[int, ...]) -> None:
        self.path = path
        self.rows = rows
        self.shape = shape
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __reduce__(self) -> tuple[type["FileRows"], tuple[Path, range, tuple[int, ...]]]:
        return FileRows, (self.path, self.rows, self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows take."""
        return len(self.rows) * prod(self.shape)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return a new tensor of the chosen rows, uint8 (B, *shape).

        Raises:
            DataError: if the file ends before these rows, because it was cut.
        """
        assert dim == 0
        rows = np.empty((len(index), prod(self.shape)), np.uint8)
        places = ((index + self.rows.start) * prod(self.shape)).tolist()
        pairs = zip(rows, places, strict=True)
        if sum(os.preadv(self._file, [row.data], place) for row, place in pairs) != rows.nbytes:
            raise DataError(f"{self.path} is damaged (it ends too early): delete its folder.")
        return torch.from_numpy(rows).view(len(index), *self.shape)

    def to(self, device: torch.device | str) -> "FileRows | Tensor":
        """Return this object for the CPU, and a tensor of all rows for another device."""
        if torch.device(device).type == "cpu":
            return self
        whole = torch.empty((len(self), *self.shape), dtype=torch.uint8, device=device)
        for start in range(0, len(self), 4096):
            some = torch.arange(start, min(start + 4096, len(self)))
            whole[start : start + 4096] = self.index_select(0, some).to(device)
        return whole
