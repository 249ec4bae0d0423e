r"""The total correlation of a batch of codes (Chen et al. 2018, https://arxiv.org/abs/1802.04942).

With the aggregate posterior $q(z) = \frac 1N \sum_n q(z \mid x_n)$ the mean rate splits (eq. 2):

$$\mathbb E_x \mathrm{KL}(q(z \mid x) \,\|\, p(z)) =
  \underbrace{\mathrm{KL}(q(z, x) \,\|\, q(z) p(x))}_{\text{mutual information}} +
  \underbrace{\mathrm{KL}(q(z) \,\|\, \textstyle\prod_j q(z_j))}_{\text{total correlation}} +
  \underbrace{\textstyle\sum_j \mathrm{KL}(q(z_j) \,\|\, p(z_j))}_{\text{dimension-wise}}.$$

$q(z)$ is a sum over all N data, but a batch has only M of them. For a draw $z_i$ of the i-th datum,

$$\log q(z_i) \approx \log \sum_j w_{ij} \, q(z_i \mid x_j),$$

with $w_{ij} = 1 / (N M)$ for minibatch-weighted sampling (eq. 9), which is biased. Minibatch
stratified sampling (eq. S6) is unbiased: there $w_{ij}$ is $1 / N$ for $z_i$'s own datum,
$(N - M + 1) / (N (M - 1))$ for one other datum, which represents those outside the batch, and
$1 / (M - 1)$ for the rest.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

Estimator = Literal["weighted", "stratified"]


class RateTerms(NamedTuple):
    """The parts of the rate at each draw, (B,) in nats; their sum is log q(z | x) - log p(z)."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise: Tensor


def log_weights(size: int, data_size: int, estimator: Estimator) -> Tensor:
    """The logarithms of w, (M, M): a row for each draw, a column for each datum of the batch.

    Args:
        size: M, at least 2.
        data_size: N, at least M.
        estimator: `weighted` or `stratified`.
    """
    m, n = size, data_size
    if estimator == "weighted":
        return torch.full((m, m), -math.log(n * m))
    weights = torch.full((m, m), 1 / (m - 1))
    place = torch.arange(m)
    weights[place, place] = 1 / n
    weights[place, (place + 1) % m] = (n - m + 1) / (n * (m - 1))
    return weights.log()


def rate_terms(q: Distribution, prior: Distribution, z: Tensor, log_w: Tensor) -> RateTerms:
    """Split the rate of a batch into mutual information, total correlation and the rest.

    Args:
        q: q(z | x) of the batch, Gaussians of independent dimensions, batch shape (M,).
        prior: p(z), batch shape ().
        z: A draw of each, (M, D).
        log_w: Result of `log_weights`, (M, M).
    """
    mean, scale = q.mean, q.stddev  # (M, D)
    white = (z[:, None] - mean) / scale  # draw i standardised by datum j: (M, M, D)
    log_q = -0.5 * white.square() - scale.log() - 0.5 * math.log(2 * math.pi)
    log_w = log_w.to(z)
    log_qz = (log_w + log_q.sum(-1)).logsumexp(1)  # (M,)
    log_product = (log_w[..., None] + log_q).logsumexp(1).sum(-1)  # (M,)
    return RateTerms(q.log_prob(z) - log_qz, log_qz - log_product, log_product - prior.log_prob(z))
