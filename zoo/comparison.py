"""Models of all families side by side: a table of what the same suite finds, a page of pictures.

Numbers stand in one column only where they are of one kind: the likelihood of binary pixels, which
is a probability, never beside that of grey values, which is a density and has no bound; and
distances of samples only where the same network looked.
"""

import csv
import html
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import datamodules
from datamodules.base import DataModule, ImageDataModule
from zoo import catalog
from zoo.base import LatentVariableModel
from zoo.checkpoint import write_text
from zoo.errors import ZooError, nearest
from zoo.evaluation import on_device
from zoo.plots import grid, save_grid, strips
from zoo.pretrained import from_pretrained
from zoo.protocol import Protocol, data_module, held_out
from zoo.suites import SUITES, drawing, forget, labelled, probed, run, work_folder

SHOWN = 8
"""Samples and reconstructions of each model on the page."""

TIMED = 100  # data that are drawn or encoded at a time, for at least a second


@dataclass(frozen=True)
class Row:
    """What is known and was found of a model.

    Args:
        name: As it was given.
        family: Name of the class.
        support: What its likelihood is of: `binary pixels`, `grey values`, or a datum such as
            `sequence`.
        latent_shape: Shape of one code.
        parameters: Number of trained numbers.
        bytes: Size of the weights.
        metrics: What the suite's jobs gave, as metrics.json has it.
        principal: The same probes' metrics of as many principal components of the same inputs.
        samples_per_second: How fast it samples, 100 at a time.
        codes_per_second: How fast it encodes, 100 at a time.
        samples: Images it drew, (8, C, H, W): the means of p(x | z) where pixels are binary.
        inputs: The first test images, as it takes them, (8, C, H, W).
        reconstructions: What it makes of them.
        note: Why nothing was measured.
        condition: What its likelihood is given, of a conditional model.
    """

    name: str
    family: str
    support: str
    latent_shape: tuple[int, ...]
    parameters: int
    bytes: int
    metrics: list[dict[str, Any]] = field(default_factory=list)
    principal: list[dict[str, Any]] = field(default_factory=list)
    samples_per_second: float | None = None
    codes_per_second: float | None = None
    samples: Tensor | None = None
    inputs: Tensor | None = None
    reconstructions: Tensor | None = None
    note: str = ""
    condition: str = ""


def compare(
    models: Sequence[str], data: str | None = None, suite: str = "quick", device: str = "cpu"
) -> list[Row]:
    """Ask several models the same: a suite's jobs, probes beside PCA, speed, and pictures.

    A comparison that was stopped goes on where it was when it is asked again.

    Args:
        models: Names or folders, or patterns of shipped names such as `*-mnist`.
        data: Name of a DataModule, in any case; by default each model's own.
        suite: Which of `zoo.suites.SUITES`.
        device: Where to measure, such as `cuda`.

    Returns:
        A row a model; those that the data do not fit have a note in place of numbers.

    Raises:
        ZooError: if there is no such model, suite or DataModule.
        DataError: if files of the data are missing or damaged.
    """
    if suite not in SUITES:
        raise ZooError(f"there is no suite {suite!r}; {nearest(suite, SUITES)}")
    if data is not None:
        known = {name.casefold(): name for name in datamodules.__all__}
        if data.casefold() not in known:
            raise ZooError(f"there is no DataModule {data!r}; {nearest(data, known.values())}")
        data = known[data.casefold()]
    names = [name for given in models for name in _names(given)]
    jobs, protocol = SUITES[suite]
    rows, done = [], []
    for name in dict.fromkeys(names):
        work = work_folder(catalog.locate(name), protocol, data, device)
        rows.append(_row(name, data, jobs, protocol, device, work))
        done.append(work)
    for work in done:
        forget(work)
    return rows


def _names(given: str) -> list[str]:
    """Names that a pattern stands for; a name stands for itself."""
    if not any(sign in given for sign in "*?["):
        return [given]
    names = catalog.list_models(given)
    if not names:
        raise ZooError(f"no model matches {given!r}; {nearest(given, catalog.list_models())}")
    return names


def _row(
    name: str,
    data: str | None,
    jobs: Sequence[str],
    protocol: Protocol,
    device: str,
    work: Path,
) -> Row:
    model = from_pretrained(name).to(device)
    about = catalog.describe(name)
    row = Row(
        name,
        about.family,
        model.datum,
        about.latent_shape,
        about.parameters,
        about.bytes,
        condition=model.condition,
    )
    try:
        module = data_module(model, data)
    except ZooError as error:
        return replace(row, note=str(error))
    metrics = run(model, jobs, protocol, data, work)
    note = "" if metrics else "no job applies"
    batch = on_device(next(iter(held_out(module, TIMED))), model.device)
    x, verbs, fixed = model.inputs(batch), model.verbs(), model.conditioned(batch)
    found: dict[str, Any] = {}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(protocol.seed)
        found["principal"] = _principal(model, module, metrics, protocol)
        if "sample" in verbs:
            found["samples_per_second"] = _per_second(model.sample, TIMED, model.device)
        if "encode" in verbs:
            found["codes_per_second"] = _per_second(lambda _: fixed.encode(x), len(x), model.device)
        if model.datum == "image":
            found["inputs"] = x[:SHOWN]
            torch.manual_seed(protocol.seed)
            if "sample" in verbs:
                found["samples"] = drawing(model, module)[0](SHOWN)
            if "reconstruct" in verbs:
                found["reconstructions"] = fixed.reconstruct(x)[:SHOWN]
    return replace(row, support=_support(model, module), metrics=metrics, note=note, **found)


def _support(model: LatentVariableModel, module: DataModule) -> str:
    if isinstance(module, ImageDataModule):
        return "grey values" if module.binarization == "none" else "binary pixels"
    return model.datum


def _per_second(act: Callable[[int], Tensor], n: int, device: torch.device) -> float:
    """How many data an act on n of them at a time gets through; a first one is not timed."""
    act(1)
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < 1:
        act(n)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        count += n
    return count / seconds


def _principal(
    model: LatentVariableModel,
    module: DataModule,
    metrics: list[dict[str, Any]],
    protocol: Protocol,
) -> list[dict[str, Any]]:
    """Probes of as many principal components as a code has numbers, if its own were measured."""
    from sklearn.decomposition import PCA

    if not {"linear_probe"} & {metric["name"] for metric in metrics} or not model.latent_shape:
        return []

    def pixels(batch: Any) -> Tensor:
        return torch.as_tensor(model.inputs(batch)).flatten(1)

    test = labelled(module, "test", protocol.limit, pixels)
    assert test is not None
    train = labelled(module, "train", len(test[1]), pixels)
    assert train is not None
    size = min(math.prod(model.latent_shape), *train[0].shape)
    pca = PCA(size, svd_solver="full").fit(train[0].double().numpy())
    first, second = (
        (torch.from_numpy(pca.transform(x.double().numpy())), labels) for x, labels in (train, test)
    )
    found = probed(first, second, f"{size} principal components")
    return [{**metric, "dataset": type(module).__name__} for metric in found]


# --- the table -----------------------------------------------------------------------------------


class Cell(NamedTuple):
    """A number or word of the table.

    Args:
        value: What it is.
        error: Its standard error over data, if it has one.
        kind: What sort of number it is, where a column has several.
    """

    value: float | str
    error: float | None = None
    kind: str = ""

    def __str__(self) -> str:
        number = self.value if isinstance(self.value, str) else f"{self.value:,.{self.digits}f}"
        error = "" if self.error is None else f" ± {self.error:.{self.digits}f}"
        return number + error + (f" ({self.kind})" if self.kind else "")

    @property
    def digits(self) -> int:
        """Decimals that say something: two of the error, or three digits in all."""
        size = self.error or abs(self.value if isinstance(self.value, float) else 0)
        if not size:
            return 0
        return max(0, (2 if self.error else 3) - 1 - math.floor(math.log10(size)))


Table = dict[str, list[Cell | None]]
"""Columns by their headers, a cell a model."""


def table(rows: Sequence[Row]) -> Table:
    """The columns that have anything in them."""
    columns: Table = {}

    def put(header: str, place: int, cell: Cell) -> None:
        columns.setdefault(header, [None] * len(rows))[place] = cell

    for i, row in enumerate(rows):
        code = "x".join(map(str, row.latent_shape)) or "1"
        for header, word in (("model", row.name), ("family", row.family), ("code", code)):
            put(header, i, Cell(word))
        put("parameters", i, Cell(f"{row.parameters:,}"))
        put("MB", i, Cell(row.bytes / 1e6))
    for i, row in enumerate(rows):  # likelihoods first, whichever row has the first of a column
        for metric in row.metrics:
            if metric["name"] == "nll":
                put(_likelihood(row, metric), i, _cell(metric, metric["kind"].partition(":")[0]))
    for name, title in _SHARES.items():
        for i, row in enumerate(rows):
            for which, metrics in (("", row.metrics), (", PCA of that size", row.principal)):
                for metric in metrics:
                    if metric["name"] == name:
                        put(title.format(**metric) + which, i, _cell(metric))
    for i, row in enumerate(rows):
        if row.samples_per_second is not None:
            put("samples/s", i, Cell(row.samples_per_second))
        if row.codes_per_second is not None:
            put("codes/s", i, Cell(row.codes_per_second))
    for i, row in enumerate(rows):
        if row.note:
            put("note", i, Cell(row.note))
    return columns


_SHARES = {
    "accuracy": "accuracy on {dataset}",
    "frechet_distance": "Fréchet distance, {count:,} in {unit}",
    "precision": "precision, {count:,} in {unit}",
    "recall": "recall, {count:,} in {unit}",
    "linear_probe": "linear probe of {dataset} codes",
    "knn_probe": "5-NN of {dataset} codes",
}


def _likelihood(row: Row, metric: dict[str, Any]) -> str:
    density = ", a density" if row.support == "grey values" else ""
    given = f" given their {row.condition}" if row.condition else ""
    return f"NLL of {metric['dataset']} {row.support}{density}{given} ({metric['unit']})"


def _cell(metric: dict[str, Any], kind: str = "") -> Cell:
    return Cell(float(metric["value"]), metric["standard_error"], kind)


def markdown(columns: Table) -> str:
    """The table for a terminal or a README."""
    lines = [[*columns], ["---"] * len(columns), *_texts(columns)]
    return "\n".join(
        f"| {' | '.join(c.replace('|', chr(92) + '|') for c in line)} |" for line in lines
    )


def _texts(columns: Table) -> list[list[str]]:
    cells = zip(*columns.values(), strict=True)
    return [["" if cell is None else str(cell) for cell in line] for line in cells]


def write(rows: Sequence[Row], folder: Path, about: str) -> list[Path]:
    """Write `comparison.csv`, `comparison.html`, and `pictures.png` where there are any.

    Args:
        rows: What `compare` gave.
        folder: Where to; made if it is not there.
        about: What was done, in a sentence.

    Returns:
        The files.

    Raises:
        ZooError: if they cannot be written.
    """
    columns = table(rows)
    files = [folder / "comparison.csv", folder / "comparison.html"]
    write_text(files[0], _csv(columns))
    page = pictures(rows)
    if page is not None:
        files.append(folder / "pictures.png")
        save_grid(page[None], files[-1], 1)
    write_text(files[1], _html(columns, about, files[2:]))
    return files


def _csv(columns: Table) -> str:
    """Values, errors and kinds in columns of their own, unrounded."""
    plain: dict[str, list[Any]] = {}
    for header, cells in columns.items():
        plain[header] = ["" if c is None else c.value for c in cells]
        if any(c and c.error is not None for c in cells):
            plain[f"{header}: standard error"] = ["" if c is None else c.error for c in cells]
        if any(c and c.kind for c in cells):
            plain[f"{header}: kind"] = ["" if c is None else c.kind for c in cells]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([plain, *zip(*plain.values(), strict=True)])
    return file.getvalue()


def _html(columns: Table, about: str, shown: Sequence[Path]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>\n"

    body = "".join(line(cells, "td") for cells in _texts(columns))
    images = "".join(
        f'<p><img src="{path.name}" alt="samples, reconstructions">\n' for path in shown
    )
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Comparison</title>\n'
        "<style>body{font-family:sans-serif}table{border-collapse:collapse}"
        "td,th{border:1px solid #bbb;padding:.3em .6em;text-align:right;max-width:12em}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>\n"
        f"<p>{html.escape(about)}\n<table>\n{line([*columns], 'th')}{body}</table>\n{images}"
    )


def pictures(rows: Sequence[Row]) -> Tensor | None:
    """One page, (3, H, W) in [0, 1]: a row a model, its samples, and what it makes of test images.

    Above them the test images, as the first model takes them that takes the finest.
    """
    seen = [row for row in rows if row.samples is not None or row.reconstructions is not None]
    if not seen:
        return None
    first = max(seen, key=lambda row: row.support == "grey values").inputs
    page: dict[str, list[Tensor | None]] = {"test images": [None, first]}
    page |= {row.name: [row.samples, row.reconstructions] for row in seen}
    lines = {
        name: [None if x is None else grid(x.float().cpu(), SHOWN) for x in pair]
        for name, pair in page.items()
    }
    return strips(lines, ("samples (means, where pixels are binary)", "reconstructions"))
