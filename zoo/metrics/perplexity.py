"""Perplexity of a corpus."""

import math
from typing import NamedTuple

from torch import Tensor


class Perplexity(NamedTuple):
    """The perplexity of a word, and its standard error over documents."""

    value: float
    standard_error: float


def perplexity(log_prob: Tensor, words: Tensor) -> Perplexity:
    r"""$\exp(-\sum_d \log p(x_d) / \sum_d n_d)$: each word counts, not each document.

    The standard error is that of a ratio of means, by the delta method: with
    $\ell = \sum_d \log p(x_d) / \sum_d n_d$ it is, of the logarithm,
    $\sqrt{\frac{N}{N - 1} \sum_d (\log p(x_d) - \ell n_d)^2} / \sum_d n_d$.

    Args:
        log_prob: Of the documents, in nats, (N,).
        words: How many words the probabilities are of, (N,).

    Raises:
        ValueError: if there are fewer than two documents, or no words.
    """
    log_prob, words = log_prob.double(), words.double()
    n, total = len(words), words.sum()
    if n < 2 or not total > 0:
        raise ValueError(
            f"a standard error needs at least 2 documents and 1 word, not {n} and {total:.0f}."
        )
    mean = log_prob.sum() / total
    error = (log_prob - mean * words).square().sum().mul(n / (n - 1)).sqrt() / total
    value = math.exp(-mean)
    return Perplexity(value, value * float(error))
