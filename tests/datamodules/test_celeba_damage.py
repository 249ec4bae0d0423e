import gzip
import io
import os
import random

import numpy as np
import pytest
import torch
from celeba_files import (
    SPLITS,
    TEXTS,
    attributes,
    identity,
    jpeg,
    load,
    numbers,
    same,
    same_as_shard,
    shard,
    shards,
    square,
    stores,
    write_folder,
    write_shards,
)
from PIL import Image

from zoo.datamodules.faces.shards import read_shard
from zoo.datamodules.files.places import DataError


@pytest.fixture(autouse=True)
def _prepared_here(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "zoo"))


def bomb():
    """A JPEG whose header promises 30,000 x 30,000 pixels."""
    data = bytearray(jpeg(1))
    start = data.index(b"\xff\xc0")  # height and width stand 5 bytes after the frame's marker
    data[start + 5 : start + 9] = (30_000).to_bytes(2, "big") * 2
    return bytes(data)


BAD_PICTURES = {
    "cut": (jpeg(3)[:1500], "truncated"),
    "empty": (b"", "not a picture"),
    "text": (b"<html>Quota exceeded</html>", "not a picture"),
    "bomb": (bomb(), "pixels"),
    "small": (jpeg(3, (89, 109)), "89x109 pixels, not 178x218"),
    "turned": (jpeg(3, (218, 178)), "218x178 pixels, not 178x218"),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_bad_picture_in_folder(tmp_path, kind):
    folder = write_folder(tmp_path)
    data, why = BAD_PICTURES[kind]
    (folder / "img_align_celeba" / "000003.jpg").write_bytes(data)
    with pytest.warns(UserWarning, match="that cannot be read") as caught:
        faces = load(tmp_path)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith(f"{folder}: pictures that cannot be read: 1 of 21 (000003.jpg: ")
    assert why in message
    kept = [n for n in SPLITS["train"] if n != 3]
    assert numbers(faces) == {"train": kept, "val": [*SPLITS["val"]], "test": [*SPLITS["test"]]}
    train = faces.splits["train"]
    assert all(same(image, square(n)) for image, n in zip(train["image"], kept, strict=True))
    assert train["identity"].tolist() == [identity(n) for n in kept]


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_bad_picture_in_shard(tmp_path, kind):
    arrays = shards()
    files = [jpeg(n, (64, 64)) for n in range(1, 8)]
    files[2] = BAD_PICTURES[kind][0]
    arrays["train_0"]["jpeg"] = np.frombuffer(b"".join(files), np.uint8)
    arrays["train_0"]["offsets"] = np.cumsum([0, *map(len, files)])
    write_shards(tmp_path, arrays)
    with pytest.warns(UserWarning, match=r"that cannot be read: 1 of 27 \(train_0.npz 3: "):
        faces = load(tmp_path)
    assert numbers(faces)["train"] == [n for n in SPLITS["train"] if n != 3]


def test_the_warning_comes_back_with_every_run(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "img_align_celeba" / "000003.jpg").write_bytes(b"")
    for _ in range(2):
        with pytest.warns(UserWarning, match="pictures that cannot be read: 1 of 21"):
            load(tmp_path)
    assert len(stores(tmp_path)) == 1


@pytest.mark.parametrize(("mode", "form"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG")])
def test_unusual_pictures_are_read(tmp_path, mode, form):
    folder = write_folder(tmp_path)
    image = Image.open(io.BytesIO(jpeg(3))).convert(mode)
    image.save(folder / "img_align_celeba" / "000003.jpg", form)
    data = load(tmp_path)
    saved = Image.open(folder / "img_align_celeba" / "000003.jpg").convert("RGB")
    pixels = np.asarray(saved.crop((15, 35, 163, 183)).resize((64, 64), Image.Resampling.LANCZOS))
    assert same(data.splits["train"]["image"][2], pixels)


def test_only_bad_pictures_are_refused(tmp_path):
    folder = write_folder(tmp_path)
    for file in (folder / "img_align_celeba").iterdir():
        file.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"holds no picture that can be used; .* 21 of 21 .* and 16 more"
    ):
        load(tmp_path)
    assert not stores(tmp_path)


def test_pipes_and_folders_are_no_pictures(tmp_path):
    folder = write_folder(tmp_path)
    for name in ("000001.jpg", "000002.jpg", "000003.jpg"):
        (folder / "img_align_celeba" / name).unlink()
    os.mkfifo(folder / "img_align_celeba" / "000001.jpg")
    (folder / "img_align_celeba" / "000002.jpg").mkdir()
    (folder / "img_align_celeba" / "000003.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.warns(
        UserWarning, match=r"rows of list_attr_celeba.txt without a picture: 3 of 21"
    ):
        assert numbers(load(tmp_path))["train"] == list(range(4, 13))


def edit(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def without(*lines):
    def change(data):
        return b"".join(line for i, line in enumerate(data.splitlines(True), 1) if i not in lines)

    return change


def replaced(old, new):
    def change(data):
        assert old in data
        return data.replace(old, new, 1)

    return change


ATTR, PART, IDENT = TEXTS
HARMLESS = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "spaces and tabs": lambda data: data.replace(b" ", b" \t  ").replace(b"\n", b"   \n"),
    "blank lines": lambda data: data + b"\n  \n",
    "no last newline": lambda data: data.rstrip(),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_text(tmp_path, name, kind):
    write_folder(tmp_path)
    expected = load(tmp_path).splits
    edit(tmp_path / "celeba", name, HARMLESS[kind])
    found = load(tmp_path).splits
    assert len(stores(tmp_path)) == 2
    for split in expected:
        assert all(torch.equal(expected[split][key], found[split][key]) for key in expected[split])


@pytest.mark.parametrize("name", TEXTS)
def test_gz_beside_the_pictures_is_read(tmp_path, name):
    folder = write_folder(tmp_path)
    (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    (folder / name).unlink()
    data = load(tmp_path)
    assert numbers(data) == {split: list(some) for split, some in SPLITS.items()}
    assert data.splits["val"]["identity"].tolist() == [identity(n) for n in SPLITS["val"]]


PASSED_OVER = {
    "identical row": (
        PART,
        lambda data: data + b"000003.jpg 0\n",
        "repeated rows of list_eval_partition.txt: 1",
    ),
    "identical attributes": (
        ATTR,
        lambda data: data + data.splitlines(True)[4],
        "repeated rows of list_attr_celeba.txt: 1; list_attr_celeba.txt has 22 rows, but says 21",
    ),
    "stated number": (ATTR, replaced(b"21\n", b"202599\n"), "has 21 rows, but says 202,599"),
    "cut in a row": (
        PART,
        lambda data: data + b"000022.jpg",
        "the last row of list_eval_partition.txt is cut and passed over",
    ),
    "cut in a name": (
        IDENT,
        lambda data: data + b"0000",
        "the last row of identity_CelebA.txt is cut",
    ),
    "row without picture": (
        PART,
        lambda data: data + b"000500.jpg 1\n000501.jpg 1\n",
        "rows of list_eval_partition.txt without a picture: 2 of 23",
    ),
}


@pytest.mark.parametrize("kind", PASSED_OVER)
def test_text_that_is_passed_over_is_counted(tmp_path, kind):
    folder = write_folder(tmp_path)
    name, change, message = PASSED_OVER[kind]
    edit(folder, name, change)
    with pytest.warns(UserWarning, match="celeba: ") as caught:
        data = load(tmp_path)
    assert len(caught) == 1
    assert message in str(caught[0].message)
    assert numbers(data) == {split: list(some) for split, some in SPLITS.items()}


def test_no_first_line(tmp_path):
    edit(write_folder(tmp_path), ATTR, without(1))
    assert numbers(load(tmp_path)) == {split: list(some) for split, some in SPLITS.items()}


def test_rows_that_lack_in_one_file_or_another(tmp_path):
    folder = write_folder(tmp_path)
    edit(folder, ATTR, without(2 + 4, 2 + 5, 2 + 14))  # two lines come before the rows
    edit(folder, PART, without(1, 21))
    edit(folder, IDENT, without(2))
    (folder / "img_align_celeba" / "a b.jpg").write_bytes(jpeg(1))
    with pytest.warns(UserWarning, match="celeba: ") as caught:
        data = load(tmp_path, unlabelled=True)
    assert len(caught) == 1
    assert str(caught[0].message) == (
        f"{folder}: list_attr_celeba.txt has 18 rows, but says 21; pictures without a row in "
        "list_eval_partition.txt, left out: 3 (000001.jpg, 000021.jpg, a b.jpg); pictures without "
        "a row in list_attr_celeba.txt, left out as they are not for training: 1 (000014.jpg); "
        "pictures without a row in list_attr_celeba.txt, taken as unlabelled: 2 (000004.jpg, "
        "000005.jpg); pictures without a row in identity_CelebA.txt, with identity -1: 1 "
        "(000002.jpg)."
    )
    train = data.splits["train"]
    assert train["image_id"].tolist() == [2, 3, *range(6, 13), 4, 5]
    assert train["labelled"].tolist() == [True] * 9 + [False] * 2
    assert train["identity"][0] == -1
    assert numbers(data)["val"] == [13, 15, 16]
    assert numbers(data)["test"] == [17, 18, 19, 20]


def test_no_identity_file(tmp_path):
    (write_folder(tmp_path) / IDENT).unlink()
    with pytest.warns(UserWarning, match="identity_CelebA.txt, with identity -1: 21"):
        assert load(tmp_path).splits["val"]["identity"].tolist() == [-1] * 4


def test_training_pictures_alone(tmp_path):
    write_folder(tmp_path, {0: range(1, 6)})
    message = "no picture for val; no picture for test"
    with pytest.warns(UserWarning, match=message):
        data = load(tmp_path)
    assert list(data.val_dataloader()) == []


def test_no_training_pictures(tmp_path):
    write_folder(tmp_path, {1: range(1, 6), 2: range(6, 8)})
    with pytest.raises(DataError, match="has no training picture with attributes, and 0 without"):
        load(tmp_path)
    write_shards(
        tmp_path,
        {"a": shard([1, 2], 0, labelled=False), **{k: shards()[k] for k in ("valid_0", "test_0")}},
    )
    with pytest.raises(DataError, match=r"and 2 without \(which unlabelled=True takes"):
        load(tmp_path, source="shards")
    assert numbers(load(tmp_path, source="shards", unlabelled=True))["train"] == [1, 2]


def without_last_column(data):
    rows = data.replace(b" \n", b"\n").split(b"\n")
    return b"\n".join(row.rpartition(b" ")[0] or row for row in rows)


ROW = b"000003.jpg " + b" ".join(b"%2d" % value for value in attributes(3))
ONE = b"000003.jpg 0"
WHO = b"000003.jpg 101"
REFUSED = {
    "other partition": (
        PART,
        lambda data: data + b"000003.jpg 1\n",
        "line 22 contradicts .*03.jpg",
    ),
    "other identity": (
        IDENT,
        lambda data: data + b"000003.jpg 9\n",
        "line 22 contradicts .*03.jpg",
    ),
    "other attributes": (
        ATTR,
        lambda data: data + b"000003.jpg" + b" -1" * 40 + b"\n",
        "line 24 contradicts an earlier one about 000003.jpg",
    ),
    "partition 3": (PART, replaced(ONE, b"000003.jpg 3"), "line 3: '3' should be 0, 1 or 2"),
    "partition -1": (PART, replaced(ONE, b"000003.jpg -1"), "line 3: '-1' should be 0, 1 or 2"),
    "no partition": (PART, replaced(ONE, b"000003.jpg"), "line 3: 0 values follow the name"),
    "attribute 0": (ATTR, replaced(ROW, ROW[:-2] + b" 0"), "line 5: '0' should be 1 or -1"),
    "attribute 2": (ATTR, replaced(ROW, ROW[:-2] + b" 2"), "line 5: '2' should be 1 or -1"),
    "a word": (IDENT, replaced(WHO, b"000003.jpg Ann"), "line 3: 'Ann' should be a positive"),
    "identity 0": (IDENT, replaced(WHO, b"000003.jpg 0"), "line 3: '0' should be a positive"),
    "39 values": (ATTR, replaced(ROW, ROW[:-3]), "line 5: 39 values .* should be 40"),
    "41 values": (ATTR, replaced(ROW, ROW + b" 1"), "line 5: 41 values .* should be 40"),
    "39 columns": (ATTR, without_last_column, "line 2 should name 40 attributes, but has 39"),
    "renamed": (ATTR, replaced(b"Smiling", b"Laughing"), "'Laughing' in the place of 'Smiling'"),
    "swapped": (ATTR, replaced(b"Bald Bangs", b"Bangs Bald"), "'Bangs' in the place of 'Bald'"),
    "no header": (ATTR, without(1, 2), "line 1 should name 40 attributes, but has 41 words"),
    "empty": (ATTR, lambda data: b"", "line 1 should name 40 attributes, but has 0 words"),
    "another name": (PART, replaced(ONE, b"3.jpg 0"), "line 3: '3.jpg' should be a picture's name"),
    "a path": (PART, replaced(ONE, b"../000003.jpg 0"), "should be a picture's name"),
    "Latin-1": (PART, replaced(ONE, b"caf\xe9.jpg 0"), "byte 29 of it is not UTF-8 text"),
    "UTF-16": (PART, lambda data: data.decode().encode("utf-16"), "byte 0 of it is not UTF-8"),
    "binary": (PART, lambda data: bytes(1000) + b"\n", "should be a picture's name"),
    "web page": (PART, lambda data: b"<!DOCTYPE html>\n", "should be a picture's name"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_damaged_text_is_refused(tmp_path, kind):
    folder = write_folder(tmp_path)
    name, change, message = REFUSED[kind]
    edit(folder, name, change)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{folder / name} cannot be used (")
    assert text.endswith("): put a good copy of it there.")
    assert "\n" not in text
    assert not stores(tmp_path)


@pytest.mark.parametrize("name", [ATTR, PART])
def test_no_rows(tmp_path, name):
    folder = write_folder(tmp_path)
    edit(folder, name, lambda data: b"".join(data.splitlines(True)[:2]) if name == ATTR else b"")
    if name == PART:
        with pytest.raises(DataError, match=r"no picture that can be used; .* left out: 21"):
            load(tmp_path)
    else:
        with (
            pytest.warns(UserWarning, match="left out as they are not for training: 9"),
            pytest.raises(DataError, match="no training picture with attributes, and 12 without"),
        ):
            load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_damaged_gz_is_refused(tmp_path, damage):
    folder = write_folder(tmp_path)
    data = bytearray(gzip.compress((folder / ATTR).read_bytes()))
    whole = bytes(data)
    data[len(data) // 2] ^= 1
    content = {"cut": whole[:-9], "flipped": data, "text": b"000001.jpg 1", "empty": b""}[damage]
    (folder / ATTR).unlink()
    (folder / f"{ATTR}.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"list_attr_celeba.txt.gz cannot be used"):
        load(tmp_path)
    assert not stores(tmp_path)


def changed(**arrays):
    return {**shard(range(1, 8), 0), **arrays}


GOOD = shard(range(1, 8), 0)
OFFSETS, MARKS = GOOD["offsets"], GOOD["attributes"]
LAUGHING = np.char.replace(GOOD["attribute_names"], "Smiling", "Laughing")
BAD_SHARDS = {
    **{
        f"no {key}": ({k: v for k, v in GOOD.items() if k != key}, f"it lacks {key}")
        for key in GOOD
        if key != "source_height"
    },
    "offsets beyond the end": (changed(offsets=OFFSETS + np.eye(8, dtype=int)[7]), "do not cut"),
    "offsets not from 0": (changed(offsets=OFFSETS + np.eye(8, dtype=int)[0]), "do not cut"),
    "offsets that fall": (changed(offsets=OFFSETS[[0, 2, 1, 3, 4, 5, 6, 7]]), "do not cut"),
    "too few offsets": (changed(offsets=OFFSETS[1:]), "it has 7 image_id, but 7 offsets"),
    "too few identities": (changed(identity=GOOD["identity"][1:]), "7 image_id, but .*6 identity"),
    "other names": (changed(attribute_names=LAUGHING), "its attribute_names are not CelebA's 40"),
    "39 names": (changed(attribute_names=LAUGHING[:39]), "its attribute_names are not CelebA's 40"),
    "39 columns": (changed(attributes=MARKS[:, :39]), "its attributes have 39 columns, not 40"),
    "flat attributes": (changed(attributes=MARKS.ravel()), "its attributes is int8 of shape"),
    "attribute 2": (changed(attributes=MARKS * 2), "attributes are not 1 or -1, or 0 in a whole"),
    "some 0": (changed(attributes=np.maximum(MARKS, 0)), "attributes are not 1 or -1, or 0 in a"),
    "partition 3": (changed(partition=GOOD["partition"] + 3), "partition has other numbers"),
    "partition -1": (changed(partition=GOOD["partition"] - 1), "partition has other numbers"),
    "fractions": (changed(identity=GOOD["identity"] / 2), "its identity is float64"),
    "wide bytes": (changed(jpeg=GOOD["jpeg"].astype(np.uint16)), "jpeg does not hold bytes"),
    "twice within": (changed(image_id=np.array([1, 2, 3, 3, 5, 6, 7])), "3 is also in bad.npz"),
    "twice across": (changed(image_id=np.arange(12, 19)), "picture 17 is also in bad.npz"),
    "pickled numbers": (changed(image_id=GOOD["image_id"].astype(object)), "allow_pickle=False"),
    "pickled names": (changed(attribute_names=LAUGHING.astype(object)), "allow_pickle=False"),
}


@pytest.mark.parametrize("kind", BAD_SHARDS)
def test_damaged_shard_is_refused(tmp_path, kind):
    arrays, message = BAD_SHARDS[kind]
    names = ("train_1", "valid_0", "test_0")
    folder = write_shards(tmp_path, {"bad": arrays, **{name: shards()[name] for name in names}})
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert str(folder) in str(caught.value)
    assert "put a good copy of it there" in str(caught.value)
    assert not stores(tmp_path)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_shards_are_never_unpickled(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    write_shards(tmp_path, {**shards(), "trap": {**shard([40], 0), "note": trap}})
    with pytest.raises(DataError, match=r"trap.npz cannot be used"):
        load(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_cut_or_flipped_shard_changes_nothing_in_silence(tmp_path, damage):
    path = write_shards(tmp_path) / "train_0.npz"
    whole = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(20):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        if damage == "cut":
            del data[place:]
        else:
            data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            shard = read_shard(path)
        except DataError:
            refused += 1
        else:  # a field of the archive that nobody reads
            assert all(np.array_equal(shard[key], GOOD[key]) for key in GOOD)
    assert refused == 20 if damage == "cut" else refused >= 15


def test_unlabelled_pictures_to_test_with_are_left_out(tmp_path):
    extra = shard(range(50, 53), 2, labelled=False)
    write_shards(tmp_path, {**shards(), "more": extra})
    message = "pictures without attributes, left out as they are not for training: 3"
    with pytest.warns(UserWarning, match=message):
        assert numbers(load(tmp_path))["test"] == list(SPLITS["test"])


def test_a_shard_may_mix_partitions(tmp_path):
    parts = [shard(range(1, 4), 0), shard([4, 5], 2), shard([6], 1), shard([7], 0, labelled=False)]
    mixed = {
        key: np.concatenate([part[key] for part in parts])
        for key in parts[0]
        if key not in ("offsets", "attribute_names")
    }
    lengths = np.concatenate([np.diff(part["offsets"]) for part in parts])
    mixed["offsets"] = np.cumsum([0, *lengths])
    mixed["attribute_names"] = parts[0]["attribute_names"]
    write_shards(tmp_path, {"all": mixed})
    data = load(tmp_path, unlabelled=True)
    assert numbers(data) == {"train": [1, 2, 3, 7], "val": [6], "test": [4, 5]}
    for tensors in data.splits.values():
        for image, n in zip(tensors["image"], tensors["image_id"].tolist(), strict=True):
            assert same_as_shard(image, n)
