"""Convolutional encoder and decoder: each stage halves, or doubles, height and width."""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.nn.mlp import ACTIVATIONS, Activation


def check_stages(x_shape: Sequence[int], channels: Sequence[int]) -> None:
    """Raise ValueError unless an image of `x_shape`, (C, H, W), can be halved at each stage."""
    factor = 2 ** len(channels)
    if not channels or x_shape[1] % factor or x_shape[2] % factor:
        raise ValueError(
            f"channels={tuple(channels)} halves the image {len(channels)} times, but "
            f"{x_shape[1]}x{x_shape[2]} cannot be halved so often; "
            f"use a size divisible by {factor} or give fewer (at least one) channels."
        )


class ResidualConv(nn.Module):
    """Residual block: h + W_2 f(W_1 f(h)), with a 3x3 and a 1x1 convolution.

    Args:
        channels: Of input and output, (B, channels, H, W).
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


class ConvEncoder(nn.Sequential):
    """Strided convolutions, then a linear map: (B, C, H, W) to (B, outputs).

    Args:
        x_shape: Shape of an image, (C, H, W).
        channels: Channels of each stage; every stage halves height and width.
        outputs: Number of output features.
        activation: Non-linearity after each stage.
        residual_blocks: Residual blocks behind the last stage.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        channels: Sequence[int],
        outputs: int,
        activation: Activation = "relu",
        residual_blocks: int = 0,
    ) -> None:
        check_stages(x_shape, channels)
        layers: list[nn.Module] = []
        width = x_shape[0]
        for features in channels:
            layers += [
                nn.Conv2d(width, features, kernel_size=4, stride=2, padding=1),
                ACTIVATIONS[activation](),
            ]
            width = features
        factor = 2 ** len(channels)
        area = (x_shape[1] // factor) * (x_shape[2] // factor)
        blocks = [ResidualConv(width, activation) for _ in range(residual_blocks)]
        super().__init__(
            *layers[:-1], *blocks, layers[-1], nn.Flatten(), nn.Linear(width * area, outputs)
        )


class ConvDecoder(nn.Module):
    """A linear map, then transposed convolutions: (B, inputs) to (B, C, H, W).

    Args:
        inputs: Number of input features.
        channels: Channels of each stage, deepest last as in the encoder; they are used in reverse.
        x_shape: Shape of the output image, (C, H, W).
        activation: Non-linearity before each stage.
        residual_blocks: Residual blocks before the first stage.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int],
        x_shape: Sequence[int],
        activation: Activation = "relu",
        residual_blocks: int = 0,
    ) -> None:
        super().__init__()
        check_stages(x_shape, channels)
        factor = 2 ** len(channels)
        self.grid = (channels[-1], x_shape[1] // factor, x_shape[2] // factor)
        self.linear = nn.Linear(inputs, self.grid[0] * self.grid[1] * self.grid[2])
        width = channels[-1]
        layers: list[nn.Module] = [ResidualConv(width, activation) for _ in range(residual_blocks)]
        for features in [*reversed(channels[:-1]), x_shape[0]]:
            layers += [
                ACTIVATIONS[activation](),
                nn.ConvTranspose2d(width, features, kernel_size=4, stride=2, padding=1),
            ]
            width = features
        self.stages = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z).unflatten(-1, self.grid)  # (B, K, H / 2^n, W / 2^n)
        x: Tensor = self.stages(h)
        return x
