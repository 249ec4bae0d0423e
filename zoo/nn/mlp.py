"""Multilayer perceptrons, plain and residual."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "leaky_relu", "tanh", "silu"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


class ResidualBlock(nn.Module):
    r"""Pre-activation residual block (He et al. 2016): h + W_2 f(W_1 LayerNorm(h)).

    Args:
        width: Number of features, D; input and output have shape (*, D).
        activation: The non-linearity f.
    """

    def __init__(self, width: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            ACTIVATIONS[activation](),
            nn.Linear(width, width),
        )

    def forward(self, h: Tensor) -> Tensor:
        update: Tensor = self.residual(h)
        return h + update


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: Activation = "relu",
    residual_blocks: int = 0,
) -> nn.Sequential:
    """Build a multilayer perceptron from (*, inputs) to (*, outputs).

    Args:
        inputs: Number of input features.
        hidden: Width of each hidden layer; none makes the map affine.
        outputs: Number of output features.
        activation: Non-linearity after each hidden layer.
        residual_blocks: Number of residual blocks after the hidden layers.
    """
    layers: list[nn.Module] = []
    width = inputs
    for features in hidden:
        layers += [nn.Linear(width, features), ACTIVATIONS[activation]()]
        width = features
    if residual_blocks:
        layers += [ResidualBlock(width, activation) for _ in range(residual_blocks)]
        layers += [nn.LayerNorm(width), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
