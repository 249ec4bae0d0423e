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
        ([["the", "dog"]], "sequence 0 of tokens is a list of type <U3, but must be numbers"),
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
            "tokens has no rows",
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
        ([[["a", "b"]]], "must be numbers"),
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
    model = HMM(2, symbols=4).double().fit([[0, 1, 2, 1, 0], [2, 1]], max_epochs=5, tol=-1)
    assert model.log_prob(torch.tensor([[0, 3]])).item() == -torch.inf
    assert model.log_prob(torch.tensor([[0, 1]])).isfinite()
    with pytest.raises(ValueError, match="impossible under this model"):
        model.fit([[3, 0]], warm_start=True)
    smooth = HMM(2, symbols=4, emission_prior=1.1).double().fit([[0, 1, 2, 1, 0]], max_epochs=5)
    assert smooth.log_prob(torch.tensor([[0, 3]])).isfinite()


IMPOSSIBLE = {
    "encode": lambda model, x: model.encode(x),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "predict": lambda model, x: model.predict(x),
    "marginals": lambda model, x: model.posterior(x).marginals,
    "mode": lambda model, x: model.posterior(x).mode,
    "sample": lambda model, x: model.posterior(x).sample(),
    "log_prob": lambda model, x: model.posterior(x).log_prob(torch.zeros(len(x), 2).long()),
    "fit": lambda model, x: model.expectation(model.as_batch(x)),
}


@pytest.mark.parametrize("scan", ["sequential", "parallel"])
@pytest.mark.parametrize("verb", IMPOSSIBLE)
def test_a_sequence_that_has_no_states_is_named(verb, scan):
    model = HMM(2, symbols=4, scan=scan).fit([[0, 1, 2, 1, 0], [2, 1]], max_epochs=5, tol=-1)
    assert model.log_prob([[0, 1], [0, 3], [2]]).isneginf().tolist() == [False, True, False]
    for x, named in (
        ([[0, 1], [0, 3], [2]], "sequence 1 of the batch is impossible"),
        ([[3], [0, 1], [3, 0]], "sequences 0, 2 of the batch are impossible"),
        ([[3, 3]] * 7, "sequences 0, 1, 2, 3, 4 and 2 more of the batch are impossible"),
    ):
        with pytest.raises(ValueError, match=rf"^{named} under this model .*log_prob is -inf"):
            IMPOSSIBLE[verb](model, x)


def test_blocks_of_the_e_step_name_sequences_by_their_place(monkeypatch):
    monkeypatch.setattr("zoo.models.classical.hmm.BLOCK", 2)
    model = HMM(2, symbols=4).fit([[0, 1, 2, 1, 0], [2, 1]], max_epochs=5, tol=-1)
    with pytest.raises(ValueError, match="sequence 2 of the batch is impossible"):
        model.expectation(model.as_batch([[0], [0, 1], [3], [2, 1, 2]]))


def test_tags_that_are_no_states_are_refused():
    model = HMM(2, symbols=4, supervised=True)
    with pytest.raises(ValueError, match="tags has numbers from 0 to 2"):
        model.fit({"tokens": [[0, 1]], "tags": [[0, 2]]})
    with pytest.raises(ValueError, match="no tags"):
        model.fit([[0, 1]])


def test_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="20 symbols, but symbols is 7"):
        trainer(tmp_path).fit(HMM(2, symbols=7), words())


@pytest.mark.parametrize(
    ("n", "length", "message"),
    [(0, None, "n is 0"), (-1, None, "n is -1"), (2, 0, "length is 0"), (2, -3, "length is -3")],
)
def test_samples_of_nothing_are_refused(n, length, message):
    for emission in ("categorical", "gaussian"):
        with pytest.raises(ValueError, match=f"{message}, but must be at least 1"):
            small(emission).sample(n, length=length)


@pytest.mark.parametrize("verb", ["decode", "likelihood"])
def test_paths_of_other_states_are_refused(verb):
    for z, message in (
        (torch.tensor([[0, 2]]), "0 to 2"),
        ([[-1]], "-1 to -1"),
        ([[0.0]], "whole numbers"),
        ([], "z has no rows"),
        ([["NOUN"]], "z is a list of type <U4, but must be numbers"),
        ([[0, 1], [0]], "rows differ in length"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(HMM(2, symbols=4), verb)(z)


def test_the_posterior_can_be_differentiated():
    model = randomized(small()).train()
    x, z = torch.tensor([[0, 3, 1]]), torch.tensor([[2, 0, 1]])
    model.posterior(x).log_prob(z).sum().backward()
    grad = model.transition.logits.grad.clone()
    model.zero_grad()
    paths, log_p = enumerate_paths(model, "categorical", x[0])
    log_p.log_softmax(0)[(paths == z).all(1)].sum().backward()
    close(grad, model.transition.logits.grad)


ROWS = [[0, 1, 2], [2, 0, 1]]
FORMS = {
    "tensor": torch.tensor(ROWS),
    "list": ROWS,
    "tuple of arrays": (*np.array(ROWS),),
    "list of tensors": [*torch.tensor(ROWS)],
    "array": np.array(ROWS),
    "reversed": np.array(ROWS)[:, ::-1].copy()[:, ::-1],
    "read-only": np.frombuffer(np.array(ROWS).tobytes(), dtype=np.int64).reshape(2, 3),
    "other bytes": np.array(ROWS, dtype=">i4"),
    "uint16 tensor": torch.tensor(ROWS, dtype=torch.uint16),
    "int8 tensor": torch.tensor(ROWS, dtype=torch.int8),
    **{f"uint{n}": np.array(ROWS, dtype=f"uint{n}") for n in (8, 16, 32, 64)},
}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
def test_every_verb_takes_any_form_of_sequences(form):
    model, x, wanted = randomized(small()), FORMS[form], torch.tensor(ROWS)
    for given in (x, {"tokens": x}, {"tokens": x, "lengths": [3, 3]}):
        batch = model.as_batch(given)
        assert torch.equal(batch["tokens"].long(), wanted)
        assert batch["lengths"].tolist() == [3, 3]
        assert torch.equal(model.encode(given), model.encode(wanted))
        assert torch.equal(model.reconstruct(given), model.reconstruct(wanted))
        close(model.log_prob(given), model.log_prob(wanted))
        close(model.predict(given).probs, model.predict(wanted).probs)
        close(model.posterior(given).marginals, model.posterior(wanted).marginals)
        close(model.posterior(given).log_prob(wanted), model.posterior(wanted).log_prob(wanted))
    tagged = {"tokens": x, "tags": x}
    found, expected = (
        HMM(3, symbols=4, supervised=True).fit(data)
        for data in (tagged, {"tokens": wanted, "tags": wanted})
    )
    close(found.transition.log_p().exp(), expected.transition.log_p().exp())


@every_form
def test_states_may_come_in_any_form(form):
    for emission in ("categorical", "gaussian"):
        model, z = randomized(small(emission)), torch.tensor(ROWS)
        assert torch.equal(model.decode(FORMS[form]), model.decode(z))
        x = model.sample(2, length=3)
        close(model.likelihood(FORMS[form]).log_prob(x), model.likelihood(z).log_prob(x))


@pytest.mark.parametrize("verb", ["encode", "log_prob", "predict", "posterior", "reconstruct"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "tokens has no sequences"),
        ([[0, 1], []], "sequence 1 of tokens is empty"),
        (np.zeros((2, 0), int), "sequence 0 of tokens is empty"),
        (torch.zeros(0, 3).long(), "tokens has no sequences"),
        (3, "put a single one into a list"),
        (np.array([0, 1]), "put a single one into a list"),
        (torch.tensor(3), "put a single one into a list"),
        (["the", "dog"], "sequence 0 of tokens is a str of type <U3, but must be"),
        ([[0, 1], [[2], [0, 1]]], "sequence 1 of tokens is a list whose rows differ in length"),
        (torch.zeros(2, 3, 1).long(), r"built for \(B, T\)"),
        (np.array([[0, 65535]], dtype=np.uint16), "from 0 to 65535, but this model knows 0 to 3"),
    ],
)
def test_verbs_refuse_what_fit_refuses(verb, data, message):
    with pytest.raises(ValueError, match=message):
        getattr(randomized(small()), verb)(data)


def test_an_array_may_hold_sequences_of_different_lengths():
    model, rows = randomized(small()), [np.array([0, 1, 2]), np.array([3])]
    array = np.empty(2, dtype=object)
    array[:] = rows
    assert torch.equal(model.encode(array), model.encode(rows))


def test_arrays_of_values():
    model, x = randomized(small("gaussian")), np.random.default_rng(0).normal(size=(2, 3, 2))
    wanted = model.log_prob(torch.from_numpy(x))
    for form in (x, x.tolist(), [*x], x[:, ::-1].copy()[:, ::-1], x.astype(">f8")):
        close(model.log_prob(form), wanted)
    close(model.log_prob(x.astype(np.longdouble)), wanted)
