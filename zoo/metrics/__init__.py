"""Metrics that stream over batches and synchronise across processes."""

from zoo.metrics.active_units import ActiveUnits as ActiveUnits
from zoo.metrics.disentanglement import DCI as DCI
from zoo.metrics.disentanglement import MIG as MIG
from zoo.metrics.disentanglement import SAP as SAP
from zoo.metrics.disentanglement import FactorVAEScore as FactorVAEScore
from zoo.metrics.disentanglement import Modularity as Modularity
from zoo.metrics.many_to_one import ManyToOne as ManyToOne
