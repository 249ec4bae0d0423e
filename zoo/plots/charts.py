"""Charts as tensors: heat maps, strips of pictures, scatter plots."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heatmap(values: Tensor, rows: Sequence[str], columns: Sequence[str], label: str) -> Tensor:
    """Draw a matrix with names at its sides.

    Args:
        values: (R, C).
        rows: R names.
        columns: C names.
        label: Name of the values.

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


def scatter(places: Tensor, kinds: Tensor, names: Sequence[str], title: str) -> Tensor:
    """Draw points of several kinds in the plane, with a legend.

    Args:
        places: (N, 2).
        kinds: Index of each point's name, int64 (N,).
        names: K names; those without points are left out.
        title: Title of the picture.

    Returns:
        A picture of shape (3, H, W) in [0, 1].
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure((7, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot(title=title, xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))
    colours = colormaps["tab10" if len(names) <= 10 else "turbo"].resampled(max(10, len(names)))
    x, y = places[order].float().cpu().T.numpy()  # by kinds, the last would hide the others
    axes.scatter(x, y, 6, colours(kinds[order].cpu().numpy()), linewidths=0)
    for kind in torch.unique(kinds).tolist():
        axes.scatter([], [], 30, [colours(kind)], label=names[kind])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=math.ceil(len(names) / 20))
    return _pixels(figure)


def _pixels(figure: "Figure") -> Tensor:
    """A drawn figure, (3, H, W) in [0, 1]."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]  # (H, W, 3)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
