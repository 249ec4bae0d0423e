"""Convolutions between images and grids of codes (van den Oord et al. 2017, section 4)."""

from collections.abc import Sequence

from torch import nn

from zoo.nn.conv import down, up


def grid_encoder(
    x_shape: Sequence[int], channels: Sequence[int], outputs: int, residual_blocks: int
) -> nn.Sequential:
    """Build a network from images (B, C, H, W) to grids (B, outputs, H / 2^n, W / 2^n).

    Args:
        x_shape: Shape of an image, (C, H, W).
        channels: Channels of each of the n stages; every stage halves height and width.
        outputs: Channels of the grid.
        residual_blocks: Residual blocks after the stages.
    """
    layers = down(x_shape, channels, "relu", residual_blocks)
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], outputs, 1))


def grid_decoder(
    inputs: int, channels: Sequence[int], x_shape: Sequence[int], residual_blocks: int
) -> nn.Sequential:
    """Build the reverse of the encoder, from grids (B, inputs, H / 2^n, W / 2^n) to images."""
    return nn.Sequential(
        nn.Conv2d(inputs, channels[-1], 3, padding=1),
        *up(channels, x_shape, "relu", residual_blocks),
    )
