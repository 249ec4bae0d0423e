r"""Latent Dirichlet allocation.

Blei, Ng & Jordan 2003, "Latent Dirichlet Allocation", JMLR 3; trained by online variational Bayes:
Hoffman, Blei & Bach 2010, "Online Learning for Latent Dirichlet Allocation".

$$\beta_k \sim \mathrm{Dir}(\eta), \qquad \theta_d \sim \mathrm{Dir}(\alpha), \qquad
  z_{di} \sim \theta_d, \quad w_{di} \sim \beta_{z_{di}}.$$

The posterior of the topics is $q(\beta_k) = \mathrm{Dir}(\lambda_k)$. Training maximises

$$\mathcal L = \sum_d \Big( \sum_w n_{dw} \log \sum_k e^{\mathbb E[\log \theta_{dk}]}
  e^{\mathbb E[\log \beta_{kw}]} - \mathrm{KL}(q(\theta_d) \| p(\theta)) \Big)
  - \sum_k \mathrm{KL}(q(\beta_k) \| p(\beta)),$$

a lower bound on the evidence of the words. The M-step is $\lambda = \eta + $ expected counts.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Dirichlet, Distribution

from zoo.base import Batch
from zoo.checks import check_at_least
from zoo.distributions import WordCounts
from zoo.em import EMModel, Statistics
from zoo.inference.topics import (
    Documents,
    dirichlet_divergence,
    documents_of,
    exp_mean_log,
    proportions,
    word_posteriors,
)


class LDA(EMModel):
    """Topics of documents; x is a row of counts, and its code are the topics' proportions.

    Args:
        terms: Size of the vocabulary, V.
        topics: Number of topics, K.
        alpha: Prior concentration of a document's proportions; 1 / topics when None.
        eta: Prior concentration of a topic's terms; 1 / topics when None.
        kappa: Exponent of the step size of online training, in (0.5, 1]; None for one M-step over
            all documents an epoch.
        t0: Delay of the step size: (t + t0)^-kappa weighs the t-th batch.
        iterations: Of a document's posterior, at the most.
        tol: A document's posterior is done when an iteration moves its concentrations by less in
            the mean, in words.
        mean_length: Words of a document that is sampled, on average (Poisson).
    """

    about: ClassVar = (
        "Latent Dirichlet allocation (Blei, Ng & Jordan 2003, "
        "https://www.jmlr.org/papers/v3/blei03a.html), trained by online variational Bayes "
        "(Hoffman, Blei & Bach 2010)"
    )
    tags: ClassVar = ("topic-model", "lda", "latent-variable-model", "text")
    task: ClassVar = "feature-extraction"
    datum: ClassVar = "document"
    limits: ClassVar = "It knows which words a document has, and not their order."
    lacks: ClassVar = {
        "log_prob": "log p(x) of a document sums over all assignments of its words to topics; "
        "zoo.log_likelihood(model, x) gives a bound and its standard error."
    }

    def __init__(
        self,
        terms: int,
        topics: int = 50,
        alpha: float | None = None,
        eta: float | None = None,
        kappa: float | None = 0.7,
        t0: float = 10.0,
        iterations: int = 100,
        tol: float = 1e-3,
        mean_length: float = 100.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_at_least(1, terms=terms, topics=topics, iterations=iterations)
        check_at_least(0, t0=t0, tol=tol)
        for name, value in (("alpha", alpha), ("eta", eta), ("mean_length", mean_length)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}, but must be above 0.")
        if kappa is not None and not 0.5 < kappa <= 1:
            raise ValueError(f"kappa is {kappa}, but must be above 0.5 and at most 1, or None.")
        self.x_shape, self.latent_shape = (terms,), (topics,)
        self.kappa, self.t0 = kappa, t0
        self.iterations, self.tol, self.mean_length = iterations, tol, mean_length
        self.eta = 1 / topics if eta is None else eta
        # The posterior of the topics; its start is that of Hoffman's program, near 1 everywhere.
        start = torch.distributions.Gamma(100.0, 100.0).sample((topics, terms))
        self.concentrations = nn.Parameter(start, requires_grad=False)  # lambda, (K, V)
        alphas = torch.full((topics,), 1 / topics if alpha is None else alpha)
        self.register_buffer("alpha", alphas, persistent=False)

    @property
    def topics(self) -> Tensor:
        """The posterior mean of the topics, (K, V); rows sum to 1."""
        return self.concentrations / self.concentrations.sum(1, keepdim=True)

    def prior(self) -> Distribution:
        """p(theta) = Dir(alpha): batch shape (), event shape (K,)."""
        return Dirichlet(self.get_buffer("alpha"), validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """q(theta | x) for counts x of shape (B, V): batch shape (B,), event shape (K,)."""
        return Dirichlet(self._gamma(self._documents(self.as_batch(x))), validate_args=False)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | theta) for proportions (B, K), with the topics' mean: batch (B,), event (V,)."""
        return WordCounts(z @ self.topics, self.mean_length)

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean of the proportions: counts (B, V) to (B, K)."""
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The mean counts of a document of `mean_length` words: (B, K) to (B, V)."""
        return self.mean_length * (z @ self.topics)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n documents, counts (n, V)."""
        return self.likelihood(self.prior().sample((n,))).sample()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Minus the bound per word, in nats, and the perplexity bound that it is the log of."""
        documents = self._documents(batch)
        bound = self._bounds(documents).sum() / documents.counts.sum().clamp(min=1)
        return {"loss": -bound, "log_perplexity": -bound}

    # --- variational Bayes -----------------------------------------------------------------------

    def expectation(self, batch: Batch) -> Statistics:
        """Expected counts of topic and term, (K, V), and the documents' bounds."""
        documents = self._documents(batch)
        beta = exp_mean_log(self.concentrations)
        gamma = self._gamma(documents, beta)
        counts, bound = word_posteriors(documents, gamma, beta)
        bound -= dirichlet_divergence(gamma, self.get_buffer("alpha"))
        return {
            "topic_counts": counts.double(),
            "words": documents.counts.sum().double(),
            "count": bound.new_tensor(documents.size),
            "log_likelihood": bound.sum(),
        }

    def maximization(self, statistics: Statistics) -> None:
        """Set lambda = eta + expected counts (Hoffman et al. 2010, algorithm 2)."""
        self.concentrations.copy_(self.eta + statistics["topic_counts"])

    def _gamma(self, documents: Documents, beta: Tensor | None = None) -> Tensor:
        beta = exp_mean_log(self.concentrations) if beta is None else beta
        return proportions(documents, beta, self.get_buffer("alpha"), self.iterations, self.tol)

    @torch.no_grad()
    def _bounds(self, documents: Documents) -> Tensor:
        beta = exp_mean_log(self.concentrations)
        gamma = self._gamma(documents, beta)
        _, bound = word_posteriors(documents, gamma, beta)
        return bound - dirichlet_divergence(gamma, self.get_buffer("alpha"))

    @torch.no_grad()
    def completion(self, observed: Tensor, held_out: Tensor) -> Tensor:
        r"""Log-probability of half of each document's words given the other half.

        $\sum_w n_{dw} \log \sum_k \mathbb E[\theta_{dk} | \text{observed}] \, \mathbb E[\beta_{kw}]$
        (Wallach et al. 2009, "document completion").

        Args:
            observed: Counts (B, V).
            held_out: Counts (B, V).

        Returns:
            Nats, (B,); its sum over documents, minus and per word, is the log of the perplexity.
        """
        mixture = self.encode(observed) @ self.topics
        return torch.special.xlogy(held_out, mixture).sum(1)

    def top_terms(self, n: int = 10) -> Tensor:
        """The n terms of each topic with the highest probability, positions (K, n)."""
        return self.concentrations.topk(n).indices

    # --- data ------------------------------------------------------------------------------------

    def inputs(self, batch: Batch) -> Tensor:
        """The documents' counts, (B, V)."""
        tokens, counts = batch["tokens"], batch["counts"]
        x = self.concentrations.new_zeros(len(tokens), *self.x_shape)
        return x.scatter_add_(1, tokens, counts.to(x.dtype))

    def as_batch(self, data: Tensor | ArrayLike) -> Batch:
        """Counts (N, V), dense or as a SciPy sparse matrix, as padded terms and their counts.

        Raises:
            ValueError: if they have another width, or are negative or no numbers.
        """
        if hasattr(data, "tocsr"):
            rows = data.tocsr()
            starts, terms = torch.from_numpy(rows.indptr).long(), torch.from_numpy(rows.indices)
            counts, shape = torch.as_tensor(rows.data), rows.shape
        else:
            dense = torch.as_tensor(np.asarray(data) if not isinstance(data, Tensor) else data)
            shape = tuple(dense.shape)
            if len(shape) == 2:
                row, terms = dense.nonzero(as_tuple=True)
                starts = torch.searchsorted(row, torch.arange(len(dense) + 1, device=row.device))
                counts = dense[row, terms]
        if len(shape) != 2 or shape[1] != self.x_shape[0]:
            raise ValueError(
                f"counts have shape {tuple(shape)}, but this model was built for (N, "
                f"{self.x_shape[0]}): a row for each document, a column for each term."
            )
        if not shape[0]:
            raise ValueError("there are no documents; give at least one row of counts.")
        if not bool((counts >= 0).all()) or not bool(torch.isfinite(counts.double()).all()):
            raise ValueError("counts must be numbers of at least 0; some are negative or NaN.")
        lengths = starts.diff()
        place = torch.arange(len(terms), device=starts.device)
        place = place - starts[:-1].repeat_interleave(lengths)
        row = torch.arange(len(lengths), device=starts.device).repeat_interleave(lengths)
        width = max(1, int(lengths.max()))
        device = self.concentrations.device
        padded = torch.zeros(2, shape[0], width, dtype=torch.float64, device=device)
        padded[0, row, place] = terms.to(padded)
        padded[1, row, place] = counts.to(padded)
        return {"tokens": padded[0].long(), "counts": padded[1]}

    def _documents(self, batch: Batch) -> Documents:
        tokens = batch["tokens"]
        if tokens.numel() and int(tokens.max()) >= self.x_shape[0]:
            raise ValueError(
                f"a document has the term {int(tokens.max())}, but this model knows "
                f"{self.x_shape[0]} terms; prepare the data with the model's vocabulary."
            )
        return documents_of(tokens, batch["counts"], self.concentrations.dtype)
