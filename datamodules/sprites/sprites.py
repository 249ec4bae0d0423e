r"""Sprites: one white or coloured shape on black, drawn from independent factors.

The factors are those of dSprites (Matthey, Higgins, Hassabis & Lerchner, 2017,
https://github.com/google-deepmind/dsprites-dataset), in its order and with its values:

| factor      | values | value of index $i$                             |
| ----------- | ------ | ---------------------------------------------- |
| shape       | 3      | square, ellipse, heart (`render.py` has their outlines) |
| scale       | 6      | $0.5 + 0.1 i$                                  |
| orientation | 40     | $2 \pi i / 39$, clockwise; 0 is upright        |
| x           | 32     | $i / 31$, from left to right                   |
| y           | 32     | $i / 31$, from top to bottom                   |

A shape of scale $s$ has a radius of $12.5 s$ pixels, and its centroid is $16.85 + i_x$ pixels from
the left edge and $16.7 + i_y$ from the upper one. So one step in position is one pixel, and no ink
comes nearer than 3 pixels to the border. The centroid is not in the middle of a pixel, so that
turned squares and ellipses do not cover the same pixels.

Index 39 of the orientation is a whole turn and gives the picture of index 0. All other pictures
differ, but not as much as their indices: a square looks the same after a quarter of a turn (9.75
steps), and an ellipse after half a turn (19.5 steps). A picture therefore determines the
orientation of a square only modulo $\pi / 2$, and that of an ellipse only modulo $\pi$.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from zoo.datamodules.base import Split, check_one_of
from zoo.datamodules.files.places import Inventory, data_dir
from zoo.datamodules.sprites import dsprites
from zoo.datamodules.sprites.factors import FactorImages, factors_of
from zoo.datamodules.sprites.render import SHAPES, coverage, stamp

Source = Literal["rendered", "dsprites"]
SIDE = 64
FACTORS: dict[str, tuple[float | str, ...]] = {
    "shape": SHAPES,
    "scale": tuple((5 + i) / 10 for i in range(6)),
    "orientation": tuple(2 * math.pi * i / 39 for i in range(40)),
    "x": tuple(i / 31 for i in range(32)),
    "y": tuple(i / 31 for i in range(32)),
}
"""Values of each factor by its name."""

COLOURS = {
    "white": (1, 1, 1),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "magenta": (1, 0, 1),
    "cyan": (0, 1, 1),
}
"""Red, green and blue of each colour: all combinations of 0 and 1 except black."""

RADIUS = 12.5  # of scale 1, in pixels
FIRST = (16.85, 16.7)  # column and row of the centroid at position 0, in pixels
CORNER, WINDOW = 4, 26  # first row and column with ink at position 0, and their number
SAMPLES = 4


class Sprites(FactorImages):
    """737,280 sprites in white on black, 64 x 64: 3 shapes, 6 scales, 40 orientations, 32 x 32.

    A batch is `{"image", "factors", "index"}`: float32 (B, 1, 64, 64); int64 (B, 5), the indices of
    shape, scale, orientation, x and y, whose values are listed at the head of this module; int64
    (B,). Pixels are 0 or 1 as in dSprites, which suits a Bernoulli likelihood: 1 where the shape
    covers at least half of the pixel. Nothing is downloaded, and the pictures are never all in
    memory.

    Disentanglement scores and the models that they compare use the complete set. By default,
    training is on all pictures, and validation and test are random parts of them: their numbers
    measure the fit to the set. For numbers on unseen combinations of factors, set `train_size`.

    Args:
        batch_size: Pictures per batch and process.
        seed: Seed of the splits and of the order of training pictures.
        antialias: Whether a pixel is the share that the shape covers, 0 to 1, instead of 0 or 1.
        source: "rendered" draws the pictures; "dsprites" reads the original ones, from
            `dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz` in `root`.
        root: Folder of the data sets; `$ZOO_DATA` or the user's cache when None.
        train_size: Number of training pictures, disjoint from the other splits; None trains on all
            pictures, including those of the other splits.
        val_size: Number of validation pictures.
        test_size: Number of test pictures.
    """

    about = (
        "Sprites: one shape on black, drawn by the program from the factors of dSprites (Matthey "
        "et al. 2017): 3 shapes, 6 scales, 40 orientations, 32 x 32 places. Unless `recipe.yaml` "
        "has a `train_size`, training is on all 737,280; validation and test are parts of them."
    )
    knows = "single white squares, ellipses and hearts"

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        antialias: bool = False,
        source: Source = "rendered",
        root: str | None = None,
        train_size: int | None = None,
        val_size: int = 10_000,
        test_size: int = 10_000,
    ) -> None:
        check_one_of(get_args(Source), source=source)
        if antialias and source == "dsprites":
            raise ValueError("antialias must be false for the source 'dsprites', which is binary.")
        super().__init__(
            (1, SIDE, SIDE), FACTORS, batch_size, seed, train_size, val_size, test_size
        )
        self.antialias = antialias
        self.source = source
        self.root = root
        self.bits: Tensor | None = None

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return the original dSprites if they are there; no files are needed.

        Args:
            root: Folder of the data sets; `$ZOO_DATA` or the user's cache when None.
        """
        path = dsprites_path(root)
        return Inventory(path.parent, (path.name,)) if path.exists() else Inventory(None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `row` int64 (N,); read the original dSprites if wanted."""
        if self.source == "dsprites":
            self.bits = dsprites.read(dsprites_path(self.root), self.factor_values)
        return super().load()

    def draw(self, factors: Tensor) -> Tensor:
        """Return the pictures of valid factors, float32 (B, 1, 64, 64)."""
        if self.source == "rendered":
            return shapes(factors, self.antialias)
        if self.bits is None:
            raise RuntimeError("Call Sprites.setup() before asking for pictures of dSprites.")
        return dsprites.unpack(self.bits, self.row_of(factors))

    def say(self, factors: Sequence[int]) -> str:
        """Return the factors of one picture in words."""
        return in_words(factors)


class ColouredSprites(FactorImages):
    """Sprites in one of seven colours on black: 5,160,960 pictures, 64 x 64.

    A batch is `{"image", "factors", "index"}`: float32 (B, 3, 64, 64); int64 (B, 6), the indices of
    colour, shape, scale, orientation, x and y; int64 (B,). The colours are white, red, green, blue,
    yellow, magenta and cyan, each of whose three channels is 0 or 1; all else is as in `Sprites`.

    Args:
        batch_size: Pictures per batch and process.
        seed: Seed of the splits and of the order of training pictures.
        antialias: Whether a pixel is the share that the shape covers, instead of 0 or 1.
        train_size: Number of training pictures, disjoint from the other splits; None trains on all
            pictures, including those of the other splits.
        val_size: Number of validation pictures.
        test_size: Number of test pictures.
    """

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        antialias: bool = False,
        train_size: int | None = None,
        val_size: int = 10_000,
        test_size: int = 10_000,
    ) -> None:
        factors = {"colour": tuple(COLOURS), **FACTORS}
        super().__init__(
            (3, SIDE, SIDE), factors, batch_size, seed, train_size, val_size, test_size
        )
        self.antialias = antialias

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(None)

    def draw(self, factors: Tensor) -> Tensor:
        """Return the pictures of valid factors, float32 (B, 3, 64, 64)."""
        palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=factors.device)
        colour = palette.index_select(0, factors[:, 0])[:, :, None, None]  # (B, 3, 1, 1)
        return shapes(factors[:, 1:], self.antialias) * colour

    def say(self, factors: Sequence[int]) -> str:
        """Return the factors of one picture in words."""
        return f"{list(COLOURS)[factors[0]]} {in_words(factors[1:])}"


def shapes(factors: Tensor, antialias: bool) -> Tensor:
    """Return the pictures of factors in white on black, float32 (B, 1, 64, 64).

    Args:
        factors: Indices of shape, scale, orientation, x and y, int64 (B, 5).
        antialias: Whether a pixel is the share that the shape covers, instead of 0 or 1.
    """
    shape, scale, orientation, x, y = factors.unbind(1)
    look = (shape * 6 + scale) * 40 + orientation
    crop = masks(antialias, factors.device).index_select(0, look)
    return stamp(crop, y + CORNER, x + CORNER, SIDE)[:, None]


@lru_cache(maxsize=8)
def masks(antialias: bool, device: torch.device) -> Tensor:
    """Return the shapes of each shape, scale and orientation at position 0, without the border.

    They are drawn once for each process and device. Other positions shift them by whole pixels.

    Returns:
        Tensor in [0, 1], float32 (720, 26, 26).
    """
    shape, scale, orientation = factors_of(torch.arange(3 * 6 * 40), (3, 6, 40)).unbind(1)
    radius = RADIUS * (0.5 + 0.1 * scale.double())
    angle = 2 * math.pi * (orientation.double() / 39 % 1)  # exactly 0 after a whole turn
    x, y = (torch.full_like(radius, first - CORNER) for first in FIRST)
    covered = coverage(shape, radius, angle, x, y, WINDOW, SAMPLES)
    return (covered if antialias else (covered >= 0.5)).float().to(device)


def in_words(factors: Sequence[int]) -> str:
    """Return the values of shape, scale, orientation, x and y."""
    shape, scale, orientation, x, y = (
        values[i] for values, i in zip(FACTORS.values(), factors, strict=True)
    )
    turn = math.degrees(float(orientation))
    return f"{shape}, scale {scale:.1f}, turned by {turn:.0f}°, x {x:.2f}, y {y:.2f}"


def dsprites_path(root: str | None) -> Path:
    """Return the path of the original dSprites."""
    return (data_dir() if root is None else Path(root).expanduser()) / "dsprites" / dsprites.FILE
