"""The posterior of documents against enumeration, quadrature and coordinate ascent by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.special import digamma as psi
from scipy.special import gammaln
from torch.distributions import Dirichlet, kl_divergence

from zoo.datamodules import FakeBagOfWords
from zoo.datamodules.text.bag_of_words import dense
from zoo.inference import topics as module
from zoo.inference.topics import (
    Block,
    Topics,
    assignments,
    blocks,
    digamma,
    dirichlet_divergence,
    documents_of,
    halves,
    infer,
    topics_of,
)


def packed(counts, dtype=torch.float64):
    """Documents of dense counts (B, V), as a padded batch gives them."""
    counts = torch.as_tensor(counts)
    tokens = torch.arange(counts.shape[1]).expand_as(counts)
    order = (counts == 0).to(torch.int8).argsort(dim=1, stable=True)
    tokens, sorted_counts = tokens.gather(1, order), counts.gather(1, order)
    longest = int((counts > 0).sum(1).max())
    tokens = tokens.masked_fill(sorted_counts == 0, 0)[:, :longest]
    return documents_of(tokens, sorted_counts[:, :longest], counts.shape[1], dtype)


def inferred(counts, concentrations, alpha, iterations=2000, tol=1e-13):
    """gamma (B, K), expected counts (V, K) and the bounds (B,) of documents."""
    documents = packed(counts, concentrations.dtype)
    topics = topics_of(concentrations, documents.vocabulary)
    gamma, found, bound = infer(documents, topics, alpha, iterations, tol)
    expected = torch.zeros_like(concentrations)
    expected[documents.vocabulary] = found
    return gamma, expected, bound


def drawn(B=12, V=40, K=5, length=30, seed=0):
    """Counts (B, V), concentrations (V, K) and alpha (K,), float64."""
    rng = np.random.default_rng(seed)
    beta = rng.dirichlet(np.full(V, 0.1), K)
    theta = rng.dirichlet(np.full(K, 0.3), B)
    counts = np.stack([rng.multinomial(length, p / p.sum()) for p in theta @ beta])
    concentrations = 0.2 + 200 * beta.T + rng.gamma(1.0, 0.1, (V, K))
    return (
        torch.from_numpy(counts),
        torch.from_numpy(concentrations),
        torch.from_numpy(rng.uniform(0.1, 0.5, K)),
    )


def by_hand(counts, concentrations, alpha, iterations):
    """Hoffman et al. 2010, algorithm 1, one document at a time, with phi stored."""
    n, lam, alpha = counts.numpy().astype(float), concentrations.numpy(), alpha.numpy()
    log_beta = psi(lam) - psi(lam.sum(0))  # (V, K)
    gammas, expected, bounds = [], np.zeros_like(lam), []
    for row in n:
        gamma = alpha + row.sum() / len(alpha)
        for _ in range(iterations):
            log_theta = psi(gamma) - psi(gamma.sum())
            phi = np.exp(log_theta + log_beta)
            phi /= phi.sum(1, keepdims=True)  # (V, K)
            gamma = alpha + row @ phi
        log_theta = psi(gamma) - psi(gamma.sum())
        phi = np.exp(log_theta + log_beta)
        phi /= phi.sum(1, keepdims=True)
        expected += row[:, None] * phi
        bounds.append(mean_field_elbo(row, phi, gamma, log_beta, alpha))
        gammas.append(gamma)
    return np.stack(gammas), expected, np.array(bounds)


def mean_field_elbo(n, phi, gamma, log_beta, alpha):
    """Blei et al. 2003, eq. 15: its five terms, for the words of one document."""
    log_theta = psi(gamma) - psi(gamma.sum())
    return (
        (gammaln(alpha.sum()) - gammaln(alpha).sum() + ((alpha - 1) * log_theta).sum())
        + (n[:, None] * phi * log_theta).sum()
        + (n[:, None] * phi * log_beta).sum()
        - (gammaln(gamma.sum()) - gammaln(gamma).sum() + ((gamma - 1) * log_theta).sum())
        - (n[:, None] * phi * np.log(np.maximum(phi, 1e-300))).sum()
    )


def fixed(beta):
    """Topics that are known: rows of beta (K, V)."""
    log = torch.as_tensor(beta).double().T.log()
    largest = log.amax(1, keepdim=True)
    return Topics((log - largest).exp(), largest[:, 0])


BETA = np.array([[0.7, 0.2, 0.06, 0.04], [0.05, 0.3, 0.6, 0.05], [0.1, 0.1, 0.2, 0.6]])


def log_evidence(words, beta, alpha):
    """log p(words | beta): all assignments enumerated, theta integrated by its moments."""
    logs = []
    for z in itertools.product(range(len(alpha)), repeat=len(words)):
        n = np.bincount(z, minlength=len(alpha))
        log_p_z = gammaln(alpha.sum()) - gammaln(alpha.sum() + len(words))
        log_p_z += (gammaln(alpha + n) - gammaln(alpha)).sum()
        logs.append(log_p_z + sum(np.log(beta[k, w]) for k, w in zip(z, words, strict=True)))
    return np.logaddexp.reduce(logs)


def test_the_oracle_agrees_with_quadrature_over_theta():
    words, beta, alpha = [0, 0, 2, 1], BETA[:2], np.array([0.6, 1.3])

    def integrand(t):
        mixture = t * beta[0] + (1 - t) * beta[1]
        return np.prod(mixture[words]) * (1 - t) ** (alpha[1] - 1)

    # the singularity of t^(alpha - 1) at 0 is the weight of the rule
    value, error = integrate.quad(integrand, 0, 1, weight="alg", wvar=(alpha[0] - 1, 0))
    log_p = math.log(value) + gammaln(alpha.sum()) - gammaln(alpha).sum()
    assert log_evidence(words, beta, alpha) == pytest.approx(log_p, abs=1e-7)
    assert error < 1e-8


@pytest.mark.parametrize("topics", [2, 3])
@pytest.mark.parametrize("words", [[0], [0, 2], [0, 0, 2], [1, 2, 3, 3]])
def test_the_bound_is_the_mean_field_elbo_and_below_the_evidence(topics, words):
    beta, alpha = BETA[:topics], np.array([0.6, 1.3, 0.4])[:topics]
    n = np.bincount(words, minlength=4)
    documents = packed(n[None])
    known = fixed(beta)
    known = Topics(*(x.index_select(0, documents.vocabulary) for x in known))
    alphas = torch.from_numpy(alpha)
    gamma, expected, bound = infer(documents, known, alphas, 4000, 0.0)
    bound = float(bound)
    # phi at its optimum, given gamma
    g = gamma[0].numpy()
    log_theta = psi(g) - psi(g.sum())
    phi = np.exp(log_theta + np.log(beta).T)
    phi /= phi.sum(1, keepdims=True)
    assert bound == pytest.approx(mean_field_elbo(n, phi, g, np.log(beta).T, alpha), abs=1e-8)
    log_p = log_evidence(words, beta, alpha)
    assert bound <= log_p + 1e-10
    assert bound > log_p - 0.5  # and no trivial one
    if len(words) > 1:
        assert bound < log_p - 1e-4
    np.testing.assert_allclose(g, alpha + n @ phi, atol=1e-9)  # gamma is at its optimum, too
    np.testing.assert_allclose(
        expected, (n[:, None] * phi)[documents.vocabulary.numpy()], atol=1e-12
    )


def test_equals_coordinate_ascent_by_hand():
    counts, concentrations, alpha = drawn()
    gamma, expected, bound = inferred(counts, concentrations, alpha)
    wanted = by_hand(counts, concentrations, alpha, 3000)
    for value, other in zip((gamma, expected, bound), wanted, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-8, atol=1e-8)


def test_coordinate_ascent_never_lowers_the_bound():
    counts, concentrations, alpha = drawn(B=20, seed=1)
    documents = packed(counts)
    topics = topics_of(concentrations, documents.vocabulary)
    (block,) = blocks(documents, topics, alpha)
    for start in (alpha + documents.totals[:, None] / 5, torch.rand(20, 5).double() * 9 + 0.01):
        gamma, bounds = start, []
        for _ in range(60):
            bounds.append(assignments(block, gamma)[1] - dirichlet_divergence(gamma, alpha))
            gamma = block.iterate(gamma)
        rises = torch.stack(bounds).diff(dim=0)
        assert rises.min() > -1e-10  # of hundreds of nats in float64
        assert rises[0].min() > 1e-3


def test_extrapolation_reaches_the_same_bound_in_two_thirds_of_the_iterations(monkeypatch):
    counts, concentrations, alpha = drawn(B=60, V=200, K=20, length=80)
    taken = []
    iterate = Block.iterate

    def counted(self, gamma):
        taken.append(len(gamma))
        return iterate(self, gamma)

    monkeypatch.setattr(Block, "iterate", counted)
    monkeypatch.setattr(module, "PAIRS", 1)
    _, _, quick = inferred(counts, concentrations, alpha, tol=1e-4)
    with_it, taken[:] = sum(taken), []
    monkeypatch.setattr(module, "_extrapolate", lambda gamma, first, second, alpha: second)
    _, _, slow = inferred(counts, concentrations, alpha, tol=1e-4)
    assert with_it < 0.67 * sum(taken)
    # a document may end in another optimum, of 410 nats or so; they are no worse on average
    assert (quick - slow).abs().median() < 1e-3
    assert (quick - slow).mean() > -0.05


def test_expected_counts_sum_to_the_words():
    counts, concentrations, alpha = drawn()
    gamma, expected, _ = inferred(counts, concentrations, alpha)
    torch.testing.assert_close(expected.sum(1), counts.sum(0).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        (gamma - alpha).sum(1), counts.sum(1).double(), rtol=1e-12, atol=1e-12
    )


def test_a_document_does_not_depend_on_its_batch():
    counts, concentrations, alpha = drawn(B=40, length=60)
    together = inferred(counts, concentrations, alpha, tol=1e-3)
    alone = [inferred(counts[i : i + 1], concentrations, alpha, tol=1e-3) for i in range(40)]
    torch.testing.assert_close(together[0], torch.cat([a[0] for a in alone]), rtol=1e-9, atol=0)
    torch.testing.assert_close(together[2], torch.cat([a[2] for a in alone]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("limit", [1, 2000, 5000])
def test_blocks_change_nothing(limit, monkeypatch):
    counts, concentrations, alpha = drawn(B=40, V=100, length=90)
    counts[7] = 0
    whole = inferred(counts, concentrations, alpha)
    documents = packed(counts)
    monkeypatch.setattr(module, "BLOCK", {"cpu": limit})
    sizes = [part.size for part in documents.split(limit // 5)]
    assert sum(sizes) == 40
    assert len(sizes) > 1
    for one, other in zip(inferred(counts, concentrations, alpha), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 7, 500])
def test_rows_of_any_width_say_the_same(width, monkeypatch):
    counts, concentrations, alpha = drawn(V=100, length=90)
    whole = inferred(counts, concentrations, alpha)
    monkeypatch.setattr(module, "WIDTH", width)
    documents = packed(counts)
    assert documents.terms.shape[1] <= width
    torch.testing.assert_close(documents.totals, counts.sum(1).double())
    for one, other in zip(inferred(counts, concentrations, alpha), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_float32_is_near_float64():
    counts, concentrations, alpha = drawn(B=40, V=300, K=50, length=100)
    exact = inferred(counts, concentrations, alpha, iterations=200)
    single = inferred(counts, concentrations.float(), alpha.float(), iterations=200, tol=1e-5)
    assert single[0].dtype == torch.float32
    assert single[2].dtype == torch.float64
    torch.testing.assert_close(single[2], exact[2], rtol=2e-6, atol=1e-3)
    torch.testing.assert_close(single[0].double(), exact[0], rtol=0, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1e-3, 0.005, 0.05])
def test_tiny_priors_make_no_nan(alpha, dtype):
    # exp(psi(0.001)) is exp(-1000), which neither type has
    K, V = 300, 8
    concentrations = torch.full((V, K), 1e-3, dtype=dtype)
    concentrations[0, 0] = concentrations[1, 1] = 50.0
    counts = torch.tensor(
        [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0, 0, 0], [0] * 8, [9, 9, 9, 0, 0, 0, 0, 0]]
    )
    alphas = torch.full((K,), alpha, dtype=dtype)
    gamma, expected, bound = inferred(counts, concentrations, alphas, iterations=200, tol=1e-6)
    for value in (gamma, expected, bound):
        assert value.isfinite().all()
    torch.testing.assert_close(expected.sum(1), counts.sum(0).to(dtype), rtol=1e-5, atol=1e-5)
    # a document with the one term of a topic has that topic
    assert gamma[0].argmax() == 0
    assert float(gamma[0, 0]) == pytest.approx(1 + alpha, rel=1e-4)
    # of a term that no topic has seen, the topics that have seen little are the likelier
    assert gamma[1, 2:].min() > gamma[1, :2].max()
    # an empty document's posterior is the prior
    torch.testing.assert_close(gamma[2], alphas)
    assert float(bound[2]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [100, 5000, 40_000])
def test_digamma(n):
    x = torch.logspace(-3, 4, n, dtype=torch.float64).float()
    exact = psi(x.double().numpy())
    error = np.abs(digamma(x).double().numpy() - exact) / (1 + np.abs(exact))
    assert error.max() < 1e-6
    wide = torch.logspace(-3, 9, n, dtype=torch.float64)
    np.testing.assert_allclose(digamma(wide), psi(wide.numpy()), rtol=1e-12, atol=1e-12)
    exact = psi(wide.float().double().numpy())
    error = np.abs(digamma(wide.float()).double().numpy() - exact) / (1 + np.abs(exact))
    assert error.max() < 1e-6
    assert digamma(x.view(10, -1)).shape == (10, n // 10)


def test_divergence_is_that_of_torch():
    q, p = torch.rand(4, 6).double() * 9 + 0.01, torch.rand(6).double() + 0.01
    expected = kl_divergence(Dirichlet(q), Dirichlet(p.expand(4, 6)))
    torch.testing.assert_close(dirichlet_divergence(q, p), expected)
    assert float(dirichlet_divergence(p[None], p)) == pytest.approx(0, abs=1e-12)


# --- halves --------------------------------------------------------------------------------------


def test_halves_add_up_and_do_not_depend_on_the_batch():
    def observed(batch_size, seed=0):
        data = FakeBagOfWords(n=40, batch_size=batch_size)
        data.setup()
        found = {}
        for batch in data.test_dataloader():
            a, b = halves(batch, seed)
            assert torch.equal(a["counts"] + b["counts"], batch["counts"])
            assert (a["counts"] >= 0).all()
            assert (b["counts"] >= 0).all()
            assert torch.equal(a["counts"].sum(1), batch["counts"].sum(1) // 2)
            for key in ("tokens", "lengths", "index", "mask"):
                assert torch.equal(a[key], batch[key])
            rows = dense(a, 100).tolist()
            found |= dict(zip(batch["index"].tolist(), rows, strict=True))
        return found

    assert observed(3) == observed(10) == observed(3)
    assert observed(3) != observed(3, seed=1)


def test_halves_are_drawn_without_replacement():
    counts = torch.tensor([[6, 3, 1, 0]])
    batch = {"counts": counts}
    n = 4000
    drawn = torch.cat(
        [halves(batch | {"index": torch.tensor([i])}, 0)[0]["counts"] for i in range(n)]
    )
    assert (drawn.sum(1) == 5).all()
    p = counts[0].double() / 10
    mean, variance = 5 * p, 5 * p * (1 - p) * (10 - 5) / (10 - 1)
    z = (drawn.double().mean(0) - mean)[:3] / (variance[:3] / n).sqrt()
    assert z.abs().max() < 4
    # the variance of a hypergeometric count: its estimate from n draws is off by about sqrt(2 / n)
    assert torch.allclose(drawn.double().var(0), variance, rtol=5 * (2 / n) ** 0.5)
