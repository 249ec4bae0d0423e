"""Pairs of pictures and captions in memory, and the functions that read them from files.

A caption or a picture that has no counterpart, is empty, is repeated or cannot be decoded is
skipped, and one warning counts and names all such cases, because part of a data set is useful. A
malformed file of captions is refused, because the rest of it may be wrong, too.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from zoo.datamodules.base import Split, split_indices
from zoo.datamodules.files.places import DataError
from zoo.datamodules.images.folder import each_picture

Name = TypeVar("Name")
PART = 4096  # pictures that are resized at a time


@dataclass
class Pairs:
    """The pictures of one split and their captions.

    Args:
        image: Pixels, uint8 (P, 3, H, W).
        captions: One or more captions of each picture; evaluation uses the first.
        names: Name of each picture in the source.
    """

    image: Tensor
    captions: list[list[str]]
    names: list[str]


@dataclass
class PassedOver:
    """Cases that were left out of a data set, for one warning.

    Args:
        place: The file or folder of the data set.
        names: Names of the pictures by the kind of case, such as "captions that are empty".
    """

    place: Path
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Note one case."""
        self.names.setdefault(kind, []).append(name)

    def warn(self) -> None:
        """Warn once of all cases, with the first three names of each kind."""
        if not self.names:
            return
        parts = [f"{kind}: {len(names):,} ({first(names)})" for kind, names in self.names.items()]
        warnings.warn(f"Passed over in {self.place} - {'; '.join(parts)}.", stacklevel=2)


def first(names: Sequence[str], n: int = 3) -> str:
    """Return the first n names, and the number of the others."""
    more = f" and {len(names) - n:,} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def tidy(captions: dict[str, list[str]], passed: PassedOver) -> dict[str, list[str]]:
    """Trim captions; leave out empty and repeated captions, and pictures without any.

    Raises:
        DataError: If a caption has a lone surrogate.
    """
    kept = {}
    for name, texts in captions.items():
        for text in texts:
            if not encodable(text):
                raise DataError(
                    f"{passed.place} has for {name} the caption {text[:60]!r}, which has a lone "
                    "surrogate and is no text: put a good copy there."
                )
        trimmed = [text.strip() for text in texts]
        full = [text for text in trimmed if text]
        unique = list(dict.fromkeys(full))
        for _ in range(len(trimmed) - len(full)):
            passed.add("captions that are empty", name)
        for _ in range(len(full) - len(unique)):
            passed.add("captions that their picture has already", name)
        if unique:
            kept[name] = unique
    return kept


def read_photos(
    folder: Path,
    captions: dict[Split, dict[Path, list[str]]],
    size: int,
    passed: PassedOver,
    remedy: str,
) -> dict[Split, Pairs]:
    """Read captioned pictures into memory, each cropped to its central square and resized.

    Args:
        folder: The folder of the data set.
        captions: Captions of each file of a split, by the path of the file in the folder.
        size: Height and width in pixels.
        passed: Cases left out so far; unreadable pictures are added, and a warning tells all.
        remedy: Advice for a split without pictures.

    Raises:
        DataError: If the pictures take more memory than is free, or a split has none.
    """
    n = sum(map(len, captions.values()))
    check_memory(n * 3 * size * size, f"the {n:,} pictures of {folder} at {size} x {size}")
    splits = {}
    for split, files in captions.items():
        bad: dict[Path, str] = {}
        good: list[Path] = []
        image = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
        pictures = each_picture(folder, list(files), size, 3, bad)
        for file, picture in zip(files, pictures, strict=True):
            if picture is None:
                passed.add("pictures that cannot be read", f"{file.name}, {bad[file]}")
            else:
                image[len(good)] = torch.tensor(picture).permute(2, 0, 1)
                good.append(file)
        image = image[: len(good)]
        splits[split] = Pairs(image, [files[file] for file in good], [file.name for file in good])
    passed.warn()
    check_splits(splits, folder, remedy)
    return splits


def at_size(image: Tensor, size: int) -> Tensor:
    """Resize square pictures, uint8 (P, 3, H, H), to (P, 3, size, size)."""
    if image.shape[-1] == size:
        return image
    check_memory(len(image) * 3 * size * size, f"{len(image):,} pictures at {size} x {size}")
    parts = [
        interpolate(part.float(), size=(size, size), mode="bicubic", antialias=True)
        for part in torch.split(image, PART)
    ]
    return torch.cat([part.clamp_(0, 255).round_().to(torch.uint8) for part in parts])


def check_memory(n_bytes: int, what: str) -> None:
    """Raise a DataError if something takes more memory than is free."""
    free = free_memory()
    if free is not None and n_bytes > free:
        raise DataError(
            f"There are {free:,} bytes of memory free, but {what} take {n_bytes:,}: choose a "
            "smaller size, or a part of the pictures."
        )


def free_memory() -> int | None:
    """Return the free memory in bytes, or None where the system does not report it."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def split_at_random(names: Sequence[Name], share: float, seed: int) -> dict[Name, Split]:
    """Assign pictures to splits by the seed: `share` of them to validation, as many to the test.

    If there are too few for three splits, all are for training.
    """
    held = max(1, round(len(names) * share)) if len(names) > 2 else 0
    parts = split_indices(len(names), held, held, seed)
    return {names[i]: split for split, index in parts.items() for i in index.tolist()}


def check_splits(splits: dict[Split, Pairs], place: Path, remedy: str) -> None:
    """Raise a DataError if a split has no pictures."""
    if empty := [split for split, pairs in splits.items() if not pairs.names]:
        raise DataError(
            f"{place} has no readable picture with a caption for {' and '.join(empty)}: {remedy}."
        )


def check_name(name: str, place: str) -> str:
    """Return the name of a picture; raise a DataError unless it is a plain file name."""
    strange = not encodable(name) or any(letter in name for letter in '/\\:\0"\n')
    if strange or name in ("", ".", ".."):
        raise DataError(
            f"{place} names the picture {name[:80]!r}, which is no plain file name: put a good "
            "copy there."
        )
    return name


def encodable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def files_in(folder: Path, remedy: str) -> set[str]:
    """Return the names of the files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} is no folder: {remedy}.") from error


def read_lines(path: Path, remedy: str) -> list[str]:
    """Return the lines of a UTF-8 text file with any line ends, with or without a BOM."""
    text = read_text(path, remedy)
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_json(path: Path, remedy: str) -> Any:
    """Return the content of a JSON file."""
    text = read_text(path, remedy)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}): put a good copy there.") from error


def read_text(path: Path, remedy: str) -> str:
    """Return the text of a UTF-8 file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: {remedy}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}; find out "
            "its encoding and convert it, as with iconv -f cp1252 -t utf-8."
        ) from error
