"""What cannot be used is refused in a sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from caption_files import FILES, WRITE, describe, edit, emoji_rows, load, name

from zoo.datamodules import Captions
from zoo.datamodules.captions import pairs
from zoo.datamodules.files.places import DataError


def rewrite(file, change):
    """Return what changes the bytes of a file."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def swap(file, old, new):
    return lambda folder: edit(folder / file, (old, new))


def lines(file, change):
    """Return what changes the list of a file's lines."""

    def apply(folder):
        text = (folder / file).read_text().splitlines(keepends=True)
        (folder / file).write_text("".join(change(text)))

    return apply


def names_twice(folder):
    for part, numbers in (("train", range(20)), ("dev", range(19, 22)), ("test", range(22, 24))):
        text = "".join(f"{name(i)}\n" for i in numbers)
        (folder / f"Flickr_8k.{part}Images.txt").write_text(text)


FLICKR_DAMAGE = {
    "cp1252": (
        rewrite("captions.txt", lambda d: d.replace(b"A square", b"A caf\xe9", 1)),
        r"captions\.txt is not UTF-8: line 2 has the byte 0xe9; .*iconv",
    ),
    "utf-16": (
        rewrite("captions.txt", lambda d: d.decode().encode("utf-16")),
        r"captions\.txt is not UTF-8: line 1 has the byte 0xff",
    ),
    "no header": (
        lines("captions.txt", lambda rows: rows[1:]),
        r"captions\.txt does not begin with the header image,caption",
    ),
    "empty": (rewrite("captions.txt", lambda d: b""), "does not begin with the header"),
    "header alone": (lines("captions.txt", lambda rows: rows[:1]), "no readable picture"),
    "unquoted comma": (
        swap("captions.txt", f'"{describe(0, 1)}"', "a dog , running"),
        r"Line 3 of .*captions\.txt is not a row of image and caption \(it has 3 columns\)",
    ),
    "open quote": (
        swap("captions.txt", f'"{describe(0, 1)}"', f'"{describe(0, 1)}'),
        r"Line 3 of .*captions\.txt is not a row",
    ),
    "quote in quotes": (
        swap("captions.txt", f'"{describe(0, 1)}"', '"a "big" dog"'),
        r"Line 3 of .*captions\.txt is not a row",
    ),
    "no comma": (
        swap("captions.txt", "000.jpg,", "000.jpg "),
        r"Line 2 of .*captions\.txt is not a row|which is no plain file name",
    ),
    "cut": (
        rewrite("captions.txt", lambda d: d[:-20]),
        r"Line 121 of .*captions\.txt is not a row",
    ),
    "long line": (
        rewrite("captions.txt", lambda d: d + b"000.jpg," + b"a" * 200_000 + b"\n"),
        r"Line 122 of .*captions\.txt is not a row .*field larger",
    ),
    "parent folders": (
        swap("captions.txt", "000.jpg", "../../etc/passwd"),
        r"captions\.txt names the picture '\.\./\.\./etc/passwd', which is no plain file name",
    ),
    "absolute path": (swap("captions.txt", "000.jpg", "/etc/passwd"), "which is no plain file"),
    "windows path": (swap("captions.txt", "000.jpg", r"..\x.jpg"), "which is no plain file"),
    "parent": (swap("captions.txt", "000.jpg", ".."), "which is no plain file name"),
    "no name": (swap("captions.txt", "000.jpg", ""), "which is no plain file name"),
    "no captions": (
        lambda folder: (folder / "captions.txt").unlink(),
        r"captions\.txt is not there: get Flickr8k",
    ),
    "no pictures": (
        lambda folder: shutil.rmtree(folder / "Images"),
        r"Images is no folder: get Flickr8k",
    ),
    "other splits": (
        lambda folder: (folder / "splits.csv").write_text("image,official_split\n000.jpg,valid\n"),
        r"splits\.csv puts 000\.jpg into 'valid', but splits are train, dev, test, none",
    ),
    "two splits": (
        lambda folder: (folder / "splits.csv").write_text(
            "image,official_split\n000.jpg,train\n000.jpg,test\n"
        ),
        r"splits\.csv puts 000\.jpg into test, but it is in train already",
    ),
    "none and train": (
        lambda folder: (folder / "splits.csv").write_text(
            "image,official_split\n000.jpg,none\n000.jpg,train\n"
        ),
        r"splits\.csv puts 000\.jpg into train, but it is in none already",
    ),
    "two lists": (names_twice, r"devImages\.txt puts 019\.jpg into val, but it is in train"),
    "one list": (
        lambda folder: (folder / "Flickr_8k.devImages.txt").write_text("000.jpg\n"),
        r"has Flickr_8k\.devImages\.txt, but not Flickr_8k\.trainImages\.txt, Flickr_8k\.test",
    ),
    "path in splits": (
        lambda folder: (folder / "splits.csv").write_text("image,official_split\n../a.jpg,dev\n"),
        r"splits\.csv names the picture '\.\./a\.jpg'",
    ),
    "empty split": (
        lambda folder: (folder / "splits.csv").write_text(
            "image,official_split\n" + "".join(f"{name(i)},train\n" for i in range(24))
        ),
        "no readable picture with a caption for val and test: put pictures of it there, or move",
    ),
}


def tokens(change):
    """Return what puts the published table of captions in the place of captions.txt."""

    def apply(folder):
        (folder / "captions.txt").unlink()
        text = "".join(f"{name(i)}#{k}\t{describe(i, k)}\n" for i in range(24) for k in range(5))
        (folder / "Flickr8k.token.txt").write_bytes(change(text).encode())

    return apply


FLICKR_DAMAGE |= {
    "tokens without tab": (
        tokens(lambda text: text.replace("\t", " ", 1)),
        r"Line 1 of .*Flickr8k\.token\.txt is not a name with a number, a tab and a caption",
    ),
    "tokens without number": (
        tokens(lambda text: text.replace("#1", "", 1)),
        r"Line 2 of .*Flickr8k\.token\.txt is not a name with a number",
    ),
    "tokens with a path": (
        tokens(lambda text: text.replace("000.jpg", "../000.jpg", 1)),
        r"token\.txt names the picture '\.\./000\.jpg'",
    ),
}


def change_table(where, value=None):
    """Return what changes the table of COCO's training captions at a path of keys."""

    def apply(folder):
        path = folder / "annotations" / "captions_train2017.json"
        content = json.loads(path.read_text())
        *keys, last = where
        target = content
        for key in keys:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
        path.write_text(json.dumps(content))

    return apply


TABLE = "annotations/captions_train2017.json"
COCO_DAMAGE = {
    "cut": (rewrite(TABLE, lambda d: d[: len(d) // 2]), r"captions_train2017\.json is damaged \("),
    "empty": (rewrite(TABLE, lambda d: b""), "is damaged"),
    "deep": (rewrite(TABLE, lambda d: b"[" * 100_000), "is damaged .*recursion"),
    "list": (rewrite(TABLE, lambda d: b"[]"), r"it has no list 'images' of objects"),
    "number": (rewrite(TABLE, lambda d: b"5"), r"it has no list 'images' of objects"),
    "cp1252": (
        rewrite(TABLE, lambda d: d.replace(b"A square", b"A caf\xe9", 1)),
        r"captions_train2017\.json is not UTF-8: line 1 has the byte 0xe9",
    ),
    "no annotations": (change_table(["annotations"]), "it has no list 'annotations' of objects"),
    "annotations an object": (change_table(["annotations"], {"a": 1}), "no list 'annotations'"),
    "an annotation a text": (change_table(["annotations", 3], "x"), "no list 'annotations'"),
    "caption a number": (
        change_table(["annotations", 3, "caption"], 5),
        r"annotations\[3\] lacks a number `image_id` and a text `caption`",
    ),
    "image_id a text": (change_table(["annotations", 3, "image_id"], "5"), r"annotations\[3\] lac"),
    "no file_name": (
        change_table(["images", 2, "file_name"]),
        r"images\[2\] lacks a number `id` and a text `file_name`",
    ),
    "id true": (change_table(["images", 2, "id"], True), r"images\[2\] lacks a number `id`"),
    "two ids": (change_table(["images", 2, "id"], 1001), "two images have the id 1001"),
    "path": (
        change_table(["images", 2, "file_name"], "../val2017/020.jpg"),
        r"names the picture '\.\./val2017/020\.jpg', which is no plain file name",
    ),
    "surrogate": (
        change_table(["annotations", 3, "caption"], "half \ud83d"),
        r"coco has for 01.\.jpg the caption 'half .*ud83d', which has a lone surrogate",
    ),
    "no pictures": (
        lambda folder: [shutil.rmtree(folder / part) for part in ("train2017", "val2017")],
        "coco holds no part of COCO with its captions: get 2017's annotations",
    ),
    "no test pictures": (
        lambda folder: [path.unlink() for path in (folder / "val2017").iterdir()],
        "no readable picture with a caption for test",
    ),
}


def change_row(i, **values):
    def apply(folder):
        rows = emoji_rows()
        rows[i] |= values
        (folder / "captions.json").write_text(json.dumps(rows))

    return apply


def change_rows(change):
    return lambda folder: (folder / "captions.json").write_text(json.dumps(change(emoji_rows())))


def arrays(**values):
    def apply(folder):
        with np.load(folder / "images_64.npz") as made:
            kept = dict(made) | values
        kept = {key: value for key, value in kept.items() if value is not None}
        np.savez_compressed(folder / "images_64.npz", **kept)

    return apply


def objects(folder):
    """Arrays whose unpickling would leave a file behind."""

    class Touch:
        def __reduce__(self):
            return Path.touch, (folder / "was unpickled",)

    arrays(file_names=np.array([Touch()] * 20, dtype=object))(folder)


def huge(folder):
    """An archive whose header promises terabytes."""
    import io
    import zipfile

    with np.load(folder / "images_64.npz") as made:
        file_names = made["file_names"]
    with zipfile.ZipFile(folder / "images_64.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64, 3)},
        )
        archive.writestr("images.npy", header.getvalue() + b"\0" * 1000)
        names = io.BytesIO()
        np.lib.format.write_array(names, file_names)
        archive.writestr("file_names.npy", names.getvalue())


N = 20
EMOJI_DAMAGE = {
    "cut pictures": (rewrite("images_64.npz", lambda d: d[:-100]), r"images_64\.npz is damaged"),
    "flipped": (
        rewrite("images_64.npz", lambda d: d[:200] + bytes([d[200] ^ 255]) + d[201:]),
        r"images_64\.npz is damaged",
    ),
    "no archive": (rewrite("images_64.npz", lambda d: b"x"), r"images_64\.npz is damaged \(File"),
    "no pictures": (
        lambda folder: (folder / "images_64.npz").unlink(),
        r"images_64\.npz is not there: put images_64\.npz and captions\.json there",
    ),
    "no array": (arrays(images=None), r"damaged \(There is no item named 'images\.npy'"),
    "floats": (
        arrays(images=np.zeros((N, 64, 64, 3), np.float32)),
        r"images are float32 \(20, 64, 64, 3\), not uint8",
    ),
    "other size": (
        arrays(images=np.zeros((N, 32, 32, 3), np.uint8)),
        r"images are uint8 \(20, 32, 32, 3\), not uint8 \(N, 64, 64, 3\)",
    ),
    "grey": (arrays(images=np.zeros((N, 64, 64), np.uint8)), r"images are uint8 \(20, 64, 64\)"),
    "no shape": (arrays(images=np.zeros((), np.uint8)), r"images are uint8 \(\)"),
    "fewer pictures": (
        arrays(images=np.zeros((N - 1, 64, 64, 3), np.uint8)),
        "file_names are <U12 .20,., not 19 texts",
    ),
    "names as bytes": (
        arrays(file_names=np.array([b"a"] * N)),
        r"file_names are \|S1 \(20,\), not 20 texts",
    ),
    "objects": (objects, r"file_names\.npy is an array of objects"),
    "huge": (huge, r"images\.npy has 1128 bytes, not 12288000000128"),
    "no table": (
        lambda folder: (folder / "captions.json").unlink(),
        r"captions\.json is not there: put",
    ),
    "cut table": (rewrite("captions.json", lambda d: d[:-100]), r"captions\.json is damaged"),
    "table an object": (rewrite("captions.json", lambda d: b'{"a": []}'), "it is no list"),
    "row a text": (change_rows(lambda rows: [*rows[:-1], "x"]), "row 19 lacks image, family"),
    "captions a text": (change_row(3, captions="a dog"), "row 3 lacks image, family, split, capt"),
    "a caption a number": (change_row(3, captions=["a", 5]), "row 3 lacks image, family, split"),
    "skin_tones null": (change_row(3, skin_tones=None), "row 3 lacks image, family, split"),
    "wrong index": (change_row(3, index=4), "row 3 has the index 4"),
    "index true": (change_row(1, index=True), "row 1 has the index True"),
    "other split": (change_row(3, split="dev"), "row 3 has the split 'dev'"),
    "family in two": (change_row(1, split="test"), "the family family 0 is in two splits"),
    "path": (change_row(3, image="../../etc/passwd"), "which is no plain file name"),
    "repeated": (change_row(3, image="emoji_02.png"), r"row 3 repeats the picture emoji_02\.png"),
    "out of order": (
        change_rows(
            lambda rows: [row | {"index": i} for i, row in enumerate([rows[1], rows[0], *rows[2:]])]
        ),
        r"captions\.json does not list the pictures of images_64\.npz in their order",
    ),
    "fewer rows": (change_rows(lambda rows: rows[:-1]), "does not list the pictures of images_64"),
    "surrogate": (
        change_row(0, captions=["half \ud83d"]),
        r"emoji has for emoji_00\.png the caption 'half .*ud83d', which has",
    ),
    "no test": (
        change_rows(lambda rows: [row | {"split": "train"} for row in rows]),
        "no readable picture with a caption for val and test: put good copies there",
    ),
}
REFUSED = [
    (source, case)
    for source, damage in (
        ("flickr8k", FLICKR_DAMAGE), ("coco", COCO_DAMAGE), ("emoji", EMOJI_DAMAGE),
    )
    for case in damage
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Passed over")
@pytest.mark.parametrize(("source", "case"), REFUSED)
def test_damaged_files_are_refused_in_a_sentence(tmp_path, source, case):
    folder = WRITE[source](tmp_path)
    damage, message = {"flickr8k": FLICKR_DAMAGE, "coco": COCO_DAMAGE, "emoji": EMOJI_DAMAGE}[
        source
    ][case]
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, source)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / "was unpickled").exists()


@pytest.mark.parametrize("source", FILES)
def test_missing_folder_is_named(tmp_path, source):
    with pytest.raises(DataError, match=str(tmp_path / source)):
        load(tmp_path, source)


@pytest.mark.parametrize("source", FILES)
def test_pictures_that_do_not_fit_in_memory_are_refused(tmp_path, source, monkeypatch):
    WRITE[source](tmp_path)
    monkeypatch.setattr(pairs, "free_memory", lambda: 200_000)
    load(tmp_path, "flickr8k") if source == "flickr8k" else None
    with pytest.raises(DataError, match=r"200,000 bytes of memory free, but .* take [\d,]+:") as e:
        load(tmp_path, source, size=256)
    assert "choose a smaller size" in str(e.value)


def test_free_memory_is_less_than_there_is():
    free = pairs.free_memory()
    assert free is None or 2**20 < free < 2**50


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"source": "emojis"}, "source is 'emojis', but .* did you mean 'emoji'"),
        ({"source": "flickr"}, "did you mean 'flickr8k'"),
        ({"eval_captions": "al"}, "eval_captions is 'al', .* did you mean 'all'"),
        ({"size": 0}, "size is 0"),
        ({"n": 0}, "n is 0"),
        ({"level": 6}, "level is 6, but must be 1 to 5"),
        ({"vocab_size": 100}, "vocab_size is 100, but must be at least 260"),
        ({"max_length": 1}, "max_length is 1, but must be at least 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(args, message):
    with pytest.raises(ValueError, match=message) as caught:
        Captions(**args)
    assert "\n" not in str(caught.value)
