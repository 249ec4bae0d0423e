"""Every recipe is short, complete, and trains; a new file in recipes/ is tested by itself."""

import json
import re
from inspect import Parameter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image

import zoo
from zoo import datamodules, recipes
from zoo.checkpoints import catalog
from zoo.checkpoints.arguments import arguments
from zoo.checkpoints.config import read_config
from zoo.cli.main import main
from zoo.datamodules import FakeFaces
from zoo.models.autoencoders.base import Autoencoder
from zoo.training.fit import ZooCLI, run

every_recipe = pytest.mark.parametrize("name", recipes.names())

QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.fast_dev_run=2",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


STATED = {"model": {"x_shape"}, "data": {"size", "channels", "binarization"}}
SMALL = {"latent_dim": 3, "code_dim": 3, "codes": 4, "prior_width": 8, "prior_depth": 1}


def read(name):
    return yaml.safe_load(recipes.path(name).read_text(encoding="utf-8"))


def is_finetune(recipe):
    return recipe["model"]["class_path"] == "zoo.from_pretrained"


@pytest.fixture
def start(tmp_path):
    """Small checkpoints in the place of the shipped ones: their folder, by a recipe's name."""

    def of(name):
        family, own = shipped(name)
        folder = tmp_path / "start" / f"{family.lower()}-start"
        torch.manual_seed(0)
        kept = {key: own[key] for key in ("x_shape", "components") if key in own}
        cls = getattr(zoo.models, family)
        sizes = {k: v for k, v in SMALL.items() if k in arguments(cls)}
        cls(hidden=(8,), lr=0.25, **kept, **sizes).save_pretrained(folder)
        return folder

    return of


def shipped(name):
    """Family and constructor arguments of the checkpoint that a recipe starts from."""
    model = read(name)["model"]["init_args"]["name"]
    config = read_config(catalog.shipped(model))
    return config.family, config.init_args


class Watch(Callback):
    """Notes what training saw: the parameters before it, the mode, every parameter's gradient."""

    def __init__(self):
        self.training, self.gradients, self.before = [], {}, {}

    def on_fit_start(self, trainer, pl_module):
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.training.append(all(module.training for module in pl_module.modules()))

    def on_after_backward(self, trainer, pl_module):
        for name, parameter in pl_module.named_parameters():
            if parameter.requires_grad:
                self.gradients[name] = None if parameter.grad is None else parameter.grad.clone()


def train(name, start, monkeypatch):
    """Fit two batches of made data; return the run and what was seen."""
    recipe, watch = read(name), Watch()
    model = [f"--model.name={start(name)}"] if is_finetune(recipe) else []
    recipe["data"] = made(name)
    named = {"Classifier": "labels", "DBVAE": "attributes"}.get(recipe["model"]["class_path"])
    if recipe["data"]["class_path"] == "FakeFaces" and named:
        recipe["model"]["init_args"][named] = list(FakeFaces().attribute_names)
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    defaults = ZooCLI.instantiate_trainer
    monkeypatch.setattr(
        ZooCLI,
        "instantiate_trainer",
        lambda self, **kwargs: add(defaults(self, **kwargs), watch),
    )
    return run("fit", "recipe.yaml", [*QUICK, *model]), watch


def made(name):
    """Data that need no files, with the batches of the recipe's own."""
    recipe = read(name)
    model, own = recipe["model"].get("init_args", {}), recipe["data"]
    if own["class_path"] == "IceCream":
        return own
    few = {"n": 128, "batch_size": 16}  # at least as many as a mixture has components
    if own["class_path"] == "BagOfWords":
        return {"class_path": "FakeBagOfWords", "init_args": {"words": model["terms"], **few}}
    if own["class_path"] == "TaggedText":
        sizes = {"words": model["symbols"], "states": model["states"]}
        return {"class_path": "FakeTaggedText", "init_args": {**sizes, **few}}
    if own["class_path"] == "CelebA":
        return {"class_path": "FakeFaces", "init_args": few}
    if "attributes" in own.get("init_args", {}):
        return {"class_path": "FakeFaces", "init_args": {"attributes": ["Smiling"], **few}}
    shape = shipped(name)[1]["x_shape"] if is_finetune(recipe) else model["x_shape"]
    return {"class_path": "FakeImages", "init_args": {"x_shape": shape, **few}}


def add(trainer, callback):
    trainer.callbacks.append(callback)
    return trainer


@every_recipe
def test_short_and_with_a_header(name):
    text = recipes.path(name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    header = re.match(r"(?:#.*\n)+", text)
    assert header
    assert re.search(rf"^#\s+zoo fit {re.escape(name)}\b", header[0], flags=re.MULTILINE)
    assert recipes.summary(name).endswith(".")


@every_recipe
def test_complete(name):
    recipe = read(name)
    assert recipe["seed_everything"] == 0
    assert list(recipe) == ["seed_everything", "model", "data", "trainer"]
    logger = recipe["trainer"]["logger"]
    assert logger["class_path"] == "CSVLogger"
    assert logger["init_args"] == {"save_dir": "runs", "name": name.rpartition("/")[2]}


@every_recipe
def test_sets_only_what_differs_from_the_defaults(name):
    """But for what the data are, which readers find in every recipe."""
    recipe = read(name)
    for part, home in (("model", zoo.models), ("data", datamodules)):
        if recipe[part]["class_path"] == "zoo.from_pretrained":
            continue
        known = arguments(getattr(home, recipe[part]["class_path"]))
        given = recipe[part].get("init_args", {})
        assert given.keys() <= known.keys()
        repeated = {
            key
            for key in given
            if known[key].default is not Parameter.empty
            and json.dumps(given[key]) == json.dumps(known[key].default)
        }
        assert repeated <= STATED[part]


@every_recipe
@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_trains(name, start, monkeypatch, capsys):
    run, watch = train(name, start, monkeypatch)
    assert watch.training == [True] * run.trainer.num_training_batches * run.trainer.current_epoch
    if run.model.automatic_optimization:
        assert watch.gradients
        for parameter, gradient in watch.gradients.items():
            assert gradient is not None, f"{parameter} gets no gradient"
            assert gradient.isfinite().all(), parameter
        moved = [name for name, gradient in watch.gradients.items() if gradient.any()]
        assert len(moved) > 0
    else:  # by EM
        assert run.model.started
        for parameter, value in run.model.named_parameters():
            assert value.isfinite().all(), parameter
            assert not torch.equal(value, watch.before[parameter]), f"{parameter} did not move"
    assert run.model.data["class_path"] == made(name)["class_path"]


FINETUNE = [name for name in recipes.names() if is_finetune(read(name))]


@pytest.mark.parametrize("name", FINETUNE)
@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_fine_tuning_starts_from_the_checkpoint(name, start, monkeypatch, capsys):
    before = zoo.from_pretrained(str(start(name))).state_dict()
    first = {}

    def note(self):
        first.update({k: v.clone() for k, v in self.model.state_dict().items()})

    monkeypatch.setattr(ZooCLI, "before_fit", note)
    run, watch = train(name, start, monkeypatch)
    assert first.keys() == before.keys()
    assert all(torch.equal(first[key], before[key]) for key in before)
    wanted = read(name)["model"]["dict_kwargs"]
    assert {key: run.model.hparams[key] for key in wanted} == wanted
    assert run.model.lr != 0.25
    assert run.trainer.optimizers[0].defaults["lr"] == wanted["lr"]
    assert run.model.base_model == start(name).name
    assert watch.training == [True, True]


def folder_recipes():
    """Recipes for pictures of one's own, with each of the checkpoints that their headers name."""
    for name in FINETUNE:
        if name.endswith("-folder"):
            text = recipes.path(name).read_text(encoding="utf-8")
            named = {model for model in zoo.list_models() if re.search(rf"\b{model}\b", text)}
            yield from ((name, model) for model in sorted(named))


def test_every_autoencoder_has_a_recipe_for_pictures_of_ones_own():
    families = {name: getattr(zoo.models, zoo.describe(name).family) for name in zoo.list_models()}
    networks = (Autoencoder, zoo.models.VQVAE)
    trained = {name for name, family in families.items() if issubclass(family, networks)}
    assert {model for _, model in folder_recipes()} == trained


@pytest.mark.parametrize(("name", "start_from"), [*folder_recipes()])
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_folder_of_pictures_and_one_command(name, start_from, tmp_path, capsys):
    own = read_config(catalog.shipped(start_from)).init_args
    (tmp_path / "mine" / "there").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(40):
        pixels = generator.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / ("there" if i % 2 else "") / f"{i}.png")
    quick = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", *QUICK]
    quick = [flag for flag in quick if "fast_dev_run" not in flag and "logger" not in flag]
    chosen = [f"--model.name={start_from}", f"--data.size={own['x_shape'][-1]}"]
    assert main(["fit", name, f"--data.root={tmp_path / 'mine'}", *chosen, *quick]) == 0
    best = Path("runs", name.partition("/")[2], "version_0", "checkpoints", "best.ckpt")
    assert main(["export", str(best), "tuned"]) == 0
    model = zoo.from_pretrained("tuned")
    assert model.base_model == start_from
    model = model.given(0) if model.conditions else model
    assert model.reconstruct(torch.rand(2, *own["x_shape"])).shape == (2, *own["x_shape"])
    capsys.readouterr()
