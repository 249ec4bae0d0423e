"""Sentences whose words are tagged with their part of speech, from files in CoNLL-U.

The format is that of Universal Dependencies, https://universaldependencies.org/format.html, and the
tags are Petrov, Das and McDonald's, "A Universal Part-of-Speech Tagset" (2012), as UD extends them.
Words too rare to learn from are replaced by classes of words that are spelt alike, in the manner of
Petrov, Barrett, Thibaux and Klein, "Learning Accurate, Compact, and Interpretable Tree Annotation"
(2006).
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from zoo.datamodules.base import Split, check_at_least
from zoo.datamodules.files.places import DataError, Inventory, set_dir
from zoo.datamodules.files.text import bad_line, brief, plain_or_packed, read_lines
from zoo.datamodules.text.ragged import RaggedDataModule, starts, vocabulary_json

NAME = "ud_english_ewt"
SOURCE = "https://github.com/UniversalDependencies/UD_English-EWT"
FILES: dict[Split, str] = {
    "train": "*-train.conllu",
    "val": "*-dev.conllu",
    "test": "*-test.conllu",
}
UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN"]
UPOS += ["PUNCT", "SCONJ", "SYM", "VERB", "X"]
# English endings that hint at a word's tag; the first match counts.
SUFFIXES = ["ing", "ed", "ly", "ion", "er", "est", "able", "al", "ity", "ness", "ment", "ous"]
SUFFIXES += ["ive", "s", "y"]
SHAPES = ["symbol", "address", "number", "code", "hyphen", "upper", "capital"]
UNKNOWN = [f"<unk:{kind}>" for kind in [*SHAPES, *(f"-{s}" for s in SUFFIXES)]] + ["<unk>"]

Sentence = tuple[list[str], list[str]]
"""The words of a sentence, and their tags."""


class TaggedText(RaggedDataModule):
    """Sentences and the part of speech of their words: UD English EWT, or any other treebank.

    Batches have `tokens` and `tags` int64 (B, T), padded with zeros, `mask` bool (B, T), `lengths`
    int64 (B,) and `index`. A token is a position in `vocabulary`: the classes of unknown words (see
    `unknown_class`), then the words of the training split by their frequency there, ties in
    alphabetical order. A tag is a position in `tags`, the 17 universal ones. Zero is also a word
    and a tag, so only `mask` identifies padding.

    The folder holds one treebank as UD publishes it: three files whose names end in
    `-train.conllu`, `-dev.conllu` and `-test.conllu`, or in these with `.gz`. Only syntactic words
    are read: no multiword ranges (1-2), and no empty nodes (1.1).

    Args:
        batch_size: Sentences per batch and process.
        seed: Seed of the order of training sentences.
        root: Folder of all data sets; `$ZOO_DATA` or the user's cache when None.
        name: Folder of the treebank in `root`, or another path.
        min_count: Least count of a known word in the training split; rarer words are unknown.
    """

    about = (
        "Universal Dependencies English EWT (Silveira et al. 2014): web text with universal "
        "part-of-speech tags, 12,544 training sentences. CC BY-SA 4.0."
    )
    knows = "English of blogs, mails, reviews and forums before 2013"
    units = ("sentences", "words")

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        root: str | None = None,
        name: str = NAME,
        min_count: int = 2,
    ) -> None:
        super().__init__(batch_size, seed)
        check_at_least(1, min_count=min_count)
        self.root = root
        # Lightning has an attribute `name` of its own
        self._name = name
        self.min_count = min_count
        self.tags = list(UPOS)
        self._spellings: list[str] = []
        self._spelling = torch.empty(0, dtype=torch.int32)

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return the inventory of UD English EWT."""
        folder = set_dir(root, NAME)
        files = {pattern: plain_or_packed(folder, pattern) for pattern in FILES.values()}
        return Inventory(
            folder,
            found=tuple(path.name for paths in files.values() for path in paths),
            missing=tuple(pattern for pattern, paths in files.items() if not paths),
            remedy=f"git clone {SOURCE} {folder}",
        )

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Read the three files, and number words and tags."""
        folder = set_dir(self.root, self._name)
        text = {split: read_conllu(find(folder, pattern)) for split, pattern in FILES.items()}
        self.vocabulary = make_vocabulary(_words(text["train"]), self.min_count)
        whole = [*chain.from_iterable(text.values())]
        # each spelling is kept once, to recover the spelling of unknown words
        spelling = {word: i for i, word in enumerate(dict.fromkeys(_words(whole)))}
        self._spellings = [*spelling]
        self._spelling = torch.tensor([spelling[w] for w in _words(whole)], dtype=torch.int32)
        tag = {name: i for i, name in enumerate(self.tags)}
        flat = (tag[name] for _, tags in whole for name in tags)
        self.items = {
            "tokens": word_ids(self._spellings, self.vocabulary).int()[self._spelling],
            "tags": torch.tensor([*flat], dtype=torch.int32),
        }
        lengths = torch.tensor([len(words) for words, _ in whole])
        rows = starts(lengths)
        sizes = [len(sentences) for sentences in text.values()]
        parts = {key: torch.split(row, sizes) for key, row in rows.items()}
        return {split: {key: parts[key][i] for key in parts} for i, split in enumerate(text)}

    def assets(self) -> dict[str, str]:
        """Return `vocabulary.json`: the words and tags in the order of their positions."""
        return vocabulary_json(vocabulary=self.vocabulary, tags=self.tags)

    def words(self, split: Split, index: int) -> list[str]:
        """Return the words of a sentence in their own spelling, including unknown words.

        Args:
            split: Split of the sentence.
            index: Position of the sentence in its split, as in `index` of batches.
        """
        return [self._spellings[i] for i in self._spelling[self.span(split, index)].tolist()]

    def spell(self, split: Split, index: int) -> str:
        """Return a sentence as word/TAG, separated by spaces."""
        tags = self.items["tags"][self.span(split, index)].tolist()
        words = self.words(split, index)
        return " ".join(f"{w}/{self.tags[t]}" for w, t in zip(words, tags, strict=True))


def _words(sentences: Iterable[Sentence]) -> Iterable[str]:
    return chain.from_iterable(words for words, _ in sentences)


def find(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that matches a pattern, plain or packed.

    Raises:
        DataError: if no file matches, or more than one.
    """
    files = plain_or_packed(folder, pattern)
    if not files:
        raise DataError(
            f"{folder} holds no {pattern}, plain or .gz: put a treebank of Universal Dependencies "
            f"there; English EWT comes with git clone {SOURCE} {folder}."
        )
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{folder} holds more than one {pattern} ({names}): keep one treebank.")
    return files[0]


def read_conllu(path: Path) -> list[Sentence]:
    """Read the words and universal tags of all sentences of a file, plain or `.gz`.

    Raises:
        DataError: if the file cannot be read, a line is malformed, a word lacks its tag, or there
            is no sentence.
    """
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    begun = False
    for number, line in enumerate([*read_lines(path), ""], start=1):
        if line.startswith("#"):
            continue
        if line.strip(" "):
            begun = True
            word = _parse(path, number, line, len(words) + 1)
            if word is not None:
                words.append(word[0])
                tags.append(word[1])
        elif begun:
            if not words:
                raise bad_line(path, number, "the sentence that ends here has no word")
            sentences.append((words, tags))
            words, tags, begun = [], [], False
    if not sentences:
        raise DataError(f"{path} holds no sentence: put a good copy of it there.")
    if all(word == "_" for word in _words(sentences)):
        raise DataError(f"{path} withholds its words (each is _): get the treebank with its text.")
    return sentences


def _parse(path: Path, number: int, line: str, expected: int) -> tuple[str, str] | None:
    """Return a line's word and tag, or None for a multiword range or an empty node."""
    columns = line.split("\t")
    if len(columns) != 10:
        raise bad_line(path, number, f"10 columns are needed, but there are {len(columns)}")
    label, form, tag = columns[0], columns[1], columns[3]
    if re.fullmatch(r"[0-9]+[-.][0-9]+", label):
        return None
    if label != str(expected):
        raise bad_line(path, number, f"word {expected} is due, but is called {brief(label)}")
    if not form:
        raise bad_line(path, number, f"word {label} is empty")
    if tag not in UPOS:
        problem = "has no universal tag" if tag in ("_", "") else f"has the tag {brief(tag)}"
        raise bad_line(
            path, number, f"word {label} {problem}; column 4 must be one of {', '.join(UPOS)}"
        )
    return form, tag


def make_vocabulary(words: Iterable[str], min_count: int) -> list[str]:
    """Return the classes of unknown words, then the frequent words, the most frequent first.

    Args:
        words: All words to learn from.
        min_count: Least count of a word; ties are in alphabetical order (code points).
    """
    counts = Counter(words)
    known = [word for word, n in counts.items() if n >= min_count and word not in UNKNOWN]
    return [*UNKNOWN, *sorted(known, key=lambda word: (-counts[word], word))]


def word_ids(words: Iterable[str], vocabulary: list[str]) -> Tensor:
    """Return the positions of words in a vocabulary, int64 (T,), unknown ones as their class.

    Args:
        words: The words of a sentence.
        vocabulary: `vocabulary` of a DataModule or of a checkpoint's vocabulary.json.
    """
    position = {word: i for i, word in enumerate(vocabulary)}
    return torch.tensor(
        [position[word if word in position else unknown_class(word)] for word in words],
        dtype=torch.int64,
    )


def unknown_class(word: str) -> str:
    """Return the class of an unknown word by its spelling; the first matching rule counts.

    1. `<unk:symbol>`: neither a letter nor a digit in it.
    2. `<unk:address>`: it has "@" or "://", or begins with "www.".
    3. `<unk:number>`: a digit and no letter; `<unk:code>`: both.
    4. `<unk:hyphen>`: a hyphen that is neither its first nor its last character.
    5. `<unk:upper>`: two characters or more, and no small letter; `<unk:capital>`: it begins with a
       capital letter.
    6. `<unk:-ing>` and so on: it ends in one of `SUFFIXES`, with two characters or more before.
    7. `<unk>`.
    """
    if not any(c.isalnum() for c in word):
        kind = "symbol"
    elif "@" in word or "://" in word or word.startswith("www."):
        kind = "address"
    elif any(c.isdigit() for c in word):
        kind = "code" if any(c.isalpha() for c in word) else "number"
    elif "-" in word[1:-1]:
        kind = "hyphen"
    elif word.isupper() and len(word) > 1:
        kind = "upper"
    elif word[0].isupper():
        kind = "capital"
    else:
        fits = (s for s in SUFFIXES if word.endswith(s) and len(word) >= len(s) + 2)
        suffix = next(fits, None)
        return "<unk>" if suffix is None else f"<unk:-{suffix}>"
    return f"<unk:{kind}>"
