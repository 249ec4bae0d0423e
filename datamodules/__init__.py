"""Data for the zoo: LightningDataModules whose batches are dicts of tensors."""

from datamodules.celeba import CelebA
from datamodules.digits import Digits
from datamodules.fake import FakeImages
from datamodules.fake_faces import FakeFaces
from datamodules.folder import ImageFolder
from datamodules.mnist import MNIST, FashionMNIST

__all__ = ["MNIST", "CelebA", "Digits", "FakeFaces", "FakeImages", "FashionMNIST", "ImageFolder"]
