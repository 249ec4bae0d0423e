"""Convolutional encoder and decoder: each stage halves, or doubles, height and width."""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.nn.mlp import ACTIVATIONS, Activation


def check_stages(x_shape: Sequence[int], channels: Sequence[int], patch: int = 2) -> int:
    """By how much the stages divide height and width of an image of `x_shape`, (C, H, W).

    Raises:
        ValueError: if that leaves a rest.
    """
    factor: int = patch * 2 ** max(0, len(channels) - 1)
    if not channels or x_shape[1] % factor or x_shape[2] % factor:
        first = "" if patch == 2 else f" after patches of {patch}x{patch}"
        times = len(channels) if patch == 2 else len(channels) - 1
        raise ValueError(
            f"channels={tuple(channels)} halves the image {times} times{first}, but "
            f"{x_shape[1]}x{x_shape[2]} cannot be halved so often; "
            f"use a size divisible by {factor} or give fewer (at least one) channels."
        )
    return factor


def _scaling(i: int, patch: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of the stage that is i-th from the image."""
    return (4, 2, 1) if i > 0 or patch == 2 else (patch, patch, 0)


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
        patch: If not 2, the first stage takes squares of so many pixels a side, that do not
            overlap, which is faster.
        dense: Width of a hidden layer before the output, if not 0.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        channels: Sequence[int],
        outputs: int,
        activation: Activation = "relu",
        residual_blocks: int = 0,
        patch: int = 2,
        dense: int = 0,
    ) -> None:
        factor = check_stages(x_shape, channels, patch)
        layers: list[nn.Module] = []
        width = x_shape[0]
        for i, features in enumerate(channels):
            layers += [nn.Conv2d(width, features, *_scaling(i, patch)), ACTIVATIONS[activation]()]
            width = features
        area = (x_shape[1] // factor) * (x_shape[2] // factor)
        blocks = [ResidualConv(width, activation) for _ in range(residual_blocks)]
        super().__init__(
            *layers[:-1],
            *blocks,
            layers[-1],
            nn.Flatten(),
            *_linear(width * area, dense, outputs, activation),
        )


class ConvDecoder(nn.Module):
    """A linear map, then transposed convolutions: (B, inputs) to (B, C, H, W).

    Args:
        inputs: Number of input features.
        channels: Channels of each stage, deepest last as in the encoder; they are used in reverse.
        x_shape: Shape of the output image, (C, H, W).
        activation: Non-linearity before each stage.
        residual_blocks: Residual blocks before the first stage.
        patch: If not 2, the last stage gives squares of so many pixels a side.
        dense: Width of a hidden layer behind the input, if not 0.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int],
        x_shape: Sequence[int],
        activation: Activation = "relu",
        residual_blocks: int = 0,
        patch: int = 2,
        dense: int = 0,
    ) -> None:
        super().__init__()
        factor = check_stages(x_shape, channels, patch)
        self.grid = (channels[-1], x_shape[1] // factor, x_shape[2] // factor)
        width, height, breadth = self.grid
        linear = _linear(inputs, dense, width * height * breadth, activation)
        self.linear: nn.Module = nn.Sequential(*linear) if dense else linear[0]
        layers: list[nn.Module] = [ResidualConv(width, activation) for _ in range(residual_blocks)]
        outputs = [*reversed(channels[:-1]), x_shape[0]]
        for i, features in zip(reversed(range(len(channels))), outputs, strict=True):
            layers += [
                ACTIVATIONS[activation](),
                nn.ConvTranspose2d(width, features, *_scaling(i, patch)),
            ]
            width = features
        self.stages = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z).unflatten(-1, self.grid)  # (B, K, H / 2^n, W / 2^n)
        x: Tensor = self.stages(h)
        return x


def _linear(inputs: int, dense: int, outputs: int, activation: Activation) -> list[nn.Module]:
    """A linear map, or two with a hidden layer of width `dense` between them."""
    if not dense:
        return [nn.Linear(inputs, outputs)]
    return [nn.Linear(inputs, dense), ACTIVATIONS[activation](), nn.Linear(dense, outputs)]
