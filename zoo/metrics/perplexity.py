"""Perplexity of a corpus."""

import math
from typing import NamedTuple

from torch import Tensor


class Perplexity(NamedTuple):
    """The perplexity of a word, and its standard error over documents.

    The error is None for a single document, and for an infinite perplexity.
    """

    value: float
    standard_error: float | None


def perplexity(log_prob: Tensor, words: Tensor) -> Perplexity:
    r"""$\exp(-\sum_d \log p(x_d) / \sum_d n_d)$: words have equal weight, not documents.

    The standard error is that of a ratio of means, by the delta method: with
    $\ell = \sum_d \log p(x_d) / \sum_d n_d$, the error of the logarithm is
    $\sqrt{\frac{N}{N - 1} \sum_d (\log p(x_d) - \ell n_d)^2} / \sum_d n_d$.

    Args:
        log_prob: Log-probabilities of the documents, in nats, (N,).
        words: Number of words of each document, (N,).

    Raises:
        ValueError: if there are no words, or a probability is NaN.
    """
    log_prob, words = log_prob.double(), words.double()
    if log_prob.shape != words.shape:
        raise ValueError(f"there are {len(log_prob)} probabilities, but {len(words)} documents.")
    if log_prob.isnan().any():
        raise ValueError("log_prob has NaNs; see what made them.")
    n, total = len(words), words.sum()
    if not total > 0:
        raise ValueError(f"a perplexity needs words, but the {n} documents have none.")
    mean = log_prob.sum() / total
    value = math.exp(-mean) if -mean < 700 else math.inf
    if n < 2 or value == math.inf:  # of an impossible document
        return Perplexity(value, None)
    error = (log_prob - mean * words).square().sum().mul(n / (n - 1)).sqrt() / total
    return Perplexity(value, value * float(error))
