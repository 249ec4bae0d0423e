"""The HMM with a Trainer, and with words."""

import json
import os

import pytest
import torch
import yaml
from hmm_cases import (
    DIARY,
    close,
    randomized,
    rises,
    small,
    trainer,
    whole,
    words,
)

import zoo
from zoo import recipes
from zoo.datamodules import IceCream, TaggedText
from zoo.metrics import ManyToOne
from zoo.models import HMM
from zoo.pretrained.loading import check_golden
from zoo.pretrained.runs import load_training_checkpoint

STEPWISE = {"kappa": 0.7, "transition_prior": 1.1, "emission_prior": 1.1}


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
    expected = started(data, **arguments)
    expected.fit(whole(data), max_epochs=4, tol=-1, warm_start=True)
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
    full.fit(whole(data), max_epochs=6, tol=-1, warm_start=True)
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
    bayes.fit(x, max_epochs=3, tol=-1, warm_start=True)
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
