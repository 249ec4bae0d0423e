"""Data for the zoo: LightningDataModules whose batches are dicts of tensors."""

from datamodules.captions import Captions
from datamodules.digits import Digits
from datamodules.fake import FakeImages
from datamodules.folder import ImageFolder
from datamodules.mnist import MNIST, FashionMNIST

__all__ = ["MNIST", "Captions", "Digits", "FakeImages", "FashionMNIST", "ImageFolder"]
