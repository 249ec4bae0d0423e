"""The published form of CelebA: a folder of pictures and three text files."""

import gzip
import os
import re
import tempfile
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.datamodules.faces.source import (
    ATTRIBUTES,
    PARTITION,
    PARTS,
    Source,
    read_face,
    refused,
    slices,
)
from zoo.datamodules.files.arrays import Arrays, reason
from zoo.datamodules.files.download import TIMEOUT_S, socket_timeout
from zoo.datamodules.files.places import DataError
from zoo.datamodules.files.prepared import Chunk, Plan, named

WIDTH, HEIGHT = 178, 218
HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
PICTURES = "img_align_celeba"
PICTURE = re.compile(r"[0-9]{6}\.jpg")


@dataclass(frozen=True)
class Layout:
    """Layout of a text file: a row has a picture's name and a number of values of one kind.

    Args:
        file: The file's name.
        kind: Description of a value, for messages.
        value: Pattern of a value.
        header: Names of the columns, in a line above the rows and below the number of rows.
    """

    file: str
    kind: str
    value: re.Pattern[str]
    header: tuple[str, ...] = ()


ATTRIBUTE_ROWS = Layout("list_attr_celeba.txt", "1 or -1", re.compile("-?1"), ATTRIBUTES)
PARTITION_ROWS = Layout("list_eval_partition.txt", "0, 1 or 2", re.compile("[012]"))
IDENTITY_ROWS = Layout("identity_CelebA.txt", "a positive number", re.compile("[1-9][0-9]{0,8}"))
LAYOUTS = (ATTRIBUTE_ROWS, PARTITION_ROWS, IDENTITY_ROWS)


@dataclass
class Table:
    """The rows of a text file.

    Args:
        name: The file's name.
        width: Number of values in a row.
        rows: Position of each picture's row.
        flat: All values, row by row.
        notes: Notes on skipped rows.
    """

    name: str
    width: int
    rows: dict[str, int] = field(default_factory=dict)
    flat: "array[int]" = field(default_factory=lambda: array("i"))
    notes: list[str] = field(default_factory=list)

    def take(self, names: Sequence[str]) -> NDArray[np.intc]:
        """Return the rows of some pictures, (N, width); -1 for pictures that have none."""
        rows = np.array([self.rows.get(name, -1) for name in names], np.int64)
        taken = np.full((len(names), self.width), -1, np.intc)
        values = np.frombuffer(self.flat, np.intc).reshape(-1, self.width)
        taken[rows >= 0] = values[rows[rows >= 0]]
        return taken


class FolderSource(Source):
    """`img_align_celeba/*.jpg` and three text files, each plain or, where it is not, `.gz`.

    The text files may have rows without a picture, and pictures may lack rows; the number of rows
    stated in the attribute file has no effect. Without the identity file, or a row in it, an
    identity is -1.
    """

    @property
    def remedy(self) -> str:
        """How to get the files, and where to put them."""
        return (
            f"put them there as {HOME} offers them (the pictures unpacked), or point the "
            "environment variable ZOO_DATA to a folder that has celeba with them"
        )

    def download(self) -> None:
        """Download missing files with torchvision, and move each into place when it is complete."""
        missing = self.missing()
        wanted = [layout.file for layout in LAYOUTS if self._text(layout) is None]
        wanted += [PICTURES] if PICTURES in missing else []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (
                tempfile.TemporaryDirectory(prefix=".download-", dir=self.folder) as temporary,
                socket_timeout(TIMEOUT_S),
            ):
                for name in wanted:
                    fetch(name, temporary)
                    os.replace(Path(temporary, name), self.folder / name)
        except Exception as error:  # gdown and its dependencies have their own errors
            why = reason(error).strip().splitlines()[-1]
            raise DataError(
                f"{self.folder} lacks {', '.join(missing)}, and they could not be downloaded "
                f"({why}): {self.remedy}."
            ) from error

    def found(self) -> tuple[str, ...]:
        """Return the names of the picture folder and the text files that are there."""
        pictures = (PICTURES,) if (self.folder / PICTURES).is_dir() else ()
        texts = map(self._text, LAYOUTS)
        return (*pictures, *(path.name for path in texts if path))

    def missing(self) -> tuple[str, ...]:
        """Return the missing ones of the pictures, the attribute and the partition file."""
        needed = (PICTURES, ATTRIBUTE_ROWS.file, PARTITION_ROWS.file)
        found = {name.removesuffix(".gz") for name in self.found()}
        return tuple(name for name in needed if name not in found)

    def files(self) -> list[os.DirEntry[str]]:
        """Return the text files and the pictures."""
        found = self.found()
        texts = [entry for entry in os.scandir(self.folder) if entry.name in found]
        return [*(entry for entry in texts if entry.name != PICTURES), *self._pictures()]

    def plan(self) -> Plan:
        """Read the text files, and plan to crop and resize the pictures that they name."""
        attributes, partition, identity = (
            read_table(self._text(layout), layout) for layout in LAYOUTS
        )
        pictures = {entry.name for entry in self._pictures()}
        parts: dict[str, list[str]] = {part: [] for part in PARTS}
        left_out = []
        placed = sorted(pictures & partition.rows.keys())
        for name, number in zip(placed, partition.take(placed)[:, 0], strict=True):
            part = PARTITION[number]
            if name in attributes.rows:
                parts[part].append(name)
            elif part == "train":
                parts["unlabelled"].append(name)
            else:
                left_out.append(name)
        kept = [name for names in parts.values() for name in names]
        notes = [
            *(note for table in (attributes, partition, identity) for note in table.notes),
            *(
                f"rows of {table.name} without a picture: {alone:,} of {len(table.rows):,}"
                for table in (attributes, partition, identity)
                if (alone := len(table.rows.keys() - pictures))
            ),
            *lacking(pictures - partition.rows.keys(), partition, "left out"),
            *lacking(left_out, attributes, "left out as they are not for training"),
            *lacking(parts["unlabelled"], attributes, "taken as unlabelled"),
            *lacking(set(kept) - identity.rows.keys(), identity, "with identity -1"),
        ]

        def chunks() -> Iterator[Chunk]:
            for part, names in parts.items():
                labels: Arrays = {
                    "attributes": (attributes.take(names) > 0).astype(np.uint8),
                    "identity": identity.take(names)[:, 0].astype(np.int64),
                    "image_id": np.array([int(name.removesuffix(".jpg")) for name in names]),
                }
                for rows in slices(len(names)):
                    yield Chunk(
                        part,
                        names[rows],
                        [self.folder / PICTURES / name for name in names[rows]],
                        {key: values[rows] for key, values in labels.items()},
                    )

        return Plan(
            source=self.folder / PICTURES,
            shape=(3, self.size, self.size),
            parts=PARTS,
            n=len(kept),
            chunks=chunks(),
            decode=partial(read_face, expected=(WIDTH, HEIGHT), crop=self.crop, size=self.size),
            notes=tuple(notes),
        )

    def _pictures(self) -> list[os.DirEntry[str]]:
        entries = os.scandir(self.folder / PICTURES)
        return [entry for entry in entries if entry.name.endswith(".jpg") and entry.is_file()]

    def _text(self, layout: Layout) -> Path | None:
        for path in (self.folder / layout.file, self.folder / f"{layout.file}.gz"):
            if path.is_file():
                return path
        return None


def lacking(pictures: Iterable[str], table: Table, so: str) -> list[str]:
    """Return a note on pictures that lack a row, if there are any."""
    names = sorted(pictures)
    note = f"pictures without a row in {table.name}, {so}: {len(names):,}{named(names)}"
    return [note] if names else []


def read_table(path: Path | None, layout: Layout) -> Table:
    """Read one of the text files, or as much of it as there is.

    Args:
        path: The file, plain or `.gz`; None gives a table without rows.
        layout: Its expected layout.

    Raises:
        DataError: if a row is malformed, unless it is an unfinished last row, or contradicts
            another.
    """
    table = Table(path.name if path else layout.file, max(1, len(layout.header)))
    if path is None:
        return table
    lines = read_text(path).split("\n")
    first, stated = read_header(path, lines, layout.header)
    repeated = 0
    for number, line in enumerate(lines[first:], first + 1):
        name, *words = line.split() or [""]
        if not name:
            continue
        if why := wrong(name, words, layout):
            if number == len(lines):  # no end of line: the file is cut here
                table.notes.append(f"the last row of {path.name} is cut and passed over")
                break
            raise refused(path, f"line {number}: {why}")
        values = array("i", map(int, words))
        row = table.rows.setdefault(name, len(table.rows))
        before = table.flat[row * table.width : (row + 1) * table.width]
        if before and before != values:
            raise refused(path, f"line {number} contradicts an earlier one about {name}")
        if before:
            repeated += 1
        else:
            table.flat.extend(values)
    n = len(table.rows)
    if repeated:
        table.notes.append(f"repeated rows of {path.name}: {repeated:,}")
    if stated is not None and stated != n + repeated:
        table.notes.append(f"{path.name} has {n + repeated:,} rows, but says {stated:,}")
    return table


def wrong(name: str, words: list[str], layout: Layout) -> str | None:
    """Return the error in a row, or None."""
    if not PICTURE.fullmatch(name):
        return f"{name[:20]!r} should be a picture's name such as 000001.jpg"
    width = max(1, len(layout.header))
    if len(words) != width:
        return f"{len(words)} values follow the name, but should be {width}"
    for word in set(words):
        if not layout.value.fullmatch(word):
            return f"{word[:20]!r} should be {layout.kind}"
    return None


def read_header(path: Path, lines: list[str], names: tuple[str, ...]) -> tuple[int, int | None]:
    """Return the number of lines before the rows, and the number of rows that they state."""
    if not names:
        return 0, None
    stated = lines[0].strip()
    first = 1 if stated.isdecimal() else 0
    words = lines[first].split() if len(lines) > first else []
    if len(words) != len(names):
        raise refused(
            path,
            f"line {first + 1} should name {len(names)} attributes, but has {len(words)} words",
        )
    for word, name in zip(words, names, strict=True):
        if word != name:
            raise refused(path, f"line {first + 1} has {word[:20]!r} in the place of {name!r}")
    return first + 1, int(stated) if first else None


def read_text(path: Path) -> str:
    """Read a text file, plain or `.gz`."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(path, f"byte {error.start} of it is not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise refused(path, reason(error)) from error


def fetch(name: str, folder: str) -> None:
    """Download a text file, or the pictures and unpack them, with torchvision and gdown."""
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive, extract_archive

    file = f"{name}.zip" if name == PICTURES else name
    [(number, md5)] = [(number, md5) for number, md5, known in CelebA.file_list if known == file]
    download_file_from_google_drive(number, folder, file, md5)
    if file != name:
        extract_archive(os.path.join(folder, file))
