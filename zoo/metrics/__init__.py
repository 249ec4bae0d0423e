"""Metrics that stream over batches and synchronise across processes."""

from zoo.metrics.active_units import ActiveUnits as ActiveUnits
from zoo.metrics.auroc import auroc as auroc
from zoo.metrics.coherence import Coherence as Coherence
from zoo.metrics.coherence import TopicCoherence as TopicCoherence
from zoo.metrics.disentanglement import DCI as DCI
from zoo.metrics.disentanglement import MIG as MIG
from zoo.metrics.disentanglement import SAP as SAP
from zoo.metrics.disentanglement import FactorVAEScore as FactorVAEScore
from zoo.metrics.disentanglement import Modularity as Modularity
from zoo.metrics.many_to_one import ManyToOne as ManyToOne
from zoo.metrics.perplexity import Perplexity as Perplexity
from zoo.metrics.perplexity import perplexity as perplexity
from zoo.metrics.probes import KNNProbe as KNNProbe
from zoo.metrics.probes import LinearProbe as LinearProbe
from zoo.metrics.quality import CodebookPerplexity as CodebookPerplexity
from zoo.metrics.quality import DensityCoverage as DensityCoverage
from zoo.metrics.quality import FrechetDistance as FrechetDistance
from zoo.metrics.quality import KernelDistance as KernelDistance
from zoo.metrics.quality import ModeCoverage as ModeCoverage
from zoo.metrics.quality import PrecisionRecall as PrecisionRecall
