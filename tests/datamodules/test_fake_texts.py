"""Drawn sentences and documents follow the parameters that they say they come from."""

import pytest
import torch

from zoo.datamodules import FakeBagOfWords, FakeTaggedText
from zoo.datamodules.text.bag_of_words import dense


def ready(data):
    data.prepare_data()
    data.setup()
    return data


def whole(data, key):
    return torch.cat([data.items[key][data.span("train", i)].long() for i in range(data.n)])


def largest_z(counts, p):
    """The largest deviation of multinomial counts, one row for each distribution, in errors."""
    n = counts.sum(-1, keepdim=True).double()
    return ((counts - n * p) / (n * p * (1 - p)).sqrt()).abs().max()


def test_sentences_follow_the_model():
    data = ready(FakeTaggedText(n=4000, states=3, words=20, length=10))
    k, v = 3, 20
    tags, words = whole(data, "tags"), whole(data, "tokens")
    lengths = data.splits["train"]["lengths"]
    first = torch.zeros_like(tags, dtype=torch.bool)
    first[lengths.cumsum(0) - lengths] = True
    # 3, 9 and 60 nearly normal deviations: the largest is below 4.5 in all but 0.1 % of seeds
    assert largest_z(torch.bincount(tags[first], minlength=k), data.initial) < 4.5
    pairs = (tags[:-1] * k + tags[1:])[~first[1:]]
    transitions = torch.bincount(pairs, minlength=k * k).view(k, k)
    assert largest_z(transitions, data.transition) < 4.5
    emissions = torch.bincount(tags * v + words, minlength=k * v).view(k, v)
    assert largest_z(emissions, data.emission) < 4.5
    assert lengths.min() == 1
    assert lengths.max() == 19
    # uniform on 1 to 19: mean 10, variance 30
    assert abs(lengths.double().mean() - 10) < 4.5 * (30 / 4000) ** 0.5


def test_documents_follow_their_topics():
    data = ready(FakeBagOfWords(n=4000, n_topics=3, words=25, length=40, batch_size=4000))
    (batch,) = data.train_dataloader()
    matrix = dense(batch, 25).double()
    theta = data.proportions["train"][batch["index"]]
    n = matrix.sum(1, keepdim=True)
    p = theta @ data.topics
    z = (matrix - n * p).sum(0) / (n * p * (1 - p)).sum(0).sqrt()
    assert z.abs().max() < 4.5
    # given sizes and proportions, the squared deviations of all cells add up to their degrees of
    # freedom, 24 for each document; words that are rare make their spread wider than chi-square's
    chi2 = ((matrix - n * p).square() / (n * p)).sum()
    assert chi2 / (24 * 4000) == pytest.approx(1, abs=0.02)
    # 1 + Poisson(39)
    assert abs(n.mean() - 40) < 4.5 * (39 / 4000) ** 0.5
    assert abs(theta.mean(0) - 1 / 3).max() < 4.5 * ((2 / 9) / (1.9 * 4000)) ** 0.5


@pytest.mark.parametrize("cls", [FakeTaggedText, FakeBagOfWords])
def test_parameters_are_distributions_and_follow_the_seed(cls):
    names = {
        FakeTaggedText: ["initial", "transition", "emission"],
        FakeBagOfWords: ["topics"],
    }[cls]
    a, b, other = ready(cls(n=20)), ready(cls(n=20)), ready(cls(n=20, seed=1))
    for name in names:
        p = getattr(a, name)
        assert torch.allclose(p.sum(-1), torch.ones((), dtype=torch.float64))
        assert (p > 0).all()
        assert torch.equal(p, getattr(b, name))
        assert not torch.equal(p, getattr(other, name))
    for key in a.items:
        assert torch.equal(a.items[key], b.items[key])
    assert {split: len(rows["lengths"]) for split, rows in a.splits.items()} == {
        "train": 20,
        "val": 5,
        "test": 5,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FakeTaggedText(n=0), "n is 0"),
        (lambda: FakeTaggedText(states=0), "states is 0"),
        (lambda: FakeTaggedText(length=0), "length is 0"),
        (lambda: FakeBagOfWords(n_topics=0), "n_topics is 0"),
        (lambda: FakeBagOfWords(alpha=0.0), "alpha is 0.0, but must be above 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [FakeTaggedText, FakeBagOfWords])
@pytest.mark.parametrize("size", [{"words": 1}, {"length": 1}, {"n": 1}])
def test_smallest_sizes(make, size):
    data = ready(make(**size))
    batch = next(iter(data.train_dataloader()))
    assert batch["mask"].any()
    assert data.examples(1)[0].text
