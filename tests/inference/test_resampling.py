"""Weights by the rarity of codes against loops, and what loaders draw by them."""

import math
from itertools import chain

import pytest
import torch

from zoo.datamodules.loader import Batches, Shuffled
from zoo.inference.resampling import REACH, histogram_shares, resampling_weights


def test_shares_and_weights_are_those_of_loops():
    codes = 2 * torch.randn(40, 3)
    codes[0], codes[1, 2] = 9.0, -9.0  # beyond the histogram
    bins, alpha = 5, 0.1
    edges = [-REACH + 2 * REACH * k / bins for k in range(1, bins)]
    place = [[sum(v >= e for e in edges) for v in row] for row in codes.tolist()]
    shares = [
        [sum(other[i] == row[i] for other in place) / len(place) for i in range(3)] for row in place
    ]
    torch.testing.assert_close(
        histogram_shares(codes, bins), torch.tensor(shares, dtype=torch.float64)
    )
    w = [1 / math.prod(q + alpha for q in row) for row in shares]
    expected = torch.tensor([v / sum(w) * len(w) for v in w], dtype=torch.float64)
    torch.testing.assert_close(resampling_weights(codes, alpha, bins), expected)


def test_alpha_goes_from_uniform_over_codes_to_uniform_over_data():
    codes = torch.tensor([0.0] * 95 + [3.0] * 5)[:, None]
    for alpha, share in ((1e-9, 0.5), (1e9, 0.05)):
        assert resampling_weights(codes, alpha, 3)[95:].sum().item() / 100 == pytest.approx(share)


def test_a_latent_variable_that_says_nothing_weighs_all_alike():
    codes = torch.randn(200, 2)
    idle = torch.cat([codes, 1e-2 * torch.randn(200, 5)], 1)
    torch.testing.assert_close(
        resampling_weights(idle, 0.1, 11), resampling_weights(codes, 0.1, 11)
    )


def test_many_latent_variables_do_not_overflow():
    w = resampling_weights(3 * torch.randn(500, 2000), 1e-6, 11)
    assert w.isfinite().all()
    assert w.mean().item() == pytest.approx(1)


def test_draws_have_the_frequencies_of_the_weights():
    n, epochs = 50, 2000
    weights = resampling_weights(torch.randn(n, 4), 0.05, 11)
    order = Shuffled(n, seed=3, rank=0, world_size=1)
    order.weights = weights
    counts = torch.zeros(n, dtype=torch.float64)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        counts += torch.bincount(order.indices(), minlength=n)
    p = weights / weights.sum()
    error = (p * (1 - p) * n * epochs).sqrt()
    assert p.max() / p.min() > 10
    assert ((counts - n * epochs * p).abs() < 4.5 * error).all()


def loader(rank=0, world_size=1, batch_size=6, shuffle=True):
    return Batches(
        {"x": torch.arange(31)},
        batch_size,
        finish=dict,
        shuffle=shuffle,
        seed=1,
        rank=rank,
        world_size=world_size,
    )


def drawn(loaded, weights):
    loaded.weigh(weights)
    return [batch["index"].tolist() for batch in loaded]


def test_processes_share_one_processes_draws():
    weights = torch.rand(31, dtype=torch.float64)
    alone = drawn(loader(), weights)
    first, second = (drawn(loader(rank, 2, 3), weights) for rank in range(2))
    assert len(first) == len(second)
    for together, a, b in zip(alone[:-2], first, second, strict=False):
        assert sorted(together) == sorted(a + b)
    assert sorted(chain(*alone)) == sorted(chain(*first, *second))
    assert len({*chain(*alone)}) < 31  # some are drawn twice


def test_weights_are_for_what_is_shuffled():
    weights = torch.zeros(31, dtype=torch.float64)
    weights[7] = 1
    assert {*chain(*drawn(loader(), weights))} == {7}
    assert [*chain(*drawn(loader(shuffle=False), weights))] == [*range(31)]
    with pytest.raises(ValueError, match="there are 31 examples"):
        loader().weigh(torch.ones(30))
