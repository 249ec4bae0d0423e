"""COCO: photos of everyday scenes, each with five captions, in the layout of the 2017 release.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014, https://arxiv.org/abs/1405.0312;
Chen et al., "Microsoft COCO Captions", 2015, https://arxiv.org/abs/1504.00325. The folder
`$ZOO_DATA/coco` has `annotations/captions_train2017.json` with `train2017/*.jpg`, and
`annotations/captions_val2017.json` with `val2017/*.jpg`.

The official test photos have no public captions. So `val2017` is the test split, and a tenth of
`train2017`, at most 5,000 photos, is held out for validation by the seed. If only one of the two is
there, a tenth of it is held out for validation and another tenth for the test. Some of the photos
are enough; the captions of missing photos are skipped.
"""

from pathlib import Path
from typing import Any

from zoo.datamodules.base import Split, split_indices
from zoo.datamodules.captions.pairs import (
    Pairs,
    PassedOver,
    check_name,
    files_in,
    read_json,
    read_photos,
    split_at_random,
    tidy,
)
from zoo.datamodules.files.places import DataError, Inventory

TRAIN, VAL = "train2017", "val2017"
HELD_OUT = 0.1
MOST_HELD_OUT = 5000
REMEDY = (
    "get 2017's annotations and pictures from cocodataset.org, and unpack them so that there are "
    f"annotations/captions_{VAL}.json and {VAL}, and likewise for {TRAIN}"
)


def table(part: str) -> str:
    """Return the path of a part's captions in the folder of the data set."""
    return f"annotations/captions_{part}.json"


def inventory(folder: Path) -> Inventory:
    """Return the inventory of the folder of COCO; one of the two parts is enough."""
    wanted = [name for part in (TRAIN, VAL) for name in (table(part), part)]
    found = tuple(name for name in wanted if (folder / name).exists())
    whole = any({table(part), part} <= {*found} for part in (TRAIN, VAL))
    missing = () if whole else tuple(name for name in wanted if name not in found)
    return Inventory(folder, found, missing, REMEDY)


def read_coco(folder: Path, size: int, seed: int) -> dict[Split, Pairs]:
    """Read the photos and captions of all splits.

    Args:
        folder: The folder of the data set.
        size: Height and width in pixels to which the photos' central squares are resized.
        seed: Seed of the split.

    Raises:
        DataError: If files are missing, malformed or too large for the memory, or a split is empty.
    """
    passed = PassedOver(folder)
    parts = {
        part: captions_of(folder, part, passed)
        for part in (TRAIN, VAL)
        if (folder / table(part)).exists() and (folder / part).is_dir()
    }
    if not parts:
        raise DataError(f"{folder} holds no part of COCO with its captions: {REMEDY}.")
    captions: dict[Split, dict[Path, list[str]]] = {"train": {}, "val": {}, "test": {}}
    if len(parts) == 2:
        files, captions["test"] = parts[TRAIN], parts[VAL]
        names = list(files)
        held = min(MOST_HELD_OUT, round(len(names) * HELD_OUT))
        for split, index in split_indices(len(names), held, 0, seed).items():
            captions[split] |= {names[i]: files[names[i]] for i in index.tolist()}
    else:
        [files] = parts.values()
        for file, split in split_at_random(list(files), HELD_OUT, seed).items():
            captions[split][file] = files[file]
    return read_photos(folder, captions, size, passed, "put more of its pictures there")


def captions_of(folder: Path, part: str, passed: PassedOver) -> dict[Path, list[str]]:
    """Return the captions of each photo of a part that is there, by its path in the folder."""
    path = folder / table(part)
    content = read_json(path, REMEDY)
    name_of: dict[int, str] = {}
    for number, row in entries(content, "images", path):
        key, name = row.get("id"), row.get("file_name")
        if type(key) is not int or not isinstance(name, str):
            raise malformed(path, f"images[{number}] lacks a number `id` and a text `file_name`")
        if name_of.setdefault(key, check_name(name, str(path))) != name:
            raise malformed(path, f"two images have the id {key}")
    captions: dict[str, list[str]] = {name: [] for name in name_of.values()}
    for number, row in entries(content, "annotations", path):
        key, text = row.get("image_id"), row.get("caption")
        if type(key) is not int or not isinstance(text, str):
            raise malformed(
                path, f"annotations[{number}] lacks a number `image_id` and a text `caption`"
            )
        if key in name_of:
            captions[name_of[key]].append(text)
        else:
            passed.add("captions of pictures that the table does not list", f"image_id {key}")
    captions = tidy(captions, passed)
    photos = files_in(folder / part, REMEDY)
    for name in sorted(captions.keys() - photos):
        passed.add("captioned pictures that are not there", f"{part}/{name}")
    for name in sorted(name for name in photos - captions.keys() if name.endswith(".jpg")):
        passed.add("pictures without a caption", f"{part}/{name}")
    return {Path(part, name): captions[name] for name in sorted(captions.keys() & photos)}


def entries(content: Any, key: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the numbered objects of one of the table's two lists."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise malformed(path, f"it has no list {key!r} of objects")
    return list(enumerate(rows))


def malformed(path: Path, why: str) -> DataError:
    """Return the error for a table without COCO's layout."""
    return DataError(
        f"{path} is not laid out as COCO's captions are ({why}): put a good copy there."
    )
