r"""What one pass over data finds, in memory that does not grow with their number.

Mean and covariance come from sums over data, which add up over parts of them and over processes.
All is float64, about a common origin near the mean, since what a model leaves unexplained may be a
billionth of the variances. A uniform sample is the data with the smallest of independent uniform
keys. The noise that is left beside d principal components is that of
probabilistic PCA (Tipping & Bishop 1999, eq. 8),

$$s^2 = \frac 1{D - d} \sum_{i = d + 1}^D \lambda_i.$$
"""

import numpy as np
import torch
from torch import Tensor

ROWS = 4096
"""Data that are multiplied at a time."""


def sums(x: Tensor, origin: Tensor, products: bool = True) -> dict[str, Tensor]:
    """Sums over data from which `mean` and `covariance` come, float64.

    Args:
        x: Data of shape (N, D).
        origin: What is subtracted, (D,): the same for all parts of the data, and near their mean.
        products: Whether to sum products, too, which takes 8 D^2 bytes.

    Returns:
        `count` (), `first` (D,), and with products `second` (D, D).
    """
    origin = origin.detach().double()
    total = {"count": origin.new_tensor(len(x)), "first": torch.zeros_like(origin)}
    if products:
        total["second"] = origin.new_zeros(len(origin), len(origin))
    memory = origin.new_empty(min(len(x), ROWS), len(origin))  # new pages for each part would cost
    for part in torch.split(x.detach(), ROWS):
        d = torch.sub(part.to(origin.device), origin, out=memory[: len(part)])
        total["first"] += d.sum(0)
        if products:
            total["second"] += _gram(d)
    return total


def _gram(d: Tensor) -> Tensor:
    """Transpose(d) d. On a CPU by BLAS's symmetric product, half the work; torch has none."""
    if d.device.type == "cpu":
        a = d.numpy()
        with np.errstate(all="ignore"):  # `covariance` refuses what is not finite
            return torch.from_numpy(a.T @ a)
    with torch.autocast(d.device.type, enabled=False):
        return d.T @ d


def mean(sums: dict[str, Tensor], origin: Tensor) -> Tensor:
    """The mean of all data, (D,) float64, from their sums about the origin."""
    return origin.double() + sums["first"] / sums["count"]


def covariance(sums: dict[str, Tensor]) -> Tensor:
    """The covariance of all data with N in the denominator, (D, D) float64, from their sums.

    Raises:
        ValueError: if a datum is not finite, or too large to be squared.
    """
    moved = sums["first"] / sums["count"]
    found = sums["second"] / sums["count"] - torch.outer(moved, moved)
    if not found.isfinite().all():
        raise ValueError(
            "the data have NaN or infinite entries, or some too large to be squared; a covariance "
            "needs every entry, so remove or replace these."
        )
    return found


class UniformSample:
    """A sample of data that come in parts: every subset of its size is as probable.

    The global generator governs it. While there are no more data than it holds, it is all of them,
    in their order.

    Args:
        rows: Data that it holds at the most.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._data: Tensor | None = None
        self._keys = torch.empty(0, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Offer data of shape (N, D)."""
        keys = torch.rand(len(x), dtype=torch.float64, device=x.device)
        if self._data is None:
            self._data, self._keys = x[:0], keys[:0]
        free = self.rows - len(self._data)
        if free > 0:
            self._data = torch.cat([self._data, x[:free]])
            self._keys = torch.cat([self._keys, keys[:free]])
            x, keys = x[free:], keys[free:]
        if len(x) == 0:
            return
        last = torch.cat([self._keys, keys]).kthvalue(self.rows).values
        self._data[self._keys > last] = x[keys <= last]
        self._keys[self._keys > last] = keys[keys <= last]

    def data(self) -> Tensor:
        """The sample, (n, D)."""
        assert self._data is not None
        return self._data


def principal_components(covariance: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """The d leading eigenpairs of a covariance, and the mean of the other eigenvalues.

    Args:
        covariance: (D, D) float64.
        d: Less than D.

    Returns:
        An orthonormal basis (D, d), leading direction first; its eigenvalues (d,); and s^2, ().
    """
    if covariance.device.type == "cpu":  # by a solver that finds no others
        from scipy.linalg import eigh

        n = len(covariance)
        pairs = eigh(covariance.numpy(), subset_by_index=[n - d, n - 1])
        values, vectors = map(torch.from_numpy, pairs)  # ascending
    else:
        values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values[-d:].flip(0).clamp(min=0), vectors[:, -d:].flip(1)
    rest = (covariance.trace() - values.sum()) / (len(covariance) - d)
    return vectors, values, rest.clamp(min=0)
