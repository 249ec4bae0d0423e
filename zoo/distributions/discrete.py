"""Points, grids of categories, and counts of words."""

import math
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.distributions.factorised import at_least_float32
from zoo.distributions.lazy import Lazy, as_made


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


class Autoregressive(Lazy):
    """Grids of categories in raster order: batch shape (), event (h, w).

    Args:
        network: The model of these sequences.
        grid: (h, w).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, network: SequenceModel, grid: tuple[int, ...]) -> None:
        self._network = network
        super().__init__(torch.Size(), torch.Size(grid))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        return self._network.sample(shape.numel()).reshape(shape + self.event_shape)

    @as_made
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats: (*, h, w) int64 to (*)."""
        batch = value.shape[: value.ndim - len(self.event_shape)]
        s = value.reshape(batch.numel(), -1)
        log_p = at_least_float32(self._network(s)).log_softmax(-1)  # (n, T, K)
        return log_p.gather(-1, s.unsqueeze(-1)).sum((1, 2)).reshape(batch)


class WordCounts(Distribution):
    """Counts of terms in a document whose words are drawn independently.

    The probability is that of the words in a given order, as in perplexities: without the
    multinomial coefficient. A sampled document has a Poisson number of words.

    Args:
        probs: Probability of each term, (..., V).
        mean_length: Mean number of words of a sampled document.
    """

    def __init__(self, probs: Tensor, mean_length: float) -> None:
        self.probs = at_least_float32(probs)
        self.mean_length = mean_length
        super().__init__(probs.shape[:-1], probs.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.mean_length * self.probs

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats: counts (..., V) to (...,)."""
        words: Tensor = torch.special.xlogy(value, self.probs)
        return words.sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw counts, (*sample_shape, ..., V), independent Poisson; their sum is Poisson, too."""
        return torch.poisson(self.mean.expand(*sample_shape, *self.mean.shape))
