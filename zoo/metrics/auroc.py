r"""The area under the ROC curve, with its error (DeLong, DeLong & Clarke-Pearson 1988).

Of scores $s_i$ of n anomalies and $r_j$ of m normal data, the area is the probability that an
anomaly has the higher score, ties counting half:

$$A = \frac1{nm} \sum_{ij} \psi(s_i, r_j), \qquad \psi(s, r) = [s > r] + \tfrac12 [s = r].$$

A is also the mean over either class of each datum's placement in the other class,
$p_i = \frac1m \sum_j \psi(s_i, r_j)$ or $q_j = \frac1n \sum_i \psi(s_i, r_j)$. Its variance is the
sum of the variances of these two means:
$\operatorname{Var} A \approx \operatorname{Var}(p_i) / n + \operatorname{Var}(q_j) / m$.
"""

import torch
from torch import Tensor


def placements(scores: Tensor, anomaly: Tensor) -> Tensor:
    """Share of the other class that each datum is on the correct side of, (N,) float64.

    Args:
        scores: (N,); anomalies should have the higher ones.
        anomaly: True for anomalies, (N,) bool.

    Raises:
        ValueError: if a score is NaN, or one of the classes is empty.
    """
    if scores.ndim != 1 or scores.shape != anomaly.shape or anomaly.dtype != torch.bool:
        raise ValueError(
            f"scores of shape {tuple(scores.shape)} and anomaly of shape {tuple(anomaly.shape)} "
            f"and {anomaly.dtype} do not fit; give (N,) numbers and (N,) bool."
        )
    if scores.isnan().any():
        raise ValueError("scores has NaNs, which have no rank; remove these data.")
    if anomaly.all() or not anomaly.any():
        raise ValueError("an AUROC needs normal data and anomalies, but here is one kind only.")
    strange, normal = scores[anomaly], scores[~anomaly]
    placed = torch.empty(len(scores), dtype=torch.float64, device=scores.device)
    placed[anomaly] = _below(normal, strange) / len(normal)
    placed[~anomaly] = 1 - _below(strange, normal) / len(strange)
    return placed


def _below(reference: Tensor, scores: Tensor) -> Tensor:
    """Number of reference values below each score, ties counting half: float64."""
    ordered = reference.sort().values
    low = torch.searchsorted(ordered, scores)
    high = torch.searchsorted(ordered, scores, right=True)
    return (low + high).double() / 2


def auroc(scores: Tensor, anomaly: Tensor) -> tuple[Tensor, Tensor]:
    """The area under the ROC curve and its standard error over data, scalars float64.

    Scores of any size are used unchanged. torchmetrics' `BinaryAUROC` applies a sigmoid to scores
    outside [0, 1], which turns large ones into ties.

    Args:
        scores: (N,); anomalies should have the higher ones.
        anomaly: True for anomalies, (N,) bool.

    Returns:
        The area, and its standard error, which is NaN where a class has one datum.

    Raises:
        ValueError: if a score is NaN, or one of the classes is empty.
    """
    placed = placements(scores, anomaly)
    p, q = placed[anomaly], placed[~anomaly]
    error = torch.full_like(p[0], torch.nan)
    if len(p) > 1 and len(q) > 1:
        error = (p.var() / len(p) + q.var() / len(q)).sqrt()
    return p.mean(), error
