"""Convolutions between images and grids of codes (van den Oord et al. 2017, section 4)."""

from collections.abc import Sequence

from torch import nn

from zoo.nn.conv import ResidualConv, stages


def grid_encoder(
    x_shape: Sequence[int], channels: Sequence[int], outputs: int, residual_blocks: int
) -> nn.Sequential:
    """From images (B, C, H, W) to grids (B, outputs, H / 2^n, W / 2^n).

    Args:
        x_shape: Shape of an image, (C, H, W).
        channels: Channels of each of the n stages; every stage halves height and width.
        outputs: Channels of the grid.
        residual_blocks: Behind the stages.
    """
    layers: list[nn.Module] = []
    width = x_shape[0]
    for features, stage in zip(channels, stages(x_shape, channels), strict=True):
        layers += [nn.Conv2d(width, features, *stage), nn.ReLU()]
        width = features
    blocks = [ResidualConv(width) for _ in range(residual_blocks)]
    return nn.Sequential(*layers[:-1], *blocks, nn.ReLU(), nn.Conv2d(width, outputs, 1))


def grid_decoder(
    inputs: int, channels: Sequence[int], x_shape: Sequence[int], residual_blocks: int
) -> nn.Sequential:
    """From grids (B, inputs, H / 2^n, W / 2^n) to images (B, C, H, W): the encoder, backwards."""
    width, chosen = channels[-1], stages(x_shape, channels)
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 3, padding=1)]
    layers += [ResidualConv(width) for _ in range(residual_blocks)]
    outputs = [*reversed(channels[:-1]), x_shape[0]]
    for features, stage in zip(outputs, reversed(chosen), strict=True):
        layers += [nn.ReLU(), nn.ConvTranspose2d(width, features, *stage)]
        width = features
    return nn.Sequential(*layers)
