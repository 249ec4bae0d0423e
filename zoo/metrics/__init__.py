"""Metrics that stream over batches and synchronise across processes."""

from zoo.metrics.active_units import ActiveUnits as ActiveUnits
