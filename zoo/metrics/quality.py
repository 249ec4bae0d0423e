r"""Distances and overlaps of real and generated data, in the features of a network.

Metrics take features, (B, D), of any network: an image's features are computed once, for all
metrics. A number means nothing without the name of the network and the sizes of both sets.
"""

from abc import ABC
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from zoo.metrics.checks import check_counted, check_places, check_rows
from zoo.metrics.order import shuffled

CHUNK = 1024  # rows whose distances to all others are in memory at a time


class FrechetDistance(FrechetInceptionDistance):
    r"""Fréchet distance of features (Heusel et al. 2017, https://arxiv.org/abs/1706.08500).

    $$|\mu_r - \mu_g|^2 + \operatorname{tr}(\Sigma_r + \Sigma_g - 2 (\Sigma_r \Sigma_g)^{1/2}),$$

    with means and covariances of both sets in float64, by torchmetrics. `update(features, real)`
    adds features (B, D) of real or of generated data; `compute()` gives a scalar. It is biased: the
    distance of two sets of n from one distribution is about $O(D / n)$.

    Args:
        features: Number of features, D.
    """

    def __init__(self, features: int) -> None:
        # torchmetrics receives features in the place of images.
        super().__init__(feature=nn.Identity(), normalize=True, input_img_size=(features,))  # type: ignore[arg-type]
        self.features = features

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add features, floats (B, D), of real or of generated data.

        Raises:
            ValueError: if their shape is wrong, or they are not finite.
        """
        name = f"features of {'real' if real else 'generated'} data"
        check_rows(name, imgs, 0)
        if imgs.shape[1] != self.features:
            raise ValueError(
                f"{name} have {imgs.shape[1]} columns, but this distance takes {self.features}."
            )
        super().update(imgs, real)

    def compute(self) -> Tensor:
        """The distance, a scalar.

        Raises:
            ValueError: if there are too few data, or their features are too large.
        """
        real, generated = map(int, (self.real_features_num_samples, self.fake_features_num_samples))
        if min(real, generated) < 2:
            raise ValueError(
                f"there are {real} real and {generated} generated data, but a covariance needs at "
                "least 2 of each; give more."
            )
        distance = super().compute()
        if not distance.isfinite():
            raise ValueError("the distance is not finite, as features are too large; scale them.")
        return distance


def kernel_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""Unbiased squared maximum mean discrepancy (Gretton et al. 2012, lemma 6), a scalar.

    Its kernel is that of the kernel inception distance, $k(x, y) = (x \cdot y / D + 1)^3$.

    Args:
        real: Features of shape (N, D), N at least 2.
        generated: Features of shape (M, D), M at least 2.

    Raises:
        ValueError: if there are too few data, or features are not finite.
    """
    x, y = _both(real, generated, 2, 2)

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        kernel = k(a, a)
        return (kernel.sum() - kernel.trace()) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * k(x, y).mean()


class PrecisionRecallScores(NamedTuple):
    """Shares of generated data among real data, and of real data among generated data."""

    precision: Tensor
    recall: Tensor


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecallScores:
    """Improved precision and recall (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991).

    A set's manifold is the union of balls around its data; the radius of a ball is the distance to
    the k-th nearest of the other data. Precision is the share of generated data in the manifold of
    real data, recall the share of real data in the manifold of generated data.

    Args:
        real: Features of shape (N, D), N above k.
        generated: Features of shape (M, D), M above k.
        k: Rank of the neighbour whose distance is the radius.

    Raises:
        ValueError: if there are too few data, or features are not finite.
    """
    x, y = _both(real, generated, k + 1, k + 1)
    return PrecisionRecallScores(
        _times_covered(y, x, k).clamp(max=1).mean(), _times_covered(x, y, k).clamp(max=1).mean()
    )


class DensityCoverageScores(NamedTuple):
    """Density of real data around generated data, and share of real data that they cover."""

    density: Tensor
    coverage: Tensor


def density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> DensityCoverageScores:
    """Density and coverage (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 3 and 4).

    Density is the mean number of balls of real data that a generated datum is in, divided by k: 1
    for equal distributions, but possibly larger. Coverage is the share of real data with a
    generated datum in their ball.

    Args:
        real: Features of shape (N, D), N above k.
        generated: Features of shape (M, D), M at least 1.
        k: Rank of the neighbour whose distance is the radius of a real datum's ball.

    Raises:
        ValueError: if there are too few data, or features are not finite.
    """
    x, y = _both(real, generated, k + 1, 1)
    radius = _radii(x, k)
    covered = [
        (_squared_distances(rows, y) <= r[:, None]).any(1)
        for rows, r in zip(torch.split(x, CHUNK), torch.split(radius, CHUNK), strict=True)
    ]
    return DensityCoverageScores(
        _times_covered(y, x, k).mean() / k, torch.cat(covered).double().mean()
    )


def _both(real: Tensor, generated: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Features as float64, after a check that there are n real and m generated data at least."""
    check_rows("features of real data", real, n)
    check_rows("features of generated data", generated, m)
    return real.double(), generated.double()


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances between all rows of (N, D) and (M, D): (N, M)."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp(min=0)


def _radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each row of (N, D) to its k-th nearest other, (N,)."""
    if k < 1:
        raise ValueError(f"k is {k}, but must be at least 1.")
    # each row is its own nearest
    nearest = [
        _squared_distances(rows, x).kthvalue(k + 1, dim=1).values for rows in torch.split(x, CHUNK)
    ]
    return torch.cat(nearest)


def _times_covered(x: Tensor, by: Tensor, k: int) -> Tensor:
    """Number of balls of `by`, (M, D), that each row of x, (N, D), is in; float64 (N,)."""
    radius = _radii(by, k)
    counts = [(_squared_distances(rows, by) <= radius).sum(1) for rows in torch.split(x, CHUNK)]
    return torch.cat(counts).double()


# --- metrics that stream -------------------------------------------------------------------------


class FeatureMetric(Metric, ABC):
    """Base class that keeps features; metrics in a MetricCollection share one copy."""

    full_state_update = False
    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add features, floats (B, D).

        Args:
            features: Features of data.
            real: Whether the data are real; else they are generated.
        """
        (self.real if real else self.generated).append(features.detach())

    def both(self) -> tuple[Tensor, Tensor]:
        """The features of real, (N, D), and of generated data, (M, D).

        Raises:
            ValueError: if there are no real or no generated data.
        """
        for name, parts in (("real", self.real), ("generated", self.generated)):
            if not len(parts) or not len(dim_zero_cat(parts)):
                raise ValueError(f"there are no {name} data; update with real={name == 'real'}.")
        return dim_zero_cat(self.real), dim_zero_cat(self.generated)


class KernelDistance(FeatureMetric):
    """Kernel distance (KID; Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401).

    Both sets are cut into disjoint subsets; the result is the mean distance of pairs of subsets. It
    is unbiased, and may therefore be below 0. See `kernel_distance`.

    Args:
        subset_size: Data in a subset of each set; the remainder of a larger set is left out.
    """

    def __init__(self, subset_size: int = 1000) -> None:
        super().__init__()
        if subset_size < 2:
            raise ValueError(f"subset_size is {subset_size}, but must be at least 2.")
        self.subset_size = subset_size

    def compute(self) -> dict[str, Tensor]:
        """`kernel_distance` and its `standard_error`, scalars, the latter NaN for one subset."""
        # With one seed for both sets, paired subsets would have similar ranks, and be too similar.
        real, generated = (
            torch.from_numpy(shuffled(part, seed=seed)[0]) for seed, part in enumerate(self.both())
        )
        subsets = min(len(real), len(generated)) // self.subset_size
        if not subsets:
            raise ValueError(
                f"there are {len(real)} real and {len(generated)} generated data, but a subset "
                f"has {self.subset_size}; give more, or lower subset_size."
            )
        end = subsets * self.subset_size
        pairs = zip(real[:end].chunk(subsets), generated[:end].chunk(subsets), strict=True)
        distances = torch.stack([kernel_distance(*pair) for pair in pairs])
        spread = distances.std() if subsets > 1 else distances.new_tensor(torch.nan)
        return {"kernel_distance": distances.mean(), "standard_error": spread / subsets**0.5}


class PrecisionRecall(FeatureMetric):
    """Improved precision and recall; see `precision_recall`.

    Args:
        k: Rank of the neighbour whose distance is the radius.
    """

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """`precision` and `recall`, scalars in [0, 1]."""
        return precision_recall(*self.both(), self.k)._asdict()


class DensityCoverage(FeatureMetric):
    """Density and coverage; see `density_coverage`.

    Args:
        k: Rank of the neighbour whose distance is the radius.
    """

    def __init__(self, k: int = 5) -> None:
        super().__init__()
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """`density`, a scalar of at least 0, and `coverage`, in [0, 1]."""
        return density_coverage(*self.both(), self.k)._asdict()


class ModeCoverage(Metric):
    r"""Number of modes of equal weight in generated data (Srivastava et al. 2017, section 4.1).

    On stacked MNIST (https://arxiv.org/abs/1705.07761) an image has a digit in each of its three
    channels, so that there are 1000 modes, which a classifier of digits recognises.

    Args:
        modes: Number of modes, K.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, modes: int = 1000) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(modes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mode: Tensor) -> None:
        """Add the mode of each generated datum, int64 (B,) in 0 to K - 1.

        Raises:
            ValueError: if there is no such mode.
        """
        _count(self.counts, "mode", mode)

    def compute(self) -> dict[str, Tensor]:
        r"""`modes`, the number of modes seen, and `kl`, $\mathrm{KL}(\hat p \| 1 / K)$ in nats.

        For n data from all modes equally, `kl` is about (K - 1) / 2n, not 0.
        """
        check_counted("mode", self.counts)
        p = self.counts.double() / self.counts.sum()
        kl = torch.special.xlogy(p, p * len(p)).sum()
        return {"modes": (self.counts > 0).sum(), "kl": kl}


class CodebookPerplexity(Metric):
    r"""$\exp H$ of the usage of the codes in a codebook: K if all are used equally.

    Args:
        codes: Number of codes, K.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(codes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, code: Tensor) -> None:
        """Add the indices of codes, int64 of any shape, in 0 to K - 1.

        Raises:
            ValueError: if there is no such code.
        """
        _count(self.counts, "code", code)

    def compute(self) -> Tensor:
        """The perplexity, a scalar in [1, K]."""
        check_counted("code", self.counts)
        p = self.counts.double() / self.counts.sum()
        perplexity: Tensor = (-torch.special.xlogy(p, p).sum()).exp()
        return perplexity


def _count(counts: Tensor, name: str, index: Tensor) -> None:
    """Add to counts, (K,), the number of occurrences of each of 0 to K - 1 in `index`."""
    check_places(name, index, len(counts))
    counts += torch.bincount(index.flatten(), minlength=len(counts))
