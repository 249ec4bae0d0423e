"""Distributions over images and codes, always built in float32 or better.

Argument validation is off: it costs as much as a small network, and the verbs check their input.
"""

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
