"""The registry: one import line a family. Nothing that comes from a network names a module."""

from zoo.models.autoencoders.ae import AE as AE
from zoo.models.autoencoders.beta_tcvae import BetaTCVAE as BetaTCVAE
from zoo.models.autoencoders.conditional_vae import ConditionalVAE as ConditionalVAE
from zoo.models.autoencoders.dbvae import DBVAE as DBVAE
from zoo.models.autoencoders.factor_vae import FactorVAE as FactorVAE
from zoo.models.autoencoders.flow_vae import FlowVAE as FlowVAE
from zoo.models.autoencoders.hierarchical_vae import HierarchicalVAE as HierarchicalVAE
from zoo.models.autoencoders.iwae import IWAE as IWAE
from zoo.models.autoencoders.vae import VAE as VAE
from zoo.models.autoencoders.vae_gan import VAEGAN as VAEGAN
from zoo.models.autoencoders.vamp_prior_vae import VampPriorVAE as VampPriorVAE
from zoo.models.autoencoders.vqvae import VQVAE as VQVAE
from zoo.models.autoencoders.wae import WAE as WAE
from zoo.models.classical.factor_analysis import FactorAnalysis as FactorAnalysis
from zoo.models.classical.gmm import GMM as GMM
from zoo.models.classical.hmm import HMM as HMM
from zoo.models.classical.lda import LDA as LDA
from zoo.models.classical.ppca import PPCA as PPCA
from zoo.models.classifier import Classifier as Classifier

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
