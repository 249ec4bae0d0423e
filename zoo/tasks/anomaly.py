r"""Anomaly scores, built from verbs, and a threshold for them.

A score is higher for data that the model expects less: minus log p(x), or a part of it. The
threshold comes from scores of n normal data that the model was not trained on (split conformal
prediction; Vovk, Gammerman & Shafer 2005; Laxhammar & Falkman 2010): where

$$t = s_{(k)}, \qquad k = \lceil (n + 1)(1 - \alpha) \rceil,$$

is the k-th smallest, another normal datum is above t with a probability of at most alpha, for any
model and any distribution of scores, if all n + 1 data are exchangeable.
"""

import math
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.checks import check_at_least, check_choice, check_images
from zoo.inference import divergence
from zoo.tasks.likelihood import log_likelihood

Score = Literal["likelihood", "error", "distortion", "rate"]

_NEEDS = {  # a score needs all verbs of one set
    "likelihood": ({"log_prob"}, {"prior", "posterior", "likelihood"}),
    "error": ({"reconstruct"},),
    "distortion": ({"encode", "likelihood"},),
    "rate": ({"prior", "posterior"},),
}


@torch.no_grad()
def anomaly_scores(
    model: LatentVariableModel, x: Any, by: Score | None = None, samples: int = 10
) -> Tensor:
    r"""Anomaly score of each datum, (B,): higher for data that the model expects less.

    | by | is | of |
    |---|---|---|
    | `likelihood` | $-\log p(x)$ in nats, exact, or its importance-weighted bound | all of x |
    | `error` | $\lVert x - \hat x \rVert^2$, with x reconstructed | what the code leaves out |
    | `distortion` | $-\log p(x \mid z)$ in nats, at the code z of x | the same, in nats |
    | `rate` | $\mathrm{KL}(p(z \mid x) \,\Vert\, p(z))$ in nats, for VAEs of q | the code alone |

    Args:
        model: Any model with the verbs that a score needs, in eval mode.
        x: Data as the model's verbs take them; images are (B, C, H, W) in [0, 1].
        by: Name of the score; by default the likelihood, or the error for models without one.
        samples: Draws of z per datum, for the bound and for a rate without closed form;
            `torch.manual_seed` governs them.

    Raises:
        NotImplementedError: if the model lacks a verb that the score needs.
        ValueError: if x does not fit the model, or a score is NaN.
    """
    can = scores_of(model)
    if by is None and not {"likelihood", "error"} & {*can}:
        raise NotImplementedError(
            f"{type(model).__name__} has no anomaly score: it lacks a likelihood and reconstruct."
        )
    by = by or ("likelihood" if "likelihood" in can else "error")
    check_choice(Score, by=by)
    if by not in can:
        needed = " or ".join(", ".join(sorted(option)) for option in _NEEDS[by])
        raise NotImplementedError(
            f"{type(model).__name__} has no anomaly score by {by}, which needs {needed}."
        )
    check_at_least(1, samples=samples)
    if model.modality != "sequence":  # whose x is compared as it is, or read by the verbs
        x = model.as_input(x)
    if model.modality == "image":
        check_images(x, model.x_shape)
    if by in ("error", "distortion") and not isinstance(x, Tensor):
        raise ValueError(f"by={by!r} compares x with its reconstruction; give x as a tensor.")
    match by:
        case "likelihood":
            scores = -log_likelihood(model, x, samples).value
        case "error":
            if not x.is_floating_point():
                raise ValueError("by='error' squares differences, so x must be floats.")
            scores = (x - model.reconstruct(x)).flatten(1).square().sum(1)
        case "distortion":
            scores = -model.likelihood(model.encode(x)).log_prob(x)
        case "rate":
            q = model.posterior(x)
            rate = divergence(q, model.prior(), q.sample((samples,)))  # (B,), or (samples, B)
            scores = rate.reshape(-1, *q.batch_shape).mean(0)
    if scores.isnan().any():
        raise ValueError(
            f"{int(scores.isnan().sum())} of {len(scores)} scores are NaN; is x free of NaNs, "
            "and the model trained?"
        )
    return scores


def scores_of(model: LatentVariableModel) -> tuple[str, ...]:
    """Names of the anomaly scores that the verbs of a model allow."""
    verbs = {*model.verbs()}
    return tuple(by for by, options in _NEEDS.items() if any(has <= verbs for has in options))


def anomaly_threshold(scores: Tensor, false_alarms: float = 0.01) -> Tensor:
    r"""The score above which a datum counts as an anomaly, with a guarantee for finite n.

    The threshold is the $\lceil (n + 1)(1 - \alpha) \rceil$-th smallest of n scores of normal data
    that the model has not seen. If another normal datum x is exchangeable with them,
    `anomaly_scores(model, x) > threshold` is a false alarm with a probability of at most alpha
    and, if no two scores are equal, of more than $\alpha - 1 / (n + 1)$.

    This probability is a mean over sets of n. Each set has its own share of false alarms, which
    for continuous scores has the distribution Beta(n + 1 - k, k): near alpha, with a standard
    deviation of about $\sqrt{\alpha (1 - \alpha) / n}$.

    Args:
        scores: Scores of normal data that the model was not trained on, (n,).
        false_alarms: alpha, between 0 and 1.

    Returns:
        The threshold, a scalar tensor.

    Raises:
        ValueError: if there are fewer than 1 / alpha - 1 scores.
    """
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms is {false_alarms}, but must be above 0 and below 1.")
    if scores.ndim != 1 or not scores.is_floating_point():
        raise ValueError(
            f"scores has shape {tuple(scores.shape)} and type {scores.dtype}, but must be floats, "
            "one a datum."
        )
    if scores.isnan().any():
        raise ValueError("scores has NaNs, which have no rank; find out why before going on.")
    alpha = Fraction(str(false_alarms))  # exact, as written: in floats, 0.07 * 100 is above 7
    n = len(scores)
    k = math.ceil((n + 1) * (1 - alpha))
    if k > n:
        raise ValueError(
            f"{n} scores are too few for false_alarms of {false_alarms}; give "
            f"{math.ceil(1 / alpha) - 1} of normal data at least, or allow more false alarms."
        )
    return scores.kthvalue(k).values
