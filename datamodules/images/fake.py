r"""Drawn shapes that need no files, for tests and trials of a recipe.

A shape of class $k$ is a star with $k$ rounded arms: in polar coordinates around a random centre it
is the region $\rho < R (1 + a_k \cos(k \theta + \phi))$, with a random size $R$ and rotation
$\phi$, drawn with soft edges; class 0 is a disc.
"""

import math

import torch
from torch import Tensor

from zoo.datamodules.base import SHAPES, Binarization, ImageDataModule, Split, check_at_least
from zoo.datamodules.files.places import Inventory
from zoo.datamodules.loader import seeded


class FakeImages(ImageDataModule):
    """White or coloured stars on black, labelled by their number of arms.

    Args:
        x_shape: Shape (C, H, W) of an image; with C > 1 every image has a random colour.
        n: Number of training images; validation and test have a quarter as many each.
        batch_size: Images per batch and process.
        seed: Seed of the images, their order, and pixels that are drawn once.
        binarization: "dynamic" draws pixels as 0 or 1 in each epoch, "static" draws them once, and
            "none" keeps them grey.
        classes: Number of classes, with 0 to classes - 1 arms.
    """

    about = "Drawn shapes, made by the program."
    knows = "drawn stars, for tests"

    def __init__(
        self,
        x_shape: tuple[int, int, int] = (1, 28, 28),
        n: int = 512,
        batch_size: int = 128,
        seed: int = 0,
        binarization: Binarization = "dynamic",
        classes: int = 10,
    ) -> None:
        if len(x_shape) != 3 or min(x_shape) < 1:
            raise ValueError(f"x_shape is {x_shape}, but must be three positive numbers (C, H, W).")
        check_at_least(1, n=n, classes=classes)
        channels, height, width = x_shape  # a recipe gives a list
        if n * channels * height * width > 2**28:
            raise ValueError(
                f"n is {n}, but so many images of {channels} x {height} x {width} pixels would not "
                f"fit in memory while they are drawn; take at most "
                f"{2**28 // (channels * height * width)}."
            )
        super().__init__((channels, height, width), batch_size, binarization, seed)
        self.n = n
        self.classes = classes

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(folder=None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `image` uint8 (N, C, H, W) and `label` int64 (N,)."""
        generator = seeded(self.seed, SHAPES)
        quarter = max(1, self.n // 4)
        return {
            "train": self._draw(self.n, generator),
            "val": self._draw(quarter, generator),
            "test": self._draw(quarter, generator),
        }

    def _draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        channels, height, width = self.x_shape
        side = min(height, width)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

        label = torch.randint(self.classes, (n,), generator=generator)
        arms = label.view(n, 1, 1)
        size = uniform(0.22, 0.34) * side
        y = torch.arange(height).view(1, -1, 1) + 0.5 - height * uniform(0.42, 0.58)  # (n, H, 1)
        x = torch.arange(width).view(1, 1, -1) + 0.5 - width * uniform(0.42, 0.58)  # (n, 1, W)
        theta = torch.atan2(y, x) + uniform(0, 2 * math.pi)  # (n, H, W)
        edge = size * (1 + 0.4 * (arms > 0) * torch.cos(arms * theta))
        ink = torch.sigmoid((edge - torch.hypot(x, y)) / (0.025 * side))
        colour = torch.ones(n, 1, 1, 1)
        if channels > 1:
            colour = 0.3 + 0.7 * torch.rand(n, channels, 1, 1, generator=generator)
        image = ink[:, None] * colour * 255  # (n, C, H, W)
        return {"image": image.round().to(torch.uint8), "label": label}
