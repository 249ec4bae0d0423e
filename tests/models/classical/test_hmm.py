"""The verbs of the HMM against all paths and closed forms."""

import pytest
import torch
from hmm_cases import close, density, enumerate_paths, every_emission, randomized, sequences, small


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
