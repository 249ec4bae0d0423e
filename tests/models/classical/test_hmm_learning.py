"""What the HMM learns, against hmmlearn, closed forms, and Eisner's diary."""

import numpy as np
import pytest
import torch
from hmm_cases import (
    DIARY,
    close,
    every_emission,
    model_key,
    randomized,
    rises,
    sequences,
    small,
    whole,
)
from torch.distributions import Independent, Normal

from zoo.datamodules import FakeTaggedText
from zoo.models import HMM

LENGTHS = [12, 3, 9, 1, 15, 8, 8, 2]


@every_emission
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"transition_prior": 1.5, "emission_prior": 2.0},
        {"learning": "vb", "transition_prior": 0.3, "emission_prior": 0.1},
        {"scan": "parallel"},
        {"stay": 0.5},
    ],
)
def test_every_iteration_raises_what_em_raises(emission, arguments):
    model = small(emission, **arguments).double().fit(sequences(emission, LENGTHS), 40, tol=-1)
    assert len(model.history) == 41
    assert rises(model.history)
    assert model.history[-1] > model.history[0] + 0.1
    assert all(p.isfinite().all() for p in model.emission.parameters() if emission != "categorical")


def test_variational_bayes_of_one_state_is_the_evidence():
    """With a single state nothing is approximated: p(x) is a ratio of gamma functions."""
    model = small(states=1, learning="vb", emission_prior=0.2).double()
    data = sequences("categorical", LENGTHS)
    model.fit(data, max_epochs=2, tol=-1)
    counts = torch.bincount(torch.cat(data), minlength=4).double()
    a = torch.full((4,), 0.2, dtype=torch.float64)
    evidence = (counts + a).lgamma().sum() - (counts + a).sum().lgamma()
    evidence = evidence - a.lgamma().sum() + a.sum().lgamma()
    assert model.history[-1] * len(data) == pytest.approx(evidence.item(), abs=1e-8)
    close(model.emission.table.log_p().exp()[0], (counts + a) / (counts + a).sum())


def test_small_priors_make_variational_bayes_sparse():
    data = FakeTaggedText(n=100, states=3, words=30)
    data.setup()
    batch = whole(data)
    found = {}
    for alpha in (1.0, 0.01):
        torch.manual_seed(0)
        model = HMM(6, symbols=30, learning="vb", emission_prior=alpha).double().fit(batch, 60)
        p = model.emission.table.log_p().exp()
        found[alpha] = -(p * p.log()).sum(1).mean()  # entropy of a state's words
    assert found[0.01] < found[1.0] - 0.2


def hmmlearn_start(model, reference):
    """Give our model the start of hmmlearn's."""
    to_log = {"startprob_": model.initial, "transmat_": model.transition}
    for name, table in to_log.items():
        table.start(torch.tensor(getattr(reference, name)).reshape(table.logits.shape))
    model.started.fill_(True)


def test_baum_welch_agrees_with_hmmlearn():
    library = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    x, lengths = rng.integers(0, 5, (60, 1)), [20, 3, 30, 7]
    theirs = library.CategoricalHMM(3, n_iter=10, tol=-1, init_params="")
    theirs.startprob_, theirs.transmat_ = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    theirs.emissionprob_ = rng.dirichlet(np.ones(5), 3)
    ours = HMM(3, symbols=5).double()
    hmmlearn_start(ours, theirs)
    ours.emission.table.start(torch.tensor(theirs.emissionprob_))
    theirs.fit(x, lengths)
    ours.fit(torch.tensor(x[:, 0]).split(lengths), max_epochs=10, tol=-1, warm_start=True)
    close(ours.initial.log_p().exp()[0], torch.tensor(theirs.startprob_))
    close(ours.transition.log_p().exp(), torch.tensor(theirs.transmat_))
    close(ours.emission.table.log_p().exp(), torch.tensor(theirs.emissionprob_))
    assert [h * 4 for h in ours.history] == pytest.approx([*theirs.monitor_.history])


def test_gaussian_baum_welch_agrees_with_hmmlearn():
    library = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    x, lengths = rng.normal(size=(60, 2)) + np.repeat([[0, 0], [3, 1], [0, 4]], 20, 0), [20, 33, 7]
    # without their priors on the variances
    theirs = library.GaussianHMM(
        3, n_iter=10, tol=-1, init_params="", covars_prior=0, covars_weight=1, min_covar=0
    )
    theirs.startprob_, theirs.transmat_ = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    theirs.means_, theirs.covars_ = rng.normal(size=(3, 2)), np.ones((3, 2))
    ours = HMM(3, emission="gaussian", dim=2).double()
    hmmlearn_start(ours, theirs)
    ours.emission.offset.data.copy_(torch.tensor(theirs.means_)[:, None])
    theirs.fit(x, lengths)
    ours.fit(torch.tensor(x).split(lengths), max_epochs=10, tol=-1, warm_start=True)
    close(ours.emission.mean[:, 0], torch.tensor(theirs.means_))
    variance = np.stack([np.diag(c) for c in theirs.covars_])
    close((2 * ours.emission.log_scale[:, 0]).exp(), torch.tensor(variance))
    close(ours.transition.log_p().exp(), torch.tensor(theirs.transmat_))
    assert [h * 3 for h in ours.history] == pytest.approx([*theirs.monitor_.history])


def test_the_m_step_of_a_mixture():
    model = randomized(small("mixture"))
    x = torch.cat(sequences("mixture", [40]))
    marginals = torch.rand(40, 3, dtype=torch.float64)
    e = model.emission
    parts = Independent(Normal(e.mean, e.log_scale.exp()), 1)
    joint = parts.log_prob(x[:, None, None]) + e.weights.log_p()
    r = marginals[..., None] * joint.softmax(-1)  # (N, K, M)
    n = r.sum(0)
    mean = torch.einsum("nkm,nd->kmd", r, x) / n[..., None]
    variance = (r[..., None] * (x[:, None, None] - mean).square()).sum(0) / n[..., None]
    e.update(e.statistics(x, marginals))
    close(e.mean, mean)
    close((2 * e.log_scale).exp(), variance)
    close(e.weights.log_p().exp(), n / n.sum(1, keepdim=True))


def test_variances_are_exact_far_from_the_origin():
    x = torch.randn(200, 1) + 1e4  # in float32, whose square has 8 digits
    model = HMM(1, emission="gaussian", dim=1).fit([x], max_epochs=2)
    variance = x.double().var(0, correction=0)
    assert (2 * model.emission.log_scale).exp().item() == pytest.approx(variance.item(), rel=1e-3)


def eisner():
    """The start of his spreadsheet: seasons last, and many ice creams are for hot days."""
    model = HMM(2, symbols=3).double()
    model.initial.start(torch.tensor([0.5, 0.5], dtype=torch.float64))
    # the tenth that is missing is for the end of the diary, which is no state here
    model.transition.start(torch.tensor([[0.8, 0.1], [0.1, 0.8]], dtype=torch.float64))
    model.emission.table.start(
        torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    )
    model.started.fill_(True)
    return model


def test_the_seasons_of_the_ice_cream_diary():
    """Eisner (2002): hot at the start and at the end, and cold from day 11 to day 26 between."""
    model = eisner().fit([DIARY], max_epochs=60, tol=-1, warm_start=True)
    assert rises(model.history)
    assert model.history[0] == pytest.approx(-35.86, abs=0.01)
    assert model.history[-1] == pytest.approx(-31.56, abs=0.01)
    hot = model.posterior(torch.tensor([DIARY])).marginals[0, :, 1]
    assert hot[:10].min() > 0.6
    assert hot[10:26].max() < 0.06
    assert hot[26:].min() > 0.6
    seasons = model.encode(torch.tensor([DIARY]))[0].tolist()
    assert seasons == [1] * 10 + [0] * 16 + [1] * 7
    # a hot day is never one of a single ice cream, a cold one is in 64 of 100 cases
    p = model.emission.table.log_p().exp()
    close(p, torch.tensor([[0.643, 0.149, 0.208], [0, 0.532, 0.468]], dtype=torch.float64), 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_seasons_are_found_from_random_starts(seed):
    torch.manual_seed(seed)
    model = HMM(2, symbols=3, stay=0.5).fit([DIARY], max_epochs=300, tol=1e-9)
    assert model.history[-1] == pytest.approx(-31.5598, abs=1e-3)


def test_a_learned_model_is_likelier_than_the_true_one():
    data = FakeTaggedText(n=200, states=3, words=20)
    data.setup()
    batch = whole(data)
    model = HMM(3, symbols=20).double().fit(batch, max_epochs=200)
    truth = HMM(3, symbols=20).double()
    truth.initial.start(data.initial)
    truth.transition.start(data.transition)
    truth.emission.table.start(data.emission)
    assert model.log_prob(batch).mean() > truth.log_prob(batch).mean()
    unseen = whole(data, "test")
    found, true = (m.log_prob(unseen).mean().item() for m in (model, truth))
    assert found == pytest.approx(true, rel=0.03)


def test_counting_what_is_seen():
    tokens, tags = [[0, 1, 2], [1, 1]], [[0, 1, 1], [1, 0]]
    model = HMM(2, symbols=3, supervised=True).double()
    model.fit({"tokens": tokens, "tags": tags})
    expected = torch.tensor([[0, 1], [1 / 2, 1 / 2]], dtype=torch.float64)
    close(model.transition.log_p().exp(), expected)
    close(model.initial.log_p().exp()[0], torch.tensor([1 / 2, 1 / 2], dtype=torch.float64))
    expected = torch.tensor([[1 / 2, 1 / 2, 0], [0, 2 / 3, 1 / 3]], dtype=torch.float64)
    close(model.emission.table.log_p().exp(), expected)
    assert len(model.history) == 3  # its maximum is there after the first
    # alpha - 1 is what is added to each count
    model = HMM(2, symbols=3, supervised=True, transition_prior=1.5, emission_prior=1.25).double()
    model.fit({"tokens": tokens, "tags": tags})
    expected = torch.tensor([[0.5, 1.5], [1.5, 1.5]], dtype=torch.float64)
    close(model.transition.log_p().exp(), expected / expected.sum(1, keepdim=True))
    expected = torch.tensor([[1.25, 1.25, 0.25], [0.25, 2.25, 1.25]], dtype=torch.float64)
    close(model.emission.table.log_p().exp(), expected / expected.sum(1, keepdim=True))
    assert rises(model.history)


def test_supervised_gaussians_are_class_means():
    x = sequences("gaussian", [30, 10])
    tags = [torch.randint(3, (30,)), torch.randint(3, (10,))]
    model = small("gaussian", supervised=True).double().fit({"values": x, "tags": tags})
    x, tags = torch.cat(x), torch.cat(tags)
    for k in range(3):
        close(model.emission.mean[k, 0], x[tags == k].mean(0))
        variance = x[tags == k].var(0, correction=0)
        close((2 * model.emission.log_scale[k, 0]).exp(), variance)


@every_emission
def test_a_state_that_is_never_visited_stays_as_it_is(emission):
    model = small(emission, supervised=True).double()
    x = sequences(emission, [5, 4])
    model.fit({model_key(emission): x, "tags": [[0, 1, 0, 1, 0], [1, 1, 0, 0]]})
    p = model.transition.log_p().exp()
    assert p.isfinite().all()
    assert p[2].min() > 0.2  # near the uniform start
    assert not p[:2, 2].any()
    assert model.log_prob(model.as_batch(x)).isfinite().all()
    assert all(q[2].isfinite().all() for q in model.emission.parameters())


@every_emission
@pytest.mark.parametrize("learning", ["em", "vb"])
def test_parts_of_the_data_add_up(emission, learning, monkeypatch):
    data = sequences(emission, LENGTHS)
    states = []
    for batch_size, block in ((None, 2**17), (3, 2**17), (None, 10)):
        monkeypatch.setattr("zoo.models.classical.hmm.BLOCK", block)
        torch.manual_seed(0)
        model = small(emission, learning=learning).double()
        model.start([model.as_batch(data)])
        model.started.fill_(True)
        model.fit(data, max_epochs=5, tol=-1, batch_size=batch_size, warm_start=True)
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
    close(states[0].exp(), states[1].exp())
    close(states[0].exp(), states[2].exp())


@every_emission
def test_the_gradient_of_the_loss_is_the_counts_less_the_expected(emission):
    model = randomized(small(emission, learning="gradient"))
    batch = model.as_batch(sequences(emission, LENGTHS))
    model.eval().loss(batch)["loss"].backward()
    counts = model.expectation(batch)
    n = len(LENGTHS)
    tables = {"initial": model.initial, "transition": model.transition}
    if emission == "categorical":
        tables["emission"] = model.emission.table
    else:
        tables["component"] = model.emission.weights
    for name, table in tables.items():
        c = counts[name].view_as(table.logits)
        expected = c.sum(1, keepdim=True) * table.log_p().exp() - c
        close(table.logits.grad, expected / n)
    if emission != "categorical":
        e = model.emission
        c = counts["component"][:, None]
        first = counts["sum"] + c * (e.origin - e.mean.flatten(0, 1))  # sum of r (x - mean)
        expected = -first / (2 * e.log_scale).exp().flatten(0, 1)
        close(e.offset.grad.flatten(0, 1), expected / n)
        assert e.log_scale.grad.abs().min() > 0


@pytest.mark.parametrize("emission", ["categorical", "gaussian"])
def test_em_ends_where_the_gradient_vanishes(emission):
    model = small(emission, states=2, transition_prior=1.1, emission_prior=1.1).double()
    batch = model.as_batch(sequences(emission, LENGTHS))
    model.start([batch])
    model.started.fill_(True)

    def slope():
        model.train().zero_grad()
        (len(LENGTHS) * model.log_prob(batch).mean() + model.log_prior()).backward()
        return max(p.grad.abs().max().item() for p in model.parameters())

    before = slope()
    model.fit(batch, max_epochs=300, tol=-1, warm_start=True)
    assert slope() < 1e-3 * before
