"""Sources of bags of words: LDA-C files, folders of plain texts, and the 20 newsgroups.

In the format of lda-c (Blei, Ng and Jordan, "Latent Dirichlet Allocation", 2003;
https://github.com/blei-lab/lda-c) a line of `*.dat` is a document of $n$ different terms,
`n id:count id:count ...`, and line $i$ of `vocab.txt` is term $i$, counted from 0.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.datamodules.files.download import TIMEOUT_S, socket_timeout
from zoo.datamodules.files.places import DataError, files_below
from zoo.datamodules.files.text import bad_line, brief, plain_or_packed, read_lines, read_text

AP = "https://github.com/blei-lab/lda-c/blob/master/example/ap.tgz"
NEWSGROUPS = "20news-bydate_py3.pkz"
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Corpus:
    """Documents one after another, each with its different terms.

    Args:
        terms: Positions in the vocabulary, int32 (M,), none twice in a document.
        counts: Count of each term in its document, int32 (M,), at least 1.
        lengths: Number of different terms of each document, int64 (N,).
        vocabulary: The terms.
        names: Name of each document in its source.
        n_test: Number of documents at the end that are the source's own test set.
    """

    terms: Tensor
    counts: Tensor
    lengths: Tensor
    vocabulary: list[str]
    names: Sequence[str]
    n_test: int = 0


def read_lda_c(folder: Path) -> Corpus:
    """Read the one `*.dat` of a folder, and its `vocab.txt`, plain or `.gz`.

    Raises:
        DataError: if a file is missing, there is more than one `*.dat`, or a line is malformed.
    """
    dat, vocab = (plain_or_packed(folder, pattern) for pattern in ("*.dat", "vocab.txt"))
    missing = [name for name, found in (("*.dat", dat), ("vocab.txt", vocab)) if not found]
    if missing:
        raise DataError(
            f"{folder} holds no {' and no '.join(missing)}, plain or .gz: put files in the format "
            f"of lda-c there, such as those of {AP}."
        )
    if len(dat) > 1:
        names = ", ".join(path.name for path in dat)
        raise DataError(f"{folder} holds more than one *.dat ({names}): keep one there.")
    vocabulary = read_vocabulary(vocab[0])
    terms: list[list[int]] = []
    counts: list[list[int]] = []
    for number, line in enumerate(read_lines(dat[0]), start=1):
        if (why := _problem(line, len(vocabulary), vocab[0].name)) is not None:
            raise bad_line(dat[0], number, why)
        values = [int(value) for value in line.replace(":", " ").split()]
        terms.append(values[1::2])
        counts.append(values[2::2])
    if not terms:
        raise DataError(f"{dat[0]} holds no document: put a good copy of it there.")
    return Corpus(
        terms=torch.tensor([*chain.from_iterable(terms)], dtype=torch.int32),
        counts=torch.tensor([*chain.from_iterable(counts)], dtype=torch.int32),
        lengths=torch.tensor([len(some) for some in terms]),
        vocabulary=vocabulary,
        names=[f"line {i + 1}" for i in range(len(terms))],
    )


def _problem(line: str, n_terms: int, vocabulary: str) -> str | None:
    """Return the error in a line of a `.dat` file, or None."""
    fields = line.split()
    if not fields:
        return "it is blank; a document without terms is written as 0"
    for field in fields[1:]:
        if not re.fullmatch(r"[0-9]{1,10}:[0-9]{1,10}", field):
            return f"{brief(field)} is no id:count of two whole numbers"
    pairs = [(int(term), int(count)) for term, count in (f.split(":") for f in fields[1:])]
    if fields[0] != str(len(pairs)):
        return f"it begins with {brief(fields[0])}, but has {len(pairs)} id:count pairs"
    for term, count in pairs:
        if term >= n_terms:
            return f"term {term} is not in {vocabulary}, which ends with term {n_terms - 1}"
        if not 1 <= count <= LARGEST:
            return f"term {term} has count {count}, but must have 1 to {LARGEST}"
    if len({term for term, _ in pairs}) < len(pairs):
        first = {term: i for i, (term, _) in reversed([*enumerate(pairs)])}
        twice = next(term for i, (term, _) in enumerate(pairs) if first[term] != i)
        return f"it has term {twice} twice"
    return None


def read_vocabulary(path: Path) -> list[str]:
    """Read a term from each line of a file.

    Raises:
        DataError: if a line is empty or repeats a term, or there is no term.
    """
    line: dict[str, int] = {}
    for number, text in enumerate(read_lines(path), start=1):
        term = text.strip()
        if not term:
            raise bad_line(path, number, "it is blank, but must have a term")
        if term in line:
            raise bad_line(path, number, f"{brief(term)} is on line {line[term]}, too")
        line[term] = number
    if not line:
        raise DataError(f"{path} holds no term: put a good copy of it there.")
    return [*line]


def read_texts(folder: Path) -> Corpus:
    """Count the words of all `.txt` files of a folder and its sub-folders.

    Raises:
        DataError: if there are none, one cannot be read, or they have no words.
    """
    names = [path.as_posix() for path in files_below(folder) if path.suffix == ".txt"]
    if not names:
        raise DataError(f"{folder} holds no .txt file: give name, the folder of your texts.")
    return bags([read_text(folder / name) for name in names], names, folder)


def bags(texts: list[str], names: list[str], folder: Path) -> Corpus:
    """Count the words of texts by scikit-learn's rule, without its English stop words.

    Args:
        texts: The documents.
        names: Names of the documents.
        folder: Folder of the documents, for the error.

    Raises:
        DataError: if they have no words.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(stop_words="english")
    try:
        found = vectorizer.fit_transform(texts)
    except ValueError as error:  # of an empty vocabulary
        raise DataError(f"the texts in {folder} have no words ({error}).") from None
    return Corpus(
        terms=torch.tensor(found.indices, dtype=torch.int32),
        counts=torch.tensor(found.data, dtype=torch.int32),
        lengths=torch.tensor(np.diff(found.indptr), dtype=torch.int64),
        vocabulary=vectorizer.get_feature_names_out().tolist(),
        names=names,
    )


def read_newsgroups(folder: Path) -> Corpus:
    """Count the words of the 20 newsgroups, training posts first, in scikit-learn's file.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = folder / NEWSGROUPS
    if not path.exists():
        raise DataError(f"{path} is not there; call prepare_data() to download it.")
    try:
        posts = [fetch_newsgroups(folder, part, download=False) for part in ("train", "test")]
    except (OSError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and run again.") from None
    texts = [*chain.from_iterable(posts)]
    corpus = bags(texts, [f"post {i + 1}" for i in range(len(texts))], folder)
    return replace(corpus, n_test=len(posts[1]))


def download_newsgroups(folder: Path) -> None:
    """Download the 20 newsgroups into a folder with scikit-learn, unless they are there.

    Raises:
        DataError: if they cannot be downloaded.
    """
    path = folder / NEWSGROUPS
    if path.exists():
        return
    try:
        # scikit-learn warns of each attempt that fails
        with socket_timeout(TIMEOUT_S), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fetch_newsgroups(folder, "train", download=True)
    except (OSError, EOFError) as error:
        raise DataError(
            f"{path} is not there, and 20 newsgroups could not be downloaded ({error}): put the "
            "file there from a machine where scikit-learn's fetch_20newsgroups has run."
        ) from None


def fetch_newsgroups(folder: Path, part: str, download: bool) -> list[str]:
    """Return the posts of "train" or "test", without headers, signatures and quotations."""
    from sklearn.datasets import fetch_20newsgroups

    with contextlib.redirect_stdout(io.StringIO()):  # where it prints that its file is damaged
        found = fetch_20newsgroups(
            data_home=str(folder),
            subset=part,
            shuffle=False,
            remove=("headers", "footers", "quotes"),
            download_if_missing=download,
        )
    texts: list[str] = found.data
    return texts
