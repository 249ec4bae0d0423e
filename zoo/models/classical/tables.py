r"""Tables of probabilities that are learned by counting.

With expected counts $n$ and a Dirichlet prior $\mathrm{Dir}(\alpha)$ on each row, EM sets

$$p \propto n + \alpha - 1, \qquad \alpha \ge 1,$$

maximum likelihood at $\alpha = 1$. Variational Bayes keeps $q(p) = \mathrm{Dir}(n + \alpha)$, whose
E-step weighs with $\exp \mathbb E_q[\log p]$ (MacKay 1997); for small $\alpha$ the rows are sparse:

$$\mathbb E_q[\log p_c] = \psi(n_c + \alpha) - \psi\Big(\sum_{c'} n_{c'} + \alpha\Big).$$
"""

from typing import Literal

import torch
from torch import Tensor, nn

Learning = Literal["em", "vb", "gradient"]
LARGE = 1e8  # a total that makes q(p) a point: before anything was counted


class Categoricals(nn.Module):
    """R categorical distributions over C values.

    A probability may be 0, its logit minus infinity.

    Args:
        rows: R.
        columns: C.
        alpha: Parameter of the prior; with `em` and `gradient` at least 1.
        learning: `em`, `vb`, or `gradient`, which raises the same as `em`.
    """

    log_probabilities = ("logits",)  # a checkpoint may hold -inf there

    def __init__(self, rows: int, columns: int, alpha: float, learning: Learning) -> None:
        super().__init__()
        if not (alpha >= 1 or (alpha > 0 and learning == "vb")):
            raise ValueError(
                f"a prior of {alpha} is given, but must be at least 1, or above 0 with learning=vb."
            )
        self.alpha = alpha
        self.logits = nn.Parameter(torch.zeros(rows, columns))
        self.learning = learning
        self.total: Tensor  # the sum of each row's n + alpha, for variational Bayes
        self.register_buffer("total", torch.full((rows, 1), LARGE))

    def log_p(self) -> Tensor:
        """Log p, of variational Bayes its mean, (R, C)."""
        return self.logits.log_softmax(-1)

    def log_weight(self) -> Tensor:
        """What the E-step weighs with, (R, C): log p, or its expectation under q."""
        if self.learning != "vb":
            return self.log_p()
        return _expected_log(self._counts()).to(self.logits)

    @torch.no_grad()
    def start(self, p: Tensor) -> None:
        """Set the rows to what is proportional to p, (R, C) or (C,), of type double."""
        self.logits.copy_(p.log().expand_as(self.logits).log_softmax(-1))
        self.total.fill_(LARGE)

    @torch.no_grad()
    def update(self, counts: Tensor) -> None:
        """The M-step: set the rows from expected counts, (R, C); a row without any stays.

        Args:
            counts: Float64.
        """
        counts = counts + (self.alpha if self.learning == "vb" else self.alpha - 1)
        total = counts.sum(-1, keepdim=True)
        log_p = (counts / total).log().to(self.logits)
        self.logits.copy_(torch.where(total > 0, log_p, self.logits))
        if self.learning == "vb":
            self.total.copy_(total)

    def log_prior(self) -> Tensor:
        """What is raised besides the log-likelihood, float64: log p(p), or minus KL(q || p).

        Of the former without its constant.
        """
        if self.learning != "vb":
            if self.alpha == 1:
                return self.logits.new_zeros((), dtype=torch.float64)
            return (self.alpha - 1) * self.log_p().double().sum()
        a = self._counts()
        prior = torch.full_like(a, self.alpha)
        divergence = _log_norm(prior) - _log_norm(a) + ((a - prior) * _expected_log(a)).sum(-1)
        return -divergence.sum()

    def _counts(self) -> Tensor:
        """The parameters of q, n + alpha, (R, C) float64.

        At least alpha, which tables with zeros that were not learned by variational Bayes lack.
        """
        return (self.log_p().double().exp() * self.total.double()).clamp(min=self.alpha)


def _expected_log(a: Tensor) -> Tensor:
    """E[log p] under Dir(a), (R, C)."""
    return a.digamma() - a.sum(-1, keepdim=True).digamma()


def _log_norm(a: Tensor) -> Tensor:
    """The logarithm of the integral that makes Dir(a) a distribution, (R,)."""
    return a.lgamma().sum(-1) - a.sum(-1).lgamma()
