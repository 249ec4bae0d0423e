"""Networks that another one learns against."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def frozen(network: nn.Module) -> Callable[[Tensor], Any]:
    """The network as a function of its input, which passes gradients on and gets none itself."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    return lambda x: functional_call(network, parameters, (x,))
