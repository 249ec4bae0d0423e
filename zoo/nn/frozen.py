"""Frozen networks for adversarial losses."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def frozen(network: nn.Module) -> Callable[[Tensor], Any]:
    """The network as a function of its input: gradients reach the input, not the parameters."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    return lambda x: functional_call(network, parameters, (x,))
