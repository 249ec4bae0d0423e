"""Metrics that stream over batches and synchronise across processes."""

from zoo.metrics.active_units import ActiveUnits as ActiveUnits
from zoo.metrics.many_to_one import ManyToOne as ManyToOne
