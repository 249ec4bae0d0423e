"""Distributions over images and codes, always built in float32 or better.

Argument validation is off: it costs as much as a small network, and the verbs check their input.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal


def at_least_float32(x: Tensor) -> Tensor:
    """Upcast half precision: a 784-pixel log-likelihood in bfloat16 is off by more than a nat."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def bernoulli(logits: Tensor, event_dims: int) -> Distribution:
    """Independent Bernoulli variables over the last `event_dims` dimensions of `logits`."""
    logits = at_least_float32(logits)
    return Independent(Bernoulli(logits=logits, validate_args=False), event_dims, False)


def gaussian(mean: Tensor, scale: Tensor, event_dims: int) -> Distribution:
    """Independent Gaussians over the last `event_dims` dimensions; `scale` is sigma."""
    mean, scale = at_least_float32(mean), at_least_float32(scale)
    return Independent(Normal(mean, scale, validate_args=False), event_dims, False)


def standard_gaussian(origin: Tensor) -> Distribution:
    """N(0, I) of the shape, type and device of `origin`, (D,)."""
    return gaussian(origin, torch.ones_like(origin), event_dims=1)


def diagonal_gaussian(parameters: Tensor) -> Distribution:
    """N(mu, diag sigma^2) from mu and log sigma side by side, (B, 2 D)."""
    mean, log_scale = parameters.chunk(2, dim=-1)
    return gaussian(mean, log_scale.exp(), event_dims=1)


def image_likelihood(output: Tensor, log_scale: Tensor | None) -> Distribution:
    """p(x | z) of images: Bernoulli pixels, or Gaussian ones where there is a scale.

    Args:
        output: What a decoder gives, logits or means, (B, C, H, W).
        log_scale: Log s of the Gaussian, (); None for a Bernoulli.
    """
    if log_scale is None:
        return bernoulli(logits=output, event_dims=3)
    return gaussian(output, log_scale.exp().expand_as(output), event_dims=3)


class PushForward(Distribution):
    r"""The distribution of $z = f_T \circ \dots \circ f_1(z_0)$: that of a normalizing flow.

    The density of its own last draw is known from the draw; that of any other z takes the inverse
    of each f. Batch and event shape are those of z_0, which is a vector.

    Args:
        base: Distribution of z_0.
        transforms: f_1 to f_T, of zuko.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, base: Distribution, transforms: Sequence[Any]) -> None:
        self._base, self._transforms = base, transforms
        self._drawn: tuple[Tensor, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def centre(self) -> Tensor:
        """Where the mean of z_0 goes: (*batch_shape, D)."""
        return self.push(self._base.mean)[0]

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z_0, (..., D), to z, and give its log |det dz / dz_0|, (...)."""
        log_det = z.new_zeros(z.shape[:-1])
        for f in self._transforms:
            z, change = f.call_and_ladj(z)
            log_det = log_det + change
        return z, log_det

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        start = self._base.rsample(torch.Size(sample_shape))
        z, log_det = self.push(start)
        self._drawn = z, self._base.log_prob(start) - log_det
        return z

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


class PointMass(Distribution):
    """All probability at one point, of a discrete variable.

    Args:
        point: (*batch_shape, *event_shape).
        event_dims: Dimensions of an event.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, point: Tensor, event_dims: int) -> None:
        self._point = point
        split = point.ndim - event_dims
        super().__init__(point.shape[:split], point.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._point

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._point.expand(*torch.Size(sample_shape), *self._point.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at the point and minus infinity elsewhere, in nats: (*, *event_shape) to (*)."""
        dims = tuple(range(-len(self.event_shape), 0))
        there = (value == self._point).all(dims) if dims else value == self._point
        return torch.zeros(there.shape, device=value.device).masked_fill(~there, -math.inf)


class SequenceModel(Protocol):
    """Gives the logits of all places, (B, T, K), from sequences (B, T); and draws n sequences."""

    def __call__(self, s: Tensor) -> Tensor: ...

    def sample(self, n: int) -> Tensor: ...


class Autoregressive(Distribution):
    """Grids of categories in raster order: batch shape (), event (h, w).

    Args:
        network: The model of these sequences.
        grid: (h, w).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, network: SequenceModel, grid: tuple[int, ...]) -> None:
        self._network = network
        super().__init__(torch.Size(), torch.Size(grid), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        return self._network.sample(shape.numel()).reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats: (*, h, w) int64 to (*)."""
        batch = value.shape[: value.ndim - len(self.event_shape)]
        s = value.reshape(batch.numel(), -1)
        log_p = at_least_float32(self._network(s)).log_softmax(-1)  # (n, T, K)
        return log_p.gather(-1, s.unsqueeze(-1)).sum((1, 2)).reshape(batch)


class WordCounts(Distribution):
    """How often each term is found in a document whose words are drawn independently.

    The probability is that of as many words in a given order, as perplexities count it: without the
    multinomial coefficient. A document that is sampled has a Poisson number of words.

    Args:
        probs: Probability of each term, (..., V).
        mean_length: Words of a sampled document, on average.
    """

    def __init__(self, probs: Tensor, mean_length: float) -> None:
        self.probs = at_least_float32(probs)
        self.mean_length = mean_length
        super().__init__(probs.shape[:-1], probs.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.mean_length * self.probs

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of counts (..., V), shape (...,)."""
        words: Tensor = torch.special.xlogy(value, self.probs)
        return words.sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw counts, (*sample_shape, ..., V): independent Poisson numbers add up to one."""
        return torch.poisson(self.mean.expand(*sample_shape, *self.mean.shape))


class Subspace(NamedTuple):
    r"""Coordinates of data: $y = U^\top (x - b)$, and white noise off the subspace they span.

    A density q of y becomes one of x, $q(y) \, \mathcal N(x - b - U y; 0, s^2)$, whose last factor
    is over the D - d directions that are left. Without a basis y is x - b, and nothing is left.

    Args:
        offset: b, (D,).
        basis: U with orthonormal columns, (D, d); None for all of the space.
        variance: s^2, (), where there is a basis.
    """

    offset: Tensor
    basis: Tensor | None = None
    variance: Tensor | None = None

    def coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x of shape (..., D): y, (..., d), and the log-density of what is left, (...)."""
        centred = x - self.offset
        if self.basis is None or self.variance is None:
            return centred, centred.new_zeros(()).expand(centred.shape[:-1])
        y = centred @ self.basis
        rest = (centred - y @ self.basis.mT).square().sum(-1)
        left = self.basis.shape[0] - self.basis.shape[1]
        scale = 0.5 * left * (2 * math.pi * self.variance).log()
        return y, -0.5 * rest / self.variance - scale

    def embed(self, y: Tensor) -> Tensor:
        """The point of the subspace whose coordinates are y: (..., d) to (..., D)."""
        return self.offset + (y if self.basis is None else y @ self.basis.mT)


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
            x = value.flatten(-len(self.event_shape)).to(self._mean.dtype)
            y, rest = self._subspace.coordinates(x)
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
