"""Pictures of images, of tables and of points, as tensors and files."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.checkpoints.files import write_atomically
from zoo.errors import ZooError

if TYPE_CHECKING:
    from PIL.Image import Image


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Tile images into one, row by row, on a grey ground.

    Args:
        images: Images of shape (N, C, H, W) in [0, 1]; C is 1 or 3.
        columns: Images in a row; by default the grid is nearly square.
        gap: Pixels between images.

    Returns:
        One image of shape (C, H', W') in [0, 1].
    """
    n, c, h, w = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    tiles = images.new_full((rows * columns, c, h + gap, w + gap), 0.5)
    tiles[:n, :, :h, :w] = images
    page = tiles.reshape(rows, columns, c, h + gap, w + gap).permute(2, 0, 3, 1, 4)
    page = page.reshape(c, rows * (h + gap), columns * (w + gap))
    return torch.nn.functional.pad(page, (gap, 0, gap, 0), value=0.5)


def signed(values: Tensor) -> Tensor:
    """Scale images of any values to [0, 1]: zero is grey, and each one's largest magnitude 0 or 1.

    Args:
        values: (N, C, H, W).
    """
    most = values.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    return 0.5 + 0.5 * values / most


PICTURES: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True},
}
"""Settings for saving pictures, by the suffix of the file."""

ANIMATIONS = {".gif": "GIF", ".apng": "PNG"}
"""Formats of animations, by the suffix of the file."""


def check_suffix(path: Path, known: Iterable[str]) -> None:
    """Raise ZooError unless the file has one of the known suffixes."""
    if path.suffix.lower() not in known:
        raise ZooError(f"cannot draw {path.name!r}; let its name end in {' or '.join(known)}.")


def save_grid(
    images: Tensor,
    path: str | Path,
    columns: int | None = None,
    min_width: int = 448,
    colours: int | None = None,
) -> None:
    """Save a grid of images as a picture, small images magnified to whole multiples.

    Args:
        images: Images of shape (N, C, H, W) in [0, 1].
        path: The file; it has a suffix of `PICTURES`, and its folder is made if it is missing.
        columns: Images in a row; by default the grid is nearly square.
        min_width: The picture is magnified until it is at least this many pixels wide.
        colours: Number of colours of a PNG file, at most 256: a third of the size, enough for a
            chart; by default all.

    Raises:
        ZooError: if the file has another suffix, or cannot be written.
    """
    path = Path(path).expanduser()
    check_suffix(path, PICTURES)
    settings = PICTURES[path.suffix.lower()]
    picture = _picture(images, columns, min_width)
    if colours is not None and settings["format"] == "PNG":
        picture = picture.quantize(colours)
    write_atomically(path, lambda part: picture.save(part, **settings))


def save_animation(paths: Tensor, path: str | Path, min_width: int = 448) -> None:
    """Save paths of images as an endless animation, there and back, of a grid of all paths.

    PNG keeps every colour; GIF has 256 colours, which is enough for grey.

    Args:
        paths: Images of shape (N, T, C, H, W) in [0, 1]: N paths of T steps.
        path: The file; it has a suffix of `ANIMATIONS`.
        min_width: As in `save_grid`.

    Raises:
        ZooError: if the file has another suffix, or cannot be written.
    """
    path = Path(path).expanduser()
    check_suffix(path, ANIMATIONS)
    steps = [*range(paths.shape[1]), *range(paths.shape[1] - 2, 0, -1)]
    first, *others = (_picture(paths[:, t], None, min_width) for t in steps)
    write_atomically(
        path,
        lambda part: first.save(
            part,
            format=ANIMATIONS[path.suffix.lower()],
            save_all=True,
            append_images=others,
            duration=100,  # milliseconds a step
            loop=0,
        ),
    )


def _picture(images: Tensor, columns: int | None, min_width: int) -> "Image":
    """A grid of images (N, C, H, W), magnified."""
    from PIL.Image import fromarray

    page = grid(images.detach().float().cpu(), columns)
    scale = math.ceil(min_width / page.shape[-1])
    pixels = (page.clamp(0, 1) * 255).round().byte()
    pixels = pixels.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())
