r"""The recursions of hidden Markov models as scans (Särkkä & García-Fernández 2021).

The matrices $A \operatorname{diag}(b_t)$ are multiplied in rounds:

$$\hat\alpha_t \propto \pi \operatorname{diag}(b_1) \, A \operatorname{diag}(b_2) \cdots
  A \operatorname{diag}(b_t), \qquad
  \hat\beta_t \propto A \operatorname{diag}(b_{t+1}) \cdots A \operatorname{diag}(b_T) \, 1.$$

An element of a scan is a matrix, (T, B, K, K), and the logarithms of its rows' scales, (T, B, K):
each row has its own, so that none underflows because another is large.
"""

import torch
from torch import Tensor

from zoo.inference.chains.layout import Layout
from zoo.inference.chains.scan import Elements, associative_scan


def forward(pi: Tensor, A: Tensor, b: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Alpha (N, K) and c (N, 1), as `recursions` defines them, of pi (K,) and A (K, K)."""
    first = b[: len(layout.order)] * pi  # (B, K)
    one = torch.eye(len(A), dtype=A.dtype, device=A.device)
    elements = _elements(A * b[:, None], one, layout)
    elements[0] = first[:, None]  # from wherever: all rows of the products will be alike
    matrix, _ = associative_scan(_product, (elements, elements.new_zeros(elements.shape[:-1])))
    alpha = matrix[layout.step, layout.rank, 0]
    alpha /= alpha.sum(1, keepdim=True)
    c = (alpha.index_select(0, layout.previous) @ A * b[len(first) :]).sum(1, keepdim=True)
    return alpha, torch.cat([first.sum(1, keepdim=True), c])


def backward(A: Tensor, w: Tensor, alpha: Tensor, layout: Layout) -> Tensor:
    """Beta (N, K); w, which is b / c, becomes b beta / c."""
    one = torch.eye(len(A), dtype=A.dtype, device=A.device)
    elements = _elements(A * w[:, None], one, layout).roll(-1, 0)
    elements[-1] = one
    zeros = elements.new_zeros(elements.shape[:-1])
    matrix, log_scale = associative_scan(_product, (elements, zeros), reverse=True)
    log_beta = (log_scale + matrix.sum(-1).log())[layout.step, layout.rank]
    beta = (log_beta - finite(log_beta.amax(1, keepdim=True))).exp_()
    beta /= (alpha * beta).sum(1, keepdim=True)
    w.mul_(beta)
    return beta


def _product(earlier: Elements, later: Elements) -> Elements:
    (x, log_x), (y, log_y) = earlier, later
    x = x.log() + log_y[..., None, :]  # (..., K, K)
    top = finite(x.amax(-1))
    product = (x - top[..., None]).exp_() @ y
    scale = product.amax(-1).clamp_(min=torch.finfo(y.dtype).tiny)
    return product / scale[..., None], log_x + top + scale.log()


def viterbi(log_pi: Tensor, log_A: Tensor, log_b: Tensor, layout: Layout) -> Tensor:
    """The most probable paths (N,), of the logarithms of pi (K,), A (K, K) and b (N, K)."""
    first = len(layout.order)
    one = torch.full_like(log_A, -torch.inf).fill_diagonal_(0)
    elements = _elements(log_A + log_b[:, None], one, layout)
    elements[0] = (log_pi + log_b[:first])[:, None]
    zeros = elements.new_zeros(elements.shape[:-1])
    score = associative_scan(_max_product, (elements, zeros))[0][layout.step, layout.rank, 0]
    # Each step maps its state to the state before; behind an end, and there, nothing is changed.
    come_from = (score[layout.previous, None] + log_A.T).argmax(2)  # (N - B, K)
    maps = torch.arange(len(log_A), device=log_A.device).repeat(*elements.shape[:2], 1)
    maps[layout.step[first:] - 1, layout.rank[first:]] = come_from
    (back,) = associative_scan(lambda x, y: (x[0].gather(-1, y[0]),), (maps,), reverse=True)
    ends = score[layout.last].argmax(1)  # (B,)
    return back[layout.step, layout.rank].gather(1, ends[layout.rank, None]).squeeze(1)


def _max_product(earlier: Elements, later: Elements) -> Elements:
    """The product of the logarithms of matrices, with the maximum for the sum."""
    (x, log_x), (y, log_y) = earlier, later
    x = x + log_y[..., None, :]
    best = x[..., :1] + y[..., :1, :]
    for j in range(1, x.shape[-1]):  # not (..., K, K, K) at once
        best = torch.maximum(best, x[..., j : j + 1] + y[..., j : j + 1, :])
    top = finite(best.amax(-1))
    scale = log_x + top
    # Only differences matter, and they would lose their digits beside a large sum.
    return best - top[..., None], scale - finite(scale.amax(-1, keepdim=True))


def _elements(matrices: Tensor, one: Tensor, layout: Layout) -> Tensor:
    """Matrices (N, K, K) as elements (T, B, K, K), from the longest sequence, ones behind ends."""
    elements = one.repeat(len(layout.sizes), len(layout.order), 1, 1)
    elements[layout.step, layout.rank] = matrices
    return elements


def finite(x: Tensor) -> Tensor:
    """Put zero in place of infinities, so that subtracting it gives no NaN."""
    return x.where(x.isfinite(), 0)
