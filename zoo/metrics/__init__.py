"""Metrics that stream over batches and synchronise across processes."""

from zoo.metrics.active_units import ActiveUnits as ActiveUnits
from zoo.metrics.coherence import Coherence as Coherence
from zoo.metrics.coherence import TopicCoherence as TopicCoherence
from zoo.metrics.many_to_one import ManyToOne as ManyToOne
from zoo.metrics.perplexity import Perplexity as Perplexity
from zoo.metrics.perplexity import perplexity as perplexity
