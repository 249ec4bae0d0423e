r"""The gap between the ELBO and log p(x) (Cremer et al. 2018, https://arxiv.org/abs/1801.03558).

$$\log p(x) - \mathcal L[q] =
  \underbrace{\log p(x) - \mathcal L[q^*]}_{\text{approximation}} +
  \underbrace{\mathcal L[q^*] - \mathcal L[q]}_{\text{amortisation}},$$

where $q$ is the encoder's Gaussian and $q^*$ the best Gaussian for each datum. The approximation
gap comes from Gaussians with a diagonal covariance, the amortisation gap from the encoder.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.inference.ais import annealed_importance_sampling
from zoo.inference.bounds import Bound, Inferable, elbo, importance_weighted_bound
from zoo.inference.refinement import refine


class InferenceGap(NamedTuple):
    """Three bounds on log p(x), whose differences are the gaps, each (B,) in nats with its error.

    Args:
        log_p: The best estimate of log p(x), a lower bound in expectation.
        refined: The ELBO with q*.
        amortised: The ELBO with the encoder's q.
    """

    log_p: Bound
    refined: Bound
    amortised: Bound

    @property
    def approximation(self) -> Bound:
        """Log p(x) - L[q*]."""
        return _difference(self.log_p, self.refined)

    @property
    def amortisation(self) -> Bound:
        """L[q*] - L[q]."""
        return _difference(self.refined, self.amortised)


def _difference(a: Bound, b: Bound) -> Bound:
    return Bound(a.value - b.value, torch.hypot(a.standard_error, b.standard_error))


def inference_gap(
    model: Inferable,
    x: Tensor,
    samples: int = 5000,
    distributions: int = 1000,
    chains: int = 16,
    draws: int = 100,
) -> InferenceGap:
    """Split the gap of the ELBO.

    log p(x) is the importance-weighted bound or annealed importance sampling, whichever has the
    higher mean over the data: a choice for each datum would be biased towards lucky draws.

    Args:
        model: Model with `prior`, `posterior` and `likelihood`.
        x: Data of shape (B, ...).
        samples: Importance samples per datum.
        distributions: Steps of annealed importance sampling.
        chains: Chains of annealed importance sampling per datum.
        draws: Draws per datum for each ELBO; at least 2.

    Raises:
        ValueError: if a count is too small.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}, but the error of an ELBO needs at least 2.")
    log_p = max(
        importance_weighted_bound(model, x, samples),
        annealed_importance_sampling(model, x, distributions, chains),
        key=lambda bound: bound.value.mean().item(),
    )
    refined = refine(model, x)
    return InferenceGap(log_p, _elbo(model, x, draws, refined), _elbo(model, x, draws))


@torch.no_grad()
def _elbo(model: Inferable, x: Tensor, draws: int, q: Distribution | None = None) -> Bound:
    terms = torch.stack([torch.stack(elbo(model, x, q)) for _ in range(draws)]).double()
    values = -terms.sum(1)  # (draws, B)
    return Bound(values.mean(0), values.std(0) / draws**0.5)
