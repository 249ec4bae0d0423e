r"""Hidden Markov models: what can be said of paths of states (Rabiner 1989).

A path $z_1, \dots, z_T$ through $K$ states has the weight

$$p(x, z) = \pi_{z_1} b_1(z_1) \prod_{t=2}^T A_{z_{t-1} z_t} b_t(z_t), \qquad
  b_t(k) = p(x_t | z_t = k).$$

Filtering and smoothing are the recursions (eqs. 19-25, scaled as in eqs. 91-92)

$$\hat\alpha_t(k) = \frac{b_t(k)}{c_t} \sum_i \hat\alpha_{t-1}(i) A_{ik}, \qquad
  \hat\beta_t(i) = \sum_k A_{ik} \frac{b_{t+1}(k)}{c_{t+1}} \hat\beta_{t+1}(k), \qquad
  p(x) = \prod_t c_t,$$

where $\hat\alpha_t(k) = p(z_t = k | x_{1:t})$ sums to one and
$\hat\alpha_t(k) \hat\beta_t(k) = p(z_t = k | x)$. They are computed with probabilities, step by
step, or by a scan over products of matrices (Särkkä & García-Fernández 2021). Where an estimate
after the fact says that underflow may have cost more than rounding did, which takes transitions
that are (almost) forbidden, the sequences concerned are computed again with logarithms.

Sequences are packed, as `Layout` has it. Weights, as of variational Bayes, need not sum to one.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zoo.inference.chains import parallel
from zoo.inference.chains.layout import Layout
from zoo.inference.chains.parallel import finite

Scan = Literal["sequential", "parallel"]
"""T steps of K^2 work a sequence, or 2 log2 T rounds of T K^3 work in all and T K^2 memory."""


class Chain(NamedTuple):
    """The logarithms of the weights of a Markov chain of K states: pi (K,), and A (K, K)."""

    log_initial: Tensor
    log_transition: Tensor


class Filtered(NamedTuple):
    """log p(z_t | x_1, ..., x_t), packed (N, K), and log p(x), (B,) float64."""

    log_state: Tensor
    log_likelihood: Tensor


class Smoothed(NamedTuple):
    """What is expected of the states, given the observations.

    Args:
        marginals: p(z_t | x), packed (N, K), times the sequence's weight.
        transitions: The sum of p(z_{t-1}, z_t | x) over all steps, times the weights, (K, K).
        log_likelihood: log p(x), (B,) float64.
    """

    marginals: Tensor
    transitions: Tensor
    log_likelihood: Tensor


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _exactly(
    f: Callable[Concatenate[Chain, Tensor, _P], _R],
) -> Callable[Concatenate[Chain, Tensor, _P], _R]:
    """Compute without gradients, and without the half precision that autocast would choose."""

    @wraps(f)
    def run(chain: Chain, log_p: Tensor, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.no_grad(), torch.autocast(log_p.device.type, enabled=False):
            return f(chain, log_p, *args, **kwargs)

    return run


# --- filtering and smoothing ---------------------------------------------------------------------


@_exactly
def filter_states(
    chain: Chain, log_emission: Tensor, layout: Layout, scan: Scan = "sequential"
) -> Filtered:
    """The forward recursion.

    Args:
        chain: The weights of the paths.
        log_emission: log b, packed (N, K).
        layout: How it is packed.
        scan: How to compute it.
    """
    pi, A, b, log_scale = _weights(chain, log_emission)
    alpha, c = _FORWARD[scan](pi, A, b, layout)
    log_state, log_c = alpha.log(), c.log().squeeze(1)
    if A.min() > 1e12 * torch.finfo(b.dtype).tiny:
        beta = torch.ones_like(c)  # every state is reached anew, whatever underflowed at a step
    else:
        beta = _BACKWARD[scan](A, b / c, alpha, layout)
    doubtful = _doubtful(beta, c, layout)
    if doubtful is not None:
        rows, part = layout.part(doubtful)
        exact, log_b = _in_logs(chain, log_emission[rows] - log_scale[rows, None])
        found = _log_forward(exact, log_b, part)
        log_state[rows], log_c[rows] = (x.to(log_state) for x in found)
    return Filtered(log_state, layout.total(log_c.double() + log_scale))


@_exactly
def smooth(
    chain: Chain,
    log_emission: Tensor,
    layout: Layout,
    scan: Scan = "sequential",
    weight: Tensor | None = None,
) -> Smoothed:
    """The forward-backward algorithm.

    Args:
        chain: The weights of the paths.
        log_emission: log b, packed (N, K).
        layout: How it is packed.
        scan: How to compute it.
        weight: How often each sequence counts, (B,); by default once.

    Returns:
        Zeros for a sequence that the model holds impossible.
    """
    pi, A, b, log_scale = _weights(chain, log_emission)
    alpha, c = _FORWARD[scan](pi, A, b, layout)
    log_c = c.log().squeeze(1)
    w = b.div_(c)
    beta = _BACKWARD[scan](A, w, alpha, layout)  # and w becomes b beta / c
    doubtful = _doubtful(beta, c, layout)
    rows, part = layout.part(doubtful) if doubtful is not None else (None, layout)
    for x in (alpha, beta, w) if rows is not None else ():
        x[rows] = 0
    marginals = beta.mul_(alpha)
    counted = marginals.sum(1, keepdim=True)
    tiny = torch.finfo(b.dtype).tiny
    factor = counted.clamp_(min=tiny).reciprocal_()  # 1 but for rounding, which adds up over steps
    if weight is not None:
        factor *= weight.to(factor)[layout.order[layout.rank], None]
    marginals *= factor
    later = w[len(layout.order) :].mul_(factor[len(layout.order) :])
    transitions = A * (alpha.index_select(0, layout.previous).T @ later)
    if rows is not None:
        exact, log_b = _in_logs(chain, log_emission[rows] - log_scale[rows, None])
        alpha_c = _log_forward(exact, log_b, part)
        times = None if weight is None else weight.double()[layout.order[doubtful]]
        some, pairs = _log_smooth(exact, log_b, *alpha_c, part, times)
        marginals[rows], log_c[rows] = some.to(marginals), alpha_c[1].to(log_c)
        transitions += pairs.to(transitions)
    return Smoothed(marginals, transitions, layout.total(log_c.double() + log_scale))


class _LogLikelihood(torch.autograd.Function):
    """log p(x), whose gradient is what is expected of the paths (Fisher's identity)."""

    @staticmethod
    def forward(
        ctx: Any,
        log_initial: Tensor,
        log_transition: Tensor,
        log_emission: Tensor,
        layout: Layout,
        scan: Scan,
    ) -> Tensor:
        ctx.save_for_backward(log_initial, log_transition, log_emission)
        ctx.layout, ctx.scan = layout, scan
        chain = Chain(log_initial, log_transition)
        return filter_states(chain, log_emission, layout, scan).log_likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_initial, log_transition, log_emission = ctx.saved_tensors
        chain = Chain(log_initial, log_transition)
        found = smooth(chain, log_emission, ctx.layout, ctx.scan, grad)
        initial = found.marginals[: len(grad)].sum(0)
        return initial, found.transitions, found.marginals, None, None


def log_likelihood(
    chain: Chain, log_emission: Tensor, layout: Layout, scan: Scan = "sequential"
) -> Tensor:
    """Log p(x) of each sequence, (B,) float64, which can be differentiated once.

    Args:
        chain: The weights of the paths.
        log_emission: log b, packed (N, K).
        layout: How it is packed.
        scan: How to compute it.
    """
    value: Tensor = _LogLikelihood.apply(*chain, log_emission, layout, scan)
    return value


def _weights(chain: Chain, log_emission: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pi, A, b divided by the largest entry of each row, and the logarithm of that, (N,).

    Log b may be more precise than the chain, which its large entries need; b is not.
    """
    log_scale = finite(log_emission.amax(1))
    b = (log_emission - log_scale[:, None]).to(chain.log_initial).exp_()
    return chain.log_initial.exp(), chain.log_transition.exp(), b, log_scale


def _doubtful(beta: Tensor, c: Tensor, layout: Layout) -> Tensor | None:
    """Which sequences underflow may have cost more than rounding did, bool (B,), or None.

    An entry of alpha, before it is divided by c, may lack up to K times the smallest normal number,
    and p(x) would grow, relatively, by beta / c for a unit more in it.

    Args:
        beta: Of all rows, (N, K), or bounds on it, (N, 1).
        c: Of all rows, (N, 1).
        layout: How they are packed.
    """
    info = torch.finfo(c.dtype)
    limit = info.eps / info.tiny / (1e6 * len(layout.sizes))  # where 1e6 is room for K^2
    if beta.max() / c.min() < limit:
        return None
    bad = ~(beta.amax(1) / c.squeeze(1) < limit)  # also NaN, where a whole sum was lost
    if not bad.any():
        return None
    found = bad.new_zeros(len(layout.order))
    found[layout.rank[bad]] = True
    return found


def _forward(pi: Tensor, A: Tensor, b: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Alpha (N, K) and c (N, 1), step by step."""
    alpha, c = torch.empty_like(b), b.new_empty(len(b), 1)
    alphas, bs, cs = layout.steps(alpha, b, c)
    for t, size in enumerate(layout.sizes):
        if t == 0:
            torch.mul(pi, bs[0], out=alphas[0])
        else:
            torch.mm(alphas[t - 1][:size], A, out=alphas[t]).mul_(bs[t])
        torch.sum(alphas[t], 1, keepdim=True, out=cs[t])
        alphas[t].div_(cs[t])
    return alpha, c


def _backward(A: Tensor, w: Tensor, alpha: Tensor, layout: Layout) -> Tensor:
    """Beta (N, K), step by step; w, which is b / c, becomes b beta / c but for the first steps."""
    beta, transposed = torch.ones_like(w), A.T.contiguous()
    betas, ws = layout.steps(beta, w)
    for t in range(len(ws) - 1, 0, -1):
        ws[t].mul_(betas[t])
        torch.mm(ws[t], transposed, out=betas[t - 1][: len(ws[t])])
    return beta


_FORWARD = {"sequential": _forward, "parallel": parallel.forward}
_BACKWARD = {"sequential": _backward, "parallel": parallel.backward}


# --- with logarithms -----------------------------------------------------------------------------


def _in_logs(chain: Chain, log_b: Tensor) -> tuple[Chain, Tensor]:
    """What is computed again is computed in float64."""
    return Chain(chain.log_initial.double(), chain.log_transition.double()), log_b.double()


def _log_forward(chain: Chain, log_b: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The logarithms of alpha (N, K) and of c (N,)."""
    log_alpha, log_c = torch.empty_like(log_b), log_b.new_empty(len(log_b))
    alphas, bs, cs = layout.steps(log_alpha, log_b, log_c)
    for t, size in enumerate(layout.sizes):
        if t == 0:
            a = chain.log_initial + bs[0]
        else:
            paths = alphas[t - 1][:size, :, None] + chain.log_transition  # (B_t, K, K)
            a = paths.logsumexp(1) + bs[t]
        cs[t].copy_(a.logsumexp(1))
        alphas[t].copy_(a - finite(cs[t])[:, None])
    return log_alpha, log_c


def _log_smooth(
    chain: Chain,
    log_b: Tensor,
    log_alpha: Tensor,
    log_c: Tensor,
    layout: Layout,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The marginals (N, K) and the sum of the pairs' (K, K), times the weights (B,)."""
    sizes = layout.sizes
    log_w = log_b - finite(log_c)[:, None]
    log_beta = torch.zeros_like(log_b)
    alphas, betas, ws = layout.steps(log_alpha, log_beta, log_w)
    transitions = torch.zeros_like(chain.log_transition)
    for t in range(len(sizes) - 1, 0, -1):
        paths = chain.log_transition + (ws[t] + betas[t])[:, None]  # (B_t, K, K)
        betas[t - 1][: sizes[t]] = paths.logsumexp(2)
        pairs = (alphas[t - 1][: sizes[t], :, None] + paths).exp_()
        if weight is not None:
            pairs *= weight[: sizes[t], None, None]
        transitions += pairs.sum(0)
    marginals = (log_alpha + log_beta).exp_()
    if weight is not None:
        marginals *= weight[layout.rank, None]
    return marginals, transitions


# --- paths ---------------------------------------------------------------------------------------


@_exactly
def viterbi(
    chain: Chain, log_emission: Tensor, layout: Layout, scan: Scan = "sequential"
) -> tuple[Tensor, Tensor]:
    """The most probable path of each sequence, packed (N,), and its log p(x, z), (B,) float64.

    Args:
        chain: The weights of the paths.
        log_emission: log b, packed (N, K).
        layout: How it is packed.
        scan: How to compute it. Where paths are equally probable the two may choose differently.
    """
    decode = {"sequential": _viterbi, "parallel": parallel.viterbi}[scan]
    log_pi, log_A = (x.to(log_emission) for x in chain)
    path = decode(log_pi, log_A, log_emission, layout)
    return path, log_joint(chain, log_emission, path, layout)


def log_joint(chain: Chain, log_emission: Tensor, path: Tensor, layout: Layout) -> Tensor:
    """Log p(x, z) of paths, packed (..., N): (..., B) float64."""
    first = len(layout.order)
    terms = log_emission[torch.arange(len(log_emission), device=path.device), path]
    moves = chain.log_transition[path[..., layout.previous], path[..., first:]]
    return layout.total(terms + torch.cat([chain.log_initial[path[..., :first]], moves], -1))


def _viterbi(log_pi: Tensor, log_A: Tensor, log_b: Tensor, layout: Layout) -> Tensor:
    """The most probable paths (N,), step by step."""
    sizes, backwards = layout.sizes, log_A.T.contiguous()
    path = layout.step.new_empty(len(log_b))
    paths, pointers = torch.split(path, sizes), []
    score = log_pi + log_b[: sizes[0]]
    for t, b_t in enumerate(torch.split(log_b, sizes)):
        if t > 0:
            paths[t - 1][sizes[t] :] = score[sizes[t] :].argmax(1)  # where those end that end here
            score, come_from = (score[: sizes[t], None] + backwards).max(2)  # (B_t, K) each
            score += b_t
            pointers.append(come_from)
        # Only differences matter, and they would lose their digits beside a large sum.
        score = score - finite(score.amax(1, keepdim=True))
    paths[-1].copy_(score.argmax(1))
    for t in range(len(sizes) - 1, 0, -1):
        before = pointers[t - 1].gather(1, paths[t][:, None])
        paths[t - 1][: sizes[t]] = before.squeeze(1)
    return path


@_exactly
def sample_paths(chain: Chain, log_state: Tensor, layout: Layout, n: int) -> Tensor:
    """Draw n paths from p(z | x) by forward filtering and backward sampling, packed (n, N).

    Args:
        chain: The weights of the paths.
        log_state: What `filter_states` gives, (N, K).
        layout: How it is packed.
        n: How many of each sequence.
    """
    path = layout.step.new_empty(n, len(log_state))
    paths, backwards = torch.split(path, layout.sizes, 1), chain.log_transition.T.contiguous()
    for t, log_weight in reversed([*enumerate(torch.split(log_state, layout.sizes))]):
        weights = log_weight.repeat(n, 1, 1)  # (n, B_t, K)
        if t + 1 < len(paths):
            weights[:, : layout.sizes[t + 1]] += backwards[paths[t + 1]]
        paths[t].copy_(_draw(weights))
    return path


@torch.no_grad()
def sample_chain(chain: Chain, n: int, length: int) -> Tensor:
    """Draw n paths from p(z), (n, T)."""
    path = [_draw(chain.log_initial.expand(n, -1))]
    for _ in range(length - 1):
        path.append(_draw(chain.log_transition[path[-1]]))
    return torch.stack(path, 1)


def _draw(log_weight: Tensor) -> Tensor:
    """One of K for each row (..., K), by the maximum of Gumbel variables."""
    return (log_weight - torch.empty_like(log_weight).exponential_().log_()).argmax(-1)


@_exactly
def predict(chain: Chain, log_state: Tensor) -> Tensor:
    """p(z_{t+1} | x_1, ..., x_t) from what `filter_states` gives, both (..., K)."""
    predicted: Tensor = log_state.exp() @ chain.log_transition.exp()
    return predicted


def stationary(log_transition: Tensor) -> Tensor:
    """The distribution that a step of the chain leaves as it is, (K, K) to (K,).

    Raises:
        ValueError: if there is more than one.
    """
    A = log_transition.double().exp()
    one = torch.eye(len(A), dtype=A.dtype, device=A.device)
    if torch.linalg.matrix_rank(one - A) < len(A) - 1:
        raise ValueError(
            "the chain has several stationary distributions: some states never reach others."
        )
    pi: Tensor = torch.linalg.solve(one - A.T + 1, torch.ones_like(A[0]))
    return pi.to(log_transition)
