import gzip
import json
import re
from collections import Counter
from itertools import chain

import pytest
import torch

from zoo.datamodules import FakeTaggedText, TaggedText
from zoo.datamodules.files.places import DataError
from zoo.datamodules.loader import Batches
from zoo.datamodules.text.tagged_text import (
    UNKNOWN,
    UPOS,
    make_vocabulary,
    read_conllu,
    unknown_class,
    word_ids,
)

TRAIN = [
    [("The", "DET"), ("dog", "NOUN"), ("barked", "VERB"), (".", "PUNCT")],
    [("The", "DET"), ("cat", "NOUN"), ("does", "AUX"), ("n't", "PART"), ("bark", "VERB")],
    [("dog", "NOUN")],
    [("_", "SYM"), ("and", "CCONJ"), ("a\u2028b\x85c", "X"), ("New York", "PROPN"), ("#", "SYM")],
]
DEV = [[("A", "DET"), ("dog", "NOUN"), ("meowing", "VERB"), (".", "PUNCT")]]
TEST = [[("The", "DET"), ("zebras", "NOUN"), ("run", "VERB")], [("Go", "VERB"), ("!", "PUNCT")]]


def word_line(i, form, tag):
    return "\t".join([str(i), form, form.lower(), tag, "_", "_", "0", "root", "_", "_"])


def conllu(sentences):
    """Sentences as the format has them, with comments, ranges and empty nodes in between."""
    lines = []
    for n, sentence in enumerate(sentences):
        lines += [f"# sent_id = {n}", "# text = " + " ".join(form for form, _ in sentence)]
        for i, (form, tag) in enumerate(sentence, start=1):
            if form == "does":
                lines.append(f"{i}-{i + 1}\tdoesn't" + "\t_" * 8)
            lines.append(word_line(i, form, tag))
            if form == "The":
                lines.append(f"{i}.1\tghost\tghost\tVERB" + "\t_" * 6)
        lines.append("")
    return "\n".join([*lines, ""])


def write(root, train=TRAIN, dev=DEV, test=TEST, name="ud_english_ewt"):
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for part, sentences in (("train", train), ("dev", dev), ("test", test)):
        text = sentences if isinstance(sentences, str) else conllu(sentences)
        (folder / f"xx_tiny-ud-{part}.conllu").write_text(text, encoding="utf-8", newline="")
    return folder


def load(root, **args):
    data = TaggedText(root=str(root), **args)
    data.prepare_data()
    data.setup()
    return data


def forms(sentences):
    return [[form for form, _ in sentence] for sentence in sentences]


def tags(sentences):
    return [[tag for _, tag in sentence] for sentence in sentences]


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n" + text.replace("\n\n", "\n\n\n"),
        lambda text: text + "# a last comment\n",
        lambda text: text.replace("\n\n", "\n \n"),
    ],
    ids=["plain", "crlf", "bom", "no-last-line", "blank-lines", "last-comment", "spaces"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_what_is_written_is_read_back(tmp_path, change, packed):
    path = tmp_path / ("a.conllu.gz" if packed else "a.conllu")
    text = change(conllu(TRAIN)).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    assert read_conllu(path) == [*zip(forms(TRAIN), tags(TRAIN), strict=True)]


def test_splits_are_told_by_name_and_words_come_back(tmp_path):
    write(tmp_path)
    data = load(tmp_path)
    for split, sentences in (("train", TRAIN), ("val", DEV), ("test", TEST)):
        n = len(data.splits[split]["lengths"])
        assert [data.words(split, i) for i in range(n)] == forms(sentences)
        spelt = [" ".join(f"{w}/{t}" for w, t in sentence) for sentence in sentences]
        assert [data.spell(split, i) for i in range(n)] == spelt
    assert data.tags == sorted(data.tags) == UPOS
    assert [e.text for e in data.examples(2)] == [data.spell("train", i) for i in range(2)]
    assert len(data.examples(99)) == 4


def test_a_path_of_its_own_and_packed_files(tmp_path):
    folder = write(tmp_path, name="other/treebank")
    for path in [*folder.iterdir()]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (folder / "._xx_tiny-ud-train.conllu").write_bytes(b"\0")
    data = TaggedText(name=str(folder))
    data.setup()
    assert data.words("test", 1) == ["Go", "!"]
    assert load(tmp_path, name="other/treebank").vocabulary == data.vocabulary


def test_a_plain_file_is_read_before_its_packed_twin(tmp_path):
    folder = write(tmp_path)
    (folder / "xx_tiny-ud-train.conllu.gz").write_bytes(b"no archive")
    assert load(tmp_path).words("train", 0)[0] == "The"


# --- vocabulary ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("...", "<unk:symbol>"),
        ("_", "<unk:symbol>"),
        (":-)", "<unk:symbol>"),
        ("a@b.org", "<unk:address>"),
        ("http://x.y/2", "<unk:address>"),
        ("www.x.org", "<unk:address>"),
        ("1,234.5", "<unk:number>"),
        ("2003-04", "<unk:number>"),
        ("F16", "<unk:code>"),
        ("1990s", "<unk:code>"),
        ("well-known", "<unk:hyphen>"),
        ("-able", "<unk>"),
        ("NASA", "<unk:upper>"),
        ("U.S.", "<unk:upper>"),
        ("A", "<unk:capital>"),
        ("Running", "<unk:capital>"),
        ("running", "<unk:-ing>"),
        ("king", "<unk>"),
        ("ending", "<unk:-ing>"),
        ("barked", "<unk:-ed>"),
        ("quickly", "<unk:-ly>"),
        ("nation", "<unk:-ion>"),
        ("happiness", "<unk:-ness>"),
        ("cats", "<unk:-s>"),
        ("its", "<unk:-s>"),
        ("as", "<unk>"),
        ("serious", "<unk:-ous>"),
        ("zebra", "<unk>"),
        ("½", "<unk>"),
        ("дом", "<unk>"),
    ],
)
def test_unknown_words_have_a_class_by_their_spelling(word, kind):
    assert unknown_class(word) == kind
    assert kind in UNKNOWN


def test_vocabulary_is_by_count_then_alphabet_and_of_training_words_alone(tmp_path):
    words = ["b", "b", "a", "a", "c", "Z", "Z", "é", "é", "d", "d", "d", "<unk>", "<unk>"]
    assert make_vocabulary(words, 2) == [*UNKNOWN, "d", "Z", "a", "b", "é"]
    write(tmp_path)
    assert load(tmp_path, min_count=2).vocabulary == [*UNKNOWN, "The", "dog"]
    every = load(tmp_path, min_count=1)
    assert set(every.vocabulary) == {*UNKNOWN, *chain.from_iterable(forms(TRAIN))}
    val = every.items["tokens"][every.span("val", 0)].tolist()
    names = [every.vocabulary[i] for i in val]
    assert names == ["<unk:capital>", "dog", "<unk:-ing>", "."]


def test_vocabulary_travels_as_json(tmp_path):
    write(tmp_path)
    data = load(tmp_path, min_count=1)
    stored = json.loads(data.assets()["vocabulary.json"])
    assert stored == {"vocabulary": data.vocabulary, "tags": data.tags}
    for split in data.splits:
        for i in range(len(data.splits[split]["lengths"])):
            ids = word_ids(data.words(split, i), stored["vocabulary"])
            assert torch.equal(ids, data.items["tokens"][data.span(split, i)].long())
    assert word_ids([], data.vocabulary).shape == (0,)


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_padded_batches_invert_to_the_ragged_originals(split):
    data = FakeTaggedText(n=90, batch_size=7, length=9)
    data.setup()
    loader = {
        "train": data.train_dataloader,
        "val": data.val_dataloader,
        "test": data.test_dataloader,
    }[split]()
    seen = []
    for batch in loader:
        assert {k: v.dtype for k, v in batch.items()} == {
            "tokens": torch.int64,
            "tags": torch.int64,
            "mask": torch.bool,
            "lengths": torch.int64,
            "index": torch.int64,
        }
        size, longest = batch["mask"].shape
        assert size == len(batch["index"]) <= 7
        assert longest == batch["lengths"].max()
        assert torch.equal(batch["mask"].sum(1), batch["lengths"])
        for row, index in enumerate(batch["index"].tolist()):
            length = int(batch["lengths"][row])
            span = data.span(split, index)
            for key in ("tokens", "tags"):
                assert torch.equal(batch[key][row, :length], data.items[key][span].long())
                assert not batch[key][row, length:].any()
            assert not batch["mask"][row, length:].any()
        seen += batch["index"].tolist()
    assert sorted(seen) == list(range(len(data.splits[split]["lengths"])))


def test_order_follows_the_seed_and_changes_with_the_epoch():
    def order(seed, epoch):
        data = FakeTaggedText(n=40, batch_size=8, seed=seed)
        data.setup()
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return [batch["tokens"].tolist() for batch in loader]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("shuffle", [True, False])
def test_two_ranks_see_halves_that_make_up_the_whole(shuffle):
    data = FakeTaggedText(n=48, batch_size=4)
    data.setup()

    def sentences(rank, world_size, batch_size):
        loader = Batches(
            data.tensors("train"),
            batch_size,
            finish=data.finish("train"),
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
        )
        return [
            [(i, tuple(t[:n])) for i, t, n in zip(*map(torch.Tensor.tolist, rows), strict=True)]
            for rows in ((b["index"], b["tokens"], b["lengths"]) for b in loader)
        ]

    halves = [sentences(rank, 2, 4) for rank in range(2)]
    flat = [set(chain.from_iterable(half)) for half in halves]
    assert not flat[0] & flat[1]
    whole = sentences(0, 1, 8)
    together = [sorted(a + b) for a, b in zip(*halves, strict=True)]
    assert together == [sorted(batch) for batch in whole]
    assert sorted(i for i, _ in flat[0] | flat[1]) == list(range(48))


# --- damage --------------------------------------------------------------------------------------

GOOD = conllu(TRAIN)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("\t_\t_\n", "\t_\n", 1), r"line 3: 10 columns .* but there are 9"),
        (lambda t: t.replace("2\tdog", "2 dog", 1), r"line 5: 10 columns .* but there are 9"),
        (lambda t: t.replace("2\tdog", "two\tdog", 1), r"line 5: word 2 is due, .* 'two'"),
        (lambda t: t.replace("2\tdog", "02\tdog", 1), r"line 5: word 2 is due, .* '02'"),
        (lambda t: t.replace("2\tdog", "3\tdog", 1), r"line 5: word 2 is due, .* '3'"),
        (lambda t: t.replace("2\tdog", "1e1\tdog", 1), r"line 5: word 2 is due, .* '1e1'"),
        (lambda t: t.replace("2\tdog", "9" * 5000 + "\tdog", 1), r"line 5: word 2 is due, .*…'"),
        (lambda t: t.replace("\n\n", "\n", 1), r"line 10: word 5 is due, but is called '1'"),
        (lambda t: t.replace("\tNOUN", "\t_", 1), r"line 5: word 2 has no universal tag"),
        (lambda t: t.replace("\tNOUN", "\t", 1), r"line 5: word 2 has no universal tag"),
        (lambda t: t.replace("\tNOUN", "\tNN", 1), r"line 5: word 2 has the tag 'NN'; column 4"),
        (lambda t: t.replace("2\tdog", "2\t", 1), r"line 5: word 2 is empty"),
        (lambda t: "x" * 1_000_000 + "\n" + t, r"line 1: 10 columns .* but there are 1\."),
        (lambda t: "1-2\ta" + "\t_" * 8 + "\n\n" + t, r"line 2: the sentence .* has no word"),
        (lambda t: "", "holds no sentence"),
        (lambda t: "# only a comment\n", "holds no sentence"),
        (lambda t: word_line(1, "_", "X") + "\n\n", "withholds its words"),
    ],
)
def test_damaged_lines_are_named_in_one_sentence(tmp_path, damage, message):
    folder = write(tmp_path, train=damage(GOOD))
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    text = str(caught.value)
    assert str(folder / "xx_tiny-ud-train.conllu") in text
    assert "\n" not in text
    assert len(text) < 400


def cut(data):
    return data[: len(data) // 2]


def wrong_crc(data):
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 255 for b in data[middle : middle + 8]) + data[middle + 8 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "ended before"),
        (wrong_crc, "CRC"),
        (flipped, "damaged"),
        (lambda data: b"", "holds no sentence"),
        (lambda data: GOOD.encode(), "Not a gzipped file"),
        (lambda data: gzip.compress(GOOD.encode().replace(b"bark", b"b\xe4rk")), "not UTF-8"),
        (lambda data: gzip.compress(GOOD.encode("utf-16")), "line 1: it is not UTF-8"),
    ],
    ids=["cut", "crc", "flipped", "empty", "plain", "bytes", "utf-16"],
)
def test_damaged_archives_are_named_in_one_sentence(tmp_path, damage, message):
    folder = write(tmp_path)
    path = folder / "xx_tiny-ud-dev.conllu.gz"
    path.with_suffix("").unlink()
    path.write_bytes(damage(gzip.compress(GOOD.encode(), mtime=0)))
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_line_of_bad_bytes_is_counted(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_bytes(GOOD.encode().replace(b"cat", b"c\xe4t"))
    line = 1 + GOOD[: GOOD.index("cat")].count("\n")
    with pytest.raises(DataError, match=f"line {line}: it is not UTF-8"):
        read_conllu(path)


def test_a_word_of_a_megabyte_is_a_word(tmp_path):
    long = "a" * 1_000_000
    write(tmp_path, train=[[(long, "X")]])
    data = load(tmp_path)
    assert data.words("train", 0) == [long]
    assert data.vocabulary[data.items["tokens"][0]] == "<unk>"


def test_missing_and_ambiguous_files(tmp_path):
    with pytest.raises(DataError, match=r"ud_english_ewt holds no \*-train.conllu.*git clone"):
        load(tmp_path)
    folder = write(tmp_path)
    (folder / "yy-ud-dev.conllu").write_text(conllu(DEV))
    with pytest.raises(DataError, match=r"more than one \*-dev.conllu \(xx.*, yy-ud-dev.conllu\)"):
        load(tmp_path)
    (folder / "yy-ud-dev.conllu").unlink()
    (folder / "xx_tiny-ud-test.conllu").unlink()
    with pytest.raises(DataError, match=r"holds no \*-test.conllu"):
        load(tmp_path)
    (folder / "xx_tiny-ud-test.conllu").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)


def test_inventory_tells_what_is_there(tmp_path):
    before = TaggedText.inventory(str(tmp_path))
    assert before.folder == tmp_path / "ud_english_ewt"
    assert before.found == ()
    assert before.missing == ("*-train.conllu", "*-dev.conllu", "*-test.conllu")
    assert before.remedy.startswith("git clone https://github.com/UniversalDependencies/")
    (write(tmp_path) / "xx_tiny-ud-dev.conllu").unlink()
    after = TaggedText.inventory(str(tmp_path))
    assert after.found == ("xx_tiny-ud-train.conllu", "xx_tiny-ud-test.conllu")
    assert after.missing == ("*-dev.conllu",)


# --- the real treebank ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ewt(real):
    folder = real("ud_english_ewt")
    data = TaggedText(name=str(folder))
    data.setup()
    return folder, data


def test_real_counts(ewt):
    _, data = ewt
    assert data.facts() == {
        "train": "12,544 sentences, 204,577 words",
        "val": "2,001 sentences, 25,147 words",
        "test": "2,077 sentences, 25,094 words",
        "vocabulary": "9,896",
    }
    assert data.items["tags"].unique().numel() == 17
    counts = torch.bincount(data.items["tokens"][:204577], minlength=9896)
    assert (counts[len(UNKNOWN) :] >= 2).all()
    known = counts[len(UNKNOWN) :].tolist()
    assert known == sorted(known, reverse=True)
    assert data.vocabulary[len(UNKNOWN) :][:3] == [".", "the", ","]


@pytest.mark.parametrize(("split", "part"), [("train", "train"), ("val", "dev"), ("test", "test")])
def test_real_words_and_tags_are_those_of_another_reading(ewt, split, part):
    folder, data = ewt
    files = [*folder.glob(f"*-{part}.conllu.gz")] or pytest.skip("the treebank is not packed")
    text = gzip.decompress(files[0].read_bytes()).decode()
    expected = re.findall(r"(?m)^[0-9]+\t([^\t]*)\t[^\t]*\t([^\t]*)\t", text)
    n = len(data.splits[split]["lengths"])
    words = chain.from_iterable(data.words(split, i) for i in range(n))
    start = data.span(split, 0).start
    found = data.items["tags"][start : start + len(expected)].tolist()
    assert [*zip(words, (data.tags[t] for t in found), strict=True)] == expected
    assert n == len(re.findall(r"(?m)^# sent_id = ", text))


def test_real_vocabulary_is_the_training_words_seen_twice(ewt):
    _, data = ewt
    n = len(data.splits["train"]["lengths"])
    counts = Counter(chain.from_iterable(data.words("train", i) for i in range(n)))
    assert sum(counts.values()) == 204577
    assert set(data.vocabulary) - {*UNKNOWN} == {w for w, k in counts.items() if k > 1}


def test_every_unit_of_a_batch_is_within_the_vocabulary(ewt):
    _, data = ewt
    total = 0
    for batch in data.val_dataloader():
        assert batch["tokens"].max() < len(data.vocabulary)
        total += int(batch["mask"].sum())
    assert total == 25147


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_on_the_accelerator_are_those_on_the_cpu():
    data = FakeTaggedText(n=40)
    data.setup()
    for device in ("cuda", "cpu"):  # the flat items follow their rows
        loader = Batches(data.tensors("train"), 16, finish=data.finish("train"), device=device)
        plain = Batches(data.tensors("train"), 16, finish=data.finish("train"))
        for batch, expected in zip(loader, plain, strict=True):
            assert all(batch[key].device.type == device for key in expected)
            assert all(torch.equal(batch[key].cpu(), expected[key]) for key in expected)
