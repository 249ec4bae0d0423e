r"""Lower bounds on log p(x).

The evidence lower bound (Kingma & Welling 2014, eq. 3) and the importance-weighted bound (Burda
et al. 2016, eq. 8), for $z_1, \dots, z_k \sim q(z \mid x)$:

$$\mathcal L_k = \mathbb E \Big[\log \frac 1k \sum_{i=1}^k w_i \Big], \qquad
  w_i = \frac{p(x \mid z_i) \, p(z_i)}{q(z_i \mid x)}, \qquad
  \mathcal L_1 = \mathrm{ELBO} \le \mathcal L_k \le \mathcal L_{k+1} \le \log p(x).$$
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence


class Inferable(Protocol):
    """A model with a prior, a likelihood, and a posterior that can be sampled."""

    def prior(self) -> Distribution: ...

    def posterior(self, x: Tensor) -> Distribution: ...

    def likelihood(self, z: Tensor) -> Distribution: ...


class Bound(NamedTuple):
    """A Monte Carlo bound on log p(x) and its standard error, both (B,) float64, in nats."""

    value: Tensor
    standard_error: Tensor


def log_joint(model: Inferable, x: Tensor, z: Tensor) -> Tensor:
    """Log p(x, z) in nats for C codes of each datum, (C, B).

    Args:
        model: Model with `prior` and `likelihood`.
        x: Data of shape (B, ...).
        z: Codes of shape (C, B, *latent_shape).
    """
    copies = x.expand(len(z), *x.shape).flatten(0, 1)  # (C B, ...)
    log_likelihood = model.likelihood(z.flatten(0, 1)).log_prob(copies)  # (C B,)
    return log_likelihood.reshape(len(z), len(x)) + model.prior().log_prob(z)


def log_mean(log_w: Tensor) -> Bound:
    """Log of the mean of k weights, with its standard error, from log-weights (k, B)."""
    return _log_mean(log_w.logsumexp(0), (2 * log_w).logsumexp(0), len(log_w))


def _log_mean(log_sum: Tensor, log_sum_squares: Tensor, k: int) -> Bound:
    # k sum w^2 / (sum w)^2 is at least 1; rounding may put it just below.
    spread = (math.log(k) + log_sum_squares - 2 * log_sum).exp() - 1
    return Bound(log_sum - math.log(k), (spread.clamp(min=0) / k).sqrt())


def elbo(model: Inferable, x: Tensor, q: Distribution | None = None) -> tuple[Tensor, Tensor]:
    """Distortion and rate from one posterior draw, (B,) each in nats; the ELBO is minus their sum.

    The rate is KL(q || p) if torch has its closed form, else log q(z) - log p(z) at the draw.

    Args:
        model: Model with `prior`, `posterior` and `likelihood`.
        x: Data of shape (B, ...).
        q: Approximate posterior with batch shape (B,); by default the model's.
    """
    q = model.posterior(x) if q is None else q
    z = q.rsample()
    return -model.likelihood(z).log_prob(x), divergence(q, model.prior(), z)


def divergence(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q || p) in nats, (B,): exact if torch has its closed form, else estimated by one draw.

    Args:
        q: Distribution with batch shape (B,).
        p: Distribution with batch shape ().
        z: A draw of q, (B, D).
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)


PART = 2**19
"""Numbers of x that a CPU decodes at a time: for more, the system allocates new memory each time,
page by page, which takes up to four times as long as decoding."""


@torch.no_grad()
def importance_weighted_bound(
    model: Inferable, x: Tensor, samples: int, chunk: int = 4096
) -> Bound:
    r"""Estimate $\mathcal L_k$ for each x, in memory that does not grow with k.

    The standard error is that of $\log \frac 1k \sum_i w_i$ by the delta method,
    $\sqrt{(k \sum w_i^2 / (\sum w_i)^2 - 1) / k}$. It is the error of the bound, not its distance
    to log p(x), and it is too small if the k draws miss the region with most of the weight.

    Args:
        model: Model with `prior`, `posterior` and `likelihood`.
        x: Data of shape (B, ...).
        samples: Number of importance samples k.
        chunk: Codes drawn at a time.

    Raises:
        ValueError: if `samples` is not positive.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, but at least one importance sample is needed.")
    q = model.posterior(x)
    batch = len(x)
    step = max(1, chunk // batch)
    part = max(1, PART // x.numel()) if x.device.type == "cpu" else step
    log_sum = x.new_full((batch,), -math.inf, dtype=torch.float64)  # log sum_i w_i
    log_sum_squares = log_sum.clone()  # log sum_i w_i^2
    for start in range(0, samples, step):
        z = q.sample((min(step, samples - start),))  # (n, B, *latent_shape)
        log_p = torch.cat([log_joint(model, x, codes) for codes in torch.split(z, part)])  # (n, B)
        log_w = log_p.double() - q.log_prob(z).double()  # (n, B)
        log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
        log_sum_squares = torch.logaddexp(log_sum_squares, (2 * log_w).logsumexp(0))
    return _log_mean(log_sum, log_sum_squares, samples)
