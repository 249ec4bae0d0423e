"""What a card shows of a model: samples, reconstructions, paths between codes, and its own."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.batches import Batch, part
from zoo.checkpoints.files import MEANS, SAMPLE_TEXTS, SAMPLES, write_text
from zoo.datamodules.base import DataModule
from zoo.plots.charts import scatter
from zoo.plots.grids import save_grid
from zoo.tasks.directions import direction, encoded, move
from zoo.tasks.maps import Method, latent_map
from zoo.tasks.paths import interpolate, traverse

ROW = 12
"""Pictures in a row, and codes that are traversed, at the most."""

WIDTH = 512
"""Pixels in a row of pictures, about, at the most: larger ones are fewer, but never below four."""

MAPPED = 2000
"""Codes on a map, at the most."""

SPAN = 3
"""How far a card moves codes along directions."""

METHODS: dict[Method, str] = {"pca": "Principal components", "tsne": "t-SNE", "umap": "UMAP"}
"""What ways to draw a map are called."""


def draw_samples(model: LatentVariableModel, folder: Path, seed: int = 0) -> None:
    """Write `samples.png`, or `samples.txt` of other things than images, if the model draws any.

    Beside samples whose pixels have noise stand `means.png`: the means of p(x | z) for their codes.

    Args:
        model: The model.
        folder: Where to.
        seed: Of the draw.
    """
    verbs = {*model.verbs()}
    if "sample" not in verbs:
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if model.modality != "image":
            _write_lines(model.texts(16), folder / SAMPLE_TEXTS)
            return
        width = model.x_shape[-1]
        row, rows = min(8, _in_a_row(width)), min(8, _in_a_row(2 * width))
        fixed, n, columns = in_rows(model, row * rows)
        x = fixed.sample(n)
        save_grid(x, folder / SAMPLES, columns or row)
        if {"prior", "decode"} <= verbs and model.latent_shape:
            torch.manual_seed(seed)
            means = fixed.decode(fixed.prior().sample((n,)))
            if not torch.equal(means, x):
                save_grid(means, folder / MEANS, columns or row)


def _in_a_row(width: int) -> int:
    """How many pictures of that width stand in a row."""
    return max(4, min(ROW, WIDTH // width))


def in_rows(model: LatentVariableModel, n: int) -> tuple[LatentVariableModel, int, int | None]:
    """How about n pictures show what a model draws: with a row for each condition, if it has some.

    Args:
        model: The model.
        n: Pictures, at the most unless there are more conditions.

    Returns:
        The model that draws them, how many they are, and how many are in a row.
    """
    if not model.conditions:
        return model, n, None
    k = len(model.conditions)
    columns = max(1, n // k)
    return model.given(torch.arange(k).repeat_interleave(columns)), k * columns, columns


@torch.no_grad()
def draw(
    model: LatentVariableModel, folder: Path, batches: Iterable[Batch], names: Sequence[str] = ()
) -> None:
    """Write everything that the model's verbs give to see.

    Args:
        model: The model.
        folder: Where to.
        batches: Of the test set; the first has two data at the least.
        names: What labels stand for, of data that have some: then codes are put on a map.
    """
    draw_samples(model, folder)
    verbs, batches = {*model.verbs()}, iter(batches)
    batch = next(batches)
    if model.modality == "image" and {"encode", "decode"} <= verbs:
        x: Tensor = model.inputs(batch)
        row = _in_a_row(x.shape[-1])
        fixed = model.conditioned(batch)
        pairs = torch.stack([x, fixed.reconstruct(x)], 1)[: 2 * row]  # (n, 2, C, H, W)
        rows = torch.cat([part.transpose(0, 1).flatten(0, 1) for part in torch.split(pairs, row)])
        save_grid(rows, folder / "reconstructions.png", min(row, len(x)))
        codes = fixed.encode(x)
        if codes.is_floating_point() and fixed is model:  # two conditions have nothing between them
            ends = zip(x[0:row:2], x[1:row:2], strict=False)
            paths = torch.cat([interpolate(model, a, b, row) for a, b in ends])
            save_grid(paths, folder / "interpolations.png", row)
        if codes.is_floating_point() and codes.ndim == 2:
            dims = codes.var(0).argsort(descending=True)[:row].tolist()
            steps = row - 1 + row % 2  # odd, so that the code itself is in the middle
            first = model.conditioned(part(batch, 0, 1))
            paths = traverse(first, x[0], dims, steps=steps).flatten(0, 1)
            save_grid(paths, folder / "traversals.png", steps)
    vectors = len(model.latent_shape) == 1 and model.latent_shape[0] > 1
    if "encode" in verbs and vectors and names and len(batch["label"]) > 3:
        codes, labels = encoded(model, chain([batch], batches), lambda b: b["label"], MAPPED)
        draw_map(codes, labels, names, "tsne", folder / "map.png")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exhibits = model.exhibits(batch)
    for name, content in exhibits.items():
        if isinstance(content, Tensor):
            save_grid(content, folder / name)
        else:
            _write_lines(content, folder / name)


def has_directions(model: LatentVariableModel, data: DataModule) -> bool:
    """Whether cards show directions: codes are vectors, and the data has the attributes for it."""
    needed = {*data.directions, *data.balanced}
    vectors = {"encode", "decode"} <= {*model.verbs()} and len(model.latent_shape) == 1
    return bool(data.directions) and vectors and needed <= {*getattr(data, "attribute_names", ())}


@torch.no_grad()
def draw_directions(model: LatentVariableModel, data: DataModule, x: Tensor, path: Path) -> None:
    """Write images, moved along the directions of the attributes that cards show, as a picture.

    Args:
        model: The model.
        data: Where training data come from; both are such that `has_directions`.
        x: The images, (N, C, H, W); a row for each under each attribute.
        path: Where to.
    """
    strengths = torch.linspace(-SPAN, SPAN, 2 * SPAN + 1).tolist()
    rows = []
    for attribute in data.directions:
        d = direction(model, data, attribute, balance=[*data.balanced])
        rows += [move(model, one, d, strengths) for one in x]
    save_grid(torch.cat(rows), path, len(strengths))


def draw_map(
    codes: Tensor, kinds: Tensor, names: Sequence[str], method: Method, path: Path
) -> None:
    """Write a map of codes as a picture, coloured by kind.

    Args:
        codes: Of data, (N, ...).
        kinds: Which name each has, (N,).
        names: What the kinds are called.
        method: How codes are laid out.
        path: Where to.
    """
    title = f"{METHODS[method]} of {len(codes):,} codes"
    page = scatter(latent_map(codes, method), kinds, names, title)
    save_grid(page[None], path, 1, colours=256)


def _write_lines(lines: list[str], path: Path) -> None:
    write_text(path, "".join(line + "\n" for line in lines))
