"""Data for the zoo: LightningDataModules whose batches are dicts of tensors."""

from datamodules.digits import Digits
from datamodules.fake import FakeImages
from datamodules.folder import ImageFolder
from datamodules.mnist import MNIST, FashionMNIST
from datamodules.sprites import ColouredSprites, Sprites

__all__ = [
    "MNIST",
    "ColouredSprites",
    "Digits",
    "FakeImages",
    "FashionMNIST",
    "ImageFolder",
    "Sprites",
]
