"""Base class of the two sources of CelebA on disk.

A source makes a plan of a prepared store (see `prepared.py`) with four parts: "train", the training
pictures with attributes, "unlabelled", those without, "val" and "test". The plan's notes count
incomplete data if the rest is sound; data that may be wrong is refused.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from zoo.datamodules.files.places import DataError
from zoo.datamodules.files.prepared import Plan

# Names of the attributes, in CelebA's order.
# fmt: off
ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns",
    "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)
# fmt: on
# Parts of the official partition, by their number in it.
PARTITION = ("train", "val", "test")
PARTS = ("train", "unlabelled", "val", "test")
AT_ONCE = 256


class Source(ABC):
    """A source of CelebA.

    Args:
        folder: Folder of its files.
        size: Height and width to resize to.
        crop: Side of the central square of the aligned picture.
    """

    def __init__(self, folder: Path, size: int, crop: int) -> None:
        self.folder = folder
        self.size = size
        self.crop = crop

    @property
    @abstractmethod
    def remedy(self) -> str:
        """How to get missing files."""

    @abstractmethod
    def download(self) -> None:
        """Download missing files.

        Raises:
            DataError: if a file cannot be downloaded.
        """

    @abstractmethod
    def found(self) -> tuple[str, ...]:
        """Return the names of the files and folders that are there."""

    @abstractmethod
    def missing(self) -> tuple[str, ...]:
        """Return the names of required files and folders that are missing."""

    @abstractmethod
    def files(self) -> list[os.DirEntry[str]]:
        """Return all files that a prepared store is made from."""

    @abstractmethod
    def plan(self) -> Plan:
        """Read the labels of the pictures, and plan to prepare the pictures.

        Raises:
            DataError: if a file is damaged or contradicts another.
        """


def read_face(
    picture: Path | BinaryIO, expected: tuple[int, int], crop: int, size: int
) -> NDArray[np.uint8]:
    """Read the central square of one picture, resized with a Lanczos filter.

    Args:
        picture: The file, or its contents.
        expected: Width and height that it must have.
        crop: Side of the square, in the picture's pixels; where the margins cannot be equal, the
            upper and the left one are a pixel smaller.
        size: Side to resize to.

    Returns:
        Pixels, uint8 (3, size, size).
    """
    try:
        image = Image.open(picture)
    except UnidentifiedImageError:
        raise ValueError("it is not a picture") from None
    with image:
        if image.size != expected:  # known before any pixel is decoded
            raise ValueError("it has {}x{} pixels, not {}x{}".format(*image.size, *expected))
        left, top = ((side - crop) // 2 for side in expected)
        square = image.convert("RGB").crop((left, top, left + crop, top + crop))
        if crop != size:
            square = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def slices(n: int) -> Iterator[slice]:
    """Cut range(n) into slices of `AT_ONCE` pictures, which are decoded together."""
    return (slice(start, min(start + AT_ONCE, n)) for start in range(0, n, AT_ONCE))


def refused(path: Path, why: str) -> DataError:
    """Return the error for a file that cannot be relied on."""
    return DataError(f"{path} cannot be used ({why}): put a good copy of it there.")
