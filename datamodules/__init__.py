"""Data for the zoo: LightningDataModules whose batches are dicts of tensors."""

from datamodules.bag_of_words import BagOfWords
from datamodules.captions import Captions
from datamodules.celeba import CelebA
from datamodules.digits import Digits
from datamodules.fake import FakeImages
from datamodules.fake_faces import FakeFaces
from datamodules.fake_texts import FakeBagOfWords, FakeTaggedText
from datamodules.folder import ImageFolder
from datamodules.mnist import MNIST, FashionMNIST
from datamodules.sequences import IceCream, Sequences
from datamodules.sprites import ColouredSprites, Sprites
from datamodules.tagged_text import TaggedText

__all__ = [
    "MNIST",
    "BagOfWords",
    "Captions",
    "CelebA",
    "ColouredSprites",
    "Digits",
    "FakeBagOfWords",
    "FakeFaces",
    "FakeImages",
    "FakeTaggedText",
    "FashionMNIST",
    "IceCream",
    "ImageFolder",
    "Sequences",
    "Sprites",
    "TaggedText",
]
