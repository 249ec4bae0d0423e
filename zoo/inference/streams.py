r"""What one pass over data finds, in memory that does not grow with their number.

Mean and covariance come from sums about the first part's mean, in float64. A uniform sample is the
data with the smallest of independent uniform keys. The noise that is left beside d principal
components is that of probabilistic PCA (Tipping & Bishop 1999, eq. 8),

$$s^2 = \frac 1{D - d} \sum_{i = d + 1}^D \lambda_i.$$
"""

import torch
from torch import Tensor


class Moments:
    """Mean and covariance of data that come in parts.

    Args:
        dim: Numbers in a datum, D.
        covariance: Whether to sum products, too, which takes 8 D^2 bytes.
        device: Where the data are.
    """

    def __init__(self, dim: int, covariance: bool, device: torch.device) -> None:
        self.count = 0
        self._shift: Tensor | None = None
        self._first = torch.zeros(dim, dtype=torch.float64, device=device)
        self._second = self._first.new_zeros(dim, dim) if covariance else None

    def update(self, x: Tensor) -> None:
        """Add data of shape (N, D)."""
        x = x.double()
        if self._shift is None:
            self._shift = x.mean(0)
        x = x - self._shift
        self.count += len(x)
        self._first += x.sum(0)
        if self._second is not None:
            self._second += x.mT @ x

    def mean(self) -> Tensor:
        """The mean of all data, (D,) float64."""
        assert self._shift is not None
        return self._shift + self._first / self.count

    def covariance(self) -> Tensor:
        """Their covariance with N in the denominator, (D, D) float64."""
        assert self._second is not None
        moved = self._first / self.count
        return self._second / self.count - moved[:, None] * moved


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


def principal_components(covariance: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """The d leading eigenvectors of a covariance, and the mean of the other eigenvalues.

    Args:
        covariance: (D, D).
        d: Less than D.

    Returns:
        An orthonormal basis (D, d), leading direction first, and s^2, ().
    """
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    return vectors[:, -d:].flip(1), values[:-d].clamp(min=0).mean()
