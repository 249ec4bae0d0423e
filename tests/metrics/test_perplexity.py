"""Perplexity against its definition, and its error against the spread of many corpora."""

import math

import pytest
import torch

from zoo.metrics import perplexity


def test_words_count_and_not_documents():
    log_prob, words = torch.tensor([-10.0, -90.0]), torch.tensor([10, 20])
    assert perplexity(log_prob, words).value == pytest.approx(math.exp(100 / 30))
    # a word that is one of 8 equally likely
    words = torch.tensor([3, 50, 7])
    found = perplexity(-math.log(8) * words, words)
    assert found.value == pytest.approx(8)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_the_standard_error_is_the_spread_over_corpora():
    n = torch.poisson(torch.full((4000, 100), 30.0)) + 1  # 4000 corpora of 100 documents
    level = 5 + 0.5 * torch.randn(4000, 100)  # nats a word
    found = [perplexity(-a, b) for a, b in zip(level * n, n, strict=True)]
    values = torch.tensor([f.value for f in found])
    errors = torch.tensor([f.standard_error for f in found])
    # the spread of 4000 values is known to 1.1 %
    assert values.std().item() == pytest.approx(errors.mean().item(), rel=0.05)


def test_one_document_has_no_error_and_no_words_no_perplexity():
    found = perplexity(torch.tensor([-6.0]), torch.tensor([3]))
    assert found == (pytest.approx(math.exp(2)), None)
    with pytest.raises(ValueError, match="the 3 documents have none"):
        perplexity(torch.zeros(3), torch.zeros(3))
