"""Documents as bags of words: the count of each term of a vocabulary in each document."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from zoo.datamodules.base import Split, check_at_least, check_one_of, take
from zoo.datamodules.files.places import Inventory, set_dir
from zoo.datamodules.files.text import plain_or_packed
from zoo.datamodules.text.corpora import (
    AP,
    NEWSGROUPS,
    Corpus,
    download_newsgroups,
    read_lda_c,
    read_newsgroups,
    read_texts,
)
from zoo.datamodules.text.ragged import RaggedDataModule, check_fractions, split_fractions, starts

Source = Literal["lda-c", "texts", "20newsgroups"]
NAMES: dict[Source, str] = {"lda-c": "ap", "20newsgroups": "20newsgroups"}


class BagOfWords(RaggedDataModule):
    """Documents as counts of words: the Associated Press, 20 newsgroups, or texts of one's own.

    Batches have `tokens` int64 (B, T), the different terms of a document as positions in
    `vocabulary`, `counts` int64 (B, T), the count of each term, `mask` bool (B, T), `lengths` int64
    (B,) and `index`. Padding has tokens and counts of zero, so that sums weighted by counts need no
    mask. Documents without terms are kept; `empty` has their names.

    A word of a plain text or newsgroup is a run of two or more letters, digits or underscores, in
    lower case, and none of scikit-learn's English stop words. Newsgroups are read without headers,
    signatures and quotations, and have a test set of their own.

    Args:
        source: "lda-c", "texts" or "20newsgroups".
        batch_size: Documents per batch and process.
        seed: Seed of the split and of the order of training documents.
        root: Folder of all data sets; `$ZOO_DATA` or the user's cache when None.
        name: Folder in `root`, or another path; when None, `ap` for "lda-c" and `20newsgroups` for
            "20newsgroups". For "texts", each `.txt` file in it or its sub-folders is a document.
        min_df: Least number of training documents with a term; rarer terms are left out of the
            vocabulary and of all documents. 0 keeps terms that no training document has.
        max_df: Largest share of training documents with a term; more frequent terms are left out.
        val_fraction: Share of the documents for validation; 0 validates on the training documents.
        test_fraction: Share of the documents for the test, unless the source has a test set; 0
            tests on the training documents.
    """

    about = (
        "Words counted in 2,246 articles of the Associated Press (Harman 1992), the example of "
        "the lda-c program (Blei); no licence of the data is stated."
    )
    knows = "news of 1988 to 1990 by the words in it"
    units = ("documents", "words")

    def __init__(
        self,
        source: Source = "lda-c",
        batch_size: int = 128,
        seed: int = 0,
        root: str | None = None,
        name: str | None = None,
        min_df: int = 0,
        max_df: float = 1.0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
    ) -> None:
        super().__init__(batch_size, seed)
        check_one_of(get_args(Source), source=source)
        if name is None and source not in NAMES:
            raise ValueError(f"source {source!r} needs name, the folder of your .txt files.")
        check_at_least(0, min_df=min_df)
        if not 0 < max_df <= 1:
            raise ValueError(f"max_df is {max_df}, but must be above 0 and at most 1.")
        check_fractions(val_fraction, test_fraction)
        self.source: Source = source
        self.root = root
        # Lightning has an attribute `name` of its own
        self._name = NAMES[source] if name is None else name
        self.min_df = min_df
        self.max_df = max_df
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.empty: list[str] = []
        self.left_out = 0

    @classmethod
    def inventory(cls, root: str | None = None) -> dict[str, Inventory]:
        """Return the inventories of the Associated Press, of texts and of 20 newsgroups."""
        ap, newsgroups = (set_dir(root, name) for name in NAMES.values())
        dat, vocabulary = (plain_or_packed(ap, pattern) for pattern in ("*.dat", "vocab.txt"))
        there = (newsgroups / NEWSGROUPS).exists()
        return {
            "lda-c": Inventory(
                ap,
                found=tuple(path.name for path in dat + vocabulary),
                missing=("*.dat",) * (not dat) + ("vocab.txt",) * (not vocabulary),
                remedy=f"unpack {AP} there",
            ),
            "texts": Inventory(
                None,
                missing=("a folder of yours",),
                remedy="give source=texts and name, a folder of .txt files",
            ),
            "20newsgroups": Inventory(
                newsgroups,
                found=(NEWSGROUPS,) * there,
                missing=(NEWSGROUPS,) * (not there),
                remedy="scikit-learn downloads it when training starts, or put it there",
            ),
        }

    def prepare_data(self) -> None:
        """Download the newsgroups with scikit-learn if they are the source and missing."""
        if self.source == "20newsgroups":
            download_newsgroups(self._folder)

    @property
    def _folder(self) -> Path:
        return set_dir(self.root, self._name)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Read the documents, split them, and leave out terms by their document frequency."""
        read = {"lda-c": read_lda_c, "texts": read_texts, "20newsgroups": read_newsgroups}
        corpus = read[self.source](self._folder)
        n = len(corpus.lengths) - corpus.n_test
        test_fraction = 0.0 if corpus.n_test else self.test_fraction
        what = f"documents in {self._folder}"
        parts = split_fractions(n, self.val_fraction, test_fraction, self.seed, what)
        if corpus.n_test:
            parts["test"] = torch.arange(n, n + corpus.n_test)
        whole = int(corpus.counts.sum())
        corpus = prune(corpus, parts["train"], self.min_df, self.max_df)
        self.left_out = whole - int(corpus.counts.sum())
        self.empty = [corpus.names[i] for i in (corpus.lengths == 0).nonzero().flatten().tolist()]
        self.vocabulary = corpus.vocabulary
        self.items = {"tokens": corpus.terms, "counts": corpus.counts}
        rows = starts(corpus.lengths)
        return {split: take(rows, part) for split, part in parts.items()}

    def size(self, split: Split) -> int:
        """Return the number of words in the documents of a split, repetitions included."""
        return count_words(self.items["counts"], self.splits[split])

    def facts(self) -> dict[str, str]:
        """Return the sizes, the number of words that pruning left out, and the empty documents."""
        facts = super().facts()
        if self.left_out:
            facts["left out"] = f"{self.left_out:,} words"
        if self.empty:
            more = f" and {len(self.empty) - 5} more" if len(self.empty) > 5 else ""
            facts["empty"] = f"{len(self.empty):,}: {', '.join(self.empty[:5])}{more}"
        return facts

    def spell(self, split: Split, index: int) -> str:
        """Return a document's terms with their counts, the most frequent first."""
        span = self.span(split, index)
        terms = (self.vocabulary[i] for i in self.items["tokens"][span].tolist())
        return spell_counts(terms, self.items["counts"][span].tolist())


def count_words(counts: Tensor, rows: dict[str, Tensor]) -> int:
    """Return the sum of the flat counts over documents with `start` and `lengths`, both (N,)."""
    before = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return int((before[rows["start"] + rows["lengths"]] - before[rows["start"]]).sum())


def spell_counts(terms: Iterable[str], counts: Iterable[int]) -> str:
    """Return "term count, term count, ...", the largest count first, ties in alphabetical order."""
    order = sorted((-count, term) for term, count in zip(terms, counts, strict=True))
    return ", ".join(f"{term} {-count}" for count, term in order) or "(no words)"


def dense(batch: dict[str, Tensor], n_terms: int) -> Tensor:
    """Return the counts of a batch as a matrix (B, n_terms) with a column for each term.

    Args:
        batch: A batch with `tokens` and `counts`, both (B, T).
        n_terms: Size of the vocabulary.
    """
    counts = batch["counts"]
    return counts.new_zeros(len(counts), n_terms).scatter_add_(1, batch["tokens"], counts)


def prune(corpus: Corpus, train: Tensor, min_df: int, max_df: float) -> Corpus:
    """Leave out the terms in too few or too many training documents.

    Args:
        corpus: All documents.
        train: Positions of the training documents.
        min_df: Least number of training documents with a term.
        max_df: Largest share of the training documents with a term.

    Raises:
        ValueError: if no term would be left.
    """
    document = torch.repeat_interleave(corpus.lengths)  # (M,)
    trained = torch.zeros_like(corpus.lengths, dtype=torch.bool).index_fill_(0, train, True)
    n_terms = len(corpus.vocabulary)
    df = torch.bincount(corpus.terms[trained[document]], minlength=n_terms)
    keep = (df >= min_df) & (df <= max_df * len(train))
    if not keep.any():
        raise ValueError(
            f"min_df {min_df} and max_df {max_df} leave none of {n_terms:,} terms: widen them."
        )
    kept = keep[corpus.terms]
    position = (keep.cumsum(0) - 1).int()
    return replace(
        corpus,
        terms=position[corpus.terms[kept]],
        counts=corpus.counts[kept],
        lengths=torch.bincount(document[kept], minlength=len(corpus.lengths)),
        vocabulary=[term for term, k in zip(corpus.vocabulary, keep.tolist(), strict=True) if k],
    )
