"""Gaussians on a subspace, with white noise orthogonal to it."""

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution


class Subspace(NamedTuple):
    r"""Coordinates of data, $y = U^\top (x - b)$, and white noise orthogonal to the subspace.

    A density q of y gives a density of x, $q(y) \, \mathcal N(x - b - U y; 0, s^2)$, whose last
    factor is over the other D - d directions. Without a basis y is x - b, and there are no others.

    Args:
        offset: b, (D,).
        basis: U with orthonormal columns, (D, d); None for all of the space.
        variance: s^2, (), if there is a basis.
    """

    offset: Tensor
    basis: Tensor | None = None
    variance: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Subspace":
        """The subspace with its basis and variance in a type; the offset keeps all digits."""
        return Subspace(self.offset, *(None if t is None else t.to(dtype) for t in self[1:]))

    def coordinates(self, x: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Project x of shape (..., D): y, (..., d), and the log-density of the remainder, (...).

        Both have the type and the device of `like`; x is centred before it is rounded to that type.
        """
        centred = (x.to(like.device) - self.offset).to(like.dtype)
        if self.basis is None or self.variance is None:
            return centred, centred.new_zeros(()).expand(centred.shape[:-1])
        y = centred @ self.basis
        rest = (centred - y @ self.basis.mT).square().sum(-1)
        left = self.basis.shape[0] - self.basis.shape[1]
        scale = 0.5 * left * (2 * math.pi * self.variance).log()
        return y, -0.5 * rest / self.variance - scale

    def embed(self, y: Tensor) -> Tensor:
        """The point of the subspace whose coordinates are y: (..., d) to (..., D)."""
        x = self.offset + (y if self.basis is None else y @ self.basis.mT)
        return x.to(y.dtype)


class SubspaceGaussian(Distribution):
    r"""A Gaussian whose coordinates in a subspace are correlated: $y \sim \mathcal N(\mu, \Sigma)$.

    So $x \sim \mathcal N(b + U \mu, \; U \Sigma U^\top + s^2 (I - U U^\top))$. Batch shape (B,).

    Args:
        mean: mu, (B, d).
        factor: A with $A A^\top = \Sigma^{-1}$: (B, d, d) upper triangular, or its diagonal (B, d).
        subspace: b, U and s^2.
        event_shape: Shape of x.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self, mean: Tensor, factor: Tensor, subspace: Subspace, event_shape: tuple[int, ...]
    ) -> None:
        self._mean, self._factor, self._subspace = mean, factor, subspace
        super().__init__(mean.shape[:-1], torch.Size(event_shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._shaped(self._subspace.embed(self._mean))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats: value broadcasts with (B, *event_shape)."""
        with torch.autocast(value.device.type, enabled=False):
            x = value.flatten(-len(self.event_shape))
            y, rest = self._subspace.coordinates(x, self._mean)
            y = y - self._mean
            if self._diagonal:
                white, log_det = y * self._factor, self._factor.log().sum(-1)
            else:
                white = (y.unsqueeze(-2) @ self._factor).squeeze(-2)
                log_det = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        scale = log_det - 0.5 * white.shape[-1] * math.log(2 * math.pi)
        return rest + scale - 0.5 * white.square().sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        noise = torch.randn(
            *shape, self._mean.shape[-1], dtype=self._mean.dtype, device=self._mean.device
        )
        basis, variance = self._subspace.basis, self._subspace.variance
        with torch.autocast(noise.device.type, enabled=False):
            if self._diagonal:
                y = self._mean + noise / self._factor
            else:
                lower = self._factor.mT.expand(*shape, *self._factor.shape[-2:])
                y = torch.linalg.solve_triangular(lower, noise.unsqueeze(-1), upper=False)
                y = self._mean + y.squeeze(-1)
            x = self._subspace.embed(y)
            if basis is not None and variance is not None:
                noise = torch.randn_like(x)
                x = x + variance.sqrt() * (noise - (noise @ basis) @ basis.mT)
        return self._shaped(x)

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[:-1] + self.event_shape)

    @property
    def _diagonal(self) -> bool:
        return self._factor.ndim == self._mean.ndim
