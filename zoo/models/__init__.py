"""The registry: one import line a family. Nothing that comes from a network names a module."""

from zoo.models.lda import LDA as LDA
from zoo.models.vae import VAE as VAE

FAMILIES = ("LDA", "VAE")
