r"""Drawn sentences and documents that need no files, from known parameters.

A sentence of $T$ words is drawn from a hidden Markov model, with $T$ uniform on $1, ..., 2 m - 1$:
$$z_1 \sim \pi, \quad z_t \sim A_{z_{t-1}}, \quad x_t \sim B_{z_t}.$$
A document of $n$ words is drawn from topics (Blei, Ng and Jordan, 2003), with $n - 1$ Poisson:
$$\theta \sim \mathrm{Dirichlet}(\alpha), \quad z_i \sim \theta, \quad w_i \sim \beta_{z_i}.$$
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datamodules.base import Split, check_at_least, take
from zoo.datamodules.files.places import Inventory
from zoo.datamodules.text.bag_of_words import count_words, spell_counts
from zoo.datamodules.text.ragged import RaggedDataModule, starts, vocabulary_json

# Streams of the seeded generators, one for each set.
SENTENCES, DOCUMENTS = 900_020, 900_021
# Share of the uniform distribution in every distribution over words: no word is impossible.
FLOOR = 0.02


class FakeTaggedText(RaggedDataModule):
    """Sentences from a known hidden Markov model, with the batches of TaggedText.

    The tag of a word is the state that it was drawn from. After `setup()`, `initial` (K,),
    `transition` (K, K) and `emission` (K, V), float64, are the model: row k of the last two is the
    distribution of the next state and of the word, given state k.

    Args:
        n: Number of training sentences; validation and test have a quarter as many each.
        batch_size: Sentences per batch and process.
        seed: Seed of the model, the sentences and their order.
        states: Number K of states.
        words: Number V of different words.
        length: Mean number of words in a sentence.
    """

    units = ("sentences", "words")

    def __init__(
        self,
        n: int = 512,
        batch_size: int = 128,
        seed: int = 0,
        states: int = 4,
        words: int = 50,
        length: int = 12,
    ) -> None:
        super().__init__(batch_size, seed)
        check_at_least(1, n=n, states=states, words=words, length=length)
        self.n = n
        self.states = states
        self.words = words
        self.length = length
        self.vocabulary = [f"w{i}" for i in range(words)]
        self.tags = [f"s{k}" for k in range(states)]
        self.initial = self.transition = self.emission = torch.empty(0)

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(folder=None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Draw the model and all sentences."""
        rng = np.random.default_rng([self.seed, SENTENCES])
        initial = rng.dirichlet(np.ones(self.states))
        transition = rng.dirichlet(np.full(self.states, 0.5), self.states)
        emission = word_distributions(rng, self.states, self.words)
        lengths = rng.integers(1, 2 * self.length, self.n + 2 * quarter(self.n))  # (N,)
        z = categorical(rng, np.tile(initial, (len(lengths), 1)))
        states, words = [], []
        for _ in range(lengths.max()):
            states.append(z)
            words.append(categorical(rng, emission[z]))
            z = categorical(rng, transition[z])
        there = np.arange(lengths.max()) < lengths[:, None]  # (N, T)
        self.items = {
            "tokens": torch.tensor(np.stack(words, 1)[there], dtype=torch.int32),
            "tags": torch.tensor(np.stack(states, 1)[there], dtype=torch.int32),
        }
        self.initial, self.transition, self.emission = map(
            torch.from_numpy, (initial, transition, emission)
        )
        rows = starts(torch.from_numpy(lengths))
        return {split: take(rows, part) for split, part in parts(self.n).items()}

    def assets(self) -> dict[str, str]:
        """Return `vocabulary.json`: the words and tags in the order of their positions."""
        return vocabulary_json(vocabulary=self.vocabulary, tags=self.tags)

    def spell(self, split: Split, index: int) -> str:
        """Return a sentence as word/state, separated by spaces."""
        span = self.span(split, index)
        words, states = (self.items[key][span].tolist() for key in ("tokens", "tags"))
        return " ".join(
            f"{self.vocabulary[w]}/{self.tags[z]}" for w, z in zip(words, states, strict=True)
        )


class FakeBagOfWords(RaggedDataModule):
    """Documents of known topics, with the batches of BagOfWords.

    After `setup()`, row k of `topics` (K, V) is the distribution over words of topic k, and a row
    of `proportions[split]` (N, K) is the distribution over topics of a document, both float64.

    Args:
        n: Number of training documents; validation and test have a quarter as many each.
        batch_size: Documents per batch and process.
        seed: Seed of the topics, the documents and their order.
        n_topics: Number K of topics.
        words: Number V of different words.
        length: Mean number of words in a document.
        alpha: Parameter of the Dirichlet distribution of each document's proportions.
    """

    units = ("documents", "words")

    def __init__(
        self,
        n: int = 512,
        batch_size: int = 128,
        seed: int = 0,
        n_topics: int = 4,
        words: int = 100,
        length: int = 60,
        alpha: float = 0.3,
    ) -> None:
        super().__init__(batch_size, seed)
        check_at_least(1, n=n, n_topics=n_topics, words=words, length=length)
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha}, but must be above 0.")
        self.n = n
        self.n_topics = n_topics
        self.words = words
        self.length = length
        self.alpha = alpha
        self.vocabulary = [f"w{i}" for i in range(words)]
        self.topics = torch.empty(0)
        self.proportions: dict[Split, Tensor] = {}

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(folder=None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Draw the topics and all documents."""
        rng = np.random.default_rng([self.seed, DOCUMENTS])
        topics = word_distributions(rng, self.n_topics, self.words)
        n = self.n + 2 * quarter(self.n)
        theta = rng.dirichlet(np.full(self.n_topics, self.alpha), n)  # (N, K)
        sizes = 1 + rng.poisson(self.length - 1, n)
        p = theta @ topics
        counts = rng.multinomial(sizes, p / p.sum(1, keepdims=True))  # (N, V)
        there = counts > 0
        self.items = {
            "tokens": torch.tensor(there.nonzero()[1], dtype=torch.int32),
            "counts": torch.tensor(counts[there], dtype=torch.int32),
        }
        self.topics = torch.from_numpy(topics)
        found = {split: torch.from_numpy(theta)[part] for split, part in parts(self.n).items()}
        self.proportions = found
        rows = starts(torch.from_numpy(there.sum(1)))
        return {split: take(rows, part) for split, part in parts(self.n).items()}

    def size(self, split: Split) -> int:
        """Return the number of words in the documents of a split, repetitions included."""
        return count_words(self.items["counts"], self.splits[split])

    def spell(self, split: Split, index: int) -> str:
        """Return a document's words with their counts, the most frequent first."""
        span = self.span(split, index)
        words = (self.vocabulary[i] for i in self.items["tokens"][span].tolist())
        return spell_counts(words, self.items["counts"][span].tolist())


def quarter(n: int) -> int:
    """Return the size of the validation and the test split for n training examples."""
    return max(1, n // 4)


def parts(n: int) -> dict[Split, Tensor]:
    """Return the consecutive positions of each split, for n training examples."""
    sizes = [n, quarter(n), quarter(n)]
    train, val, test = torch.split(torch.arange(sum(sizes)), sizes)
    return {"train": train, "val": val, "test": test}


def word_distributions(rng: np.random.Generator, rows: int, words: int) -> NDArray[np.float64]:
    """Draw distributions (rows, words) with few likely words and no impossible word."""
    peaked = rng.dirichlet(np.full(words, 0.1), rows)
    return (1 - FLOOR) * peaked + FLOOR / words


def categorical(rng: np.random.Generator, p: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw from each row of p (N, K), by inverting its distribution function: (N,)."""
    below = p.cumsum(1)[:, :-1] <= rng.random((len(p), 1))
    drawn: NDArray[np.int64] = below.sum(1, dtype=np.int64)
    return drawn
