"""Data for the zoo: LightningDataModules whose batches are dicts of tensors."""

from zoo.datamodules.captions.captions import Captions
from zoo.datamodules.faces.celeba import CelebA
from zoo.datamodules.faces.fake import FakeFaces
from zoo.datamodules.images.digits import Digits
from zoo.datamodules.images.fake import FakeImages
from zoo.datamodules.images.folder import ImageFolder
from zoo.datamodules.images.mnist import MNIST, FashionMNIST
from zoo.datamodules.sprites.sprites import ColouredSprites, Sprites
from zoo.datamodules.text.bag_of_words import BagOfWords
from zoo.datamodules.text.fake import FakeBagOfWords, FakeTaggedText
from zoo.datamodules.text.sequences import IceCream, Sequences
from zoo.datamodules.text.tagged_text import TaggedText

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
