"""Coherence against counts made by hand, and against gensim where that is installed."""

import itertools
import math

import pytest
import torch

from zoo.metrics import TopicCoherence

DOCUMENTS = [
    {0: 2, 1: 1},
    {0: 1, 1: 1, 2: 4},
    {1: 1, 4: 1},
    {2: 1, 3: 1, 4: 1},
    {0: 1},
    {},
    {0: 1, 1: 3, 4: 1},
]
TOP = torch.tensor([[0, 1, 2], [4, 3, 0], [1, 0, 4]])


def counts(documents=DOCUMENTS, terms=6):
    x = torch.zeros(len(documents), terms)
    for row, document in zip(x, documents, strict=True):
        for term, count in document.items():
            row[term] = count
    return x


def measured(x, top):
    metric = TopicCoherence(top)
    for part in x.split(3):
        metric.update(part)
    return metric.compute()


def by_hand(documents, top):
    def having(*terms):
        return sum(all(t in d for t in terms) for d in documents)

    n = len(documents)
    umass, npmi = [], []
    for topic in top.tolist():
        pairs = [*itertools.combinations(topic, 2)]  # the more probable first
        umass.append(sum(math.log((having(a, b) + 1) / having(a)) for a, b in pairs) / len(pairs))
        values = []
        for a, b in pairs:
            p_a, p_b, p = (having(*t) / n for t in ((a,), (b,), (a, b)))
            values.append(math.log(p / (p_a * p_b)) / -math.log(p) if p else -1.0)
        npmi.append(sum(values) / len(values))
    return torch.tensor(umass, dtype=torch.float64), torch.tensor(npmi, dtype=torch.float64)


def test_coherence_is_that_of_counts_by_hand():
    found = measured(counts(), TOP)
    for value, other in zip(found, by_hand(DOCUMENTS, TOP), strict=True):
        torch.testing.assert_close(value, other)


def test_extremes():
    together = [{0: 1, 1: 1}] * 3 + [{2: 1}] * 4
    extremes = [
        (together, 1),
        ([{0: 1}] * 3 + [{1: 1}] * 4, -1),  # apart
        ([{0: 1, 1: 1}, {0: 1}, {1: 1}, {}], 0),  # independent
        ([{0: 1, 1: 1}] * 5, 0),  # everywhere
    ]
    for documents, wanted in extremes:
        npmi = measured(counts(documents), torch.tensor([[0, 1]])).npmi
        assert float(npmi) == pytest.approx(wanted, abs=1e-12)
    # a term that no document has
    absent = measured(counts(together), torch.tensor([[5, 0], [0, 5]]))
    assert absent.npmi.tolist() == [-1, -1]
    assert absent.umass.tolist() == pytest.approx([0, math.log(1 / 3)])


def test_fewer_than_two_terms_are_refused():
    for top in (torch.tensor([[1], [2]]), torch.tensor([1, 2])):
        with pytest.raises(ValueError, match="at least 2 terms"):
            TopicCoherence(top)


def test_gensim_says_the_same(monkeypatch):
    pytest.importorskip("gensim")
    from gensim.corpora import Dictionary
    from gensim.topic_coherence import direct_confirmation_measure as confirmation
    from gensim.topic_coherence.probability_estimation import p_boolean_document
    from gensim.topic_coherence.segmentation import s_one_pre

    x = (torch.rand(60, 12) < torch.linspace(0.2, 0.7, 12)).float()
    top = torch.stack([torch.randperm(12)[:5] for _ in range(4)])
    texts = [[f"{w:02d}" for w in row.nonzero()[:, 0].tolist()] for row in x]
    dictionary = Dictionary([[f"{w:02d}" for w in range(12)]])
    corpus = [dictionary.doc2bow(text) for text in texts]
    assert [dictionary.token2id[f"{w:02d}"] for w in range(12)] == [*range(12)]
    # gensim pairs each term with those before it
    pairs = s_one_pre(top.numpy())
    counted = p_boolean_document(corpus, pairs)
    found = measured(x, top)
    monkeypatch.setattr(confirmation, "EPSILON", 1 / len(x))  # Mimno's 1 document
    umass = confirmation.log_conditional_probability(pairs, counted)
    assert found.umass.tolist() == pytest.approx(umass, rel=1e-9)
    monkeypatch.setattr(confirmation, "EPSILON", 0.0)
    npmi = confirmation.log_ratio_measure(pairs, counted, normalize=True)
    assert found.npmi.tolist() == pytest.approx(npmi, rel=1e-9)
