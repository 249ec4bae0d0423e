"""Half precision: networks may use it, densities stay in float32."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from zoo.distributions.factorised import HALF


def suited(x: Tensor, network: nn.Module) -> Tensor:
    """Cast the input of a network to the precision of its weights, unless autocast does."""
    if torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(next(network.parameters()).dtype)


class AtLeastFloat32(nn.Module):
    """A module that stays in float32 when its model is cast to half precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def kept(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in HALF else moved

        super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        return self
