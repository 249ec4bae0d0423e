"""Pictures of images and of tables, as tensors and PNG files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Tile images into one, row by row, on a grey ground.

    Args:
        images: Images of shape (N, C, H, W) in [0, 1]; C is 1 or 3.
        columns: Images in a row; by default as square as can be.
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
    """Images of any values as images in [0, 1]: zero is grey, the largest magnitude of each an end.

    Args:
        values: (N, C, H, W).
    """
    most = values.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    return 0.5 + 0.5 * values / most


def heatmap(values: Tensor, rows: Sequence[str], columns: Sequence[str], label: str) -> Tensor:
    """Draw a matrix with names at its sides.

    Args:
        values: (R, C).
        rows: R names.
        columns: C names.
        label: What the values are.

    Returns:
        A picture of shape (3, H, W) in [0, 1].
    """
    from matplotlib.figure import Figure

    figure = Figure((1.5 + 0.4 * len(columns), 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(values.detach().float().cpu().numpy(), cmap="magma", vmin=0)
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    figure.colorbar(drawn, label=label)
    return _pixels(figure)


def strips(rows: Mapping[str, Sequence[Tensor | None]], columns: Sequence[str]) -> Tensor:
    """Draw pictures in rows with names at their left, under columns with titles.

    Args:
        rows: By name, a picture (C, H, W) in [0, 1] for each column, or nothing; C is 1 or 3.
        columns: The titles.

    Returns:
        A picture of shape (3, H', W') in [0, 1].
    """
    from matplotlib.figure import Figure

    size = (1 + 5 * len(columns), 0.3 + 0.75 * len(rows))
    figure = Figure(size, dpi=150, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for place, picture in zip(line, pictures, strict=True):
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
            if picture is not None:
                pixels = picture.clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0)
                place.imshow(pixels.numpy(), interpolation="nearest")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for place, title in zip(axes[0], columns, strict=True):
        place.set_title(title)
    return _pixels(figure)


def _pixels(figure: "Figure") -> Tensor:
    """A drawn figure, (3, H, W) in [0, 1]."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]  # (H, W, 3)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def save_grid(
    images: Tensor, path: str | Path, columns: int | None = None, min_width: int = 448
) -> None:
    """Save a grid of images as a PNG file, small images magnified to whole multiples.

    Args:
        images: Images of shape (N, C, H, W) in [0, 1].
        path: Where to; its folder is made if it is not there.
        columns: Images in a row; by default as square as can be.
        min_width: The picture is magnified until it is at least this many pixels wide.

    Raises:
        ZooError: if the file cannot be written.
    """
    from PIL import Image

    page = grid(images.detach().float().cpu(), columns)
    scale = math.ceil(min_width / page.shape[-1])
    pixels = (page.clamp(0, 1) * 255).round().byte()
    pixels = pixels.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    array = pixels.permute(1, 2, 0).squeeze(-1).numpy()
    picture = Image.fromarray(array)
    write_atomically(Path(path).expanduser(), lambda part: picture.save(part, format="PNG"))
