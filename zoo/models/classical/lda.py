r"""Latent Dirichlet allocation.

Blei, Ng & Jordan 2003, "Latent Dirichlet Allocation", JMLR 3; trained by variational Bayes as
Hoffman, Blei & Bach 2010, "Online Learning for Latent Dirichlet Allocation".

$$\beta_k \sim \mathrm{Dir}(\eta), \qquad \theta_d \sim \mathrm{Dir}(\alpha), \qquad
  z_{di} \sim \theta_d, \quad w_{di} \sim \beta_{z_{di}}.$$

The posterior of the topics is $q(\beta_k) = \mathrm{Dir}(\lambda_k)$. Training maximises

$$\mathcal L = \sum_d \Big( \sum_w n_{dw} \log \sum_k e^{\mathbb E[\log \theta_{dk}]}
  e^{\mathbb E[\log \beta_{kw}]} - \mathrm{KL}(q(\theta_d) \| p(\theta)) \Big)
  - \sum_k \mathrm{KL}(q(\beta_k) \| p(\beta)),$$

a lower bound on the evidence of the words. The M-step is $\lambda = \eta + $ expected counts; the
online one goes a step of size $(t + t_0)^{-\kappa}$ towards it after each batch.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Dirichlet, Distribution, Gamma

from zoo.batches import Batch
from zoo.checks import check_at_least, check_batch, check_shape
from zoo.distributions.discrete import WordCounts
from zoo.inference.topics import (
    Documents,
    Posterior,
    Topics,
    blocks,
    dirichlet_divergence,
    documents_of,
    halves,
    infer,
    proportions,
    topics_of,
)
from zoo.models.classical.em import EMModel, Statistics
from zoo.verbs import tensor, whole

Counts = Tensor | ArrayLike | Mapping[str, Tensor]
"""Counts of documents: (B, V), dense or a SciPy sparse matrix; or a batch's `tokens` and `counts`,
(B, T) each."""

DOCUMENTS = 5  # that a topic starts from


class LDA(EMModel):
    """Topic model: x is a row of counts, and its code the proportions of the topics.

    `fit` and the verbs that read documents take counts (B, V), dense or a SciPy sparse matrix, or a
    batch of BagOfWords. A count may be a fraction. A document without words has the prior as its
    posterior.

    Args:
        terms: Size of the vocabulary, V.
        topics: Number of topics, K.
        alpha: Prior concentration of a document's proportions; 1 / topics when None.
        eta: Prior concentration of a topic's terms; 1 / topics when None.
        kappa: Exponent of the step size of online training with a Trainer, in (0.5, 1]; by default,
            one M-step over all documents an epoch.
        t0: Delay of the step size: (t + t0)^-kappa weighs the t-th batch.
        iterations: Most iterations of a document's posterior.
        tol: A document's iterations end when the mean change of its concentrations is less, in
            words.
        mean_length: Mean number of words in a sampled document (Poisson).
    """

    about: ClassVar = (
        "Latent Dirichlet allocation (Blei, Ng & Jordan 2003, "
        "https://www.jmlr.org/papers/v3/blei03a.html), trained by variational Bayes (Hoffman, "
        "Blei & Bach 2010)"
    )
    tags: ClassVar = ("topic-model", "lda", "latent-variable-model", "text")
    modality = "document"
    limits: ClassVar = (
        "It knows which words a document has, and not their order. A likelihood is that of the "
        "words in a given order, with the topics at their mean."
    )
    shows: ClassVar = {
        "parameters.txt": "Every topic: its share of the training words, and its most probable "
        "words, in descending order.",
        "examples.txt": "Documents of the test set: their largest topics, each called by its three "
        "most probable words, and their own most frequent words.",
    }
    lacks: Mapping[str, str] = {
        "log_prob": "log p(x) of a document sums over all assignments of its words to topics; "
        "zoo.log_likelihood(model, x) gives a bound and its standard error."
    }

    patience = 10  # a document's posterior may end in another optimum than before

    def __init__(
        self,
        terms: int,
        topics: int = 50,
        alpha: float | None = None,
        eta: float | None = None,
        kappa: float | None = None,
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
            raise ValueError(f"kappa is {kappa}, but must be above 0.5 and at most 1.")
        self.x_shape, self.latent_shape = (terms,), (topics,)
        self.kappa, self.t0 = kappa, t0
        self.iterations, self.tol, self.mean_length = iterations, tol, mean_length
        self.eta = 1 / topics if eta is None else eta
        # lambda, (V, K): a row is what a word needs
        self.concentrations = nn.Parameter(torch.ones(terms, topics))
        alphas = torch.full((topics,), 1 / topics if alpha is None else alpha)
        self.register_buffer("alpha", alphas, persistent=False)
        self.alpha: Tensor

    # --- topics ----------------------------------------------------------------------------------

    @property
    def topics(self) -> Tensor:
        """The posterior mean of the topics, (K, V); rows sum to 1."""
        concentrations = self.concentrations.detach()
        return (concentrations / concentrations.sum(0)).T

    def top_terms(self, n: int = 10) -> Tensor:
        """The n most probable terms of each topic, as positions (K, n), the first the most so."""
        return self.topics.topk(n).indices

    def top_words(self, n: int = 10) -> list[list[str]]:
        """The n most probable words of each topic, the first the most so.

        Raises:
            ValueError: if the model was not trained on words.
        """
        vocabulary = self._vocabulary()
        if not vocabulary:
            raise ValueError("this model has no vocabulary; train it on BagOfWords, or top_terms.")
        return [[vocabulary[term] for term in terms] for terms in self.top_terms(n).tolist()]

    def texts(self, n: int) -> list[str]:
        """Draw n documents: how much of each comes from which topics, and its most frequent words.

        A topic is called by its most probable words.
        """
        z = self.prior().sample(torch.Size((n,)))
        return self._read(z, self.likelihood(z).sample())

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The topics, and what documents are made of."""
        shares = self.concentrations.detach().sum(0)
        words = self._words(self.top_terms(min(12, *self.x_shape)).tolist())
        order = shares.argsort(descending=True).tolist()
        x = self.inputs(batch)[:8]
        return {
            "parameters.txt": [f"{shares[k] / shares.sum():.1%}: {words[k]}" for k in order],
            "examples.txt": self._read(self.encode(x), x),
        }

    def _read(self, z: Tensor, x: Tensor) -> list[str]:
        """Say of documents (B, V) what the largest of their proportions (B, K) are."""
        names = self._words(self.top_terms(min(3, *self.x_shape)).tolist())
        lines = []
        for theta, counts in zip(z, x, strict=True):
            shares = " + ".join(
                f"{theta[k]:.0%} {names[k]}"
                for k in theta.argsort(descending=True)[:3].tolist()
                if theta[k] >= 0.05
            )
            found = counts.argsort(descending=True, stable=True)[: min(15, int((counts > 0).sum()))]
            lines.append(f"{shares}: {self._words([found.tolist()])[0]}")
        return lines

    def _words(self, terms: list[list[int]]) -> list[str]:
        """Lines of words, or of the positions of terms where the model was trained without."""
        words = self._vocabulary() or [*map(str, range(self.x_shape[0]))]
        return [" ".join(words[i] for i in line) for line in terms]

    # --- verbs -----------------------------------------------------------------------------------

    def prior(self) -> Distribution:
        """p(theta) = Dir(alpha): batch shape (), event shape (K,)."""
        return Dirichlet(self.alpha, validate_args=False)

    @torch.no_grad()
    def posterior(self, x: Counts) -> Distribution:
        """q(theta | x) for counts x: batch shape (B,), event shape (K,)."""
        # in float64, as rounding could decide when a document is done
        documents = self._documents(self.as_batch(x), torch.float64)
        alpha = self.alpha.double()
        parts = blocks(documents, self._topics(documents), alpha)
        gamma = torch.cat([proportions(part, self.iterations, self.tol) for part in parts])
        return Dirichlet(gamma.to(self.alpha), validate_args=False)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | theta) for proportions (B, K), with the topics' mean: batch (B,), event (V,)."""
        theta = z.to(self.alpha)
        check_shape("z", theta, self.latent_shape)
        return WordCounts(theta @ self.topics, self.mean_length)

    def encode(self, x: Counts) -> Tensor:
        """The posterior mean of the proportions: counts to (B, K)."""
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The mean counts of a document of `mean_length` words: (B, K) to (B, V)."""
        return self.likelihood(z).mean

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n documents, counts (n, V)."""
        return self.likelihood(self.prior().sample(torch.Size((n,)))).sample()

    # --- variational Bayes -----------------------------------------------------------------------

    @torch.no_grad()
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Minus the bound on log p(x) of a document, in nats, without the topics' divergence."""
        elbo = self._infer(self._documents(batch)).bound.mean()
        return {"loss": -elbo, "elbo": elbo}

    @torch.no_grad()
    def completion(self, observed: Counts, held_out: Counts) -> Tensor:
        r"""Log-probability of one half of each document's words given the other half.

        $\sum_w n_{dw} \log \sum_k \mathbb E[\theta_{dk} | \text{observed}] \,
        \mathbb E[\beta_{kw}]$ (Wallach et al. 2009, "Evaluation Methods for Topic Models", section
        5: document completion). `zoo.metrics.perplexity` makes a corpus's perplexity of it.

        Args:
            observed: Counts of B documents.
            held_out: Counts of the same documents.

        Returns:
            Nats, (B,).
        """
        rest = self.inputs(self.as_batch(held_out))
        theta = self.encode(observed)
        if len(rest) != len(theta):
            raise ValueError(
                f"observed has {len(theta)} documents and held_out {len(rest)}, but they are two "
                "halves of the same documents."
            )
        return self.likelihood(theta).log_prob(rest)

    def predictions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Under `perplexity`, nats and words of a half of each document given the other, (B,) each.

        The halves are drawn by each document's `index`, so that they are the same in every batch.
        """
        observed, held_out = halves(batch, seed=0)
        return {"perplexity": (self.completion(observed, held_out), held_out["counts"].sum(1))}

    def start(self, batches: Iterable[Batch]) -> None:
        """Start each topic from the words of DOCUMENTS documents, drawn at random.

        They are added to Gamma(100, 100), the start of Hoffman et al. 2010, from which topics take
        longer to differ.
        """
        assert self._data_size is not None  # while it trains it is known
        (topics,) = self.latent_shape
        self.concentrations.copy_(Gamma(100.0, 100.0).sample(self.concentrations.shape))
        places, seen = torch.randperm(self._data_size), 0
        for batch in batches:
            self._check(batch)
            tokens, counts = batch["tokens"], batch["counts"]
            place = places[seen : seen + len(tokens)].to(tokens.device)
            seen += len(tokens)
            chosen = place < DOCUMENTS * topics  # as many for each topic, which matters
            terms, counts = tokens[chosen], counts[chosen].to(self.concentrations)
            at = terms, (place[chosen] % topics)[:, None].expand_as(terms)
            self.concentrations.index_put_(at, counts, accumulate=True)

    def expectation(self, batch: Batch) -> Statistics:
        """Expected counts of terms and topics, (V, K), and the documents' bounds."""
        documents = self._documents(batch)
        found = self._infer(documents)
        counts = torch.zeros_like(self.concentrations, dtype=torch.float64)
        counts[documents.vocabulary] = found.expected.double()
        return {
            "term_counts": counts,
            "count": counts.new_tensor(documents.size),
            "log_likelihood": found.bound.sum(),
        }

    def maximization(self, statistics: Statistics) -> None:
        """Set lambda = eta + expected counts (Hoffman et al. 2010, algorithm 2)."""
        self.concentrations.copy_(statistics["term_counts"]).add_(self.eta)

    def log_prior(self) -> Tensor:
        """Minus the divergence of the topics' posterior from their prior, in nats."""
        topics = self.concentrations.detach().T
        return -dirichlet_divergence(topics, topics.new_full(self.x_shape, self.eta)).sum()

    def initial_statistics(self) -> Statistics:
        """The statistics of the current lambda, so that a batch does not erase it."""
        assert self._data_size is not None  # while it trains it is known
        counts = self.concentrations.detach().double() - self.eta
        return {"term_counts": counts / self._data_size}

    def _topics(self, documents: Documents) -> Topics:
        concentrations = self.concentrations.detach().to(documents.counts)
        return topics_of(concentrations, documents.vocabulary)

    def _infer(self, documents: Documents) -> Posterior:
        return infer(documents, self._topics(documents), self.alpha, self.iterations, self.tol)

    # --- data ------------------------------------------------------------------------------------

    def inputs(self, batch: Batch) -> Tensor:
        """The documents' counts, (B, V)."""
        check_batch(batch, "tokens", "counts")
        tokens, counts = batch["tokens"], batch["counts"]
        x = self.concentrations.new_zeros(len(tokens), *self.x_shape)
        return x.scatter_add_(1, tokens, counts.to(x.dtype))

    def as_input(self, x: Counts) -> Counts:
        """Counts as they are: `as_batch` reads them."""
        return x

    def as_batch(self, data: Counts) -> Batch:
        """Counts as padded `tokens` and `counts`, (B, T) each.

        Raises:
            ValueError: if they have another width, or are negative or no numbers.
        """
        if isinstance(data, Mapping):
            check_batch(data, "tokens", "counts")
            tokens, counts = whole("tokens", data["tokens"]), tensor("counts", data["counts"])
            batch = {"tokens": tokens.to(self.device), "counts": counts.to(self.device)}
        else:
            batch = self._padded(data)
        self._check(batch)
        return batch

    def _padded(self, data: Tensor | ArrayLike) -> dict[str, Tensor]:
        shape, row, terms, counts = _entries(data)
        if len(shape) != 2 or shape[1] != self.x_shape[0]:
            raise ValueError(
                f"counts have shape {shape}, but this model was built for (N, {self.x_shape[0]}): "
                "a row for each document, a column for each term."
            )
        lengths = torch.bincount(row, minlength=shape[0] or 1)
        starts = lengths.cumsum(0) - lengths
        place = torch.arange(len(row), device=row.device) - starts[row]
        x = self.concentrations.new_zeros(shape[0], int(lengths.max()))  # (N, T)
        row, place = row.to(x.device), place.to(x.device)
        tokens = torch.zeros_like(x, dtype=torch.int64)
        tokens[row, place], x[row, place] = terms.to(x.device), counts.to(x)
        return {"tokens": tokens, "counts": x}

    def _check(self, batch: Batch) -> None:
        """Raise ValueError unless the batch has terms of this vocabulary, and how often."""
        check_batch(batch, "tokens", "counts")
        tokens, counts = batch["tokens"], batch["counts"]
        if tokens.ndim != 2 or tokens.shape != counts.shape:
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)} and counts {tuple(counts.shape)}, but "
                "must be (B, T) both."
            )
        if not len(tokens):
            raise ValueError("there are no documents; give at least one row of counts.")
        if not tokens.numel():
            return
        for term in torch.aminmax(tokens):
            if not 0 <= term < self.x_shape[0]:
                raise ValueError(
                    f"a document has the term {int(term)}, but this model knows the terms 0 to "
                    f"{self.x_shape[0] - 1}; prepare the data with the model's vocabulary."
                )
        low, high = torch.aminmax(counts)
        if not (low >= 0 and high < torch.inf):  # also catches NaN
            raise ValueError("counts must be finite and at least 0; some are negative or NaN.")

    def _documents(self, batch: Batch, dtype: torch.dtype | None = None) -> Documents:
        self._check(batch)
        dtype = self.concentrations.dtype if dtype is None else dtype
        return documents_of(batch["tokens"], batch["counts"], self.x_shape[0], dtype)

    # --- words -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse data with another number of words than this model has."""
        words = len(getattr(getattr(self.trainer, "datamodule", None), "vocabulary", []))
        if words and words != self.x_shape[0]:
            raise ValueError(f"the data have {words} words, but terms is {self.x_shape[0]}.")

    def _vocabulary(self) -> list[str]:
        found: list[str] = json.loads(self.assets.get("vocabulary.json", "{}")).get(
            "vocabulary", []
        )
        return found


def _entries(data: Any) -> tuple[tuple[int, ...], Tensor, Tensor, Tensor]:
    """The shape of counts, and the document, term and count of each that is not zero, (E,)."""
    from scipy.sparse import issparse

    if issparse(data):
        entries = data.tocsr().tocoo()  # in the order of the documents
        row, terms = (torch.from_numpy(x.astype(np.int64)) for x in (entries.row, entries.col))
        return data.shape, row, terms, torch.from_numpy(entries.data.astype(np.float64))
    dense = tensor("counts", data)
    if dense.ndim != 2:
        return tuple(dense.shape), *torch.empty(3, 0)
    row, terms = dense.nonzero(as_tuple=True)
    return tuple(dense.shape), row, terms, dense[row, terms]
