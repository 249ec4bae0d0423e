"""The registry: one import line a family. Nothing that comes from a network names a module."""

from zoo.models.classifier import Classifier as Classifier
from zoo.models.factor_analysis import FactorAnalysis as FactorAnalysis
from zoo.models.gmm import GMM as GMM
from zoo.models.hmm import HMM as HMM
from zoo.models.lda import LDA as LDA
from zoo.models.ppca import PPCA as PPCA
from zoo.models.vae import VAE as VAE

FAMILIES = ("Classifier", "FactorAnalysis", "GMM", "HMM", "LDA", "PPCA", "VAE")
