r"""Variational inference for latent Dirichlet allocation (Blei, Ng & Jordan 2003).

A document is a bag of terms with counts $n_{dw}$. With topics $\beta_k \sim \mathrm{Dir}(\eta)$
of posterior $q(\beta_k) = \mathrm{Dir}(\lambda_k)$, and proportions
$\theta_d \sim \mathrm{Dir}(\alpha)$ of posterior $q(\theta_d) = \mathrm{Dir}(\gamma_d)$,
coordinate ascent iterates (Hoffman, Blei & Bach 2010, eq. 5)

$$\phi_{dwk} \propto \tilde\theta_{dk} \tilde\beta_{kw}, \qquad
  \gamma_{dk} = \alpha + \sum_w n_{dw} \phi_{dwk}, \qquad
  \tilde\theta_{dk} = e^{\mathbb E[\log \theta_{dk}]}, \quad
  \tilde\beta_{kw} = e^{\mathbb E[\log \beta_{kw}]}.$$

The assignments $\phi$ are never stored: with $N_{dw} = \sum_k \tilde\theta_{dk} \tilde\beta_{kw}$
one iteration is $\gamma_{dk} = \alpha + \tilde\theta_{dk} \sum_w \tilde\beta_{kw} n_{dw} / N_{dw}$,
two products of a document's part of $\tilde\beta$ with a vector. Every second iteration is followed
by a squared extrapolation (Varadhan & Roland 2008, "Simple and globally convergent methods for
accelerating the convergence of any EM algorithm", scheme SqS3), which about halves their number.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.batches import Batch

WIDTH = 32  # terms in a row: short enough to waste little on padding, long enough to be fast
BLOCK = {"cpu": 1 << 21, "cuda": 1 << 26}  # numbers that the documents of one block take at most
DENSE = 0.75  # share of documents that are not done above which it is not worth to copy them
LEAP = 16.0  # longest extrapolation, in iterations
PAIRS = 2  # of iterations between two looks at which documents are done
HALVES = 900_010  # stream of the generators that draw a document's halves
SERIES = 1 << 12, 1 << 16  # numbers from which on the series is faster, and that it does at a time


class Documents(NamedTuple):
    """Counts of the terms of B documents, in rows of a fixed width.

    Args:
        vocabulary: The terms that they have, int64 (U,), ascending.
        terms: Positions in `vocabulary`, int64 (R, C). A document has as many rows as it needs, and
            none when it is empty.
        counts: How often each is found, (R, C); zero behind a document's end.
        owner: The document of each row, int64 (R,), ascending.
        size: Number of documents, B.
    """

    vocabulary: Tensor
    terms: Tensor
    counts: Tensor
    owner: Tensor
    size: int

    @property
    def totals(self) -> Tensor:
        """Words of each document, (B,)."""
        return self.sums(self.counts.sum(1))

    def sums(self, values: Tensor) -> Tensor:
        """Add up what the rows of each document have, (R, ...) to (B, ...)."""
        return values.new_zeros(self.size, *values.shape[1:]).index_add_(0, self.owner, values)

    def split(self, most: int) -> Iterator["Documents"]:
        """Consecutive documents, so many at a time that their rows have at most `most` terms."""
        rows = max(1, most // self.terms.shape[1])
        if len(self.owner) <= rows:
            yield self
            return
        ends = torch.bincount(self.owner, minlength=self.size).cumsum(0).cpu()  # (B,)
        document = row = 0
        while document < self.size:
            stop = max(int(torch.searchsorted(ends, row + rows, right=True)), document + 1)
            end = int(ends[stop - 1])
            terms, counts, owner = (x[row:end] for x in (self.terms, self.counts, self.owner))
            yield Documents(self.vocabulary, terms, counts, owner - document, stop - document)
            document, row = stop, end


def documents_of(tokens: Tensor, counts: Tensor, terms: int, dtype: torch.dtype) -> Documents:
    """Cut the documents of a padded batch into rows, and drop those that are all padding.

    Args:
        tokens: Terms, int64 (B, T).
        counts: How often each is found, (B, T); zero behind a document's end.
        terms: Number of terms that there are, V.
        dtype: Of the counts.
    """
    size, length = tokens.shape
    width = min(WIDTH, max(1, length))
    rows = max(1, -(-length // width))  # of each document
    more = (0, rows * width - length)
    tokens, counts = (pad(x, more).reshape(-1, width) for x in (tokens, counts))
    there = counts.any(1).nonzero()[:, 0]
    tokens, counts = (x.index_select(0, there) for x in (tokens, counts))
    found = torch.zeros(terms, dtype=torch.bool, device=tokens.device)
    found[tokens.flatten()] = True
    place = found.cumsum(0) - 1  # (V,)
    tokens = place.index_select(0, tokens.flatten()).view_as(tokens)
    return Documents(found.nonzero()[:, 0], tokens, counts.to(dtype), there // rows, size)


def digamma(x: Tensor) -> Tensor:
    r"""$\psi(x)$ of positive x.

    As torch has it, but of many float32 numbers on a CPU by a series that does several at a time:
    within 1e-6 (1 + |psi(x)|) for x of at least 1e-3.
    """
    least, step = SERIES
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() < least:
        return torch.digamma(x)
    if x.numel() <= step:
        return _digamma(x)
    return torch.cat([_digamma(part) for part in torch.split(x.flatten(), step)]).view_as(x)


def _digamma(x: Tensor) -> Tensor:
    """Four steps of psi(x) = psi(x + 1) - 1 / x, taken two by two, and psi(x + 4) by a series."""
    p = (x + 3).mul_(x)
    t = torch.add(3, x, alpha=2)
    numerator = torch.addcmul(t, t, p)  # (2x + 3) (p + 1)
    denominator = torch.addcmul(p, p, p, value=0.5)  # p (p + 2) / 2
    u = x + 3.5
    r = u.square().reciprocal_()
    series = torch.add(-7 / 960, r, alpha=31 / 8064).mul_(r).add_(1 / 24)
    return u.log_().addcmul_(series, r).addcdiv_(numerator, denominator, value=-1)


class Topics(NamedTuple):
    r"""What documents need to know of q(beta).

    Args:
        weights: $\tilde\beta_{kw}$ of each term over the largest of its topics, (U, K).
        largest: The log of the largest, (U,).
    """

    weights: Tensor
    largest: Tensor


def topics_of(concentrations: Tensor, vocabulary: Tensor) -> Topics:
    r"""$\tilde\beta$ of the terms in `vocabulary`.

    A term that no topic is likely to have still has weights, as they are relative.

    Args:
        concentrations: Of q(beta), (V, K), a column for each topic.
        vocabulary: Terms, int64 (U,).
    """
    log = digamma(concentrations.index_select(0, vocabulary))
    log -= torch.digamma(concentrations.sum(0))
    largest = log.amax(1, keepdim=True)
    return Topics(_floored(log.sub_(largest).exp_()), largest[:, 0])


def _floored(weights: Tensor) -> Tensor:
    """Raise relative weights to the square root of the smallest normal number, 1e-19 in float32.

    Products of two are then normal numbers: others are slow, and where all are zero a word would
    belong to no topic.
    """
    return weights.clamp_(min=torch.finfo(weights.dtype).tiny ** 0.5)


def _theta(gamma: Tensor) -> Tensor:
    r"""$\tilde\theta$ over its sum, (B, K): what all topics have in common cancels in $\phi$."""
    return _floored(torch.softmax(digamma(gamma), 1))


class Block(NamedTuple):
    """Documents with the part of the topics that each of their rows needs.

    Args:
        documents: B documents.
        beta: Relative weights of the topics, (R, C, K).
        alpha: Prior concentrations, (K,).
    """

    documents: Documents
    beta: Tensor
    alpha: Tensor

    def iterate(self, gamma: Tensor) -> Tensor:
        """Maximise the bound in phi, then in gamma (B, K)."""
        counts, owner = self.documents.counts, self.documents.owner
        theta = _theta(gamma)
        weights = torch.bmm(theta.index_select(0, owner)[:, None], self.beta.mT)  # (R, 1, C)
        torch.div(counts[:, None], weights, out=weights)
        shares = torch.bmm(weights, self.beta)[:, 0]  # (R, K)
        return torch.addcmul(self.alpha, theta, self.documents.sums(shares))

    def take(self, chosen: Tensor) -> "Block":
        """The documents at these places, int64 (B',), ascending."""
        vocabulary, terms, counts, owner, size = self.documents
        place = owner.new_full((size,), -1)
        place[chosen] = torch.arange(len(chosen), device=place.device)
        place = place.index_select(0, owner)
        rows = (place >= 0).nonzero()[:, 0]
        terms, counts, owner, beta = (
            x.index_select(0, rows) for x in (terms, counts, place, self.beta)
        )
        documents = Documents(vocabulary, terms, counts, owner, len(chosen))
        return Block(documents, beta, self.alpha)


def blocks(documents: Documents, topics: Topics, alpha: Tensor) -> Iterator[Block]:
    """Consecutive documents, so many at a time that their part of the topics fits in BLOCK."""
    for part in documents.split(BLOCK.get(alpha.device.type, BLOCK["cpu"]) // len(alpha)):
        weights = topics.weights.index_select(0, part.terms.flatten())
        yield Block(part, weights.view(*part.terms.shape, len(alpha)), alpha)


def proportions(block: Block, iterations: int, tol: float) -> Tensor:
    r"""The posterior concentrations $\gamma$ of the documents, (B, K).

    A document is done when an iteration moves its gamma by less than `tol` in the mean, whatever
    the others do.

    Args:
        block: B documents.
        iterations: At the most; they come in pairs, so an odd number is one more.
        tol: In words.
    """
    alpha = block.alpha
    gamma = alpha + block.documents.totals[:, None] / len(alpha)
    result = gamma.clone()
    place = torch.arange(len(gamma), device=gamma.device)  # in the result
    done = torch.zeros_like(place, dtype=torch.bool)
    for step in range(2, iterations + 2, 2):
        first = block.iterate(gamma)
        second = block.iterate(first)
        last = step >= iterations
        if last or step % (2 * PAIRS) == 0:
            change = torch.linalg.vector_norm(second - first, 1, dim=1)
            now = ~done if last else ~done & (change < tol * len(alpha))
            result[place[now]] = second[now]
            left = (~done.logical_or_(now)).nonzero()[:, 0]
            if len(left) == 0:
                break
            if len(left) <= DENSE * len(place):  # those that are done cost as much as the others
                block, place, done = block.take(left), place[left], done[left]
                gamma, first, second = gamma[left], first[left], second[left]
        gamma = _extrapolate(gamma, first, second, alpha)
    return result


def _extrapolate(gamma: Tensor, first: Tensor, second: Tensor, alpha: Tensor) -> Tensor:
    """Go on as two iterations went, per document; where that leaves gamma > alpha, do not."""
    r = first - gamma
    v = (second - first).sub_(r)
    length = r.norm(dim=1, keepdim=True).div_(v.norm(dim=1, keepdim=True)).clamp_(1, LEAP)
    leap = torch.addcmul(gamma, length, torch.addcmul(r, length, v, value=0.5), value=2)
    return torch.where(leap > alpha, leap, second)  # and where 0 / 0 made it NaN


def assignments(block: Block, gamma: Tensor) -> tuple[Tensor, Tensor]:
    r"""What the best assignments given $\gamma$ say of words and documents.

    Args:
        block: B documents.
        gamma: Their posterior concentrations, (B, K).

    Returns:
        The expected counts of each row's terms, $n_{dw} \phi_{dwk}$, (R, C, K), and
        $\sum_w n_{dw} \log \sum_k \tilde\theta_{dk} \tilde\beta_{kw}$ of each document with the
        relative weights in place of $\tilde\beta$, in nats, float64 (B,).
    """
    documents, beta, _ = block
    theta = _theta(gamma).index_select(0, documents.owner)[:, None]  # (R, 1, K)
    norm = torch.bmm(theta, beta.mT)[:, 0]  # (R, C)
    nats = documents.sums(norm.log().mul_(documents.counts).sum(1, dtype=torch.float64))
    # theta is relative to the sum over topics
    total = torch.digamma(gamma.double()).logsumexp(1) - torch.digamma(gamma.double().sum(1))
    phi = torch.mul(beta, theta).mul_((documents.counts / norm)[:, :, None])
    return phi, nats + documents.totals * total


class Posterior(NamedTuple):
    """The documents' part of variational Bayes.

    Args:
        gamma: Concentrations of the documents' topics, (B, K).
        expected: Expected counts of terms and topics, (U, K).
        bound: On log p(words | q(beta)) of each document, in nats, float64 (B,).
    """

    gamma: Tensor
    expected: Tensor
    bound: Tensor


def infer(
    documents: Documents, topics: Topics, alpha: Tensor, iterations: int, tol: float
) -> Posterior:
    r"""Posterior of documents, and what it says of the topics.

    The bound is $\sum_w n_{dw} \log \sum_k \tilde\theta_{dk} \tilde\beta_{kw} -
    \mathrm{KL}(q(\theta_d) \| p(\theta))$, where the assignments are at their best.

    Args:
        documents: B documents.
        topics: K topics.
        alpha: Prior concentrations, (K,).
        iterations: Of each document, at the most.
        tol: A document is done when an iteration moves its gamma by less in the mean, in words.
    """
    expected = torch.zeros_like(topics.weights)
    gammas, nats = [], []
    for block in blocks(documents, topics, alpha):
        gammas.append(proportions(block, iterations, tol))
        phi, of_words = assignments(block, gammas[-1])
        expected.index_add_(0, block.documents.terms.flatten(), phi.flatten(0, 1))
        nats.append(of_words)
    gamma = torch.cat(gammas)
    largest = topics.largest[documents.terms].mul_(documents.counts)  # (R, C)
    words = torch.cat(nats) + documents.sums(largest.sum(1, dtype=torch.float64))
    return Posterior(gamma, expected, words - dirichlet_divergence(gamma, alpha))


def dirichlet_divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(Dir(q) || Dir(p)) in nats, float64 (...,).

    Args:
        q: Concentrations, (..., K).
        p: Concentrations, (K,).
    """
    q, p = q.double(), p.double()
    mean_log = torch.digamma(q) - torch.digamma(q.sum(-1, keepdim=True))
    log_normaliser_p = torch.lgamma(p).sum(-1) - torch.lgamma(p.sum(-1))
    log_normaliser_q = torch.lgamma(q).sum(-1) - torch.lgamma(q.sum(-1))
    return ((q - p) * mean_log).sum(-1) + log_normaliser_p - log_normaliser_q


def halves(batch: Batch, seed: int) -> tuple[Batch, Batch]:
    """Split each document's words at random into an observed half and one to be predicted.

    This is document completion: Wallach, Murray, Salakhutdinov and Mimno, "Evaluation Methods for
    Topic Models" (2009), section 5. Of n words, n // 2 drawn without replacement are observed. A
    document's halves depend on the seed and its `index` alone, not on the batch that it is in.

    Args:
        batch: A batch with `counts` (B, T) and `index` (B,).
        seed: Seed of the draws.

    Returns:
        The batch with the counts of the first half, and with those of the second; they add up to
        the document, and a term that a half lacks has count 0 there.
    """
    observed = torch.zeros_like(batch["counts"])
    for row, index, counts in zip(
        observed, batch["index"].tolist(), batch["counts"].cpu().numpy(), strict=True
    ):
        rng = np.random.default_rng([seed, HALVES, index])
        drawn = rng.multivariate_hypergeometric(counts, counts.sum() // 2)
        row.copy_(torch.from_numpy(drawn))
    return {**batch, "counts": observed}, {**batch, "counts": batch["counts"] - observed}
