"""Drawn faces that need no files: a stand-in for CelebA in tests and in trials of a recipe.

A face is ellipses laid over each other: hair, head, eyes, and a mouth along the parabola
y = y_0 + c x^2, whose corners are up where c is negative. Every attribute is visible in the
picture. Attributes are independent, except that a face has hair of one of three colours or none.
"""

import math

import torch
from torch import Tensor

from zoo.datamodules.base import SHAPES, Split, check_at_least
from zoo.datamodules.faces.base import FaceDataModule
from zoo.datamodules.files.places import Inventory
from zoo.datamodules.loader import seeded

HAIR = {
    "Bald": None,
    "Black_Hair": (0.08, 0.07, 0.07),
    "Blond_Hair": (0.92, 0.78, 0.40),
    "Brown_Hair": (0.45, 0.26, 0.12),
}
OTHERS = ("Eyeglasses", "Mouth_Slightly_Open", "Pale_Skin", "Smiling")
AT_ONCE = 256


class FakeFaces(FaceDataModule):
    """Drawn faces with eight of CelebA's attributes, in CelebA's batches.

    The attributes are Bald, Black_Hair, Blond_Hair, Brown_Hair, Eyeglasses, Mouth_Slightly_Open,
    Pale_Skin and Smiling. People differ in the proportions of their heads. Each person is in one
    split, with four pictures on average.

    Args:
        size: Height and width of the pictures in pixels, at least 16.
        n: Number of training pictures; validation and test have a quarter as many each.
        batch_size: Pictures per batch and process.
        seed: Seed of the pictures and their order.
        attributes: Names of the attributes to deliver, in this order; all eight when None.
        unlabelled: Whether as many training pictures without attributes are mixed in; batches then
            have `labelled`, and attributes are 0 where it is False.
    """

    def __init__(
        self,
        size: int = 64,
        n: int = 512,
        batch_size: int = 128,
        seed: int = 0,
        attributes: list[str] | None = None,
        unlabelled: bool = False,
    ) -> None:
        check_at_least(16, size=size)
        check_at_least(1, n=n)
        super().__init__(size, batch_size, seed, attributes, unlabelled, (*HAIR, *OTHERS))
        self.n = n

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(folder=None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits; their `image` is uint8 (N, 3, size, size)."""
        generator = seeded(self.seed, SHAPES)
        quarter = max(1, self.n // 4)
        sizes: dict[Split, int] = {"train": self.n, "val": quarter, "test": quarter}
        splits = {}
        pictures = people = 0
        for split, labelled in sizes.items():
            n = labelled * (2 if self.unlabelled and split == "train" else 1)
            tensors = self._draw(n, generator)
            tensors["identity"] += people + 1
            tensors["image_id"] = torch.arange(n) + pictures + 1
            if self.unlabelled:
                tensors["labelled"] = torch.arange(n) < labelled
                tensors["attributes"][labelled:] = 0
            pictures, people = int(tensors["image_id"][-1]), int(tensors["identity"].max())
            splits[split] = tensors
        return splits

    def _draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        identity = torch.randint(math.ceil(n / 4), (n,), generator=generator)
        person = torch.rand(math.ceil(n / 4), 3, generator=generator)[identity]
        hair = torch.randint(len(HAIR), (n,), generator=generator)
        attributes = torch.cat(
            [
                torch.eye(len(HAIR), dtype=torch.int64)[hair],
                torch.randint(2, (n, len(OTHERS)), generator=generator),
            ],
            dim=1,
        )
        scene = torch.rand(n, 5, generator=generator)
        cuts = [slice(start, start + AT_ONCE) for start in range(0, n, AT_ONCE)]
        images = [draw_faces(attributes[c], person[c], scene[c], self.size) for c in cuts]
        return {
            "image": torch.cat(images),
            "attributes": attributes[:, self.columns],
            "identity": identity,
        }


def draw_faces(attributes: Tensor, person: Tensor, scene: Tensor, size: int) -> Tensor:
    """Draw faces.

    Args:
        attributes: 1 or 0 for each of Bald, Black_Hair, Blond_Hair, Brown_Hair, Eyeglasses,
            Mouth_Slightly_Open, Pale_Skin and Smiling, (n, 8).
        person: Width and height of the head and distance of the eyes, in [0, 1], (n, 3).
        scene: Shift to the right and down, and colour of the background, in [0, 1], (n, 5).
        size: Height and width in pixels.

    Returns:
        Pixels, uint8 (n, 3, size, size).
    """
    n = len(attributes)
    on = attributes.float().view(n, -1, 1, 1).unbind(1)  # each (n, 1, 1)
    glasses, opened, pale, smiling = on[len(HAIR) :]
    wide, high, apart = person.view(n, 3, 1, 1).unbind(1)
    right, down = scene[:, :2].view(n, 2, 1, 1).unbind(1)
    grid = (torch.arange(size) + 0.5) / size
    x = grid.view(1, 1, -1) - 0.5 - 0.08 * (right - 0.5)  # from the middle of the head, (n, 1, S)
    y = grid.view(1, -1, 1) - 0.52 - 0.08 * (down - 0.5)  # (n, S, 1)
    width, height, eye = 0.23 + 0.07 * wide, 0.31 + 0.06 * high, 0.10 + 0.03 * apart

    def soft(inside: Tensor) -> Tensor:
        return torch.sigmoid(3 * size * inside)  # an edge of about a pixel

    def ellipse(cx: Tensor | float, cy: float, rx: Tensor | float, ry: Tensor | float) -> Tensor:
        return soft((1 - torch.hypot((x - cx) / rx, (y - cy) / ry)) * 0.5 * (rx + ry))

    def colour(*rgb: float) -> Tensor:
        return torch.tensor(rgb).view(1, 3, 1, 1)

    image = (0.25 + 0.65 * scene[:, 2:]).view(n, 3, 1, 1).expand(n, 3, size, size)

    def paint(mask: Tensor, rgb: Tensor) -> None:
        nonlocal image
        image = image + mask.unsqueeze(1) * (rgb - image)  # (n, 3, S, S)

    head = ellipse(0.0, 0.0, width, height)
    skin = torch.lerp(colour(0.72, 0.50, 0.36), colour(0.98, 0.87, 0.80), pale.unsqueeze(1))
    hair = [(on[k], colour(*rgb)) for k, rgb in enumerate(HAIR.values()) if rgb]
    cap = ellipse(0.0, -0.06, width + 0.07, height + 0.07)
    for has, rgb in hair:
        paint(has * cap, rgb)
    paint(head, skin)
    for has, rgb in hair:
        paint(has * cap * soft(-y - 0.17 - 0.8 * x.square()), rgb)
    for side in (-1, 1):
        paint(ellipse(side * eye, -0.05, 0.055, 0.035), colour(0.97, 0.97, 0.97))
        paint(ellipse(side * eye, -0.05, 0.024, 0.03), colour(0.15, 0.20, 0.30))
        rim = ellipse(side * eye, -0.05, 0.095, 0.085) - ellipse(side * eye, -0.05, 0.07, 0.06)
        paint(glasses * rim, colour(0.05, 0.05, 0.08))
    bridge = soft(0.014 - (y + 0.06).abs()) * soft(eye - 0.085 - x.abs())
    paint(glasses * bridge, colour(0.05, 0.05, 0.08))
    paint(ellipse(0.0, 0.06, 0.02, 0.04), 0.8 * skin)
    middle = 0.19 - 0.02 * smiling + (1.0 - 6.0 * smiling) * x.square()
    lips = soft(0.018 + 0.017 * opened - (y - middle - 0.03 * smiling).abs()) * soft(0.11 - x.abs())
    paint(lips, colour(0.72, 0.18, 0.20))
    gap = soft(0.018 - (y - middle - 0.03 * smiling).abs()) * soft(0.09 - x.abs())
    paint(opened * gap, colour(0.22, 0.04, 0.05))
    return (image * 255).round().to(torch.uint8)
