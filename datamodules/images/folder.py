"""A user's own pictures, from any folder."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from zoo.datamodules.base import (
    Binarization,
    ImageDataModule,
    Split,
    check_at_least,
    place,
    split_indices,
    take,
)
from zoo.datamodules.files.places import DataError, Inventory, files_below

# Formats that Pillow only identifies, or hands to another program.
NOT_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
PROGRESS_FROM = 200


class ImageFolder(ImageDataModule):
    """All pictures in a folder and its sub-folders, cropped to squares and held in memory.

    A picture is turned by its EXIF orientation, laid on white where it is transparent, cropped to
    its central square and resized; an animation gives its first frame. The label of a picture is
    the number of its sub-folder of `root`, in alphabetical order of the sub-folders that hold
    pictures (pictures in `root` itself are in a sub-folder "."); `class_names` has their names.
    Links to folders are followed, except links to a folder that contains them. Hidden files and
    folders are skipped, and a warning names files that cannot be read.

    White is 65,535 in a picture of 16 bits. Formats of 32 bits or floating-point numbers do not
    define white; there it is the least of 1 (floating-point numbers only), 255 and 65,535 that no
    pixel exceeds.

    Args:
        root: The folder.
        size: Height and width to resize to, in pixels.
        channels: 3 for colour, 1 for grey.
        batch_size: Images per batch and process.
        seed: Seed of the split, the order of training images, and pixels that are drawn once.
        binarization: "dynamic" draws pixels as 0 or 1 in each epoch, "static" draws them once, and
            "none" keeps them unchanged.
        val_fraction: Share of the pictures for validation, at least one picture.
        test_fraction: Share of the pictures for the test, at least one picture.
        attributes: Names of sub-folders of `root`. If given, batches also have `attributes`, int64
            (B, A): 1 where a picture is in that sub-folder, and 0 elsewhere.
    """

    about = "A folder of the author's own pictures."

    def __init__(
        self,
        root: str,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        batch_size: int = 128,
        seed: int = 0,
        binarization: Binarization = "none",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        attributes: list[str] | None = None,
    ) -> None:
        check_at_least(1, size=size)
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}, but must be 1 (grey) or 3 (colour).")
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction and test_fraction are {val_fraction} and {test_fraction}, but must "
                "be above 0 and leave something to train on."
            )
        super().__init__((channels, size, size), batch_size, binarization, seed)
        self.root = root
        self.size = size
        self.channels = channels
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.attributes = [] if attributes is None else list(attributes)
        self.class_names: list[str] = []

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return whether the folder is there; without `root`, the user has to name it."""
        remedy = "give root, the folder that holds your pictures"
        if root is None:
            return Inventory(None, missing=("a folder of yours",), remedy=remedy)
        folder = Path(root).expanduser()
        if not folder.is_dir():
            return Inventory(None, missing=(str(folder),), remedy=remedy)
        return Inventory(folder, found=(folder.name,))

    def label_name(self, label: int) -> str:
        """Return the name of the sub-folder that a label stands for."""
        return self.class_names[label]

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `image` uint8 (N, C, size, size) and `label` int64 (N,).

        Raises:
            DataError: if there are too few pictures.
            ValueError: if one of `attributes` is no sub-folder with pictures; the message has the
                nearest one.
        """
        root = Path(self.root).expanduser()
        files = picture_files(root)
        folders = [file.parts[0] if len(file.parts) > 1 else "." for file in files]
        self.class_names = sorted(set(folders))
        columns = [place("sub-folder", name, self.class_names) for name in self.attributes]
        bad: dict[Path, str] = {}
        pixels = [*each_picture(root, files, self.size, self.channels, bad)]
        if bad:
            warn_of(bad, len(files), root)
        good = [i for i, picture in enumerate(pixels) if picture is not None]
        n = len(good)
        n_val = max(1, round(n * self.val_fraction))
        n_test = max(1, round(n * self.test_fraction))
        if n_val + n_test >= n:
            raise DataError(
                f"{root} has {n} readable pictures, too few for parts to train, validate and test "
                f"with (here {n_val} to validate and {n_test} to test): put more pictures there."
            )
        tensors = {
            "image": stacked([picture for picture in pixels if picture is not None]),
            "label": torch.tensor([self.class_names.index(folders[i]) for i in good]),
        }
        if columns:
            tensors["attributes"] = (tensors["label"][:, None] == torch.tensor(columns)).long()
        parts = split_indices(n, n_val, n_test, self.seed)
        return {split: take(tensors, index) for split, index in parts.items()}


def first_pictures(root: Path, n: int, size: int, channels: int) -> Tensor:
    """Return the first n readable pictures of a folder, or all if there are fewer.

    Args:
        root: The folder.
        n: Number of pictures.
        size: Height and width to resize to, in pixels.
        channels: 3 for colour, 1 for grey.

    Returns:
        float32 (at most n, C, size, size) in [0, 1].

    Raises:
        DataError: if no picture can be read.
    """
    files = picture_files(root)
    pixels: list[NDArray[np.uint8]] = []
    bad: dict[Path, str] = {}
    while files and len(pixels) < n:
        some, files = files[: n - len(pixels)], files[n - len(pixels) :]
        pictures = each_picture(root, some, size, channels, bad)
        pixels += [picture for picture in pictures if picture is not None]
    if bad:
        warn_of(bad, len(pixels) + len(bad), root)
    if not pixels:
        raise DataError(f"{root} holds no picture that can be read; put others there.")
    return stacked(pixels).float() / 255


def stacked(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return pictures of shape (size, size, C) as one tensor, uint8 (N, C, size, size)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def picture_files(root: Path) -> list[Path]:
    """Return the pictures below `root` by their extension, as sorted relative paths."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds your pictures.")
    known = Image.registered_extensions()
    extensions = {e for e, kind in known.items() if kind in Image.OPEN and kind not in NOT_PICTURES}
    # a broken link counts, and the warning names it among the unreadable files
    found = [path for path in files_below(root) if path.suffix.lower() in extensions]
    if not found:
        raise DataError(f"{root} holds no pictures: put png, jpg or other picture files there.")
    return found


def each_picture(
    root: Path, files: list[Path], size: int, channels: int, bad: dict[Path, str]
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield each picture, (size, size, channels), or None if unreadable, with a reason in `bad`."""
    from rich.progress import track

    def read(file: Path) -> NDArray[np.uint8] | None:
        # Pillow raises almost anything on a damaged file, and one file must not end the run.
        try:
            return read_picture(root / file, size, channels)
        except Exception as error:
            bad[file] = f"{type(error).__name__}: {error}"
            return None

    # Pillow's own warnings name no file
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")
        yield from track(
            pool.map(read, files),
            description=f"Reading {root}",
            total=len(files),
            transient=True,
            disable=len(files) < PROGRESS_FROM,
        )


def read_picture(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Read one picture as uint8 (size, size, channels)."""
    with Image.open(path) as image:
        # lets the JPEG decoder shrink by a power of two, to at least twice the size
        image.draft(None, (2 * size, 2 * size))
        sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        upright = ImageOps.exif_transpose(image)
        if upright.mode[0] in "IF":
            upright = Image.fromarray(eight_bits(np.asarray(upright), sixteen))
        upright = flat(upright, "L" if channels == 1 else "RGB")
        square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8).reshape(size, size, channels)


def eight_bits(pixels: NDArray[Any], sixteen: bool) -> NDArray[np.uint8]:
    """Convert pixels of more than 8 bits to 8 bits.

    Args:
        pixels: Whole or floating-point numbers, (H, W).
        sixteen: Whether white is 65,535, as in all formats of 16 bits; else the pixels decide.

    Raises:
        ValueError: if the pixels do not determine white.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 65535):  # also catches NaN
        raise ValueError(
            f"its pixels go from {low:g} to {high:g}, so the value of white is unknown; save it "
            "with values from 0 to 255"
        )
    whites = (1, 255, 65535) if pixels.dtype.kind == "f" else (255, 65535)
    white = 65535 if sixteen else next(white for white in whites if high <= white)
    return (pixels.astype(np.float64) * (255 / white) + 0.5).astype(np.uint8)


def flat(image: Image.Image, mode: str) -> Image.Image:
    """Return an opaque image in the given mode, "L" or "RGB"."""
    if image.mode == "LAB":  # Pillow cannot convert it to grey
        image = image.convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def warn_of(bad: dict[Path, str], n: int, root: Path) -> None:
    """Warn once of all files that cannot be read, with the names of the first five."""
    names = sorted(bad, key=Path.as_posix)
    first = ", ".join(f"{name.as_posix()} ({bad[name]})" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    warnings.warn(
        f"Passed over {len(names)} of {n} files in {root} that cannot be read: {first}{more}.",
        stacklevel=2,
    )
