"""What is damaged in one place is passed over, counted and named."""

import csv
import struct
import zlib

import pytest
from caption_files import (
    WRITE,
    coco,
    count,
    describe,
    edit,
    emoji,
    emoji_rows,
    flat,
    flickr,
    load,
    name,
    number_of,
    passed_over,
    photo,
    rows_of,
    said,
)


def test_captions_without_a_picture_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    (folder / "Images" / "004.jpg").unlink()
    edit(folder / "captions.txt", ("005.jpg", "005.jpg.1"))  # as in the published file
    data, message = passed_over(tmp_path, "flickr8k")
    assert "captioned pictures that are not there: 2 (004.jpg, 005.jpg.1)" in message
    assert count(data) == 24 * 5 - 5 - 1


def test_pictures_without_a_caption_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    photo(folder / "Images" / "new.jpg", 3)
    (folder / "Images" / "notes.txt").write_text("no picture")
    data, message = passed_over(tmp_path, "flickr8k")
    assert message.endswith("pictures without a caption: 1 (new.jpg).")
    assert len(flat(data.names.values())) == 24


def test_empty_captions_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    edit(
        folder / "captions.txt",
        (f'"{describe(3, 1)}"', ""),
        (f'"{describe(4, 0)}"', '"   "'),
    )
    data, message = passed_over(tmp_path, "flickr8k")
    assert message.endswith("captions that are empty: 2 (003.jpg, 004.jpg).")
    assert count(data) == 24 * 5 - 2


def test_repeated_rows_are_passed_over(tmp_path):
    folder = flickr(tmp_path)
    lines = (folder / "captions.txt").read_text().splitlines(keepends=True)
    (folder / "captions.txt").write_text("".join(lines + lines[1:6] + lines[1:2]))
    data, message = passed_over(tmp_path, "flickr8k")
    assert "captions that their picture has already: 6 (000.jpg, 000.jpg, 000.jpg and 3 more)" in (
        message
    )
    assert count(data) == 24 * 5


def png_of_size(side):
    """The bytes of a PNG that says it is side x side, without so many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("source", ["flickr8k", "coco"])
def test_pictures_that_cannot_be_read_are_passed_over(tmp_path, source):
    folder = WRITE[source](tmp_path) / {"flickr8k": "Images", "coco": "train2017"}[source]
    good = (folder / "000.jpg").read_bytes()
    (folder / "000.jpg").write_bytes(good[: len(good) // 2])
    (folder / "001.jpg").write_bytes(b"")
    (folder / "002.jpg").write_bytes(png_of_size(60_000))
    (folder / "003.jpg").write_text("<html>404</html>")
    data, message = passed_over(tmp_path, source)
    assert "pictures that cannot be read: 4 (" in message
    assert "and 1 more" in message
    names = flat(data.names.values())
    assert not {"000.jpg", "001.jpg", "002.jpg", "003.jpg"} & set(names)
    # what is left is still paired
    for split in data.names:
        for batch in rows_of(data, split, shuffle=False):
            assert [said(t)[0] for t in batch["text"]] == [*map(number_of, batch["image"])]


def test_kinds_of_damage_are_told_in_one_warning(tmp_path):
    folder = flickr(tmp_path)
    (folder / "Images" / "001.jpg").write_bytes(b"")
    (folder / "Images" / "002.jpg").unlink()
    photo(folder / "Images" / "new.jpg", 3)
    _, message = passed_over(tmp_path, "flickr8k")
    for kind in ("cannot be read: 1", "not there: 1 (002.jpg)", "without a caption: 1 (new.jpg)"):
        assert kind in message


def test_pictures_that_a_table_of_splits_forgets_are_passed_over(tmp_path):
    flickr(tmp_path, official=["train"] * 10 + ["dev"] * 5 + ["test"] * 7)
    data, message = passed_over(tmp_path, "flickr8k")
    assert message.endswith("pictures that splits.csv does not name: 2 (022.jpg, 023.jpg).")
    assert len(flat(data.names.values())) == 22


def test_coco_captions_of_unknown_pictures_are_passed_over(tmp_path):
    folder = coco(tmp_path)
    edit(folder / "annotations" / "captions_train2017.json", ('"image_id": 1019', '"image_id": 5'))
    data, message = passed_over(tmp_path, "coco")
    assert message.endswith("pictures that the table does not list: 1 (image_id 5).")
    assert count(data) == 25 * 5 - 1


def test_a_part_of_coco_is_enough(tmp_path):
    folder = coco(tmp_path)
    for i in range(0, 20, 2):
        (folder / "train2017" / name(i)).unlink()
    data, message = passed_over(tmp_path, "coco")
    assert "captioned pictures that are not there: 10 (train2017/000.jpg, " in message
    assert [len(names) for names in data.names.values()] == [9, 1, 5]


def test_emoji_without_a_caption_are_passed_over(tmp_path):
    rows = emoji_rows()
    rows[0]["captions"] = []
    rows[2]["captions"] = ["", " "]
    emoji(tmp_path, rows)
    data, message = passed_over(tmp_path, "emoji")
    assert "captions that are empty: 2 (emoji_02.png" in message
    assert "pictures without a caption: 2 (emoji_00.png, emoji_02.png)" in message
    assert len(flat(data.names.values())) == 8


# --- damage: what changes nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.rstrip(b"\n"),
        lambda data: data + b"\n\n  \n",
        lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n") + b"\r\n",
    ],
    ids=["bom", "crlf", "cr", "no last end", "blank lines", "bom and crlf"],
)
def test_ways_to_write_a_text_file_change_nothing(tmp_path, change):
    folder = flickr(tmp_path, official=["train"] * 18 + ["dev"] * 3 + ["test"] * 3)
    first = load(tmp_path, "flickr8k")
    for file in ("captions.txt", "splits.csv"):
        (folder / file).write_bytes(change((folder / file).read_bytes()))
    again = load(tmp_path, "flickr8k")
    assert again.names == first.names
    assert all(again.tables[s].text == table.text for s, table in first.tables.items())


def test_captions_hold_commas_quotes_and_other_scripts(tmp_path):
    folder = flickr(tmp_path)
    odd = ['He said " hi " , and left', '"quoted"', "été 日本語 😀", "a,b", "it's"]
    rows = [("000.jpg", text) for text in odd]
    with open(folder / "captions.txt", "a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    data = load(tmp_path, "flickr8k")
    held = flat(table.text for table in data.tables.values())
    assert set(odd) <= set(held)
    assert data.tokenizer.decode(data.tokenizer.encode(odd)[0]) == [text.lower() for text in odd]
