"""Distributions pushed forward by an invertible map."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.distributions.lazy import Lazy, as_made

REACH = 10.0  # bound of codes with prior N(0, I); codes of data stay within it


class LogTails:
    """Map of vectors that keeps numbers in [-10, 10] and takes ±(10 + t) to ±(10 + log(1 + t)).

    Steps of a flow multiply, so that an image unlike those of training would otherwise have a code
    of thousands.
    """

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z, (..., D), and return log |det| of the Jacobian, (...)."""
        inside = z.clamp(-REACH, REACH)
        beyond = z - inside
        shrunk = beyond.abs().log1p()
        return inside + beyond.sign() * shrunk, -shrunk.sum(-1)

    def inv(self, y: Tensor) -> Tensor:
        """Undo the map of (..., D)."""
        inside = y.clamp(-REACH, REACH)
        beyond = y - inside
        return inside + beyond.sign() * beyond.abs().expm1()

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(z)[1]


class PushForward(Lazy):
    r"""The distribution of $z = f_T \circ \dots \circ f_1(z_0)$: that of a normalizing flow.

    The last draw keeps its density; the density of any other z takes the inverse of each f. Batch
    and event shape are those of z_0, which is a vector.

    Args:
        base: Distribution of z_0.
        transforms: f_1 to f_T, with the methods of zuko's.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, base: Distribution, transforms: Sequence[Any]) -> None:
        self._base, self._transforms = base, transforms
        self._drawn: tuple[Tensor, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape)

    @property
    @as_made
    def centre(self) -> Tensor:
        """Image of the mean of z_0: (*batch_shape, D)."""
        return self.push(self._base.mean)[0]

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z_0, (..., D), to z, and return log |det dz / dz_0|, (...)."""
        log_det = z.new_zeros(z.shape[:-1])
        for f in self._transforms:
            z, change = f.call_and_ladj(z)
            log_det = log_det + change
        return z, log_det

    @as_made
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        start = self._base.rsample(torch.Size(sample_shape))
        z, log_det = self.push(start)
        self._drawn = z, self._base.log_prob(start) - log_det
        return z

    @as_made
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats: (..., D) to (...)."""
        if self._drawn is not None and value is self._drawn[0]:
            return self._drawn[1]
        z, log_det = value, value.new_zeros(value.shape[:-1])
        for f in reversed(self._transforms):
            before = f.inv(z)
            log_det = log_det + f.log_abs_det_jacobian(before, z)
            z = before
        log_p: Tensor = self._base.log_prob(z)
        return log_p - log_det
