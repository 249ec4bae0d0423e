import gzip
from itertools import chain

import pytest
import torch

from zoo.datamodules import IceCream, Sequences
from zoo.datamodules.files.places import DataError

DIARY = [2, 3, 3, 2, 3, 2, 3, 2, 2, 3, 1, 3, 3, 1, 1, 1, 2, 1, 1, 1, 3, 1, 2, 1, 1, 1, 2, 3, 3]
DIARY += [2, 3, 2, 2]
WEATHER = [["sun", "rain", "sun"], ["fog"], ["rain", "rain"], ["sun"] * 5]


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def load(path, **args):
    data = Sequences(str(path), **{"val_fraction": 0, "test_fraction": 0, **args})
    data.prepare_data()
    data.setup()
    return data


def spelt(data, split="train"):
    return sorted(data.spell(split, i) for i in range(len(data.splits[split]["lengths"])))


def joined(sequences):
    return sorted(" ".join(map(str, sequence)) for sequence in sequences)


def blank_separated(sequences):
    return "\n\n".join("\n".join(map(str, sequence)) for sequence in sequences) + "\n"


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.CSV.gz".lower(), "a.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_end_sequences(tmp_path, name, end):
    text = blank_separated(WEATHER).replace("\n", end)
    data = load(write(tmp_path / name, text))
    assert spelt(data) == joined(WEATHER)
    assert data.vocabulary == ["fog", "rain", "sun"]
    assert spelt(load(write(tmp_path / name, f"\ufeff{end}{text}{end}{end}"))) == joined(WEATHER)


def test_an_id_column_tells_mixed_sequences_apart(tmp_path):
    rows = "day,who,note,sky\n1,ann,x,sun\n1,bob,,rain\n\n2,ann,y,sun\n2,bob,z,fog\n3,ann,,rain\n"
    path = write(tmp_path / "a.csv", rows)
    data = load(path, columns=["sky"], id_column="who")
    assert spelt(data) == ["rain fog", "sun sun rain"]
    named = load(write(tmp_path / "b.csv", "who,sky\na,sun\nb,fog\n"), id_column="who")
    assert spelt(named) == ["fog", "sun"]


def test_quotes_are_those_of_csv(tmp_path):
    data = load(write(tmp_path / "a.csv", 'sky\n"a, ""b"""\n c \n'), columns=["sky"])
    assert spelt(data) == ['a, "b" c']
    data = load(write(tmp_path / "a.tsv", 'sky\tx\n"a\t1\n'), columns=["sky"])
    assert spelt(data) == ['"a']


def test_counts_and_categories_of_the_same_column(tmp_path):
    path = write(tmp_path / "a.csv", "n\n10\n2\n0\n2\n")
    counts = load(path, kind="count", columns=["n"])
    assert counts.items["tokens"].tolist() == [10, 2, 0, 2]
    assert counts.vocabulary == []
    assert counts.facts()["train"] == "1 sequences, 4 values"
    categories = load(path, columns=["n"])
    assert categories.vocabulary == ["0", "10", "2"]
    assert spelt(counts) == spelt(categories) == ["10 2 0 2"]


def test_real_vectors_are_padded_and_invert(tmp_path):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (4, 1, 7, 2)]
    text = "\n".join("".join(" ".join(map(repr, v)) + "\n" for v in x.tolist()) for x in rows)
    data = load(write(tmp_path / "a.txt", text), kind="real", batch_size=3)
    seen = {}
    for batch in data.train_dataloader():
        assert batch["values"].dtype == torch.float64
        assert batch["values"].shape == (*batch["mask"].shape, 3)
        assert not batch["values"][~batch["mask"]].any()
        for row, n in zip(batch["values"], batch["lengths"].tolist(), strict=True):
            seen[n] = row[:n]
    assert all(torch.equal(seen[len(x)], x) for x in rows)
    first = next(i for i in range(4) if data.span("train", i).stop == 5)
    assert data.spell("train", first) == ",".join(f"{v:.4g}" for v in rows[1][0].float().tolist())


def test_split_follows_the_seed(tmp_path):
    sequences = [[f"c{i % 3}"] * (i + 1) for i in range(20)]
    path = write(tmp_path / "a.txt", blank_separated(sequences))
    data = load(path, val_fraction=0.1, test_fraction=0.2)
    parts = {split: spelt(data, split) for split in data.splits}
    assert {split: len(part) for split, part in parts.items()} == {"train": 14, "val": 2, "test": 4}
    assert sorted(chain.from_iterable(parts.values())) == joined(sequences)
    again = load(path, val_fraction=0.1, test_fraction=0.2)
    assert {split: spelt(again, split) for split in parts} == parts
    other = load(path, val_fraction=0.1, test_fraction=0.2, seed=1)
    assert spelt(other, "test") != parts["test"]


def test_fraction_zero_measures_on_the_training_sequences(tmp_path):
    data = load(write(tmp_path / "a.txt", blank_separated(WEATHER)))
    assert spelt(data, "val") == spelt(data, "test") == spelt(data) == joined(WEATHER)


def test_categories_that_training_lacks_are_named(tmp_path):
    sequences = [[f"c{i}"] for i in range(10)]
    path = write(tmp_path / "a.txt", blank_separated(sequences))
    message = (
        r"a.txt, line \d+: 'c\d' is in no training sequence, and neither are 2 other categories "
        r"\(3 values in all\)"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        data = load(path, val_fraction=0.1, test_fraction=0.2)
    assert len(caught) == 1
    line = int(str(caught[0].message).partition("line ")[2].partition(":")[0])
    held_out = spelt(data, "val") + spelt(data, "test")
    assert f"c{(line - 1) // 2}" in held_out
    assert data.vocabulary == [f"c{i}" for i in range(10)]


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "args", "message"),
    [
        ("a.csv", "a,b\n1,2\n", {"kind": "real"}, "line 1: 'a' is no finite number; .* heading"),
        ("a.csv", "n\n1\n", {"kind": "count"}, "line 1: 'n' is no count .*; .* give columns"),
        ("a.csv", "1,2\n3\n", {"kind": "real"}, "line 2: 2 columns are due, but there are 1"),
        ("a.csv", "1\n2,3\n", {"kind": "count"}, "line 2: 1 columns are due, but there are 2"),
        ("a.txt", "1 2\n3 4 5\n", {"kind": "real"}, "line 2: 2 columns are due, .* are 3"),
        ("a.txt", "1 2\n", {}, "line 1: kind 'category' takes one value a line, .* are 2"),
        ("a.txt", "1\nnan\n", {"kind": "real"}, "line 2: 'nan' is no finite number"),
        ("a.txt", "1\n-inf\n", {"kind": "real"}, "line 2: '-inf' is no finite number"),
        ("a.txt", "1\n1_000\n", {"kind": "real"}, "line 2: '1_000' is no finite number"),
        ("a.txt", "1\n1,5\n", {"kind": "real"}, "line 2: '1,5' is no finite number"),
        ("a.txt", "1\n1e39\n", {"kind": "real"}, "line 2: '1e39' is too large for float32"),
        ("a.txt", "1\n1e999\n", {"kind": "real"}, "line 2: '1e999' is too large for float32"),
        ("a.txt", "1\nx\n", {"kind": "count"}, "line 2: 'x' is no count from 0"),
        ("a.txt", "1\n-1\n", {"kind": "count"}, "line 2: '-1' is no count"),
        ("a.txt", "1\n1.0\n", {"kind": "count"}, "line 2: '1.0' is no count"),
        ("a.txt", f"1\n{2**31}\n", {"kind": "count"}, "line 2: '2147483648' is no count"),
        ("a.txt", "1\n" + "9" * 9999, {"kind": "count"}, "line 2: '9+…' is no count"),
        ("a.csv", "x,y\n1,\n", {"columns": ["y"]}, "line 2: column 2 is empty"),
        ("a.csv", "x,y\n,1\n", {"id_column": "x"}, "line 2: column 1 is empty"),
        ("a.csv", "x\n1\n   \n2\n", {"columns": ["x"]}, "line 3: column 1 is empty"),
        ("a.txt", "1\n\n\n2\n", {}, "line 4: 2 blank lines before it: a sequence is empty"),
        ("a.csv", "x,y\n1,2\n", {"columns": ["z"]}, "line 1: no column is called 'z'; .* 'x', 'y'"),
        ("a.csv", "x,x\n1,2\n", {"columns": ["x"]}, "line 1: more than one column is called 'x'"),
        ("a.csv", "x\n1\n", {"id_column": "x"}, "line 1: there is no column of values beside 'x'"),
        ("a.csv", 'a\n"b\n', {}, "line 2: unexpected end of data"),
        ("a.csv", 'a\n"b"c\n', {}, "line 2: ',' expected after '\"'"),
        ("a.csv", "a" * 200_000, {}, "line 1: field larger than field limit"),
        ("a.txt", "", {}, "holds no values"),
        ("a.csv", "x\n", {"columns": ["x"]}, "holds no values"),
        ("a.txt", "\n\n\n", {}, "holds no values"),
        ("a.dat", "1\n", {}, "is no .csv, .tsv or .txt"),
        ("a.txt", b"a\nb\xff\n", {}, "line 2: it is not UTF-8"),
        ("a.txt", "1\n2\n", {"val_fraction": 0.1}, "there are 1 sequences in .* set val_fraction"),
    ],
)
def test_damage_is_named_by_file_and_line(tmp_path, name, text, args, message):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=message) as caught:
        load(path, **args)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_missing_and_cut_files(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv is not there"):
        load(tmp_path / "nowhere.csv")
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"1\n2\n" * 100)[:-9])
    with pytest.raises(DataError, match=r"a.csv.gz is damaged"):
        load(path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"kind": "counts"}, "kind is 'counts', .* did you mean 'count'"),
        ({"columns": []}, r"columns is \[\], but must name"),
        ({"columns": ["a", "b"]}, "takes a single column"),
        ({"columns": ["a"], "id_column": "a"}, "other than id_column"),
        ({"test_fraction": 1.0}, "leave something to train on"),
    ],
)
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        Sequences("a.csv", **args)


# --- the diary -----------------------------------------------------------------------------------


def test_ice_cream_is_the_diary():
    data = IceCream()
    data.prepare_data()
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        (batch,) = loader
        assert [int(data.vocabulary[t]) for t in batch["tokens"][0]] == DIARY
        assert batch["lengths"].tolist() == [33]
        assert batch["mask"].all()
    assert data.examples(5)[0].text == " ".join(map(str, DIARY))
    assert [DIARY.count(n) for n in (1, 2, 3)] == [11, 11, 11]


def test_ice_cream_is_the_diary_in_the_file(real):
    folder = real("icecream")
    data = load(folder / "eisner_icecream.csv", columns=["ice_creams"], id_column=None)
    diary = IceCream()
    diary.setup()
    assert torch.equal(data.items["tokens"], diary.items["tokens"])
    assert data.vocabulary == diary.vocabulary
    assert data.facts()["train"] == "1 sequences, 33 values"
