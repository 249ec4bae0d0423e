"""The table of a comparison, for terminals, spreadsheets and browsers."""

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from zoo.checkpoints.markdown import markdown_table
from zoo.checkpoints.metrics import Metric


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
        metrics: What the suite's jobs gave.
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
    metrics: list[Metric] = field(default_factory=list)
    principal: list[Metric] = field(default_factory=list)
    samples_per_second: float | None = None
    codes_per_second: float | None = None
    samples: Tensor | None = None
    inputs: Tensor | None = None
    reconstructions: Tensor | None = None
    note: str = ""
    condition: str = ""


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
            if metric.name == "nll":
                put(_likelihood(row, metric), i, _cell(metric, metric.kind.partition(":")[0]))
    for name, title in _SHARES.items():
        for i, row in enumerate(rows):
            for which, metrics in (("", row.metrics), (", PCA of that size", row.principal)):
                for metric in metrics:
                    if metric.name == name:
                        put(title.format(metric) + which, i, _cell(metric))
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
    "accuracy": "accuracy on {0.dataset}",
    "frechet_distance": "Fréchet distance, {0.count:,} in {0.unit}",
    "precision": "precision, {0.count:,} in {0.unit}",
    "recall": "recall, {0.count:,} in {0.unit}",
    "linear_probe": "linear probe of {0.dataset} codes",
    "knn_probe": "5-NN of {0.dataset} codes",
}


def _likelihood(row: Row, metric: Metric) -> str:
    density = ", a density" if row.support == "grey values" else ""
    given = f" given their {row.condition}" if row.condition else ""
    return f"NLL of {metric.dataset} {row.support}{density}{given} ({metric.unit})"


def _cell(metric: Metric, kind: str = "") -> Cell:
    return Cell(float(metric.value), metric.standard_error, kind)


def markdown(columns: Table) -> str:
    """The table for a terminal or a README."""
    return markdown_table([*columns], _texts(columns))


def _texts(columns: Table) -> list[list[str]]:
    cells = zip(*columns.values(), strict=True)
    return [["" if cell is None else str(cell) for cell in line] for line in cells]


def spreadsheet(columns: Table) -> str:
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


def web_page(columns: Table, about: str, shown: Sequence[Path]) -> str:
    """The table as HTML.

    Args:
        columns: The table.
        about: What stands above it.
        shown: Pictures that lie beside the page and stand below it.
    """

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
