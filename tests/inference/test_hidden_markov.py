"""Inference in hidden Markov models against all K^T paths, and against hmmlearn."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from zoo.inference.chains import recursions
from zoo.inference.chains.layout import Layout
from zoo.inference.chains.recursions import Chain
from zoo.inference.chains.scan import associative_scan

scans = pytest.mark.parametrize("scan", ["sequential", "parallel"])
sizes = pytest.mark.parametrize(("states", "steps"), [(2, 5), (3, 4), (3, 3), (1, 3), (4, 1)])


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def draw(states, dtype=torch.float64):
    """The weights of a chain; they need not sum to one."""
    return Chain(torch.randn(states, dtype=dtype), 2 * torch.randn(states, states, dtype=dtype))


def ragged(states, lengths, dtype=torch.float64):
    """log b, padded (B, T, K) and packed (N, K), and how it is packed."""
    layout = Layout.of(torch.tensor(lengths))
    padded = 3 * torch.randn(len(lengths), max(lengths), states, dtype=dtype)
    return padded, layout.pack(padded), layout


def one(log_b):
    """A single sequence (T, K), and its layout."""
    return log_b, Layout.of(torch.tensor([len(log_b)]))


def enumerate_paths(chain, log_b):
    """All paths (K^T, T), and their log p(x, z)."""
    steps, states = log_b.shape
    paths = torch.tensor([*itertools.product(range(states), repeat=steps)])
    log_p = chain.log_initial[paths[:, 0]] + log_b[torch.arange(steps), paths].sum(1)
    log_p = log_p + chain.log_transition[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, log_p


@scans
@sizes
def test_smoothing_sums_over_all_paths(scan, states, steps):
    chain, (log_b, layout) = draw(states), one(3 * torch.randn(steps, states, dtype=torch.float64))
    paths, log_p = enumerate_paths(chain, log_b)
    p = log_p.softmax(0)
    found = recursions.smooth(chain, log_b, layout, scan)
    close(found.log_likelihood[0], log_p.logsumexp(0))
    one_hot = torch.nn.functional.one_hot(paths, states).double()  # (K^T, T, K)
    close(found.marginals, torch.einsum("p,ptk->tk", p, one_hot))
    pairs = torch.einsum("p,pti,ptk->ik", p, one_hot[:, :-1], one_hot[:, 1:])
    close(found.transitions, pairs)


@scans
@sizes
def test_filtering_sums_over_the_paths_so_far(scan, states, steps):
    chain, (log_b, layout) = draw(states), one(3 * torch.randn(steps, states, dtype=torch.float64))
    found = recursions.filter_states(chain, log_b, layout, scan)
    next_state = recursions.predict(
        Chain(chain.log_initial, chain.log_transition.log_softmax(1)), found[0]
    )
    for t in range(steps):
        paths, log_p = enumerate_paths(chain, log_b[: t + 1])
        p = log_p.softmax(0)
        state = torch.stack([p[paths[:, t] == k].sum() for k in range(states)])
        close(found.log_state[t].exp(), state)
        close(next_state[t], state @ chain.log_transition.softmax(1))
    close(found.log_likelihood[0], log_p.logsumexp(0))


@scans
@sizes
def test_viterbi_finds_the_best_of_all_paths(scan, states, steps):
    for _ in range(5):
        chain = draw(states)
        log_b, layout = one(3 * torch.randn(steps, states, dtype=torch.float64))
        paths, log_p = enumerate_paths(chain, log_b)
        path, score = recursions.viterbi(chain, log_b, layout, scan)
        assert torch.equal(path, paths[log_p.argmax()])
        close(score[0], log_p.max())
        close(recursions.log_joint(chain, log_b, paths, layout)[:, 0], log_p)


def test_paths_are_drawn_as_often_as_they_are_probable():
    n = 20_000
    chain, (padded, log_b, layout) = draw(3), ragged(3, [2, 4, 3])
    log_state = recursions.filter_states(chain, log_b, layout).log_state
    drawn = recursions.sample_paths(chain, log_state, layout, n)
    drawn = layout.unpack(drawn.T).permute(2, 0, 1)  # (n, 3, 4)
    for i, length in enumerate([2, 4, 3]):
        paths, log_p = enumerate_paths(chain, padded[i, :length])
        p = log_p.softmax(0)
        often = torch.stack(
            [(drawn[:, i, :length] == path).all(1).double().mean() for path in paths]
        )
        # 5 standard deviations of a count, and half a draw for paths that are hardly possible
        assert ((often - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 0.5 / n).all()


def test_chains_are_drawn_as_often_as_they_are_probable():
    n = 20_000
    chain = Chain(*(x.log_softmax(-1) for x in draw(3)))
    drawn = recursions.sample_chain(chain, n, 3)
    paths, log_p = enumerate_paths(chain, torch.zeros(3, 3, dtype=torch.float64))
    p = log_p.exp()
    assert p.sum().item() == pytest.approx(1)
    often = torch.stack([(drawn == path).all(1).double().mean() for path in paths])
    assert ((often - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 0.5 / n).all()


@scans
def test_hmmlearn_agrees(scan):
    reference = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    lengths = [7, 30, 1, 12]
    model = reference.CategoricalHMM(5, init_params="", params="")
    model.startprob_, model.transmat_ = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5), 5)
    model.emissionprob_ = rng.dirichlet(np.ones(9), 5)
    x = rng.integers(0, 9, (sum(lengths), 1))
    score, marginals = model.score_samples(x, lengths)
    best, path = model.decode(x, lengths)

    layout = Layout.of(torch.tensor(lengths))
    chain = Chain(*(torch.tensor(p).log() for p in (model.startprob_, model.transmat_)))
    tokens = torch.nn.utils.rnn.pad_sequence(torch.tensor(x[:, 0]).split(lengths), True)
    log_b = torch.tensor(model.emissionprob_).log().T[layout.pack(tokens)]
    there = torch.arange(30) < torch.tensor(lengths)[:, None]
    found = recursions.smooth(chain, log_b, layout, scan)
    assert found.log_likelihood.sum().item() == pytest.approx(score, abs=1e-10)
    close(layout.unpack(found.marginals)[there], torch.tensor(marginals), atol=1e-10)
    states, scores = recursions.viterbi(chain, log_b, layout, scan)
    assert scores.sum().item() == pytest.approx(best, abs=1e-10)
    assert layout.unpack(states)[there].tolist() == path.tolist()


@pytest.mark.parametrize("lengths", [[33, 1, 20, 33, 2], [1], [64], [65, 63]])
def test_both_scans_give_the_same(lengths):
    chain, (_, log_b, layout) = draw(4), ragged(4, lengths)
    a, b = (recursions.smooth(chain, log_b, layout, scan) for scan in ("sequential", "parallel"))
    for x, y in zip(a, b, strict=True):
        close(x, y, atol=1e-10)
    a, b = (
        recursions.filter_states(chain, log_b, layout, scan) for scan in ("sequential", "parallel")
    )
    for x, y in zip(a, b, strict=True):
        close(x, y, atol=1e-10)
    a, b = (recursions.viterbi(chain, log_b, layout, scan) for scan in ("sequential", "parallel"))
    assert torch.equal(a[0], b[0])


@scans
def test_a_ragged_batch_is_its_sequences(scan):
    lengths = [3, 9, 1, 9, 5]
    chain, (padded, log_b, layout) = draw(3), ragged(3, lengths)
    together = recursions.smooth(chain, log_b, layout, scan)
    filtered = layout.unpack(recursions.filter_states(chain, log_b, layout, scan).log_state)
    path, score = recursions.viterbi(chain, log_b, layout, scan)
    marginals, path = layout.unpack(together.marginals), layout.unpack(path, 12)
    assert path.shape == (5, 12)
    transitions = torch.zeros_like(together.transitions)
    for i, length in enumerate(lengths):
        single, alone = one(padded[i, :length])
        found = recursions.smooth(chain, single, alone, scan)
        close(found.log_likelihood[0], together.log_likelihood[i])
        close(found.marginals, marginals[i, :length])
        close(recursions.filter_states(chain, single, alone, scan).log_state, filtered[i, :length])
        assert not marginals[i, length:].any()
        best, value = recursions.viterbi(chain, single, alone, scan)
        assert torch.equal(best, path[i, :length])
        assert not path[i, length:].any()
        close(value[0], score[i])
        transitions += found.transitions
    close(transitions, together.transitions)


def test_sequences_are_packed_as_torch_packs_them():
    lengths = torch.tensor([3, 5, 1, 5])
    layout = Layout.of(lengths)
    x = torch.randn(4, 6, 2)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    assert torch.equal(layout.pack(x), packed.data)
    assert layout.sizes == packed.batch_sizes.tolist()
    there = torch.arange(6) < lengths[:, None]
    assert torch.equal(layout.unpack(packed.data, 6), x * there[..., None])
    rank, step = layout.rank.tolist(), layout.step.tolist()
    rows = [*zip(rank, step, strict=True)]
    before = [(r, s - 1) for r, s in rows if s > 0]
    assert [rows[i] for i in layout.previous.tolist()] == before
    assert [rows[i] for i in layout.last.tolist()] == [(0, 4), (1, 4), (2, 2), (3, 0)]
    chosen = torch.tensor([True, False, True, False])  # of ranks: sequences 1 and 0
    some, part = layout.part(chosen)
    alone = Layout.of(lengths[[1, 0]])
    assert torch.equal(packed.data[some], alone.pack(x[[1, 0]]))
    assert part.sizes == alone.sizes
    assert torch.equal(part.rank, alone.rank)
    assert torch.equal(part.step, alone.step)


def test_100_000_steps_neither_overflow_nor_underflow():
    steps = 100_000
    p = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    chain = Chain(torch.tensor([0.6, 0.4], dtype=torch.float64).log(), p.log())
    log_b, layout = one(2 * torch.randn(steps, 2, dtype=torch.float64) - 3)
    # the scaled recursion in Python's floats, which are float64
    expected, (a, b) = 0.0, (0.6, 0.4)
    for i, (x, y) in enumerate(log_b.exp().tolist()):
        if i:
            a, b = 0.9 * a + 0.3 * b, 0.1 * a + 0.7 * b
        a, b = a * x, b * y
        expected += float(np.log(a + b))
        a, b = a / (a + b), b / (a + b)
    exact = recursions.smooth(chain, log_b, layout, "parallel")
    assert exact.log_likelihood.item() == pytest.approx(expected, rel=1e-12)
    close(exact.marginals.sum(1), torch.ones(steps, dtype=torch.float64))
    assert exact.transitions.sum().item() == pytest.approx(steps - 1, rel=1e-12)
    rough = Chain(*(x.float() for x in chain))
    once = 1.2e-7 * steps  # rounded weights are off in the same direction at every step
    for found in (
        recursions.filter_states(rough, log_b.float(), layout, "sequential"),
        recursions.filter_states(rough, log_b.float(), layout, "parallel"),
        recursions.smooth(rough, log_b.float(), layout, "parallel"),
    ):
        assert found.log_likelihood.item() == pytest.approx(expected, abs=once)
    close(found.marginals.double(), exact.marginals, atol=1e-5)
    close(found.transitions.double() / steps, exact.transitions / steps, atol=1e-5)
    path, score = recursions.viterbi(rough, log_b.float(), layout, "parallel")
    best, _ = recursions.viterbi(chain, log_b, layout, "parallel")
    assert recursions.log_joint(chain, log_b, best, layout).item() == pytest.approx(
        score.item(), rel=1e-6
    )
    assert (path != best).sum() < 3  # where two paths are equally good but for rounding


def naive(chain, log_b):
    """log p(x) by sums of exponentials, as autograd can differentiate it."""
    a = chain.log_initial + log_b[0]
    for b_t in log_b[1:]:
        a = (a[:, None] + chain.log_transition).logsumexp(0) + b_t
    return a.logsumexp(0)


@scans
def test_the_gradient_is_the_expected_counts(scan):
    chain, (padded, log_b, layout) = draw(3), ragged(3, [4, 7, 1])
    weight = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (*chain, log_b)]
    value = recursions.log_likelihood(Chain(*leaves[:2]), leaves[2], layout, scan)
    (weight * value).sum().backward()

    copies = [x.clone().requires_grad_() for x in (*chain, padded)]
    rows = zip(copies[2], [4, 7, 1], strict=True)
    expected = torch.stack([naive(Chain(*copies[:2]), row[:length]) for row, length in rows])
    close(value, expected)
    (weight * expected).sum().backward()
    close(leaves[0].grad, copies[0].grad)
    close(leaves[1].grad, copies[1].grad)
    close(leaves[2].grad, layout.pack(copies[2].grad))

    found = recursions.smooth(chain, log_b, layout, scan, weight)
    close(found.transitions, leaves[1].grad)
    close(found.marginals, leaves[2].grad)
    torch.autograd.gradcheck(
        lambda pi, A, b: recursions.log_likelihood(Chain(pi, A), b, layout, scan), leaves
    )


def test_one_state_is_independent_draws():
    zero = torch.zeros(1, dtype=torch.float64)
    chain, (_, log_b, layout) = Chain(zero, zero[None]), ragged(1, [5, 2])
    found = recursions.smooth(chain, log_b, layout)
    close(found.log_likelihood, layout.total(log_b[:, 0]))
    assert found.marginals.min() == 1
    assert found.transitions.item() == 5  # 4 and 1


@scans
def test_states_may_be_renamed(scan):
    chain, (_, log_b, layout) = draw(4), ragged(4, [6, 9])
    order = torch.tensor([2, 0, 3, 1])
    renamed = Chain(chain.log_initial[order], chain.log_transition[order][:, order])
    a = recursions.smooth(chain, log_b, layout, scan)
    b = recursions.smooth(renamed, log_b[:, order], layout, scan)
    close(a.log_likelihood, b.log_likelihood)
    close(a.marginals[:, order], b.marginals)
    close(a.transitions[order][:, order], b.transitions)


def forward_only(steps, dtype):
    """A chain that starts in state 0, leaves a state for the next only, and a garden path.

    At first all speaks for moving on early; what comes later is possible only in state 0 and 1,
    and by far more probable there than rounding and underflow can make up for.
    """
    zero = -torch.inf
    chain = Chain(
        torch.tensor([0, zero, zero], dtype=dtype),
        torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]], dtype=dtype).log(),
    )
    log_b = torch.zeros(steps, 3, dtype=dtype)
    log_b[: steps // 2, 0] = -300
    log_b[steps // 2 :, 2] = -2000
    log_b[steps // 2 :, 1] = -1500
    return chain, log_b


@scans
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_underflow_would_lose_is_found_again(scan, dtype, monkeypatch):
    chain, log_b = forward_only(8, dtype)
    log_b, layout = one(log_b)
    paths, log_p = enumerate_paths(chain, log_b)
    p = log_p.double().softmax(0)
    one_hot = torch.nn.functional.one_hot(paths, 3).double()
    found = recursions.smooth(chain, log_b, layout, scan)
    exact = log_p.double().logsumexp(0)
    assert found.log_likelihood.item() == pytest.approx(exact.item(), rel=1e-6)
    close(found.marginals.double(), torch.einsum("p,ptk->tk", p, one_hot), atol=1e-5)
    filtered = recursions.filter_states(chain, log_b, layout, scan)
    assert filtered.log_likelihood.item() == pytest.approx(exact.item(), rel=1e-6)
    drawn = recursions.sample_paths(chain, filtered.log_state, layout, 50)
    assert (recursions.log_joint(chain, log_b, drawn, layout) > exact - 30).all()
    # and it would be lost
    monkeypatch.setattr(recursions, "_doubtful", lambda beta, c, layout: None)
    wrong = recursions.filter_states(chain, log_b, layout, scan).log_likelihood
    assert not abs(wrong - exact) < 100


@scans
def test_only_the_sequences_concerned_are_computed_again(scan, monkeypatch):
    chain, hard = forward_only(8, torch.float32)
    easy = torch.randn(3, 8, 3)
    padded = torch.stack([easy[0], hard, easy[1], easy[2]])
    layout = Layout.of(torch.tensor([8, 8, 3, 6]))
    again = []
    original = recursions._log_forward
    monkeypatch.setattr(
        recursions, "_log_forward", lambda *a: again.append(a[2].sizes) or original(*a)
    )
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = recursions.smooth(chain, layout.pack(padded), layout, scan, weight)
    assert again == [[1] * 8]
    marginals, transitions = layout.unpack(found.marginals), 0
    for i, length in enumerate([8, 8, 3, 6]):
        log_b, alone = one(padded[i, :length].double())
        single = recursions.smooth(Chain(*(x.double() for x in chain)), log_b, alone, scan)
        close(marginals[i, :length].double(), weight[i] * single.marginals, atol=1e-5)
        transitions = transitions + weight[i] * single.transitions
    close(found.transitions.double(), transitions, atol=1e-4)


@scans
def test_impossible_sequences_count_nothing(scan):
    chain, (_, log_b, layout) = draw(3), ragged(3, [5, 4, 6])
    possible = recursions.smooth(chain, log_b, layout, scan)
    impossible = log_b.clone()
    impossible[(layout.order[layout.rank] == 1) & (layout.step == 2)] = -torch.inf
    found = recursions.smooth(chain, impossible, layout, scan)
    assert found.log_likelihood[1] == -torch.inf
    close(found.log_likelihood[[0, 2]], possible.log_likelihood[[0, 2]])
    marginals = layout.unpack(found.marginals)
    assert not marginals[1].any()
    close(marginals[[0, 2]], layout.unpack(possible.marginals)[[0, 2]])
    assert found.transitions.sum().item() == pytest.approx(4 + 5)
    assert recursions.filter_states(chain, impossible, layout, scan).log_likelihood[1] == -torch.inf


def test_the_stationary_distribution():
    A = torch.rand(4, 4, dtype=torch.float64)
    A /= A.sum(1, keepdim=True)
    pi = recursions.stationary(A.log())
    assert pi.sum().item() == pytest.approx(1)
    close(pi, torch.linalg.matrix_power(A, 200)[0])
    turns = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # has no limit, but one distribution that stays
    close(recursions.stationary(turns.log()), torch.full((2,), 0.5))
    drains = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    close(recursions.stationary(drains.log()), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="several stationary"):
        recursions.stationary(torch.eye(3).log())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 16, 31])
def test_a_scan_is_every_product(n):
    elements = torch.randn(n, 3, 3, dtype=torch.float64)
    rounds = []

    def combine(x, y):
        rounds.append(len(x[0]))
        return (x[0] @ y[0],)

    (found,) = associative_scan(combine, (elements,))
    assert sum(rounds) < 2 * n
    assert len(rounds) <= 2 * np.ceil(np.log2(n))
    product = torch.eye(3, dtype=torch.float64)
    for i in range(n):
        product = product @ elements[i]
        torch.testing.assert_close(found[i], product, rtol=1e-10, atol=1e-12)
    (found,) = associative_scan(combine, (elements,), reverse=True)
    product = torch.eye(3, dtype=torch.float64)
    for i in reversed(range(n)):
        product = elements[i] @ product
        torch.testing.assert_close(found[i], product, rtol=1e-10, atol=1e-12)
