"""Handwritten digits that come with scikit-learn and need no download."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from zoo.datamodules.base import (
    Binarization,
    ImageDataModule,
    Split,
    check_at_least,
    split_indices,
    take,
)
from zoo.datamodules.files.places import Inventory


class Digits(ImageDataModule):
    """The 1,797 digits of scikit-learn (UCI, 8 x 8 pixels), enlarged to look like MNIST's.

    White on black; the digit fills 20/28 of the picture's side, as in MNIST. The split by the seed
    is 1,297 for training, 250 for validation and 250 for testing.

    Args:
        batch_size: Images per batch and process.
        binarization: "dynamic" draws pixels as 0 or 1 in each epoch, "static" draws them once, and
            "none" keeps them grey.
        seed: Seed of the split, the order of training images, and pixels that are drawn once.
        size: Height and width of the images in pixels, at least 8.
    """

    about = (
        "The 1,797 handwritten digits that ship with scikit-learn (Alpaydin & Kaynak 1998), "
        "enlarged. CC BY 4.0."
    )
    knows = "digits of eight by eight pixels, and was not made to read handwriting"

    def __init__(
        self,
        batch_size: int = 128,
        binarization: Binarization = "dynamic",
        seed: int = 0,
        size: int = 28,
    ) -> None:
        check_at_least(8, size=size)
        super().__init__((1, size, size), batch_size, binarization, seed)
        self.size = size

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(folder=None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `image` uint8 (N, 1, size, size) and `label` int64 (N,)."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        grey = torch.tensor(digits.images, dtype=torch.float32)[:, None] * (255 / 16)
        inner = max(8, round(self.size * 20 / 28))
        large = interpolate(grey, size=(inner, inner), mode="bicubic").clamp(0, 255).round()
        before = (self.size - inner) // 2
        after = self.size - inner - before
        tensors = {
            "image": pad(large, (before, after, before, after)).to(torch.uint8),
            "label": torch.tensor(digits.target, dtype=torch.int64),
        }
        parts = split_indices(len(grey), 250, 250, self.seed)
        return {split: take(tensors, index) for split, index in parts.items()}
