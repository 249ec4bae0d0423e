import gzip
import pickle
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import fetch_20newsgroups
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer
from sklearn.utils import Bunch

from zoo.datamodules import BagOfWords
from zoo.datamodules.files.places import DataError
from zoo.datamodules.text import corpora
from zoo.datamodules.text.bag_of_words import dense

VOCABULARY = ["apple", "bird", "cat", "dog", "new york", "élan"]
DOCUMENTS = [
    {0: 2, 3: 1},
    {5: 1, 1: 4, 2: 1},
    {},
    {4: 7},
    {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1},
    {2: 3},
    {3: 1},
    {1: 2, 0: 3},
    {5: 9},
    {2: 1, 4: 1},
]
DAT = "".join(
    " ".join([str(len(d)), *(f"{t}:{n}" for t, n in d.items())]) + "\n" for d in DOCUMENTS
)
TEXTS = {
    "b/second.txt": "The dog's DOG saw a bird; the bird saw no_one.\r\nÉlan vital 42",
    "a.txt": "\ufeffAn apple, an apple and a cat I x",
    "c.txt": "and the of",
    "d.txt": "dog dog dog cat",
    "e.txt": "bird",
}


TERMS = "".join(f"{term}\n" for term in VOCABULARY)


def write(root, dat=DAT, vocabulary=TERMS, packed=()):
    folder = root / "ap"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (("ap.dat", dat), ("vocab.txt", vocabulary)):
        data = text if isinstance(text, bytes) else text.encode()
        if file in packed:
            (folder / f"{file}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / file).write_bytes(data)
    return folder


def write_texts(root, texts=TEXTS):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def load(root=None, **args):
    data = BagOfWords(root=None if root is None else str(root), **args)
    data.prepare_data()
    data.setup()
    return data


def texts(root, **args):
    return load(source="texts", name=str(root), **{"val_fraction": 0, "test_fraction": 0, **args})


def bags(data, split="train"):
    """Every document of a split as a dict from term to count."""
    found = []
    for i in range(len(data.splits[split]["lengths"])):
        span = data.span(split, i)
        tokens, counts = (data.items[key][span].tolist() for key in ("tokens", "counts"))
        found.append({data.vocabulary[t]: n for t, n in zip(tokens, counts, strict=True)})
    return found


def named(documents):
    return [{VOCABULARY[t]: n for t, n in document.items()} for document in documents]


# --- lda-c ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [(), ("ap.dat",), ("ap.dat", "vocab.txt")])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_documents_come_back_whatever_the_packing_and_the_line_ends(tmp_path, packed, end):
    write(tmp_path, DAT.replace("\n", end), packed=packed)
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert data.vocabulary == VOCABULARY
    assert sorted(map(str, bags(data))) == sorted(map(str, named(DOCUMENTS)))
    assert bags(data, "val") == bags(data, "test") == bags(data)
    assert data.empty == ["line 3"]
    total = sum(sum(d.values()) for d in DOCUMENTS)
    assert data.facts() == {
        **dict.fromkeys(["train", "val", "test"], f"10 documents, {total} words"),
        "vocabulary": "6",
        "empty": "1: line 3",
    }


def test_split_follows_the_seed_and_loses_nothing(tmp_path):
    write(tmp_path)
    data = load(tmp_path, val_fraction=0.2, test_fraction=0.3)
    sizes = {split: len(rows["lengths"]) for split, rows in data.splits.items()}
    assert sizes == {"train": 5, "val": 2, "test": 3}
    together = [bag for split in data.splits for bag in bags(data, split)]
    assert sorted(map(str, together)) == sorted(map(str, named(DOCUMENTS)))
    assert sum(data.size(split) for split in data.splits) == sum(sum(d.values()) for d in DOCUMENTS)
    again = load(tmp_path, val_fraction=0.2, test_fraction=0.3)
    assert bags(again, "test") == bags(data, "test")
    others = [bags(load(tmp_path, test_fraction=0.3, seed=seed), "test") for seed in range(1, 5)]
    assert any(other != bags(data, "test") for other in others)


def test_padded_batches_and_the_dense_matrix_hold_the_documents(tmp_path):
    write(tmp_path)
    data = load(tmp_path, val_fraction=0, test_fraction=0, batch_size=3)
    seen = []
    for batch in data.train_dataloader():
        assert {k: v.dtype for k, v in batch.items()} == {
            "tokens": torch.int64,
            "counts": torch.int64,
            "mask": torch.bool,
            "lengths": torch.int64,
            "index": torch.int64,
        }
        assert torch.equal(batch["mask"], batch["counts"] > 0)
        matrix = dense(batch, len(VOCABULARY))
        assert matrix.shape == (len(batch["index"]), 6)
        for row, index in zip(matrix.tolist(), batch["index"].tolist(), strict=True):
            expected = bags(data)[index]
            assert {VOCABULARY[t]: n for t, n in enumerate(row) if n} == expected
        seen += batch["index"].tolist()
    assert sorted(seen) == list(range(10))


def test_a_batch_of_empty_documents_has_no_columns(tmp_path):
    write(tmp_path, "0\n0\n1 0:1\n", "a\n")
    data = load(tmp_path, val_fraction=0, test_fraction=0, batch_size=1)
    shapes = sorted(tuple(batch["tokens"].shape) for batch in data.val_dataloader())
    assert shapes == [(1, 0), (1, 0), (1, 1)]
    assert data.empty == ["line 1", "line 2"]


BIG = 2**31


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0:1", r"it begins with '2', but has 1 id:count pairs"),
        ("1 0:1 1:1", r"it begins with '1', but has 2 id:count pairs"),
        ("x 0:1", r"it begins with 'x'"),
        ("-1", r"it begins with '-1', but has 0"),
        ("1 6:1", r"term 6 is not in vocab.txt, which ends with term 5"),
        ("1 -1:1", r"'-1:1' is no id:count"),
        ("1 0:0", r"term 0 has count 0, but must have 1"),
        ("1 0:-3", r"'0:-3' is no id:count"),
        ("1 0:1.5", r"'0:1.5' is no id:count"),
        ("1 0:one", r"'0:one' is no id:count"),
        ("1 0", r"'0' is no id:count"),
        ("1 0:1:1", r"'0:1:1' is no id:count"),
        ("1 ٣:1", r"is no id:count"),
        (f"1 0:{BIG}", rf"term 0 has count {BIG}, but must have 1 to {BIG - 1}"),
        ("1 0:" + "9" * 5000, r"'0:9+…' is no id:count"),
        ("3 0:1 3:2 0:1", r"it has term 0 twice"),
        ("", r"it is blank; a document without terms is written as 0"),
    ],
)
def test_damaged_documents_are_named_by_file_and_line(tmp_path, line, message):
    folder = write(tmp_path, f"1 0:1\n{line}\n1 0:1\n")
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{folder / 'ap.dat'}, line 2: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("a\nb\nc\nd\ne\nb\n", r"vocab.txt, line 6: 'b' is on line 2, too"),
        ("a\nb\n\nd\ne\nf\n", r"vocab.txt, line 3: it is blank"),
        ("a\nb\nc\nd\n", r"ap.dat, line 2: term 5 is not in vocab.txt, which ends with term 3"),
        ("", r"vocab.txt holds no term"),
        (b"a\n\xff\n", r"vocab.txt, line 2: it is not UTF-8"),
    ],
)
def test_damaged_vocabularies_are_named(tmp_path, vocabulary, message):
    write(tmp_path, vocabulary=vocabulary)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_missing_empty_and_ambiguous_files(tmp_path):
    with pytest.raises(DataError, match=r"ap holds no \*.dat and no vocab.txt, .* lda-c there"):
        load(tmp_path)
    folder = write(tmp_path, "")
    with pytest.raises(DataError, match=r"ap.dat holds no document"):
        load(tmp_path)
    (folder / "ap.dat").write_text("1 0:1\n")
    with pytest.raises(DataError, match=r"there are 1 documents in .* too few to hold out 1"):
        load(tmp_path)
    (folder / "other.dat").write_text(DAT)
    with pytest.raises(DataError, match=r"more than one \*.dat \(ap.dat, other.dat\)"):
        load(tmp_path)
    (folder / "ap.dat").unlink()
    (folder / "other.dat").rename(folder / "ap.dat.gz")
    with pytest.raises(DataError, match="Not a gzipped file"):
        load(tmp_path)
    (folder / "ap.dat.gz").write_bytes(gzip.compress(DAT.encode())[:-20])
    with pytest.raises(DataError, match=r"ap.dat.gz is damaged"):
        load(tmp_path)


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [False, True])
def test_words_of_texts_by_the_stated_rule(tmp_path, linked):
    write_texts(tmp_path)
    if linked:
        (tmp_path / "b").rename(tmp_path / ".b")
        (tmp_path / "b").symlink_to(tmp_path / ".b")
    (tmp_path / ".hidden.txt").write_text("ghost")
    (tmp_path / "notes.md").write_text("ghost")
    data = texts(tmp_path)
    expected = [
        Counter(
            word
            for word in re.findall(r"\w\w+", text.removeprefix("\ufeff").lower())
            if word not in ENGLISH_STOP_WORDS
        )
        for text in TEXTS.values()
    ]
    assert sorted(str(sorted(bag.items())) for bag in bags(data)) == sorted(
        str(sorted(bag.items())) for bag in expected
    )
    assert data.empty == ["c.txt"]
    assert {"dog", "élan", "no_one", "42"} <= {*data.vocabulary}
    assert data.vocabulary == sorted(data.vocabulary)
    most = data.spell("train", bags(data).index({"dog": 3, "cat": 1}))
    assert most == "dog 3, cat 1"
    assert data.spell("train", bags(data).index({})) == "(no words)"


@pytest.mark.parametrize(("min_df", "max_df"), [(2, 1.0), (1, 0.4), (3, 0.9)])
def test_pruning_is_that_of_scikit_learn_on_the_training_part(tmp_path, min_df, max_df):
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(30)]
    p = 1 / np.arange(1, 31)
    made = {
        f"{i:02}.txt": " ".join(rng.choice(words, rng.integers(1, 25), p=p / p.sum()))
        for i in range(40)
    }
    write_texts(tmp_path, made)
    whole = texts(tmp_path, val_fraction=0.2, test_fraction=0.2)
    data = texts(tmp_path, val_fraction=0.2, test_fraction=0.2, min_df=min_df, max_df=max_df)
    plain = [" ".join(w for w, n in bag.items() for _ in range(n)) for bag in bags(whole)]
    oracle = CountVectorizer(min_df=min_df, max_df=max_df).fit(plain)
    assert data.vocabulary == oracle.get_feature_names_out().tolist()
    for split in ("train", "val", "test"):
        kept = [
            {w: n for w, n in bag.items() if w in data.vocabulary} for bag in bags(whole, split)
        ]
        assert bags(data, split) == kept
    lost = sum(whole.size(s) - data.size(s) for s in whole.splits)
    assert data.left_out == lost > 0
    assert data.facts()["left out"] == f"{lost:,} words"


def test_pruning_everything_is_refused(tmp_path):
    write_texts(tmp_path)
    with pytest.raises(ValueError, match=r"min_df 9 and max_df 1.0 leave none of \d+ terms"):
        texts(tmp_path, min_df=9)


def test_texts_without_words_or_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no .txt file: give name"):
        texts(tmp_path / "nowhere")
    write_texts(tmp_path, {"a.txt": "and the", "b.txt": ""})
    with pytest.raises(DataError, match="have no words"):
        texts(tmp_path)
    (tmp_path / "c.txt").write_bytes(b"good\nb\xffd")
    with pytest.raises(DataError, match=r"c.txt, line 2: it is not UTF-8"):
        texts(tmp_path)


# --- 20 newsgroups -------------------------------------------------------------------------------


def newsgroups_file(root, n_train=20, n_test=6):
    """A file as scikit-learn leaves it, with posts of its own kind."""

    def posts(start, n):
        made = [
            f"From: ghost@x.org\nSubject: ghost\n\nspace ship{i % 3} number{i}"
            for i in range(start, start + n)
        ]
        return Bunch(
            data=made,
            target=np.zeros(n, dtype=int),
            target_names=["sci.space"],
            filenames=np.array([str(i) for i in range(n)]),
        )

    folder = root / "20newsgroups"
    folder.mkdir(parents=True)
    cache = {"train": posts(0, n_train), "test": posts(100, n_test)}
    (folder / corpora.NEWSGROUPS).write_bytes(zlib.compress(pickle.dumps(cache)))
    return folder


def test_newsgroups_have_a_test_set_of_their_own_and_no_headers(tmp_path):
    folder = newsgroups_file(tmp_path)
    found = fetch_20newsgroups(data_home=str(folder), download_if_missing=False)
    assert len(found.data) == 20  # the file made here is one that scikit-learn takes for its own
    data = load(tmp_path, source="20newsgroups")
    sizes = {split: len(rows["lengths"]) for split, rows in data.splits.items()}
    assert sizes == {"train": 18, "val": 2, "test": 6}
    assert "ghost" not in data.vocabulary
    assert [sorted(bag)[0] for bag in bags(data, "test")] == [f"number{100 + i}" for i in range(6)]
    seen = {word for split in ("train", "val") for bag in bags(data, split) for word in bag}
    assert {f"number{i}" for i in range(20)} <= seen


def test_newsgroups_that_cannot_be_had_are_a_sentence(tmp_path, monkeypatch, capsys):
    def refused(*args, **kwargs):
        raise OSError("no route to host")

    data = BagOfWords(source="20newsgroups", root=str(tmp_path))
    with pytest.raises(DataError, match=r"20news-bydate_py3.pkz is not there; call prepare_data"):
        data.setup()
    monkeypatch.setattr(corpora, "fetch_newsgroups", refused)
    with pytest.raises(DataError, match=r"could not be downloaded \(no route to host\): put the"):
        data.prepare_data()
    monkeypatch.undo()
    folder = newsgroups_file(tmp_path)
    path = folder / corpora.NEWSGROUPS
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"20news-bydate_py3.pkz is damaged .*delete it"):
        load(tmp_path, source="20newsgroups")
    assert capsys.readouterr().out == ""


# --- the real corpus -----------------------------------------------------------------------------


def test_real_counts(real):
    folder = real("ap")
    data = BagOfWords(name=str(folder), batch_size=500)
    data.setup()
    path = next(folder.glob("*.dat*"))
    text = path.read_bytes()
    text = (gzip.decompress(text) if path.suffix == ".gz" else text).decode()
    pairs = re.findall(r"([0-9]+):([0-9]+)", text)
    assert sum(int(n) for _, n in pairs) == 435_838
    assert sum(data.size(split) for split in data.splits) == 435_838
    assert {s: len(r["lengths"]) for s, r in data.splits.items()} == {
        "train": 1796,
        "val": 225,
        "test": 225,
    }
    assert len(data.vocabulary) == 10_473
    assert data.empty == []
    found: Counter[int] = Counter()
    n = 0
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            there = batch["mask"]
            for term, count in zip(
                batch["tokens"][there].tolist(), batch["counts"][there].tolist(), strict=True
            ):
                found[term] += count
            n += int(there.sum())
    assert n == len(pairs)
    expected: Counter[int] = Counter()
    for term, count in pairs:
        expected[int(term)] += int(count)
    assert found == expected


def test_inventory_tells_what_is_there(tmp_path):
    found = BagOfWords.inventory(str(tmp_path))
    assert [*found] == ["lda-c", "texts", "20newsgroups"]
    assert found["lda-c"].missing == ("*.dat", "vocab.txt")
    assert found["20newsgroups"].missing == (corpora.NEWSGROUPS,)
    write(tmp_path, packed=("ap.dat",))
    newsgroups_file(tmp_path)
    found = BagOfWords.inventory(str(tmp_path))
    assert found["lda-c"].found == ("ap.dat.gz", "vocab.txt")
    assert found["lda-c"].missing == found["20newsgroups"].missing == ()
    assert found["texts"].folder is None
    assert isinstance(found["lda-c"].folder, Path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"source": "ldac"}, "source is 'ldac', .* did you mean 'lda-c'"),
        ({"source": "texts"}, "source 'texts' needs name"),
        ({"min_df": -1}, "min_df is -1"),
        ({"max_df": 0.0}, "max_df is 0.0, but must be above 0"),
        ({"max_df": 2.0}, "max_df is 2.0"),
        ({"val_fraction": -0.1}, "at least 0 and leave"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave something to train on"),
        ({"val_fraction": float("nan")}, "leave something to train on"),
    ],
)
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        BagOfWords(**args)
