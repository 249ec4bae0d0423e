"""The HMM against all paths, hmmlearn, closed forms, and Eisner's diary."""

import itertools
import json
import os

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import zoo
from zoo import recipes
from zoo.datamodules import FakeTaggedText, IceCream, TaggedText
from zoo.metrics import ManyToOne
from zoo.models import HMM
from zoo.pretrained.loading import check_golden
from zoo.pretrained.runs import load_training_checkpoint
from zoo.training.seeding import SeedEpoch

DIARY = [int(n) - 1 for n in "233232322313311121113121112332322"]
EMISSIONS = {
    "categorical": {"symbols": 4},
    "gaussian": {"emission": "gaussian", "dim": 2},
    "mixture": {"emission": "mixture", "dim": 2, "components": 3},
}
every_emission = pytest.mark.parametrize("emission", EMISSIONS)


def close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def randomized(model):
    """The model with parameters drawn at random, in float64."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    model.started.fill_(True)
    return model.eval()


def small(emission="categorical", states=3, **arguments):
    return HMM(states, **EMISSIONS[emission], **{"length": 4, **arguments})


def sequences(emission, lengths):
    """Sequences of these lengths, as a list."""
    if emission == "categorical":
        return [torch.randint(4, (length,)) for length in lengths]
    return [2 * torch.randn(length, 2, dtype=torch.float64) for length in lengths]


def density(model, emission, x):
    """log p(x_t | k) written out, (T, K)."""
    if emission == "categorical":
        return model.emission.table.logits.log_softmax(1)[:, x].T
    e = model.emission
    parts = Independent(Normal(e.mean, e.log_scale.exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=e.weights.logits), parts)
    return mixture.log_prob(x[:, None])


def enumerate_paths(model, emission, x):
    """All paths (K^T, T), and their log p(x, z)."""
    steps, states = len(x), len(model.transition.logits)
    paths = torch.tensor([*itertools.product(range(states), repeat=steps)])
    pi, A = model.initial.logits.log_softmax(1)[0], model.transition.logits.log_softmax(1)
    log_p = pi[paths[:, 0]] + A[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, log_p + density(model, emission, x)[torch.arange(steps), paths].sum(1)


# --- verbs ---------------------------------------------------------------------------------------


@every_emission
@pytest.mark.parametrize("scan", ["sequential", "parallel"])
def test_verbs_sum_over_all_paths(emission, scan):
    model = randomized(small(emission, scan=scan))
    data = sequences(emission, [4, 2, 5])
    batch = model.as_batch(data)
    q = model.posterior(batch)
    assert (q.batch_shape, q.event_shape) == ((3,), (5,))
    path = model.encode(batch)
    for i, x in enumerate(data):
        steps = len(x)
        paths, log_p = enumerate_paths(model, emission, x)
        close(model.log_prob(batch)[i], log_p.logsumexp(0))
        close(model.log_prob(x[None])[0], log_p.logsumexp(0))
        p = log_p.softmax(0)
        one_hot = torch.nn.functional.one_hot(paths, 3).double()
        close(q.marginals[i, :steps], torch.einsum("p,ptk->tk", p, one_hot))
        assert torch.equal(path[i, :steps], paths[log_p.argmax()])
        assert not path[i, steps:].any()
        padded = torch.zeros(len(paths), 3, 5, dtype=torch.int64)
        padded[:, i, :steps] = paths
        close(q.log_prob(padded)[:, i], log_p.log_softmax(0))
    assert torch.equal(q.mode, path)


def test_samples_of_the_posterior():
    model = randomized(small())
    batch = model.as_batch([[0, 1, 2], [3, 0]])
    q = model.posterior(batch)
    drawn = q.sample((40, 100))
    assert drawn.shape == (40, 100, 2, 3)
    assert not drawn[..., 1, 2:].any()
    often = torch.nn.functional.one_hot(drawn, 3).double().flatten(0, 1).mean(0)  # (2, 3, 3)
    p = q.marginals
    there = torch.tensor([[True, True, True], [True, True, False]])
    assert ((often - p).abs() < 5 * (p * (1 - p) / 4000).sqrt() + 1e-3)[there].all()


@every_emission
def test_prior_and_likelihood_make_the_joint(emission):
    model = randomized(small(emission))
    (x,) = sequences(emission, [4])
    paths, log_joint = enumerate_paths(model, emission, x)
    prior, likelihood = model.prior(), model.likelihood(paths)
    assert (prior.batch_shape, prior.event_shape) == ((), (4,))
    assert likelihood.batch_shape == (81,)
    assert likelihood.event_shape == model.x_shape == (4, *x.shape[1:])
    close(prior.log_prob(paths).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    close(prior.log_prob(paths) + likelihood.log_prob(x), log_joint)
    assert prior.sample((7,)).shape == (7, 4)
    assert prior.sample().shape == (4,)


@every_emission
def test_shapes_and_seeds(emission):
    model = randomized(small(emission))
    torch.manual_seed(3)
    x = model.sample(5)
    assert x.shape == (5, *model.x_shape)
    assert model.sample(2, length=9).shape == (2, 9, *model.x_shape[1:])
    torch.manual_seed(3)
    assert torch.equal(model.sample(5), x)
    z = model.encode(x)
    assert z.shape == (5, *model.latent_shape)
    assert torch.equal(model.reconstruct(x), model.decode(z))
    assert model.decode(z).shape == x.shape
    assert "log_prob" in model.verbs()
    mean = torch.stack([model.likelihood(torch.tensor([[k]])).sample((4000,)) for k in range(3)])
    if emission != "categorical":
        spread = mean.std(1).squeeze() / 4000**0.5
        states = torch.arange(3)[:, None]
        assert ((mean.mean(1).squeeze() - model.decode(states).squeeze()).abs() < 5 * spread).all()


def test_samples_follow_the_model():
    model = randomized(small(length=2))
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    p = model.log_prob(pairs).exp()
    assert p.sum().item() == pytest.approx(1)
    x = model.sample(20_000)
    often = torch.stack([(x == pair).all(1).double().mean() for pair in pairs])
    assert ((often - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_what_comes_next():
    model = randomized(small())
    data = [[0, 3, 1], [2], [1, 1, 1, 1]]
    p = model.predict(model.as_batch(data)).probs
    for i, x in enumerate(data):
        longer = torch.tensor([[*x, v] for v in range(4)])
        expected = model.log_prob(longer) - model.log_prob(torch.tensor([x]))
        close(p[i].log(), expected)
    model = randomized(small("mixture"))
    data = sequences("mixture", [3, 1])
    following = sequences("mixture", [1])[0]
    value = model.predict(model.as_batch(data)).log_prob(following)
    for i, x in enumerate(data):
        longer = torch.cat([x, following])[None]
        close(value[i], (model.log_prob(longer) - model.log_prob(x[None]))[0])


@every_emission
def test_one_state_is_independent_draws(emission):
    model = randomized(small(emission, states=1))
    data = sequences(emission, [5, 3])
    expected = torch.stack([density(model, emission, x).sum() for x in data])
    close(model.log_prob(model.as_batch(data)), expected)


@every_emission
def test_states_may_be_renamed(emission):
    model = randomized(small(emission))
    x = model.sample(6)
    before = model.log_prob(x)
    order = torch.tensor([1, 2, 0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "initial.logits":
                parameter.copy_(parameter[:, order])
            elif name == "transition.logits":
                parameter.copy_(parameter[order][:, order])
            else:
                parameter.copy_(parameter[order])
    close(model.log_prob(x), before)


def test_half_precision_does_not_reach_the_recursions():
    model = randomized(small("mixture")).float()
    x = model.sample(8, length=30)
    exact = model.log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(model.log_prob(x), exact, atol=1e-4)
        marginals = model.expectation(model.as_batch(x))["transition"]
    close(marginals, model.expectation(model.as_batch(x))["transition"], atol=1e-4)


# --- learning ------------------------------------------------------------------------------------


def rises(history, tolerance=1e-11):
    return all(b > a - tolerance for a, b in itertools.pairwise(history))


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
    assert len(model.history) == 40
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


def whole(data, split="train"):
    """A split as one batch."""
    batch = next(
        iter(type(data.val_dataloader())(data.splits[split], 100_000, finish=data.finish(split)))
    )
    return {key: batch[key] for key in ("tokens", "lengths", "tags") if key in batch}


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
    ours.fit(torch.tensor(x[:, 0]).split(lengths), max_epochs=10, tol=-1)
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
    ours.emission.mean.data.copy_(torch.tensor(theirs.means_)[:, None])
    theirs.fit(x, lengths)
    ours.fit(torch.tensor(x).split(lengths), max_epochs=10, tol=-1)
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
    model = eisner().fit([DIARY], max_epochs=60, tol=-1)
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


def model_key(emission):
    return "tokens" if emission == "categorical" else "values"


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
        model.fit(data, max_epochs=5, tol=-1, batch_size=batch_size)
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
        close(e.mean.grad.flatten(0, 1), expected / n)
        assert e.log_scale.grad.abs().min() > 0


@pytest.mark.parametrize("emission", ["categorical", "gaussian"])
def test_em_ends_where_the_gradient_vanishes(emission):
    model = small(emission, states=2, transition_prior=1.1, emission_prior=1.1).double()
    batch = model.as_batch(sequences(emission, LENGTHS))
    model.start([batch])
    model.started.fill_(True)

    def slope():
        model.zero_grad()
        (len(LENGTHS) * model.log_prob(batch).mean() + model.log_prior()).backward()
        return max(p.grad.abs().max().item() for p in model.parameters())

    before = slope()
    model.fit(batch, max_epochs=300, tol=-1)
    assert slope() < 1e-3 * before


# --- with a Trainer ------------------------------------------------------------------------------


def trainer(folder, **arguments):
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "max_epochs": 4,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "callbacks": [SeedEpoch(0)],
            **arguments,
        }
    )


STEPWISE = {"kappa": 0.7, "transition_prior": 1.1, "emission_prior": 1.1}


def words(**arguments):
    return FakeTaggedText(**{"n": 64, "batch_size": 64, "states": 3, "words": 20, **arguments})


def parameters(model):
    return torch.cat([p.detach().flatten().exp() for p in model.parameters()])


def started(data, **arguments):
    """A model that was started on all data, in float64."""
    data.setup()
    torch.manual_seed(5)
    model = HMM(**{"states": 4, "symbols": 20, **arguments}).double()
    model.start([whole(data)])
    model.started.fill_(True)
    return model


@pytest.mark.parametrize("arguments", [{}, {"learning": "vb"}, {"supervised": True}])
def test_the_trainer_does_what_fit_does(tmp_path, arguments):
    data = words(batch_size=10)
    model = started(data, **arguments)
    run = trainer(tmp_path)
    run.fit(model, data)
    expected = started(data, **arguments).fit(whole(data), max_epochs=4, tol=-1)
    close(parameters(model), parameters(expected))
    log_p = expected.eval().log_prob(whole(data, "val")).mean().item()
    assert run.callback_metrics["val/log_likelihood"] == pytest.approx(log_p, rel=1e-5)
    assert ("val/accuracy" in run.callback_metrics) == ("supervised" in arguments)


@pytest.mark.parametrize("arguments", [{}, STEPWISE, {"learning": "gradient"}])
def test_two_processes_on_half_the_batch_equal_one(tmp_path, arguments):
    results = []
    for devices, batch_size in ((1, 32), (2, 16)):
        data = words(batch_size=batch_size)
        model = started(data, **arguments)
        before = parameters(model)
        strategy = "ddp_fork" if devices == 2 else "auto"
        trainer(tmp_path, devices=devices, strategy=strategy).fit(model, data)
        results.append(parameters(model))
    assert (results[0] - before).abs().max() > 1e-3
    close(results[0], results[1])


@pytest.mark.parametrize("arguments", [{}, STEPWISE, {"learning": "gradient"}])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, arguments):
    whole_run = started(words(batch_size=16), **arguments)
    trainer(tmp_path).fit(whole_run, words(batch_size=16))
    half = started(words(batch_size=16), **arguments)
    run = trainer(tmp_path, max_epochs=2)
    run.fit(half, words(batch_size=16))
    run.save_checkpoint(tmp_path / "half.ckpt")
    resumed = HMM(4, symbols=20, **arguments).double()
    trainer(tmp_path).fit(
        resumed, words(batch_size=16), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert torch.equal(parameters(resumed), parameters(whole_run))
    assert not torch.equal(parameters(half), parameters(whole_run))


def test_stepwise_em_learns_from_part_of_the_data(tmp_path):
    data = words(n=256, batch_size=16)
    model = started(data, **STEPWISE)
    before = model.log_prob(whole(data)).mean()
    trainer(tmp_path, max_epochs=6).fit(model, data)
    full = started(data, transition_prior=1.1, emission_prior=1.1)
    full.fit(whole(data), max_epochs=6, tol=-1)
    assert model.log_prob(whole(data)).mean() > full.log_prob(whole(data)).mean() > before


def test_a_checkpoint_gives_what_the_model_gave(tmp_path):
    model = HMM(3, symbols=20, supervised=True, transition_prior=2.0, emission_prior=2.0)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, words())
    run.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    again = load_training_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    again.save_pretrained(tmp_path / "hmm")
    loaded = zoo.from_pretrained(str(tmp_path / "hmm"))
    check_golden(loaded, tmp_path / "hmm")
    x = model.sample(3)
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))
    # and EM goes on from it as variational Bayes
    bayes = zoo.from_pretrained(str(tmp_path / "hmm"), learning="vb", supervised=False)
    bayes.fit(x, max_epochs=3, tol=-1)
    assert rises(bayes.history[1:])


def test_words_are_tagged():
    data = words()
    data.setup()
    vocabulary = {"vocabulary": ["<unk:capital>", *data.vocabulary[1:]], "tags": data.tags}
    model = HMM(3, symbols=20, supervised=True).fit(whole(data), max_epochs=1)
    sentences = [["w3", "Anywhere"], ["w7"]]
    with pytest.raises(ValueError, match="no vocabulary"):
        zoo.tag(model, sentences)
    model.assets = {"vocabulary.json": json.dumps(vocabulary)}
    path = model.encode(model.as_batch([[3, 0], [7]]))
    assert zoo.tag(model, sentences) == [[f"s{k}" for k in path[0]], [f"s{path[1, 0]}"]]
    with pytest.raises(ValueError, match="sequence 1 of tokens is empty"):
        zoo.tag(model, [["w3"], []])
    lines = model.texts(3)
    assert len(lines) == 3
    assert {word for line in lines for word in line.split()} <= {*vocabulary["vocabulary"]}
    model.supervised = False
    assert zoo.tag(model, sentences) == [[str(k) for k in path[0].tolist()], [str(int(path[1, 0]))]]


def test_what_has_no_words_is_shown_in_numbers():
    model = randomized(small("gaussian", length=2))
    (line,) = model.texts(1)
    assert len([float(value) for value in line.split()]) == 4
    assert {*randomized(small()).texts(2)[0]} <= {*"0123 "}


def test_the_diary_is_data():
    data = IceCream()
    data.setup()
    assert whole(data)["tokens"].tolist() == [DIARY]


def test_the_recipe_tags_english():
    """0.916 of the test words, where the most frequent tag of each word has 0.890."""
    root = os.environ.get("ZOO_DATA", "")
    if not root or TaggedText.inventory(root).missing:
        pytest.skip("$ZOO_DATA holds no ud_english_ewt")
    data = TaggedText(root=root)
    data.setup()
    recipe = yaml.safe_load(recipes.path("hmm-ewt").read_text(encoding="utf-8"))
    train, test = whole(data), whole(data, "test")
    model = HMM(**recipe["model"]["init_args"]).fit(train, max_epochs=1)
    there = torch.arange(test["tokens"].shape[1]) < test["lengths"][:, None]
    right = (model.encode(test) == test["tags"])[there].double().mean().item()
    assert right == pytest.approx(0.916, abs=0.001)
    seen = torch.arange(train["tokens"].shape[1]) < train["lengths"][:, None]
    counts = torch.zeros(len(data.vocabulary), 17).index_put_(
        (train["tokens"][seen], train["tags"][seen]), torch.ones(()), accumulate=True
    )
    usual = (counts.argmax(1)[test["tokens"]] == test["tags"])[there].double().mean().item()
    assert usual == pytest.approx(0.890, abs=0.001)
    model.assets = {
        "vocabulary.json": json.dumps({"vocabulary": data.vocabulary, "tags": data.tags})
    }
    assert zoo.tag(model, [["The", "dog", "barked", "."]]) == [["DET", "NOUN", "VERB", "PUNCT"]]


def test_many_to_one():
    metric = ManyToOne(3, 2)
    metric.update(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 1, 0, 0, 0]))
    metric.update(torch.tensor([2, 1]), torch.tensor([0, 1]))
    # state 0 is tag 1 (2 of 3), state 1 is tag 0 (2 of 3), state 2 is tag 0 (1 of 1)
    assert metric.compute().item() == pytest.approx(5 / 7)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbols": None}, "takes symbols"),
        ({"symbols": 0}, "takes symbols"),
        ({"dim": 3}, "no other size"),
        ({"emission": "gaussian"}, "takes dim"),
        ({"emission": "gauss"}, "did you mean gaussian"),
        ({"learning": "bayes"}, "known are"),
        ({"scan": "paralel"}, "did you mean parallel"),
        ({"states": 0}, "states is 0"),
        ({"transition_prior": 0.5}, "learning=vb"),
        ({"emission_prior": 0.0, "learning": "vb"}, "above 0"),
        ({"kappa": 0.5}, "kappa is 0.5"),
        ({"stay": 1.0}, "stay is 1.0"),
        ({"supervised": True, "learning": "gradient"}, "counting"),
        ({"length": 0}, "length is 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HMM(**{"states": 2, "symbols": 4, **arguments})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "tokens has no sequences"),
        ([[0, 1], []], "sequence 1 of tokens is empty"),
        ([0, 1, 2], "put a single one into a list"),
        ([[0, 1], [2, 4]], "0 to 4, but this model knows 0 to 3"),
        ([[0, -1]], "from -1 to 0"),
        ([[0.5, 1.0]], "whole numbers"),
        ([[True, False]], "whole numbers"),
        ([["the", "dog"]], "something else than numbers"),
        ([[0, 1], [[0], [1]]], "differ in type or in the shape"),
        ([[[0], [1]]], "built for"),
        ({"values": [[0.0]]}, "no tokens"),
        ({"tokens": [[0, 1]], "tags": [[0]]}, "differ in length"),
        ({"tokens": torch.tensor([[0, 1]]), "lengths": torch.tensor([3])}, "from 1 to 2"),
        ({"tokens": torch.tensor([[0, 1]]), "lengths": torch.tensor([0])}, "lengths are 0 to 0"),
        ({"tokens": torch.tensor([[0, 1]]), "lengths": torch.tensor([1, 2])}, "each of the 1"),
        ({"tokens": torch.tensor([[0, 1]]), "lengths": torch.tensor([2.0])}, "whole number"),
        (
            {
                "tokens": torch.tensor([[0, 1]]),
                "lengths": torch.tensor([2]),
                "mask": torch.tensor([[True, False]]),
            },
            "mask and lengths",
        ),
        (
            {"tokens": torch.zeros(0, 3, dtype=torch.int64), "lengths": torch.zeros(0).long()},
            "no se",
        ),
    ],
)
def test_wrong_sequences_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        HMM(2, symbols=4).fit(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[[0.0, 1.0], [float("nan"), 0.0]]], "NaN"),
        ([[[0.0, 1.0], [float("inf"), 0.0]]], "infinite"),
        ([[[0, 1], [1, 0]]], "must have floats"),
        ([[[0.0, 1.0, 2.0]]], r"built for \(B, T, 2\)"),
        ([[0.0, 1.0]], r"built for \(B, T, 2\)"),
        ([[[0.0, 1.0]]], "1 observations are too few for 2 states"),
    ],
)
def test_wrong_values_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        HMM(2, emission="gaussian", dim=2).fit(data)


def test_what_stands_behind_the_end_does_not_matter():
    model = randomized(small())
    batch = {**model.as_batch([[0, 1, 2], [3]])}
    value = model.log_prob(batch)
    batch["tokens"][1, 1:] = -100
    close(model.log_prob(batch), value)
    model = randomized(small("gaussian"))
    batch = {**model.as_batch(sequences("gaussian", [3, 1]))}
    value = model.log_prob(batch)
    batch["values"][1, 1:] = torch.nan
    close(model.log_prob(batch), value)


def test_a_symbol_that_was_never_met_is_impossible():
    model = HMM(2, symbols=4).double().fit([[0, 1, 2, 1, 0], [2, 1]], max_epochs=5)
    assert model.log_prob(torch.tensor([[0, 3]])).item() == -torch.inf
    assert model.log_prob(torch.tensor([[0, 1]])).isfinite()
    with pytest.raises(ValueError, match="impossible under this model"):
        model.fit([[3, 0]])
    smooth = HMM(2, symbols=4, emission_prior=1.1).double().fit([[0, 1, 2, 1, 0]], max_epochs=5)
    assert smooth.log_prob(torch.tensor([[0, 3]])).isfinite()


def test_tags_that_are_no_states_are_refused():
    model = HMM(2, symbols=4, supervised=True)
    with pytest.raises(ValueError, match="tags has numbers from 0 to 2"):
        model.fit({"tokens": [[0, 1]], "tags": [[0, 2]]})
    with pytest.raises(ValueError, match="no tags"):
        model.fit([[0, 1]])


def test_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="20 symbols, but symbols is 7"):
        trainer(tmp_path).fit(HMM(2, symbols=7), words())


@pytest.mark.parametrize("verb", ["decode", "likelihood"])
def test_paths_of_other_states_are_refused(verb):
    for z, message in ((torch.tensor([[0, 2]]), "0 to 2"), (torch.tensor([[-1]]), "-1 to -1")):
        with pytest.raises(ValueError, match=message):
            getattr(HMM(2, symbols=4), verb)(z)


def test_the_posterior_can_be_differentiated():
    model = randomized(small())
    x, z = torch.tensor([[0, 3, 1]]), torch.tensor([[2, 0, 1]])
    model.posterior(x).log_prob(z).sum().backward()
    grad = model.transition.logits.grad.clone()
    model.zero_grad()
    paths, log_p = enumerate_paths(model, "categorical", x[0])
    log_p.log_softmax(0)[(paths == z).all(1)].sum().backward()
    close(grad, model.transition.logits.grad)


def test_arrays_lists_and_tensors_are_the_same_data():
    model = HMM(2, symbols=4)
    rows = [[0, 1, 2], [3, 0, 1]]
    wanted = model.as_batch(rows)
    for data in (
        torch.tensor(rows),
        np.array(rows),
        [np.array(row) for row in rows],
        [torch.tensor(row) for row in rows],
        {"tokens": rows},
        wanted,
    ):
        batch = model.as_batch(data)
        assert all(torch.equal(batch[key], wanted[key]) for key in ("tokens", "lengths"))
    reals = HMM(2, emission="gaussian", dim=1)
    batch = reals.as_batch(np.zeros((2, 3, 1)))
    assert reals.log_prob(batch).shape == (2,)
