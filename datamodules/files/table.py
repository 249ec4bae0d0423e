"""Tables in text files whose lines are the time steps of sequences."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.datamodules.files.places import DataError
from zoo.datamodules.files.text import bad_line, brief, read_lines

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": None}


@dataclass(frozen=True)
class Step:
    """One time step: its line in the file, the sequence it belongs to, and its values."""

    line: int
    sequence: str
    values: list[str]


def read_table(path: Path, columns: list[str] | None, id_column: str | None) -> Iterator[Step]:
    """Read the values in a table, line by line.

    Args:
        path: The file, `.csv`, `.tsv` or `.txt`, or one of these with `.gz`.
        columns: Names of the columns to read, or None for all but `id_column`.
        id_column: Name of the column that names the sequence, or None if blank lines separate them.

    Raises:
        DataError: if the file cannot be read, its first line lacks a name, a line has another
            number of columns or an empty one, or two blank lines leave a sequence empty.
    """
    width = sequence = blanks = 0
    chosen: list[int] = []
    own: int | None = None
    begun = False
    for line, cells in split_lines(path):
        if not cells:
            blanks += 1
            continue
        if not width:
            width = len(cells)
            chosen = [*range(width)]
            if id_column is not None:
                own = find_column(path, line, cells, id_column)
                chosen.remove(own)
            if columns is not None:
                chosen = [find_column(path, line, cells, name) for name in columns]
            if not chosen:
                raise bad_line(path, line, f"there is no column of values beside {id_column!r}")
            if columns is not None or id_column is not None:
                continue
        if len(cells) != width:
            raise bad_line(path, line, f"{width} columns are due, but there are {len(cells)}")
        for i in [*chosen] if own is None else [own, *chosen]:
            if not cells[i]:
                raise bad_line(path, line, f"column {i + 1} is empty")
        if begun and blanks:
            if blanks > 1 and own is None:
                raise bad_line(path, line, f"{blanks} blank lines before it: a sequence is empty")
            sequence += 1
        begun, blanks = True, 0
        name = str(sequence) if own is None else cells[own]
        yield Step(line, name, [cells[i] for i in chosen])


def split_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of each line of a table, and the line's number; a blank line has no cells.

    Raises:
        DataError: if the file's extension is unknown, or a quotation is broken.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in DELIMITERS:
        raise DataError(f"{path} is no .csv, .tsv or .txt, plain or .gz: rename it to what it is.")
    lines = read_lines(path)
    delimiter = DELIMITERS[kind]
    if delimiter is None:
        return [(number, line.split()) for number, line in enumerate(lines, start=1)]
    text = (f"{line}\n" for line in lines)
    if kind == ".csv":
        reader = csv.reader(text, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise bad_line(path, reader.line_num, str(error)) from None


def find_column(path: Path, line: int, names: list[str], name: str) -> int:
    """Return the position of a column by its name.

    Raises:
        DataError: if there is no column of this name, or more than one.
    """
    if names.count(name) != 1:
        known = ", ".join(brief(known) for known in names[:20])
        problem = "no column" if name not in names else "more than one column"
        raise bad_line(path, line, f"{problem} is called {name!r}; there are {known}")
    return names.index(name)
