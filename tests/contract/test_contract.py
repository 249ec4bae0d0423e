"""What every family owes: each generic function, on a tiny model that was trained and exported."""

import pickle
import re
from copy import deepcopy
from pathlib import Path
from typing import get_args

import pytest
import torch
from tiny import TINY, N
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized

import zoo
from zoo import models
from zoo.base import Modality
from zoo.checkpoints.card import card
from zoo.checkpoints.files import GALLERY
from zoo.cli.main import main
from zoo.evaluation.comparison import write
from zoo.models.classical.em import EMModel
from zoo.pretrained.gallery import draw
from zoo.pretrained.loading import check_golden
from zoo.tasks.anomaly import scores_of
from zoo.verbs import VERBS


def alike(a, b):
    """Whether two models have the same arguments, weights and outputs, bit for bit."""
    before, after = a.state_dict(), b.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = a.golden_outputs()["x"]
    outputs, others = a.golden_outputs(x), b.golden_outputs(x)
    assert outputs.keys() == others.keys()
    assert all(torch.equal(outputs[name], others[name]) for name in outputs)
    assert (a.modality, a.x_shape, a.latent_shape) == (b.modality, b.x_shape, b.latent_shape)
    assert a.verbs() == b.verbs()


def test_every_family_is_in_the_table():
    missing = sorted({*models.FAMILIES} - {tiny.family for tiny in TINY.values()})
    assert not missing, f"TINY in tests/contract/tiny.py has no line of {', '.join(missing)}."


# --- training ------------------------------------------------------------------------------------


def test_training_moves_everything_that_is_learned(case):
    after = case.exported.state_dict()
    still = {name for name, value in case.before.items() if torch.equal(value, after[name])}
    assert {name for name in still if not name.endswith(case.tiny.fixed)} == set()


def test_every_trained_parameter_has_a_gradient(case, batch):
    model = deepcopy(case.exported).train()  # some weights start at zero, and hold others back
    loss = model.loss(batch)["loss"]
    if not loss.requires_grad:
        assert isinstance(model, EMModel)
        return
    loss.backward()
    without = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not without


def test_loss_is_named_scalars(model, batch):
    terms = model.loss(batch)
    assert "loss" in terms
    assert all(term.shape == () and term.isfinite() for term in terms.values())


# --- verbs ---------------------------------------------------------------------------------------


def steps(model, x):
    """The shapes of a datum and of its code; a batch of sequences has a length of its own."""
    if model.modality != "sequence":
        return model.x_shape, model.latent_shape
    length = next(iter(x.values())).shape[1]
    return (length, *model.x_shape[1:]), (length, *model.latent_shape[1:])


CALLS = {
    "sample": lambda model, x: model.sample(N),
    "prior": lambda model, x: model.prior().sample((N,)),
    "posterior": lambda model, x: model.posterior(x).sample(),
    "likelihood": lambda model, x: model.likelihood(model.encode(x)).sample(),
    "encode": lambda model, x: model.encode(x),
    "decode": lambda model, x: model.decode(model.encode(x)),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "log_prob": lambda model, x: model.log_prob(x),
    "classify": lambda model, x: model.classify(x),
}


@pytest.mark.parametrize("verb", CALLS)
def test_a_verb_runs_or_says_why_not(model, batch, verb):
    model, x = model.conditioned(batch), model.inputs(batch)
    if verb not in model.verbs():
        arguments = {"sample": (N,), "prior": ()}.get(verb, (x,))
        with pytest.raises(NotImplementedError, match=r"^\w+ has no \w+: .*\S\.$"):
            getattr(model, verb)(*arguments)
        return
    found = CALLS[verb](model, x)
    datum, code = steps(model, x)
    shapes = {
        "sample": (N, *model.x_shape),
        "prior": (N, *model.latent_shape),
        "posterior": (N, *code),
        "likelihood": (N, *datum),
        "encode": (N, *code),
        "decode": (N, *datum),
        "reconstruct": (N, *datum),
        "log_prob": (N,),
        "classify": (N, len(model.labels) if verb == "classify" else 0),
    }
    assert tuple(found.shape) == shapes[verb]
    assert not found.is_floating_point() or found.isfinite().all()
    if model.modality == "image" and verb in ("sample", "decode", "reconstruct"):
        assert 0 <= found.min() <= found.max() <= 1


def test_given_fixes_the_condition_or_says_why_not(model, batch):
    if "given" not in model.verbs():
        with pytest.raises(NotImplementedError, match=r"has no given: .*\.$"):
            model.given(0)
        return
    fixed = model.given(batch[model.condition])
    assert (fixed.y == batch[model.condition]).all()
    assert fixed.conditions == ()
    assert model.y is None
    assert model.given(model.conditions[-1]).sample(2).shape == (2, *model.x_shape)


def test_verbs_are_of_the_known_ones(model):
    assert {*model.verbs()} <= {*VERBS, "reconstruct"}
    assert {*model.lacks} <= {*VERBS} - {*model.verbs()}


def test_modality_says_what_x_is(case, model, batch):
    assert model.modality in get_args(Modality)
    x = model.inputs(batch)
    assert isinstance(x, Tensor) == (model.modality != "sequence")
    assert (model.modality == "vector") == (case.tiny.data is None)
    assert (model.modality == "image") == ("image" in batch)


# --- tasks ---------------------------------------------------------------------------------------


def test_log_likelihood(model, batch):
    model, x, verbs = model.conditioned(batch), model.inputs(batch), model.verbs()
    if "log_prob" not in verbs and not {"prior", "posterior", "likelihood"} <= {*verbs}:
        with pytest.raises(NotImplementedError, match="has no log-likelihood"):
            zoo.log_likelihood(model, x)
        return
    found = zoo.log_likelihood(model, x, samples=5)
    assert found.kind == ("exact" if "log_prob" in verbs else "lower bound")
    assert found.value.isfinite().all()
    assert (found.standard_error == 0).all() or found.kind != "exact"


def test_anomaly_scores(model, batch):
    model, x = model.conditioned(batch), model.inputs(batch)
    for by in scores_of(model):
        if by in ("error", "distortion") and not isinstance(x, Tensor):
            with pytest.raises(ValueError, match="give x as a tensor"):
                zoo.anomaly_scores(model, x, by)
            continue
        assert zoo.anomaly_scores(model, x, by, samples=2).shape == (N,)


def test_paths(model, batch):
    model, x, verbs = model.conditioned(batch), model.inputs(batch), {*model.verbs()}
    if not {"encode", "decode"} <= verbs or model.modality == "sequence":
        return
    if model.encode(x).is_floating_point() and model.y is None:
        assert zoo.interpolate(model, x[0], x[1], 3).shape == (3, *model.x_shape)
    elif model.y is None:
        with pytest.raises(ValueError, match="made of whole numbers"):
            zoo.interpolate(model, x[0], x[1], 3)


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_bit_for_bit(case, model, tmp_path):
    alike(case.exported, model)
    check_golden(model, Path(case.folder))
    model.save_pretrained(tmp_path / "again")
    alike(model, zoo.from_pretrained(str(tmp_path / "again")))
    for name in ("config.json", "golden.safetensors", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == Path(case.folder, name).read_bytes()


def test_a_copy_is_the_same_model(model):
    alike(model, deepcopy(model))


def test_a_pickle_is_the_same_model(model):
    if any(is_parametrized(module) for module in model.modules()):
        with pytest.raises(RuntimeError, match="only supported through state_dict"):  # by torch
            pickle.dumps(model)
    else:
        alike(model, pickle.loads(pickle.dumps(model)))


def test_what_is_known_of_it_is_true(case, model, capsys):
    known = zoo.describe(case.folder)
    assert (known.family, known.latent_shape) == (case.tiny.family, model.latent_shape)
    assert known.verbs == model.verbs()
    assert known.parameters == model.free_parameters <= sum(p.numel() for p in model.parameters())
    assert main(["info", case.folder]) == 0
    assert ", ".join(model.verbs()) in capsys.readouterr().out


def test_the_cards_code_runs(case, model):
    text = card(Path(case.folder), case.folder)
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    namespace = {}
    exec(compile(block, "README.md", "exec"), namespace)
    assert ("x = model.sample(16)" in block) == ("sample" in model.verbs())
    assert isinstance(namespace["model"], type(model))
    assert ("image" in block) == (model.modality == "image")
    assert ("image-generation" in text) <= (model.modality == "image")
    assert ("a vector of 5 numbers" in text) == (model.modality == "vector")


# --- what there is to see ------------------------------------------------------------------------


def test_what_cards_show_is_drawn(case, model, tmp_path):
    draw(model, tmp_path, case.tiny.loader())
    found = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert {*found} <= {*GALLERY}
    assert all(found.values())
    samples = "samples.png" if model.modality == "image" else "samples.txt"
    assert {name for name in found if name.startswith("samples")} == (
        {samples} if "sample" in model.verbs() else set()
    )
    reconstructs = "reconstruct" in model.verbs() and model.modality == "image"
    assert ("reconstructions.png" in found) == reconstructs
    assert {name for name in found if re.match("parameters|examples", name)} <= {*model.shows}


def test_the_command_samples(case, model, capsys):
    code = main(["sample", case.folder, "-n", "3"])
    out, err = capsys.readouterr()
    if "sample" not in model.verbs():
        assert code == 1
        assert "has no sample" in err
        return
    assert code == 0
    if model.modality == "image":
        assert Path("sample.png").stat().st_size
    else:
        assert 1 <= len(out.splitlines()) <= 3


def test_comparison(case, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.evaluation.comparison.TIMED", 4)
    monkeypatch.setattr("zoo.evaluation.comparison.TIMED_FOR", 0.001)
    (row,) = zoo.compare([case.folder])
    if case.tiny.data is None:
        assert "does not say what it was trained on" in row.note
    else:
        assert row.metrics
        assert (row.samples_per_second is not None) == ("sample" in model.verbs())
        assert (row.codes_per_second is not None) == ("encode" in model.verbs())
    files = write([row], tmp_path / "page", "a comparison")
    assert all(file.stat().st_size for file in files)
