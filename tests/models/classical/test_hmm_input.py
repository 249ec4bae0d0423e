"""What the HMM refuses of arguments and data, and what makes no difference to it."""

import numpy as np
import pytest
import torch
from hmm_cases import (
    close,
    enumerate_paths,
    randomized,
    sequences,
    small,
    trainer,
    words,
)

from zoo.models import HMM


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
        model.fit([[3, 0]], warm_start=True)
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
