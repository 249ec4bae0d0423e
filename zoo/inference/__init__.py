"""Bounds on log p(x), as pure functions over the verbs."""

from zoo.inference.bounds import Bound as Bound
from zoo.inference.bounds import divergence as divergence
from zoo.inference.bounds import elbo as elbo
from zoo.inference.bounds import importance_weighted_bound as importance_weighted_bound
