"""The file of the original dSprites (Matthey et al., 2017), read into memory with a bit per pixel.

It is a zip of numpy arrays: `imgs` uint8 (737280, 64, 64) of zeros and ones, `latents_classes`
int64 and `latents_values` float64 (737280, 6), whose columns are the colour (always white) and the
five factors in the order of `Sprites`. Its `metadata` are a pickle, which is never opened. Pictures
are unzipped a few at a time, so that all take 377 MB instead of the 3 GB of the unpacked array.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datamodules.files.places import DataError

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
URL = "https://github.com/google-deepmind/dsprites-dataset"
SIDE = 64
CHUNK = 4096
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: Path, factors: Mapping[str, Sequence[float | str]]) -> Tensor:
    """Read the pictures, and check the whole file except its metadata.

    Args:
        path: The file.
        factors: The expected values of each factor, by its name; words count as 1, 2, ...

    Returns:
        Tensor, uint8 (N, 512): a row has a picture's pixels, the first in the highest bit.

    Raises:
        DataError: if the file is missing or malformed.
    """
    if not path.exists():
        raise DataError(
            f"{path} is not there: put the file from {URL} there, or take the source 'rendered'."
        )
    sizes = (1, *map(len, factors.values()))
    values = [np.ones(1), *map(numbers, factors.values())]
    n = prod(sizes)
    try:
        with zipfile.ZipFile(path) as archive:
            grid = np.indices(sizes).reshape(len(sizes), n).T  # (N, 6)
            classes = b"".join(member(archive, "latents_classes", np.int64, grid.shape))
            if not np.array_equal(np.frombuffer(classes, np.int64).reshape(grid.shape), grid):
                raise ValueError("latents_classes are not all combinations in their order")
            read_values = b"".join(member(archive, "latents_values", np.float64, grid.shape))
            wanted = np.stack([v[c] for v, c in zip(values, grid.T, strict=True)], 1)
            if not np.allclose(np.frombuffer(read_values).reshape(grid.shape), wanted):
                raise ValueError("latents_values are not those of dSprites")
            bits = np.empty((n, SIDE * SIDE // 8), dtype=np.uint8)
            start = 0
            for chunk in member(archive, "imgs", np.uint8, (n, SIDE, SIDE)):
                pixels = np.frombuffer(chunk, np.uint8).reshape(-1, SIDE * SIDE)
                if pixels.max() > 1:
                    raise ValueError("imgs has pixels other than 0 and 1")
                bits[start : start + len(pixels)] = np.packbits(pixels, axis=1)
                start += len(pixels)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
    ) as error:
        reason = str(error.args[0] if error.args else error)
        raise DataError(
            f"{path} is damaged, or is no dSprites ({reason}): put the file from {URL} there."
        ) from error
    return torch.from_numpy(bits)


def numbers(values: Sequence[float | str]) -> NDArray[np.float64]:
    """Return the values of a factor as the file stores them."""
    if isinstance(values[0], str):
        return np.arange(1, len(values) + 1, dtype=np.float64)
    return np.array(values, dtype=np.float64)


def member(
    archive: zipfile.ZipFile, name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> Iterator[bytes]:
    """Yield the values of an array, `CHUNK` rows at a time, after a check of its header.

    Raises:
        ValueError: if it has another type, shape, order or length.
    """
    with archive.open(f"{name}.npy") as stream:
        check_header(stream, name, dtype, shape)
        row = prod(shape[1:]) * np.dtype(dtype).itemsize
        left = shape[0] * row
        while left:
            chunk = stream.read(min(left, CHUNK * row))
            left -= len(chunk)
            if len(chunk) % row or not chunk:
                raise ValueError(f"{name} ends too early")
            yield chunk
        if stream.read(1):
            raise ValueError(f"{name} goes on after its end")


def check_header(
    stream: IO[bytes], name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    """Read the header of an array; raise a ValueError if it is not of this type and shape."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"{name} has an unknown format {version}")
    found, fortran, kind = HEADERS[version](stream)
    if kind != np.dtype(dtype) or found != shape or fortran:
        order = " in Fortran order" if fortran else ""
        raise ValueError(
            f"{name} is {kind} {found}{order}, but should be {np.dtype(dtype)} {shape}"
        )


def unpack(bits: Tensor, row: Tensor) -> Tensor:
    """Return the pictures in the given rows, float32 (B, 1, 64, 64) of zeros and ones.

    Args:
        bits: Result of `read`, on the CPU.
        row: Rows of the pictures, int64 (B,); the result is on its device.
    """
    chosen = bits.index_select(0, row.to(bits.device)).to(row.device)
    shift = torch.arange(7, -1, -1, device=row.device, dtype=torch.uint8)
    pixels = chosen[:, :, None].bitwise_right_shift(shift).bitwise_and(1)  # (B, 512, 8)
    return pixels.view(-1, 1, SIDE, SIDE).float()
