import json
import pickle
import random
import re
import unicodedata
from itertools import pairwise

import pytest
import tokenizers
import torch

from zoo.datamodules.captions.tokenizer import (
    BOS,
    EOS,
    LIMIT,
    PAD,
    SMALLEST,
    SPECIAL,
    UNK,
    Tokenizer,
    trained,
)
from zoo.datamodules.files.places import DataError

TEXTS = [
    "A brown dog runs through the grass .",
    "a brown cat runs through the snow .",
    "Two dogs run through the brown grass",
    "The sign says \" Mark ' Mom ' Finley \" , and the dog barks .",
    "woman\u2019s café: 1\u20132 “free” buttons",
]
# One text each for what a user could type.
ODD = [
    "",
    "  \t\n ",
    "UPPER lower MiXed",
    "tabs\tand\nlines\r\nand   runs",
    "e\u0301 is composed; \u00e9 is already",
    "İstanbul ΟΔΟΣ STRASSE ß ﬁ",
    "日本語 한국어 العربية हिन्दी",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
    "nul \x00 and bell \x07 and \x1c",
    "no\u00a0break ideographic\u3000space line\u2028end\x85",
    "zero\u200bwidth \ufeffmark",
    "<bos> <eos> and <pad><unk> by name",
    "Ġ and Ċ are letters, too",
    "don't we'll I'm they've",
]


def normal(text):
    """What a text comes back as, said another way: letter by letter, Python's Unicode tables."""
    low = unicodedata.normalize("NFC", "".join(letter.lower() for letter in text))
    # the characters with the Unicode property White_Space
    space = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    return re.sub(f"[{space}]+", " ", low).strip(" ")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 320)


@pytest.fixture
def content(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    return json.loads((tmp_path / "tokenizer.json").read_text())


def test_text_comes_back_in_its_normal_form(tokenizer):
    texts = TEXTS + ODD
    ids, mask = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == [normal(text) for text in texts]
    assert [tokenizer.normalise(text) for text in texts] == [normal(text) for text in texts]
    assert not (ids[mask] == UNK).any()


def test_random_text_comes_back(tokenizer):
    rng = random.Random(0)
    # every assigned letter, mark, number, punctuation, symbol, separator and control character
    letters = [chr(c) for c in range(0x2FFFF) if unicodedata.category(chr(c)) not in ("Cs", "Cn")]
    texts = ["".join(rng.choices(letters, k=rng.randrange(30))) for _ in range(300)]
    texts = [tokenizer.normalise(text) for text in texts]
    assert tokenizer.decode(tokenizer.encode(texts)[0]) == texts


def test_rows_begin_end_and_are_padded(tokenizer):
    ids, mask = tokenizer.encode(["dog", "a brown dog runs", ""])
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.bool
    lengths = mask.sum(1)
    assert ids.shape == mask.shape == (3, int(lengths.max()))
    for row, length in zip(ids.tolist(), lengths.tolist(), strict=True):
        assert row[0] == BOS
        assert row[length - 1] == EOS
        assert row[length:] == [PAD] * (len(row) - length)
        assert not {BOS, EOS, PAD} & {*row[1 : length - 1]}
    assert torch.equal(mask, ids != PAD)
    assert ids[2].tolist()[:2] == [BOS, EOS]


def test_no_text_gives_no_rows(tokenizer):
    ids, mask = tokenizer.encode([])
    assert ids.shape == mask.shape == (0, 0)
    assert tokenizer.decode(ids) == []


def test_a_row_does_not_depend_on_the_others(tokenizer):
    texts = TEXTS + ODD
    ids, mask = tokenizer.encode(texts)
    for text, row, valid in zip(texts, ids, mask, strict=True):
        assert torch.equal(tokenizer.encode([text])[0][0], row[valid])


def bytes_as_letters():
    """The table of GPT-2: printable bytes are themselves, the others letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def words(text):
    """Words as GPT-2 splits them, in ASCII text: each with the space before it."""
    pieces = re.findall(r"'(?:s|t|re|ve|m|ll|d)| ?[a-z]+| ?[0-9]+| ?[^\sa-z0-9]+|\s+", " " + text)
    table = bytes_as_letters()
    return ["".join(table[b] for b in piece.encode()) for piece in pieces]


def test_ids_are_those_of_the_algorithm_applied_by_hand(tokenizer, content):
    vocab = content["model"]["vocab"]
    rank = {tuple(pair): i for i, pair in enumerate(content["model"]["merges"])}
    for text in [text for text in TEXTS if text.isascii()]:
        expected = []
        for word in words(normal(text)):
            parts = list(word)
            while pairs := [p for p in pairwise(parts) if p in rank]:
                best = min(pairs, key=rank.__getitem__)
                at = next(i for i in range(len(parts)) if tuple(parts[i : i + 2]) == best)
                parts[at : at + 2] = ["".join(best)]
            expected += [vocab[part] for part in parts]
        ids, _ = tokenizer.encode([text])
        assert ids[0].tolist() == [BOS, *expected, EOS]


def test_first_merge_is_the_most_frequent_pair(content):
    counts = {}
    ascii_texts = [text for text in TEXTS if text.isascii()]
    learned = Tokenizer.train(ascii_texts, SMALLEST + 1)
    for text in ascii_texts:
        for word in words(normal(text)):
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
    best = max(counts.values())
    [merge] = json.loads(learned.__reduce__()[1][0])["model"]["merges"]
    assert counts[tuple(merge)] == best
    assert sum(count == best for count in counts.values()) == 1


def test_training_is_deterministic_and_follows_the_texts(tmp_path, tokenizer):
    paths = [tmp_path / f"{i}.json" for i in range(3)]
    tokenizer.save(paths[0])
    Tokenizer.train(list(TEXTS), 320).save(paths[1])
    Tokenizer.train(TEXTS[:2], 320).save(paths[2])
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


def test_vocabulary_holds_special_tokens_and_bytes_first(tokenizer, content):
    vocab = content["model"]["vocab"]
    assert [vocab[token] for token in SPECIAL] == [PAD, BOS, EOS, UNK] == [0, 1, 2, 3]
    assert {vocab[letter] for letter in bytes_as_letters().values()} == set(range(4, SMALLEST))
    assert tokenizer.vocab_size == 320 == len(vocab)
    # few texts have few pairs, and then the vocabulary stays small
    assert Tokenizer.train(["ab"], 1000).vocab_size < SMALLEST + 4


def test_file_is_read_back_and_by_other_libraries(tokenizer, tmp_path):
    path = tmp_path / "new" / "tokenizer.json"
    tokenizer.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["tokenizer.json"]
    again = Tokenizer.load(path)
    texts = TEXTS + ODD
    assert torch.equal(again.encode(texts)[0], tokenizer.encode(texts)[0])
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    other = tokenizers.Tokenizer.from_file(str(path))
    for text in TEXTS:
        assert other.encode(text).ids == tokenizer.encode([text])[0][0].tolist()


def test_pickled_copy_is_the_same(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(again.encode(ODD)[0], tokenizer.encode(ODD)[0])


def test_long_captions_are_cut_counted_and_end(tokenizer):
    texts = ["dog", TEXTS[0], TEXTS[3]]
    whole, mask = tokenizer.encode(texts)
    with pytest.warns(UserWarning, match="2 of 3 captions have more than 8 tokens") as caught:
        ids, short = tokenizer.encode(texts, max_length=8)
    assert "A brown dog" in str(caught[0].message)
    assert ids.shape == (3, 8)
    assert short.sum(1).tolist() == [int(mask[0].sum()), 8, 8]
    assert torch.equal(ids[1:, :7], whole[1:, :7])
    assert ids[1:, 7].tolist() == [EOS, EOS]
    assert torch.equal(tokenizer.encode(texts, max_length=whole.shape[1])[0], whole)


def test_decoding_stops_at_the_end_and_drops_special_tokens(tokenizer):
    ids = tokenizer.encode(["a dog"])[0]
    _, *row, _ = ids[0].tolist()
    assert tokenizer.decode(torch.tensor([[BOS, *row, EOS, *row, EOS, PAD]])) == ["a dog"]
    assert tokenizer.decode(torch.tensor([[PAD, UNK, BOS, *row, PAD, PAD]])) == ["a dog"]
    assert tokenizer.decode(torch.tensor([[BOS, EOS], [PAD, PAD]])) == ["", ""]


def test_half_of_a_character_decodes_to_the_replacement_character(tokenizer, content):
    first = content["model"]["vocab"][bytes_as_letters()["é".encode()[0]]]
    assert tokenizer.decode(torch.tensor([[BOS, first, EOS]])) == ["\ufffd"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.decode(torch.tensor([1, 2])), r"ids have shape \(2,\), but must be \(B, L\)"),
        (lambda t: t.decode(torch.tensor([[1, 320]])), "ids go from 1 to 320, but tokens from 0"),
        (lambda t: t.decode(torch.tensor([[-1, 2]])), "ids go from -1 to 2"),
        (lambda t: t.encode(["ok", "half \ud83d"]), "lone surrogate"),
        (lambda t: t.encode(["a"], max_length=1), "max_length is 1, but must be at least 2"),
        (lambda t: Tokenizer.train(TEXTS, 259), "vocab_size is 259, but must be at least 260"),
        (lambda t: Tokenizer.train(["\udc00"], 300), "lone surrogate"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(tokenizer, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(tokenizer)
    assert "\n" not in str(caught.value)


def drop(key):
    return lambda c: c.pop(key)


def put(where, value):
    *path, last = where.split(".")

    def change(content):
        for key in path:
            content = content[key]
        content[last] = value

    return change


def rename_token(content):
    vocab = content["model"]["vocab"]
    vocab["no byte letter: \u3042"] = vocab.pop(list(vocab)[-1])


DAMAGE = {
    "unknown type": (put("model.type", "WordPiece"), "model.type is 'WordPiece', not 'BPE'"),
    "no type": (lambda c: c["model"].pop("type"), "model.type is 'None', not 'BPE'"),
    "no model": (drop("model"), "model is no object"),
    "model a list": (put("model", []), "model is no object"),
    "other normalizer": (put("normalizer", {"type": "NFKC"}), "normalizer.type is 'NFKC'"),
    "fewer normalizers": (put("normalizer.normalizers", []), "normalizers is no list of 4"),
    "other words": (put("pre_tokenizer.type", "Whitespace"), "pre_tokenizer.type is 'Whitespace'"),
    "no first space": (put("pre_tokenizer.add_prefix_space", False), "is 'False', not True"),
    "one for true": (put("pre_tokenizer.add_prefix_space", 1), "is '1', not True"),
    "no decoder": (put("decoder", None), "decoder is no object"),
    "dropout": (put("model.dropout", 0.1), "model.dropout is '0.1', not None"),
    "vocab a list": (put("model.vocab", ["a"]), "model.vocab is no table of numbers"),
    "id a text": (put("model.vocab.a", "5"), "model.vocab is no table of numbers"),
    "id true": (put("model.vocab.<bos>", True), "model.vocab is no table of numbers"),
    "id twice": (put("model.vocab.a", 5), "ids in model.vocab are not 0, 1, 2"),
    "id huge": (put("model.vocab.a", 2**70), "ids in model.vocab are not 0, 1, 2"),
    "specials": (lambda c: c["model"]["vocab"].update({"<pad>": 1, "<bos>": 0}), "first tokens"),
    "no byte letter": (rename_token, "token 'no byte letter: あ' in model.vocab is not made of"),
    "merges a text": (put("model.merges", "a b"), "model.merges is no list"),
    "old merges": (put("model.merges", ["a b"]), r"model.merges\[0\] is no pair of tokens"),
    "merge of nothing": (put("model.merges", [["zz", "qq"]]), r"merges\[0\] is no pair of tokens"),
    "merge of numbers": (put("model.merges", [[1, 2]]), r"merges\[0\] is no pair of tokens"),
    "merge of lists": (put("model.merges", [[[], "a"]]), r"merges\[0\] is no pair of tokens"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_file_is_refused_in_a_sentence(content, tmp_path, case):
    change, message = DAMAGE[case]
    change(content)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(f"{path} is no tokenizer as this package writes it (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"[1, 2]", "its content is no object"),
        (b"null", "its content is no object"),
        (b"\xff\xfe{}", "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b"cos\nsystem\n(S'true'\ntR.", "Expecting value"),
    ],
)
def test_file_that_is_no_json_object_is_refused(tmp_path, data, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_cut_file_is_refused(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"tokenizer\.json is no tokenizer"):
        Tokenizer.load(path)


def test_missing_and_too_large_files_are_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(DataError, match=r"cannot be read \(No such file.*\): give the path"):
        Tokenizer.load(path)
    with open(path, "wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(DataError, match=f"it has {LIMIT + 1} bytes, more than {LIMIT}"):
        Tokenizer.load(path)


def test_failed_save_leaves_what_was_there(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text("before")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        tokenizer.save(path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"tokenizer.json": "before"}


@pytest.fixture
def trainings(monkeypatch):
    """Counts how often a tokenizer is trained."""
    counted = []
    train = Tokenizer.train

    def counting(texts, vocab_size):
        counted.append(vocab_size)
        return train(texts, vocab_size)

    monkeypatch.setattr(Tokenizer, "train", counting)
    return counted


def test_trained_once_for_the_same_texts_and_size(tmp_path, trainings):
    first = trained(TEXTS, 300, tmp_path)
    assert torch.equal(trained(TEXTS, 300, tmp_path).encode(TEXTS)[0], first.encode(TEXTS)[0])
    assert trainings == [300]
    trained(TEXTS, 301, tmp_path)
    trained(TEXTS[::-1], 300, tmp_path)
    trained([TEXTS[0] + TEXTS[1], *TEXTS[2:]], 300, tmp_path)
    assert len(trainings) == len(list(tmp_path.iterdir())) == 4


def test_damaged_copy_is_trained_again_and_replaced(tmp_path, trainings):
    trained(TEXTS, 300, tmp_path)
    [path] = tmp_path.iterdir()
    before = path.read_bytes()
    path.write_bytes(before[:500])
    trained(TEXTS, 300, tmp_path)
    assert len(trainings) == 2
    assert path.read_bytes() == before


def test_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "prepared").write_text("a file where a folder should be")
    assert trained(TEXTS, 300, tmp_path / "prepared").vocab_size == 300
