"""A checkpoint folder comes back bit for bit, or not at all, and says in a sentence why not."""

import hashlib
import json
import os
import pickle
import re
import shutil

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file

import zoo
from zoo.checkpoints.catalog import CARDS
from zoo.checkpoints.config import read_config
from zoo.checkpoints.files import copy, write_atomically
from zoo.checkpoints.weights import read_tensors
from zoo.datamodules import FakeImages
from zoo.errors import ZooError
from zoo.models import GMM, LDA, PPCA, VAE
from zoo.pretrained.loading import check_golden

SMALL = {"x_shape": (1, 4, 4), "latent_dim": 2, "hidden": (5,)}


def small(**arguments):
    torch.manual_seed(0)
    return VAE(**{**SMALL, **arguments})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "vae-small"
    small().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "vae-small")


def edit(folder, **changes):
    """Change config.json; None as a value stands for JSON's null, `...` removes the key."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def refusal(folder, **overrides):
    """The sentence with which a folder is refused."""
    with pytest.raises(ZooError) as caught:
        zoo.from_pretrained(str(folder), **overrides)
    sentence = str(caught.value)
    assert sentence.strip() == sentence
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert len(sentence) < 600
    return sentence


# --- round trip --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"likelihood": "gaussian", "beta": 4.0},
        {"network": "conv", "hidden": (3, 4)},
        {"residual_blocks": 1, "activation": "silu", "hidden": ()},
    ],
)
def test_weights_and_arguments_come_back_equal(tmp_path, arguments):
    model = small(**arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(tmp_path / "m")
    loaded = zoo.from_pretrained(str(tmp_path / "m"))
    assert type(loaded) is VAE
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    as_json = json.loads(json.dumps(dict(model.hparams)))
    assert json.loads(json.dumps(dict(loaded.hparams))) == as_json
    assert json.loads((tmp_path / "m" / "config.json").read_text())["init_args"] == as_json


@pytest.mark.parametrize(
    "model",
    [
        lambda: GMM((3,), 2, "diag").double().fit(torch.randn(20, 3).double() + 1e8),
        lambda: PPCA((3,), 2).double().fit(torch.randn(20, 3).double() + 1e8),
        lambda: LDA(5, 2).double(),
        lambda: small().double(),
    ],
)
def test_float64_comes_back_as_float64(tmp_path, model):
    torch.manual_seed(0)
    model = model()
    model.save_pretrained(tmp_path / "m")
    loaded = zoo.from_pretrained(str(tmp_path / "m"))
    before, after = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert all(before[n].dtype == after[n].dtype for n in before)
    assert {b.dtype for b in loaded.buffers() if b.is_floating_point()} <= {torch.float64}
    check_golden(loaded, tmp_path / "m")


def test_mixtures_with_means_about_an_offset_load():
    """As the first files have them."""
    model = zoo.from_pretrained("gmm-mnist-pixels")
    with torch.no_grad():
        torch.testing.assert_close(
            model.means.float(), model.decode(torch.arange(100)), rtol=0, atol=1e-6
        )
    assert "means" in load_file(CARDS / "gmm-mnist-pixels" / "model.safetensors")


def test_a_second_generation_is_the_same_files(folder, tmp_path):
    VAE.from_pretrained(str(folder)).save_pretrained(tmp_path / "again")
    for name in ("model.safetensors", "golden.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_loaded_model_gives_the_golden_outputs(folder):
    model = zoo.from_pretrained(str(folder))
    golden = read_tensors(folder / "golden.safetensors")
    assert {"x", "encode", "reconstruct"} <= golden.keys()
    for name, expected in model.golden_outputs(golden["x"]).items():
        torch.testing.assert_close(golden[name], expected, rtol=0, atol=1e-6)


def test_it_comes_in_eval_mode(folder):
    assert not any(module.training for module in zoo.from_pretrained(str(folder)).modules())


def test_saving_leaves_mode_and_generator_alone(tmp_path):
    model = small().train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model.save_pretrained(tmp_path / "m")
    assert torch.equal(torch.rand(2), expected)
    assert model.training


def test_overrides_replace_arguments_and_not_weights(folder):
    model = zoo.from_pretrained(str(folder), lr=0.125, lr_schedule="cosine")
    assert (model.lr, model.lr_schedule, model.hparams["lr"]) == (0.125, "cosine", 0.125)
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ({"lrr": 0.1}, r"VAE has no argument 'lrr'; did you mean .*\blr\b"),
        ({"latent_dmi": 3}, "did you mean latent_dim"),
        ({"lr": "fast"}, "'lr' cannot be 'fast'"),
        ({"likelihood": "bernouli"}, "'likelihood' cannot be 'bernouli'"),
        ({"latent_dim": 3}, "does not fit the model"),
        ({"lr": -1.0}, "lr is -1.0, but must be at least 0"),
    ],
)
def test_bad_overrides_are_named(folder, override, says):
    assert re.search(says, refusal(folder, **override))


def test_text_files_of_the_data_travel_along(folder, tmp_path):
    model = zoo.from_pretrained(str(folder))
    assert model.assets == {}
    (folder / "vocabulary.json").write_text("of another model")  # config.json does not know it
    assert zoo.from_pretrained(str(folder)).assets == {}
    model.assets = {"vocabulary.json": '{"vocabulary": ["Ärger"]}\n'}
    model.save_pretrained(tmp_path / "next")
    assert zoo.from_pretrained(str(tmp_path / "next")).assets == model.assets
    copy(tmp_path / "next", tmp_path / "copy")
    assert zoo.from_pretrained(str(tmp_path / "copy")).assets == model.assets
    (tmp_path / "next" / "vocabulary.json").write_text("changed")
    with pytest.raises(ZooError, match=r"vocabulary\.json is missing, damaged or was changed"):
        zoo.from_pretrained(str(tmp_path / "next"))
    (tmp_path / "next" / "vocabulary.json").unlink()
    with pytest.raises(ZooError, match=r"vocabulary\.json is missing"):
        zoo.from_pretrained(str(tmp_path / "next"))


def test_the_class_is_checked(folder, monkeypatch):
    assert type(VAE.from_pretrained(str(folder))) is VAE
    edit(folder, family="GMM")
    with pytest.raises(ZooError, match=r"is a GMM, not a VAE; use zoo\.from_pretrained"):
        VAE.from_pretrained(str(folder))


def test_base_model_and_data_are_recorded(folder, tmp_path):
    model = zoo.from_pretrained(str(folder))
    assert model.loaded_from == folder.name  # never its path, which a card would publish
    model.data = {"class_path": "Digits", "init_args": {"size": 8}}
    model.save_pretrained(tmp_path / "next", license="mit")
    config = read_config(tmp_path / "next")
    assert (config.base_model, config.license) == (None, "mit")  # not trained yet
    Trainer(accelerator="cpu", fast_dev_run=1, logger=False, enable_progress_bar=False).fit(
        model, FakeImages(model.x_shape, 8, 4)
    )
    model.data = {"class_path": "Digits", "init_args": {"size": 8}}
    model.save_pretrained(tmp_path / "next", license="mit")
    config = read_config(tmp_path / "next")
    assert (config.base_model, config.license) == (folder.name, "mit")
    assert config.data == {"class_path": "Digits", "init_args": {"size": 8}}
    assert zoo.describe(str(tmp_path / "next")).data == "Digits"


def test_hashes_are_those_of_the_files(folder):
    recorded = json.loads((folder / "config.json").read_text())["sha256"]
    assert recorded.keys() == {"model.safetensors", "golden.safetensors"}
    for name, digest in recorded.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


# --- writing -----------------------------------------------------------------------------------


def test_other_files_survive(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("also mine")
    small(beta=2.0).save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "README.md").read_text() == "also mine"
    assert zoo.from_pretrained(str(folder)).beta == 2.0


def test_a_failing_write_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def half(part):
        part.write_bytes(b"ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(ZooError, match="No space left on device"):
        write_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_write_leaves_no_part(tmp_path):
    def interrupted(part):
        part.write_bytes(b"ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", interrupted)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_failing_save_leaves_each_file_whole(folder, monkeypatch, stage):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(ZooError, match=r"cannot write .*model\.safetensors"):
        small(beta=2.0).save_pretrained(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_safetensors_own_write_error_is_a_sentence(tmp_path, monkeypatch):
    import safetensors.torch

    def full(*args, **kwargs):
        raise safetensors.SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_model", full)
    with pytest.raises(ZooError, match="No space left on device"):
        small().save_pretrained(tmp_path / "m")


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ZooError, match="choose a folder you can write to"):
        small().save_pretrained(tmp_path / "file" / "m")
    assert (tmp_path / "file").read_text() == "mine"


# --- bad folders -------------------------------------------------------------------------------


def test_unknown_name():
    assert "neither a folder nor a shipped model" in refusal("vae-nowhere")


def test_missing_config(folder):
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (b"[" * 200_000, "cannot be read as JSON"),
        (b'{"format": ' + b"1" * 5000 + b"}", "cannot be read as JSON"),
        (b"[1, 2]", "holds list, not an object"),
        (b"null", "holds NoneType, not an object"),
        (b"{}", "has no 'format' number"),
    ],
)
def test_config_that_is_no_json_object(folder, text, says):
    (folder / "config.json").write_bytes(text)
    sentence = refusal(folder)
    assert says in sentence
    assert "again" in sentence


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": ...}, "has no 'format' number"),
        ({"format": "1"}, "has no 'format' number"),
        ({"format": True}, "has no 'format' number"),
        ({"format": 1.0}, "has no 'format' number"),
        ({"format": None}, "has no 'format' number"),
        ({"format": 2}, "is of format 2, and this version reads 1; upgrade"),
        ({"format": -1}, "is of format -1"),
        ({"family": "VEA"}, "no family 'VEA'; did you mean VAE"),
        ({"family": "os.system"}, "no family 'os.system'"),
        ({"family": "zoo.models.VAE"}, "no family 'zoo.models.VAE'"),
        ({"family": "FAMILIES"}, "no family 'FAMILIES'"),
        ({"family": ...}, "has no 'family'"),
        ({"init_args": ...}, "has no 'init_args'"),
        ({"inti_args": {}}, "unknown key 'inti_args'; did you mean init_args"),
        ({"family": 1}, "'family' must be a short line of text, not 1"),
        ({"family": None}, "'family' must be a short line of text, not None"),
        ({"init_args": []}, "'init_args' must be an object, not []"),
        ({"data": "MNIST"}, "'data' must be an object or null, not 'MNIST'"),
        ({"data": {}}, "'data' has no 'class_path'"),
        ({"data": {"class_path": 3}}, "in 'data', 'class_path' must be a short line of text"),
        ({"data": {"class_path": "MNIST", "init_args": 3}}, "'init_args' must be an object"),
        ({"summary": 3}, "'summary' must be an object, not 3"),
        (
            {"summary": {"latent_shape": 3}},
            "'latent_shape' must be a list, each entry a whole number, not 3",
        ),
        ({"summary": {"parameters": "3"}}, "'parameters' must be a whole number, not '3'"),
        (
            {"summary": {"verbs": None}},
            "'verbs' must be a list, each entry a short line of text, not None",
        ),
        ({"sha256": "abc"}, "'sha256' must be an object, not 'abc'"),
        (
            {"sha256": {"model.safetensors": 3}},
            "in 'sha256', 'model.safetensors' must be a short line of text",
        ),
        ({"license": None}, "'license' must be a short line of text, not None"),
        ({"base_model": 3}, "'base_model' must be a short line of text or null, not 3"),
    ],
)
def test_config_with_a_wrong_field(folder, changes, says):
    edit(folder, **changes)
    assert says in refusal(folder)


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("latent_dmi", 3, "no argument 'latent_dmi'; did you mean latent_dim"),
        ("self", 3, "no argument 'self'"),
        ("latent_dim", "two", "'latent_dim' cannot be 'two'"),
        ("latent_dim", 2.5, "'latent_dim' cannot be 2.5"),
        ("latent_dim", None, "'latent_dim' cannot be None"),
        ("latent_dim", -3, "latent_dim is -3, but must be at least 1"),
        ("latent_dim", 0, "latent_dim is 0, but must be at least 1"),
        ("latent_dim", 10**15, "config.json"),
        ("x_shape", [4, 4], "'x_shape' cannot be [4, 4]"),
        ("x_shape", 4, "'x_shape' cannot be 4"),
        ("x_shape", [1, 0, 4], "x_shape is (1, 0, 4), but must be three positive numbers"),
        ("likelihood", "poisson", "'likelihood' cannot be 'poisson'"),
        ("network", "cnn", "'network' cannot be 'cnn'"),
        ("activation", "rleu", "'activation' cannot be 'rleu'"),
        ("hidden", [5, -1], "hidden[1] is -1, but must be at least 1"),
        ("hidden", "wide", "'hidden' cannot be 'wide'"),
        ("residual_blocks", -1, "residual_blocks is -1, but must be at least 0"),
        ("beta", float("nan"), "cannot be read as JSON ('NaN' is no number"),
        ("lr", [1], "'lr' cannot be [1]"),
        ("kl_warmup_steps", -1, "kl_warmup_steps is -1"),
        ("lr_warmup_steps", -1, "lr_warmup_steps is -1"),
    ],
)
def test_config_with_a_wrong_argument(folder, argument, value, says):
    arguments = json.loads((folder / "config.json").read_text())["init_args"]
    edit(folder, init_args={**arguments, argument: value})
    sentence = refusal(folder)
    assert says in sentence
    assert "config.json" in sentence


def test_constructors_refuse_unknown_choices():
    with pytest.raises(ValueError, match="network cannot be 'cnn'; did you mean conv"):
        small(network="cnn")
    with pytest.raises(ValueError, match="x_shape is"):
        small(x_shape=(4, 4))
    with pytest.raises(ValueError, match="4x4 cannot be divided so; use a size divisible by 8"):
        small(network="conv", hidden=(2, 2, 2))
    with pytest.raises(ValueError, match="needs at least two widths"):
        small(network="patch", x_shape=(1, 8, 8), hidden=(2,))
    with pytest.raises(ValueError, match="12x12 cannot be divided so; use a size divisible by 8"):
        small(network="patch", x_shape=(1, 12, 12), hidden=(2, 2, 2))


# --- bad weights -------------------------------------------------------------------------------


def without_hashes(folder):
    edit(folder, sha256={})


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(folder, hashed, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    if not hashed:
        without_hashes(folder)
    sentence = refusal(folder)
    assert ("damaged" if hashed else "truncated or no safetensors file") in sentence
    assert "download or export it again" in sentence


def test_one_flipped_bit(folder):
    path = folder / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert "its sha256 is not the recorded one" in refusal(folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("encoder.1.0.bias"), "encoder.1.0.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (lambda w: w.update({"encoder.1.0.bias": torch.zeros(6)}), "encoder.1.0.bias"),
    ],
    ids=["missing", "extra", "wrong shape"],
)
def test_weights_of_another_model(folder, change, says):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    without_hashes(folder)
    sentence = refusal(folder)
    assert "does not fit the model that config.json builds" in sentence
    assert says in sentence


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("how", [pickle.dumps, torch.save])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.pt"])
def test_nothing_is_ever_unpickled(folder, monkeypatch, how, name):
    monkeypatch.setattr(Bomb, "exploded", False)
    (folder / "model.safetensors").unlink()
    if how is pickle.dumps:
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save(Bomb(), folder / name)
    without_hashes(folder)
    refusal(folder)
    assert not Bomb.exploded


def test_a_training_checkpoint_runs_no_code(tmp_path, monkeypatch):
    from zoo.pretrained.runs import load_training_checkpoint

    monkeypatch.setattr(Bomb, "exploded", False)
    torch.save({"zoo": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(ZooError, match="no whole training checkpoint"):
        load_training_checkpoint(tmp_path / "last.ckpt")
    assert not Bomb.exploded


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"state_dict": {}}, "was not written by `zoo fit`"),
        ([1], "was not written by `zoo fit`"),
        (
            {
                "zoo": {"family": "VEA", "data": None, "base_model": None},
                "hyper_parameters": {},
                "state_dict": {},
            },
            "did you mean VAE",
        ),
        ({"zoo": {}}, "was not written by `zoo fit`"),
        ({"zoo": {"family": "VAE", "data": None, "base_model": None}}, "was not written by"),
        (
            {
                "zoo": {"family": "VAE", "data": None, "base_model": None},
                "hyper_parameters": {},
                "state_dict": {},
            },
            "does not fit",
        ),
    ],
)
def test_bad_training_checkpoints(tmp_path, content, says):
    from zoo.pretrained.runs import load_training_checkpoint

    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ZooError, match=says):
        load_training_checkpoint(tmp_path / "last.ckpt")


def test_truncated_and_missing_training_checkpoints(tmp_path):
    from zoo.pretrained.runs import load_training_checkpoint

    path = tmp_path / "last.ckpt"
    with pytest.raises(ZooError, match="there is no file"):
        load_training_checkpoint(path)
    torch.save({"zoo": {}, "state_dict": small().state_dict()}, path)
    for kept in (0, 10, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:kept] or b"")
        with pytest.raises(ZooError, match="no whole training checkpoint"):
            load_training_checkpoint(path)


@pytest.mark.parametrize("text", ["[]", "{", '{"metrics": 3}', '{"metrics": [{"name": "nll"}]}'])
def test_damaged_metrics(folder, text):
    (folder / "metrics.json").write_text(text)
    with pytest.raises(ZooError, match=r"metrics\.json"):
        zoo.describe(str(folder))


def test_missing_or_damaged_golden_outputs(folder):
    path = folder / "golden.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ZooError, match="truncated or no safetensors file"):
        read_tensors(path)
    path.unlink()
    with pytest.raises(ZooError, match="has no golden"):
        read_tensors(path)
