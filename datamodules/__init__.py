"""Data for the zoo: LightningDataModules whose batches are dicts of tensors."""

from datamodules.digits import Digits
from datamodules.fake import FakeImages
from datamodules.folder import ImageFolder
from datamodules.mnist import MNIST, FashionMNIST

__all__ = ["MNIST", "Digits", "FakeImages", "FashionMNIST", "ImageFolder"]
