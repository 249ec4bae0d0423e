"""Active units (Burda et al. 2016, section 5.2)."""

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.metrics.checks import check_numbers


class ActiveUnits(Metric):
    r"""Number of latent dimensions u with $\operatorname{Var}_x(\mathbb E_{q(u | x)}[u]) > 0.01$.

    Args:
        latent_dim: Number of latent dimensions, D.
        threshold: Variance above which a dimension counts as active.
    """

    full_state_update = False
    count: Tensor
    mean_sum: Tensor
    square_sum: Tensor

    def __init__(self, latent_dim: int, threshold: float = 0.01) -> None:
        super().__init__()
        self.threshold = threshold
        zeros = torch.zeros(latent_dim, dtype=torch.float64)
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("mean_sum", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("square_sum", zeros.clone(), dist_reduce_fx="sum")

    def update(self, means: Tensor) -> None:
        """Add posterior means of shape (B, D)."""
        means = means.detach().to(self.mean_sum.dtype)
        self.count += len(means)
        self.mean_sum += means.sum(0)
        self.square_sum += means.square().sum(0)

    def compute(self) -> Tensor:
        """The number of active units, a scalar.

        Raises:
            ValueError: if there are fewer than two means, or some are not finite.
        """
        if self.count < 2:
            raise ValueError(f"there are {int(self.count)} data, but a variance needs at least 2.")
        check_numbers("posterior means", self.square_sum)
        variance = self.square_sum / self.count - (self.mean_sum / self.count).square()
        return (variance > self.threshold).sum()
