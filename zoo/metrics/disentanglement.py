r"""Disentanglement scores of codes with known factors: MIG, SAP, modularity, DCI, FactorVAE.

Locatello et al. (2019, https://arxiv.org/abs/1811.12359) define the protocol; scores of other
protocols are not comparable. Codes are of pictures whose factors are drawn uniformly and
independently: 10,000 codes for the mutual information, cut into 20 cells of equal width; for SAP
and DCI 10,000 codes to fit on and 5,000 to test on; for the FactorVAE score 10,000 batches of 64
to count votes and 5,000 to test them. Dimensions that do not vary are pruned first.

Here scores use all given codes, and fit on two thirds of them. The choice of these two thirds, and
so the scores, do not depend on the order of the codes.
"""

from abc import ABC
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from zoo.metrics.boosting import boosted_trees
from zoo.metrics.checks import check_numbers, check_rows
from zoo.metrics.order import shuffled

CELLS = 20
TEST_SHARE = 1 / 3


# --- functions of codes (N, D) and factors (N, F) ------------------------------------------------


def check_factors(codes: Tensor, factors: Tensor, least: int = 1) -> None:
    """Raise ValueError unless codes (N, D) are finite and factors (N, F) are whole and vary.

    Args:
        codes: Floats.
        factors: Whole numbers.
        least: Least number of factors.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise ValueError(
            f"codes have shape {tuple(codes.shape)} and factors {tuple(factors.shape)}, but "
            "must be (N, D) and (N, F)."
        )
    check_rows("codes", codes)
    if factors.is_floating_point():
        raise ValueError(f"factors have type {factors.dtype}, but must be whole numbers.")
    if factors.shape[1] < least:
        raise ValueError(f"factors have {factors.shape[1]} columns, but need at least {least}.")
    constant = (factors == factors[0]).all(0)
    if constant.any():
        raise ValueError(
            f"factor {int(constant.int().argmax())} has one value only, so it cannot be scored; "
            "leave it out."
        )


def mutual_information(codes: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """I(z_i; v_j) of codes cut into 20 cells of equal width, and the factors' entropies, in nats.

    It is the plug-in estimate, which is too large by about (cells - 1)(values - 1) / 2N.

    Args:
        codes: Floats of shape (N, D).
        factors: Whole numbers of shape (N, F).

    Returns:
        I, float64 (D, F), and H(v_j), float64 (F,).

    Raises:
        ValueError: as in `check_factors`.
    """
    check_factors(codes, factors)
    low, high = codes.aminmax(dim=0)
    width = (high - low).clamp(min=torch.finfo(codes.dtype).tiny)
    cells = ((codes - low) / width * CELLS).long().clamp(max=CELLS - 1)  # (N, D)
    values = factors - factors.amin(0)  # (N, F)
    entropies = torch.stack([_entropy(torch.bincount(v)) for v in values.unbind(1)])
    information = torch.empty(codes.shape[1], factors.shape[1], dtype=torch.float64)
    for i, z in enumerate(cells.unbind(1)):
        for j, v in enumerate(values.unbind(1)):
            joint = torch.bincount(z * (int(v.max()) + 1) + v)
            information[i, j] = _entropy(torch.bincount(z)) + entropies[j] - _entropy(joint)
    return information.clamp(min=0), entropies.cpu()


def _entropy(counts: Tensor) -> Tensor:
    """Entropy in nats of the distribution with these counts, a float64 scalar."""
    p = counts.double() / counts.sum()
    entropy: Tensor = -torch.special.xlogy(p, p).sum()
    return entropy


def _gap(scores: Tensor) -> Tensor:
    """Gap between the best and the second-best dimension of (D, F) for each factor, (F,)."""
    none = scores.new_zeros(max(0, 2 - len(scores)), scores.shape[1])
    best = torch.cat([scores, none]).topk(2, dim=0).values
    return best[0] - best[1]


def mig(codes: Tensor, factors: Tensor) -> Tensor:
    r"""Mutual information gap (Chen et al. 2018, https://arxiv.org/abs/1802.04942, eq. 6).

    $$\frac 1 F \sum_j \frac{I(z_{(1)}; v_j) - I(z_{(2)}; v_j)}{H(v_j)}$$

    Args:
        codes: Floats of shape (N, D).
        factors: Whole numbers of shape (N, F).
    """
    information, entropies = mutual_information(codes, factors)
    return (_gap(information) / entropies).mean()


def modularity(codes: Tensor, factors: Tensor) -> Tensor:
    r"""Modularity (Ridgeway & Mozer 2018, https://arxiv.org/abs/1802.05312, eq. 2).

    The mean over dimensions of

    $$1 - \frac{\sum_{j \ne j^*} I(z_i; v_j)^2}{(F - 1) I(z_i; v_{j^*})^2},$$

    where $j^*$ is the factor with the most information in $z_i$; 0 for a dimension without
    information.

    Args:
        codes: Floats of shape (N, D).
        factors: Whole numbers of shape (N, F), F at least 2.

    Raises:
        ValueError: as in `check_factors`.
    """
    check_factors(codes, factors, 2)
    squares = mutual_information(codes, factors)[0].square()  # (D, F)
    if not len(squares):
        return squares.sum()
    most = squares.amax(1)
    others = (squares.sum(1) - most) / (squares.shape[1] - 1)
    return torch.where(most > 0, 1 - others / most.clamp(min=1e-300), 0.0).mean()


def sap(codes: Tensor, factors: Tensor) -> Tensor:
    """Separated attribute predictability (Kumar et al. 2018, https://arxiv.org/abs/1711.00848).

    The gap between the best and the second-best dimension as predictors of a factor, averaged over
    factors. The prediction is that of a linear support-vector machine (C = 0.01, balanced classes)
    on one dimension, and its quality is the accuracy.

    Args:
        codes: Floats of shape (N, D).
        factors: Whole numbers of shape (N, F).

    Raises:
        ValueError: as in `check_factors`, or if a factor does not vary in the codes to fit on.
    """
    from sklearn.svm import LinearSVC

    check_factors(codes, factors)
    (z, v), (test_z, test_v) = _parts(codes, factors)
    accuracy = torch.zeros(z.shape[1], v.shape[1], dtype=torch.float64)
    for i in range(z.shape[1]):
        for j in range(v.shape[1]):
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            machine.fit(z[:, [i]], v[:, j])
            accuracy[i, j] = machine.score(test_z[:, [i]], test_v[:, j])
    return _gap(accuracy).mean()


class DCIScores(NamedTuple):
    """Disentanglement, completeness, informativeness, each a scalar in [0, 1]."""

    disentanglement: Tensor
    completeness: Tensor
    informativeness: Tensor


def dci(codes: Tensor, factors: Tensor) -> DCIScores:
    r"""DCI (Eastwood & Williams 2018, https://openreview.net/forum?id=By-7dz-AZ, section 2).

    Gradient boosted trees predict each factor from the code, and give the importance $R_{ij}$ of
    dimension i for factor j. Disentanglement is $1 - H_F(R_{i \cdot})$ averaged over dimensions
    with weights $\sum_j R_{ij}$; completeness is $1 - H_D(R_{\cdot j})$ averaged over factors;
    informativeness is the mean accuracy on the test codes.

    Args:
        codes: Floats of shape (N, D).
        factors: Whole numbers of shape (N, F), F at least 2.

    Raises:
        ValueError: as in `check_factors`, or if a factor does not vary in the codes to fit on.
    """
    check_factors(codes, factors, 2)
    (z, v), (test_z, test_v) = _parts(codes, factors)
    if not z.shape[1]:
        none = torch.zeros((), dtype=torch.float64)
        return DCIScores(none, none, none)
    fits = [boosted_trees(z, v[:, j], test_z, test_v[:, j]) for j in range(v.shape[1])]
    importance = torch.from_numpy(np.stack([fit.importance for fit in fits], 1))  # (D, F)
    accuracy = torch.tensor([fit.accuracy for fit in fits], dtype=torch.float64)
    return DCIScores(_purity(importance), _purity(importance.T), accuracy.mean())


def _purity(importance: Tensor) -> Tensor:
    """Distance of each row of (R, C) from uniform, averaged with the rows' sums as weights."""
    rows, columns = importance.sum(1), importance.shape[1]
    if columns == 1:
        return importance.new_ones(())
    share = importance / rows.clamp(min=1e-300)[:, None]
    entropy = -torch.special.xlogy(share, share).sum(1) / np.log(columns)
    purity: Tensor = ((1 - entropy) * rows).sum() / rows.sum()
    return purity


def factor_vae_score(variances: Tensor, fixed: Tensor) -> Tensor:
    """The FactorVAE score (Kim & Mnih 2018, https://arxiv.org/abs/1802.05983, section 2).

    In a batch of pictures with one fixed factor, the dimension with the least variance votes for
    that factor. The score is the accuracy of the factor with the most votes of a dimension.

    Args:
        variances: Variance of each dimension in each batch over that in all codes, (M, D).
        fixed: Index of the factor that is fixed in each batch, int64 (M,).

    Raises:
        ValueError: if variances are not finite, or all batches fix the same factor.
    """
    check_rows("variances", variances)
    if (fixed == fixed[0]).all():
        raise ValueError(f"all batches agree on factor {int(fixed[0])}; give others too.")
    if not variances.shape[1]:
        return torch.zeros((), dtype=torch.float64)
    votes, fixed = variances.argmin(1).cpu(), fixed.cpu()
    counts = torch.zeros(variances.shape[1], int(fixed.max()) + 1, dtype=torch.int64)
    (vote, factor), (test_vote, test_factor) = _parts(votes[:, None], fixed[:, None])
    counts.index_put_(
        (torch.from_numpy(vote[:, 0]).long(), torch.from_numpy(factor[:, 0])),
        torch.ones(len(vote), dtype=torch.int64),
        accumulate=True,
    )
    reading = counts.argmax(1).numpy()[test_vote[:, 0].astype(np.int64)]
    return torch.tensor((reading == test_factor[:, 0]).mean(), dtype=torch.float64)


Part = tuple[NDArray[np.float64], NDArray[np.int64]]


def _parts(codes: Tensor, factors: Tensor) -> tuple[Part, Part]:
    """Split codes (N, D) and factors (N, F): two thirds to fit on, and one third to test on."""
    if len(codes) < 3:
        raise ValueError(f"there are {len(codes)} codes, but a fit and its test need at least 3.")
    z, v = shuffled(codes.double(), factors)
    fit = len(z) - round(len(z) * TEST_SHARE)
    if (v[:fit] == v[0]).all(0).any():
        raise ValueError(
            f"a factor has one value only among the {fit} codes to fit on; give more codes."
        )
    return (z[:fit], v[:fit]), (z[fit:], v[fit:])


# --- metrics that stream -------------------------------------------------------------------------


class CodeMetric(Metric, ABC):
    """Base class that keeps codes and factors; metrics in a MetricCollection share one copy.

    Args:
        min_variance: Dimensions with at most this variance are pruned; 0.01 suits codes with an
            N(0, I) prior (Burda et al. 2016), others may need less.
    """

    full_state_update = False
    codes: list[Tensor]
    factors: list[Tensor]

    def __init__(self, min_variance: float = 0.01) -> None:
        super().__init__()
        self.min_variance = min_variance
        self.add_state("codes", [], dist_reduce_fx="cat")
        self.add_state("factors", [], dist_reduce_fx="cat")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add codes, floats (B, D), and the factors of their data, int64 (B, F).

        Raises:
            ValueError: if the shapes are wrong, or a code is not finite.
        """
        if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
            raise ValueError(
                f"codes have shape {tuple(codes.shape)} and factors {tuple(factors.shape)}, but "
                "must be (B, D) and (B, F)."
            )
        check_numbers("codes", codes)
        self.codes.append(codes.detach())
        self.factors.append(factors.detach())

    def kept(self) -> tuple[Tensor, Tensor]:
        """The dimensions of codes that vary, float64 (N, D'), and the factors, int64 (N, F).

        Raises:
            ValueError: if there are no codes.
        """
        if not len(self.codes):
            raise ValueError("there are no codes; update with some first.")
        codes, factors = dim_zero_cat(self.codes).double(), dim_zero_cat(self.factors)
        check_factors(codes, factors)
        return codes[:, codes.var(0) > self.min_variance], factors


class MIG(CodeMetric):
    """Mutual information gap; see `mig`."""

    def compute(self) -> Tensor:
        """The score, a scalar in [0, 1]."""
        return mig(*self.kept())


class Modularity(CodeMetric):
    """Modularity; see `modularity`."""

    def compute(self) -> Tensor:
        """The score, a scalar in [0, 1]."""
        return modularity(*self.kept())


class SAP(CodeMetric):
    """Separated attribute predictability; see `sap`."""

    def compute(self) -> Tensor:
        """The score, a scalar in [0, 1]."""
        return sap(*self.kept())


class DCI(CodeMetric):
    """Disentanglement, completeness and informativeness; see `dci`."""

    def compute(self) -> dict[str, Tensor]:
        """The three scores, by name, scalars in [0, 1]."""
        return dci(*self.kept())._asdict()


class FactorVAEScore(Metric):
    """The FactorVAE score; see `factor_vae_score`.

    The same batches give the variance of a dimension in all codes: all their pictures together have
    uniform and independent factors.

    Args:
        latent_dim: Number of dimensions, D.
        min_variance: Dimensions with at most this variance are pruned.
    """

    full_state_update = False
    variances: list[Tensor]
    fixed: list[Tensor]
    count: Tensor
    mean_sum: Tensor
    square_sum: Tensor

    def __init__(self, latent_dim: int, min_variance: float = 0.01) -> None:
        super().__init__()
        self.min_variance = min_variance
        zeros = torch.zeros(latent_dim, dtype=torch.float64)
        self.add_state("variances", [], dist_reduce_fx="cat")
        self.add_state("fixed", [], dist_reduce_fx="cat")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("mean_sum", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("square_sum", zeros.clone(), dist_reduce_fx="sum")

    def update(self, codes: Tensor, fixed: Tensor) -> None:
        """Add the codes of batches that agree on a factor.

        Args:
            codes: Codes of M batches of L pictures, floats (M, L, D), L at least 2.
            fixed: Index of the factor that each batch agrees on, int64 (M,).

        Raises:
            ValueError: if the shapes are wrong, or a code is not finite.
        """
        if codes.ndim != 3 or codes.shape[1] < 2 or fixed.shape != codes.shape[:1]:
            raise ValueError(
                f"codes have shape {tuple(codes.shape)} and fixed {tuple(fixed.shape)}, but must "
                "be (M, L, D), L at least 2, and (M,)."
            )
        check_numbers("codes", codes)
        codes = codes.detach().to(self.mean_sum.dtype)
        self.variances.append(codes.var(1))
        self.fixed.append(fixed)
        self.count += codes.shape[0] * codes.shape[1]
        self.mean_sum += codes.sum((0, 1))
        self.square_sum += codes.square().sum((0, 1))

    def shares(self) -> Tensor:
        """Variance in each batch over that in all codes, of dimensions that vary: (M, D')."""
        variance = self.square_sum / self.count - (self.mean_sum / self.count).square()
        varies = variance > self.min_variance
        return dim_zero_cat(self.variances)[:, varies] / variance[varies]

    def compute(self) -> Tensor:
        """The score, a scalar in [0, 1]."""
        if not len(self.variances):
            raise ValueError("there are no codes; update with some first.")
        return factor_vae_score(self.shares(), dim_zero_cat(self.fixed))
