"""The registry: one import line a family. Nothing that comes from a network names a module."""

from zoo.models.ae import AE as AE
from zoo.models.beta_tcvae import BetaTCVAE as BetaTCVAE
from zoo.models.classifier import Classifier as Classifier
from zoo.models.conditional_vae import ConditionalVAE as ConditionalVAE
from zoo.models.dbvae import DBVAE as DBVAE
from zoo.models.factor_analysis import FactorAnalysis as FactorAnalysis
from zoo.models.factor_vae import FactorVAE as FactorVAE
from zoo.models.flow_vae import FlowVAE as FlowVAE
from zoo.models.gmm import GMM as GMM
from zoo.models.hierarchical_vae import HierarchicalVAE as HierarchicalVAE
from zoo.models.hmm import HMM as HMM
from zoo.models.iwae import IWAE as IWAE
from zoo.models.lda import LDA as LDA
from zoo.models.ppca import PPCA as PPCA
from zoo.models.vae import VAE as VAE
from zoo.models.vae_gan import VAEGAN as VAEGAN
from zoo.models.vamp_prior_vae import VampPriorVAE as VampPriorVAE
from zoo.models.vqvae import VQVAE as VQVAE
from zoo.models.wae import WAE as WAE

FAMILIES = (
    "AE",
    "DBVAE",
    "GMM",
    "HMM",
    "IWAE",
    "LDA",
    "PPCA",
    "VAE",
    "VAEGAN",
    "VQVAE",
    "WAE",
    "BetaTCVAE",
    "Classifier",
    "ConditionalVAE",
    "FactorAnalysis",
    "FactorVAE",
    "FlowVAE",
    "HierarchicalVAE",
    "VampPriorVAE",
)
