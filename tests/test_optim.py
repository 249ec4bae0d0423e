"""The optimiser against the formula of its step."""

import pytest
import torch
from torch import nn

from zoo.optim import adam


def stepped(weight_decay, gradient):
    """Weights and biases of a layer, before and after one step with that gradient everywhere."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = adam(layer.parameters(), 0.1, "constant", 0, 1, weight_decay=weight_decay)
    for p in layer.parameters():
        p.grad = torch.full_like(p, gradient)
    optimizer["optimizer"].step()
    return before, [p.detach() for p in layer.parameters()]


def test_weight_decay_shrinks_weights_and_no_biases():
    (weight, bias), (new_weight, new_bias) = stepped(0.5, 0.0)
    torch.testing.assert_close(new_weight, weight * (1 - 0.1 * 0.5))
    assert torch.equal(new_bias, bias)


@pytest.mark.parametrize("gradient", [-3.0, 0.01])
def test_the_first_step_is_as_long_as_the_learning_rate(gradient):
    before, after = stepped(0.0, gradient)
    for old, new in zip(before, after, strict=True):
        sign = 1 if gradient > 0 else -1
        torch.testing.assert_close(new, old - 0.1 * sign, rtol=1e-5, atol=1e-5)
