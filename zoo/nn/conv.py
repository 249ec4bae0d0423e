"""Convolutional encoder and decoder, whose stages halve or double height and width."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from zoo.nn.mlp import ACTIVATIONS, Activation, mlp

Stage = tuple[int, int, int]
"""Kernel, stride and padding of a convolution."""


def stages(x_shape: Sequence[int], channels: Sequence[int], patch: int = 0) -> list[Stage]:
    """Return one stage for each of `channels`, the image's first; each halves height and width.

    Args:
        x_shape: Shape of an image, (C, H, W).
        channels: Output channels of each stage.
        patch: If not 0, the first stage takes squares with sides of this many pixels instead.

    Raises:
        ValueError: if there are no channels, or the strides do not divide the image.
    """
    chosen = [(4, 2, 1)] * len(channels)
    if patch:
        chosen[:1] = [(patch, patch, 0)]
    factor = math.prod(stride for _, stride, _ in chosen)
    if not channels or x_shape[1] % factor or x_shape[2] % factor:
        raise ValueError(
            f"channels={tuple(channels)} divide the image's sides by {factor}, but "
            f"{x_shape[1]}x{x_shape[2]} cannot be divided so; "
            f"use a size divisible by {factor} or give fewer (at least one) channels."
        )
    return chosen


class ResidualConv(nn.Module):
    """Residual block: h + W_2 f(W_1 f(h)), with a 3x3 and a 1x1 convolution.

    Args:
        channels: Channels of input and output, (B, channels, H, W).
        activation: The non-linearity f.
    """

    def __init__(self, channels: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, h: Tensor) -> Tensor:
        update: Tensor = self.residual(h)
        return h + update


def grid_shape(
    x_shape: Sequence[int], channels: Sequence[int], patch: int = 0
) -> tuple[int, int, int]:
    """Shape of the stages' output for an image, (K, H / s, W / s): see `stages`."""
    factor = math.prod(stride for _, stride, _ in stages(x_shape, channels, patch))
    return channels[-1], x_shape[1] // factor, x_shape[2] // factor


def down(
    x_shape: Sequence[int],
    channels: Sequence[int],
    activation: Activation,
    residual_blocks: int,
    patch: int = 0,
) -> list[nn.Module]:
    """Layers from images, (B, C, H, W), to features, (B, *grid_shape): stages, then blocks."""
    layers: list[nn.Module] = []
    width = x_shape[0]
    for features, stage in zip(channels, stages(x_shape, channels, patch), strict=True):
        layers += [nn.Conv2d(width, features, *stage), ACTIVATIONS[activation]()]
        width = features
    blocks = [ResidualConv(width, activation) for _ in range(residual_blocks)]
    return [*layers[:-1], *blocks, layers[-1]]


def up(
    channels: Sequence[int],
    x_shape: Sequence[int],
    activation: Activation,
    residual_blocks: int,
    patch: int = 0,
) -> list[nn.Module]:
    """Layers from features, (B, *grid_shape), to images, (B, C, H, W): the reverse of `down`."""
    width = channels[-1]
    layers: list[nn.Module] = [ResidualConv(width, activation) for _ in range(residual_blocks)]
    outputs = [*reversed(channels[:-1]), x_shape[0]]
    for features, stage in zip(outputs, reversed(stages(x_shape, channels, patch)), strict=True):
        layers += [ACTIVATIONS[activation](), nn.ConvTranspose2d(width, features, *stage)]
        width = features
    return layers


class ConvEncoder(nn.Sequential):
    """Strided convolutions, then a linear map: (B, C, H, W) to (B, outputs).

    Args:
        x_shape: Shape of an image, (C, H, W).
        channels: Channels of each stage; every stage halves height and width.
        outputs: Number of output features.
        activation: Non-linearity after each stage.
        residual_blocks: Residual blocks after the last stage.
        patch: If not 0, the first stage takes disjoint squares with sides of this many pixels,
            which is faster.
        dense: Widths of hidden layers after the stages.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        channels: Sequence[int],
        outputs: int,
        activation: Activation = "relu",
        residual_blocks: int = 0,
        patch: int = 0,
        dense: Sequence[int] = (),
    ) -> None:
        layers = down(x_shape, channels, activation, residual_blocks, patch)
        features = math.prod(grid_shape(x_shape, channels, patch))
        super().__init__(*layers, nn.Flatten(), *mlp(features, dense, outputs, activation))
        self._stages = len(layers)

    def features(self, x: Tensor) -> Tensor:
        """Output of the stages: (B, C, H, W) to (B, *grid_shape)."""
        for layer in list(self)[: self._stages]:
            x = layer(x)
        return x

    def outputs(self, features: Tensor) -> Tensor:
        """Output of the encoder, given `features` of the images, (B, outputs)."""
        for layer in list(self)[self._stages :]:
            features = layer(features)
        return features


class ConvDecoder(nn.Module):
    """A linear map, then transposed convolutions: (B, inputs) to (B, C, H, W).

    Args:
        inputs: Number of input features.
        channels: Channels of each stage, deepest last as in the encoder; they are used in reverse.
        x_shape: Shape of the output image, (C, H, W).
        activation: Non-linearity before each stage.
        residual_blocks: Residual blocks before the first stage.
        patch: If not 0, the last stage gives squares with sides of this many pixels.
        dense: Widths of hidden layers before the stages.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int],
        x_shape: Sequence[int],
        activation: Activation = "relu",
        residual_blocks: int = 0,
        patch: int = 0,
        dense: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.grid = grid_shape(x_shape, channels, patch)
        linear = mlp(inputs, dense, math.prod(self.grid), activation)
        self.linear = linear if dense else linear[0]
        self.stages = nn.Sequential(*up(channels, x_shape, activation, residual_blocks, patch))

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z).unflatten(-1, self.grid)  # (B, K, H / 2^n, W / 2^n)
        x: Tensor = self.stages(h)
        return x
