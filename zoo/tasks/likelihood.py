"""The log-likelihood of data, by the best estimator that a model allows."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.checks import check_images
from zoo.inference import annealed_importance_sampling, importance_weighted_bound


class LogLikelihood(NamedTuple):
    """log p(x) in nats, (B,), the kind of the number, and its standard error, (B,)."""

    value: Tensor
    kind: Literal["exact", "lower bound", "estimate"]
    standard_error: Tensor


@torch.no_grad()
def log_likelihood(
    model: LatentVariableModel, x: Any, samples: int = 100, distributions: int = 1
) -> LogLikelihood:
    """Measure log p(x) with the best estimator that the model and the budget allow.

    A model with `log_prob` gives the exact value. A model with a posterior gives a lower bound in
    expectation: by default the importance-weighted bound, which is the ELBO at `samples=1` and
    tends to log p(x) as `samples` grows; with `distributions` above 1 annealed importance sampling,
    for a q(z | x) far from the posterior.

    Args:
        model: Any model of the zoo.
        x: Data of shape (B, *x_shape).
        samples: Importance samples per datum, if log p(x) has no closed form.
        distributions: Steps over which each sample is annealed from q(z | x) to the posterior, by
            Hamiltonian Monte Carlo; 1 is plain importance sampling.

    Raises:
        NotImplementedError: if the model has neither `log_prob` nor a posterior.
        ValueError: if a count is not positive.
    """
    x = model.as_input(x)
    if model.modality == "image":
        check_images(x, model.x_shape)
    verbs = model.verbs()
    if "log_prob" in verbs:
        value = model.log_prob(x)
        return LogLikelihood(value, "exact", torch.zeros_like(value))
    if not {"prior", "posterior", "likelihood"} <= {*verbs}:
        raise NotImplementedError(
            f"{type(model).__name__} has no log-likelihood: it lacks log_prob, and the prior, "
            "posterior and likelihood that a bound needs."
        )
    if distributions == 1:
        bound = importance_weighted_bound(model, x, samples)
    else:
        bound = annealed_importance_sampling(model, x, distributions, samples)
    return LogLikelihood(bound.value, "lower bound", bound.standard_error)
