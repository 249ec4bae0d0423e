"""The registry: one import line a family. Nothing that comes from a network names a module."""

from zoo.models.factor_analysis import FactorAnalysis as FactorAnalysis
from zoo.models.ppca import PPCA as PPCA
from zoo.models.vae import VAE as VAE

FAMILIES = ("PPCA", "VAE", "FactorAnalysis")
