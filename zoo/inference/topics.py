r"""Variational inference for latent Dirichlet allocation (Blei, Ng & Jordan 2003).

A document is a row of counts $n_{dw}$. With topics $\beta_k \sim \mathrm{Dir}(\eta)$ of posterior
$q(\beta_k) = \mathrm{Dir}(\lambda_k)$ and proportions $\theta_d \sim \mathrm{Dir}(\alpha)$ of
posterior $q(\theta_d) = \mathrm{Dir}(\gamma_d)$, coordinate ascent iterates (Hoffman, Blei & Bach
2010, eq. 5; the assignments $\phi$ are never stored)

$$\gamma_{dk} = \alpha + \tilde\theta_{dk} \sum_w \frac{n_{dw}}{\sum_j \tilde\theta_{dj}
  \tilde\beta_{jw}} \tilde\beta_{kw}, \qquad
  \tilde\theta_{dk} = e^{\mathbb E[\log \theta_{dk}]}, \quad
  \tilde\beta_{kw} = e^{\mathbb E[\log \beta_{kw}]}.$$

The sums over words are products with the sparse matrix $n_{dw} / \sum_j \dots$, whose pattern is
that of the counts: its values are a sampled product of $\tilde\theta$ and $\tilde\beta$.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

STRIDE = 5  # iterations between two looks at which documents have converged


class Documents(NamedTuple):
    """Counts of the terms of B documents in compressed rows.

    Args:
        starts: Where each document begins among the entries, int64 (B + 1,).
        terms: The terms of each document, int64 (E,).
        counts: How often each is found, (E,).
    """

    starts: Tensor
    terms: Tensor
    counts: Tensor

    @property
    def size(self) -> int:
        """Number of documents, B."""
        return len(self.starts) - 1

    @property
    def rows(self) -> Tensor:
        """The document of each entry, int64 (E,)."""
        number = torch.arange(self.size, device=self.starts.device)
        return number.repeat_interleave(self.starts.diff())

    @property
    def totals(self) -> Tensor:
        """Words of each document, (B,)."""
        zeros = self.counts.new_zeros(self.size)
        return zeros.index_add_(0, self.rows, self.counts)

    def take(self, chosen: Tensor) -> "Documents":
        """The documents where the mask, bool (B,), is true."""
        kept = chosen[self.rows]
        lengths = self.starts.diff()[chosen]
        return Documents(_starts(lengths), self.terms[kept], self.counts[kept])

    def matrix(self, values: Tensor, columns: int) -> Tensor:
        """A sparse (B, columns) matrix with these values (E,) where the counts are."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                self.starts, self.terms, values, (self.size, columns), check_invariants=False
            )


def _starts(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def documents_of(tokens: Tensor, counts: Tensor, dtype: torch.dtype) -> Documents:
    """Drop the padding of a batch.

    Args:
        tokens: Terms, int64 (B, L).
        counts: How often each is found, (B, L); zero behind a document's end.
        dtype: Of the counts.
    """
    there = counts > 0
    return Documents(_starts(there.sum(1)), tokens[there], counts[there].to(dtype))


def exp_digamma(x: Tensor) -> Tensor:
    r"""$e^{\psi(x)}$ for positive x.

    In float32, six steps of $\psi(x) = \psi(x + 1) - 1 / x$ and the asymptotic series, within 2e-6
    of its value: that is vectorised, which `torch.digamma` is not on a CPU.
    """
    if x.dtype == torch.float64:
        return torch.digamma(x).exp()
    y = x + 6
    r = 1 / y
    r2 = r * r
    series = y.log() - 0.5 * r - r2 * (1 / 12 - r2 * (1 / 120 - r2 / 252))
    steps = 1 / x
    for i in range(1, 6):
        steps = steps + 1 / (x + i)
    return (series - steps).exp()


def exp_mean_log(concentrations: Tensor) -> Tensor:
    r"""$e^{\mathbb E[\log p]}$ for p of Dirichlet distributions with concentrations (..., K)."""
    total = concentrations.sum(-1, keepdim=True)
    return exp_digamma(concentrations) / exp_digamma(total)


def normalisers(documents: Documents, theta: Tensor, beta: Tensor) -> Tensor:
    """sum_k theta_dk beta_kw at each entry (d, w) of the documents, (E,).

    Args:
        documents: B documents.
        theta: (B, K).
        beta: (K, V).
    """
    if theta.device.type == "cpu" and not torch.backends.mkl.is_available():
        return (theta[documents.rows] * beta.T[documents.terms]).sum(-1)
    pattern = documents.matrix(torch.zeros_like(documents.counts), beta.shape[1])
    return torch.sparse.sampled_addmm(pattern, theta, beta, beta=0.0).values()


def proportions(
    documents: Documents, beta: Tensor, alpha: Tensor, iterations: int, tol: float
) -> Tensor:
    r"""The posterior concentrations $\gamma$ of the documents, (B, K).

    A document is done when an iteration moves its gamma by less than `tol` in the mean; it is left
    out of what follows.

    Args:
        documents: B documents.
        beta: $\tilde\beta$, (K, V).
        alpha: Prior concentrations, (K,).
        iterations: At the most.
        tol: In words.
    """
    columns = beta.T.contiguous()  # (V, K)
    gamma = alpha + documents.totals[:, None] / len(alpha)  # (B, K)
    result = gamma.clone()
    active = torch.arange(documents.size, device=beta.device)
    for step in range(1, iterations + 1):
        theta = exp_mean_log(gamma)
        weights = documents.counts / normalisers(documents, theta, beta)  # (E,)
        before, gamma = gamma, alpha + theta * (documents.matrix(weights, len(columns)) @ columns)
        if step % STRIDE == 0 or step == iterations:
            result[active] = gamma
            moving = (gamma - before).abs().mean(1) >= tol
            if not moving.any():
                break
            if not moving.all():
                documents, active, gamma = documents.take(moving), active[moving], gamma[moving]
    return result


def word_posteriors(documents: Documents, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    r"""What the words add, at the best assignments given $\gamma$.

    Args:
        documents: B documents.
        gamma: Their posterior concentrations, (B, K).
        beta: $\tilde\beta$, (K, V).

    Returns:
        The expected counts of topic and term, (K, V), and the bound on log p(words | theta, beta)
        of each document, $\sum_w n_{dw} \log \sum_k \tilde\theta_{dk} \tilde\beta_{kw}$, in nats,
        float64 (B,).
    """
    theta = exp_mean_log(gamma)
    norm = normalisers(documents, theta, beta)
    weights = documents.matrix(documents.counts / norm, beta.shape[1])
    bound = torch.zeros(documents.size, dtype=torch.float64, device=beta.device)
    bound.index_add_(0, documents.rows, (documents.counts * norm.log()).double())
    return (theta.T @ weights) * beta, bound


def dirichlet_divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(Dir(q) || Dir(p)) in nats, float64 (...,).

    Args:
        q: Concentrations, (..., K).
        p: Concentrations that broadcast to q's shape.
    """
    q, p = q.double(), p.double().expand_as(q)
    mean_log = torch.digamma(q) - torch.digamma(q.sum(-1, keepdim=True))
    log_normaliser_p = torch.lgamma(p).sum(-1) - torch.lgamma(p.sum(-1))
    log_normaliser_q = torch.lgamma(q).sum(-1) - torch.lgamma(q.sum(-1))
    return ((q - p) * mean_log).sum(-1) + log_normaliser_p - log_normaliser_q
