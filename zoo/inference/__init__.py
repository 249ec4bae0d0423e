"""Estimates of log p(x), and draws from p(z | x): pure functions over the verbs."""

from zoo.inference.ais import Bracket as Bracket
from zoo.inference.ais import annealed_importance_sampling as annealed_importance_sampling
from zoo.inference.ais import bidirectional_monte_carlo as bidirectional_monte_carlo
from zoo.inference.bounds import Bound as Bound
from zoo.inference.bounds import divergence as divergence
from zoo.inference.bounds import elbo as elbo
from zoo.inference.bounds import importance_weighted_bound as importance_weighted_bound
from zoo.inference.gaps import InferenceGap as InferenceGap
from zoo.inference.gaps import inference_gap as inference_gap
from zoo.inference.hamiltonian import Chains as Chains
from zoo.inference.hamiltonian import effective_sample_size as effective_sample_size
from zoo.inference.hamiltonian import hmc as hmc
from zoo.inference.hamiltonian import langevin as langevin
from zoo.inference.refinement import refine as refine
