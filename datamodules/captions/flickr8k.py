"""Flickr8k: photos of people and animals, each with five captions.

Hodosh, Young & Hockenmaier, "Framing Image Description as a Ranking Task", 2013,
https://doi.org/10.1613/jair.3994. The folder `$ZOO_DATA/flickr8k` has:

- `Images/*.jpg`;
- `captions.txt` (a header `image,caption`, then one row each, quoted where a caption has a comma),
  or `Flickr8k.token.txt` as it was published (`name.jpg#0`, a tab, the caption);
- the split: `splits.csv` (a header `image,official_split`; train, dev, test or none), or the three
  published lists `Flickr_8k.trainImages.txt`, `.devImages.txt`, `.testImages.txt`. Photos in no
  list belong to no split, as the authors intended. Without either, the seed holds out an eighth of
  the photos for validation and another eighth for the test.
"""

import csv
from pathlib import Path

from zoo.datamodules.base import Split
from zoo.datamodules.captions.pairs import (
    Pairs,
    PassedOver,
    check_name,
    files_in,
    first,
    read_lines,
    read_photos,
    split_at_random,
    tidy,
)
from zoo.datamodules.files.places import DataError, Inventory

PHOTOS = "Images"
TABLES = ("captions.txt", "Flickr8k.token.txt")
SPLITS = "splits.csv"
LISTS: dict[str, Split] = {
    "Flickr_8k.trainImages.txt": "train",
    "Flickr_8k.devImages.txt": "val",
    "Flickr_8k.testImages.txt": "test",
}
OFFICIAL: dict[str, Split | None] = {"train": "train", "dev": "val", "test": "test", "none": None}
HELD_OUT = 1 / 8
REMEDY = "get Flickr8k, and put its photos into Images and captions.txt beside it"


def inventory(folder: Path) -> Inventory:
    """Return the inventory of the folder of Flickr8k."""
    wanted = (PHOTOS, *TABLES, SPLITS, *LISTS)
    found = tuple(name for name in wanted if (folder / name).exists())
    missing = [PHOTOS] if PHOTOS not in found else []
    if not {*TABLES} & {*found}:
        missing.append(TABLES[0])
    return Inventory(folder, found, tuple(missing), REMEDY)


def read_flickr8k(folder: Path, size: int, seed: int) -> dict[Split, Pairs]:
    """Read the photos and captions of all splits.

    Args:
        folder: The folder of the data set.
        size: Height and width in pixels to which the photos' central squares are resized.
        seed: Seed of the split where there is no official one.

    Raises:
        DataError: If files are missing or malformed, or a split is empty.
    """
    passed = PassedOver(folder)
    captions = tidy(read_captions(folder), passed)
    photos = files_in(folder / PHOTOS, REMEDY)
    for name in sorted(captions.keys() - photos):
        passed.add("captioned pictures that are not there", name)
    for name in sorted(name for name in photos - captions.keys() if name.endswith(".jpg")):
        passed.add("pictures without a caption", name)
    names = sorted(captions.keys() & photos)
    split_of = official_split(folder)
    remedy = "put more there"
    if split_of is None:
        split_of = {**split_at_random(names, HELD_OUT, seed)}
    else:
        remedy = "put pictures of it there, or move the lists of splits away to have it split anew"
        for name in names:
            if name not in split_of and (folder / SPLITS).exists():
                passed.add(f"pictures that {SPLITS} does not name", name)
    chosen: dict[Split, dict[Path, list[str]]] = {"train": {}, "val": {}, "test": {}}
    for name in names:
        if split := split_of.get(name):
            chosen[split][Path(PHOTOS, name)] = captions[name]
    return read_photos(folder, chosen, size, passed, remedy)


def read_captions(folder: Path) -> dict[str, list[str]]:
    """Return the captions of each photo, in the order of their numbers."""
    table, tokens = (folder / name for name in TABLES)
    if table.exists() or not tokens.exists():
        rows = read_csv(table, ["image", "caption"])
    else:
        table = tokens
        rows = [(name, text) for name, _, text in sorted(read_tokens(tokens))]
    captions: dict[str, list[str]] = {}
    for name, text in rows:
        captions.setdefault(check_name(name, str(table)), []).append(text)
    return captions


def read_csv(path: Path, header: list[str]) -> list[tuple[str, str]]:
    """Return the rows of a table of two columns; each row is one line.

    A second column that holds a comma must be quoted, and one that holds a quote doubles it.
    """
    lines = read_lines(path, REMEDY)
    if lines[0].strip() != ",".join(header):
        raise DataError(
            f"{path} does not begin with the header {','.join(header)}: put a good copy there."
        )
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            fields = next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise bad_row(path, number, header, str(error)) from error
        if len(fields) != 2:
            raise bad_row(path, number, header, f"it has {len(fields)} columns")
        rows.append((fields[0].strip(), fields[1]))
    return rows


def bad_row(path: Path, number: int, header: list[str], why: str) -> DataError:
    """Return the error for a line that is not a row of the table."""
    return DataError(
        f"Line {number} of {path} is not a row of {' and '.join(header)} ({why}): correct it, with "
        "double quotes around a value that holds a comma."
    )


def read_tokens(path: Path) -> list[tuple[str, int, str]]:
    """Return the rows of `Flickr8k.token.txt`: a photo's name, the caption's number, and text."""
    rows = []
    for number, line in enumerate(read_lines(path, REMEDY), 1):
        if not line.strip():
            continue
        key, tab, text = line.partition("\t")
        name, mark, count = key.strip().rpartition("#")
        if not (tab and mark and name and count.isdecimal()):
            raise DataError(
                f"Line {number} of {path} is not a name with a number, a tab and a caption, as in "
                "a.jpg#0: put a good copy there."
            )
        rows.append((name, int(count), text))
    return rows


def official_split(folder: Path) -> dict[str, Split | None] | None:
    """Return the split of each photo, None for a photo without; None if there are no lists."""
    split_of: dict[str, Split | None] = {}
    there = [name for name in LISTS if (folder / name).exists()]
    if (folder / SPLITS).exists():
        path = folder / SPLITS
        for name, word in read_csv(path, ["image", "official_split"]):
            if word.strip() not in OFFICIAL:
                raise DataError(
                    f"{path} puts {name} into {word.strip()[:40]!r}, but splits are "
                    f"{', '.join(OFFICIAL)}: put a good copy there."
                )
            assign(split_of, name, OFFICIAL[word.strip()], path)
    elif len(there) == len(LISTS):
        for file in LISTS:
            for line in read_lines(folder / file, REMEDY):
                if name := line.strip():
                    assign(split_of, name, LISTS[file], folder / file)
    elif there:
        lacking = [name for name in LISTS if name not in there]
        raise DataError(
            f"{folder} has {first(there)}, but not {first(lacking)}: put all three lists there, or "
            "none to have the photos split anew."
        )
    else:
        return None
    return split_of


def assign(split_of: dict[str, Split | None], name: str, split: Split | None, path: Path) -> None:
    """Note the split of a photo; raise a DataError if another split was noted."""
    if split_of.setdefault(check_name(name, str(path)), split) != split:
        raise DataError(
            f"{path} puts {name} into {split or 'none'}, but it is in {split_of[name] or 'none'} "
            "already: put a good copy there."
        )
