"""Recipes that name classes by old places train as they did, and new ones are written to last."""

import sys
from pathlib import Path

import pytest
import yaml

import zoo
from zoo import datamodules
from zoo.checkpoints import catalog
from zoo.cli.main import main
from zoo.pretrained.class_paths import short_names
from zoo.pretrained.export import export
from zoo.training.fit import run

OLD = sorted(path.parent.name for path in catalog.CARDS.glob("*/recipe.yaml"))

QUICK = [
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def printed_recipe(capsys, *words):
    """What the parser makes of a recipe and flags."""
    assert main(["fit", *map(str, words), "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def class_paths(node):
    if isinstance(node, dict):
        here = [node["class_path"]] if "class_path" in node else []
        return here + [path for value in node.values() for path in class_paths(value)]
    return [path for value in node for path in class_paths(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", OLD)
def test_resolved_recipes_of_all_checkpoints_parse(name, capsys):
    path = catalog.CARDS / name / "recipe.yaml"
    parsed = printed_recipe(capsys, path)
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert names(parsed) == names(stated)
    assert parsed["data"]["class_path"].startswith("zoo.datamodules.")
    assert stated["data"]["init_args"].items() <= parsed["data"]["init_args"].items()
    assert "datamodules" not in sys.modules


def names(recipe):
    return [path.rpartition(".")[2] for path in class_paths(recipe)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("class_path: datamodules.MNIST", "class_path: MNIST"),
        ("class_path: datamodules.mnist.MNIST\n", "class_path: MNIST\n"),
        ("{class_path: 'zoo.models.vae.VAE', init_args: {}}", "{class_path: 'VAE', init_args: {}}"),
        ('{"class_path": "zoo.callbacks.SampleGrid"}', '{"class_path": "SampleGrid"}'),
        ("- class_path: zoo.fit.AtomicCheckpointIO", "- class_path: AtomicCheckpointIO"),
        ("class_path: zoo.pretrained.from_pretrained", "class_path: zoo.from_pretrained"),
        ("data: zoo.datamodules.images.mnist.MNIST", "data: MNIST"),
        ("datamodules.fake.FakeImages", "FakeImages"),
        ("--model=zoo.models.vae.VAE", "--model=VAE"),
        ("--trainer.callbacks+=zoo.callbacks.SampleGrid", "--trainer.callbacks+=SampleGrid"),
    ],
)
def test_the_zoos_classes_get_short_names(old, new):
    assert short_names(old) == new


@pytest.mark.parametrize(
    "text",
    [
        "class_path: datamodules.faces.MyFaces",
        "class_path: mine.zoo.models.VAE",
        "class_path: mine.datamodules.MNIST",
        "class_path: zoological.VAE",
        "class_path: VAE",
        "class_path: lightning.pytorch.callbacks.ModelCheckpoint",
        "name: zoo.models.VAE",
        "--ckpt_path=zoo.models.VAE/last.ckpt",
        "# trained as datamodules.MNIST was",
    ],
)
def test_other_text_stays(text):
    assert short_names(text) == text


def test_every_data_set_is_found_by_its_old_path():
    for name in datamodules.__all__:
        assert short_names(f"datamodules.elsewhere.{name}") == name


def test_flags_take_old_paths_too(capsys):
    parsed = printed_recipe(
        capsys,
        "vae-mnist",
        "--data",
        "datamodules.digits.Digits",
        "--model=zoo.models.iwae.IWAE",
        "--trainer.callbacks=zoo.monitors.SampleGrid",
    )
    assert {"Digits", "IWAE", "SampleGrid"} <= {*names(parsed)}


def test_an_old_recipe_trains_and_its_export_names_classes_in_short(capsys, tmp_path):
    old = catalog.CARDS / "vae-mnist" / "recipe.yaml"
    data = ["--data=datamodules.fake.FakeImages", "--data.n=64", "--data.batch_size=16"]
    trained = run("fit", str(old), [*QUICK, *data])
    assert type(trained.datamodule) is datamodules.FakeImages
    assert type(trained.model) is zoo.models.VAE
    ckpt = trained.best_checkpoint()
    export(ckpt, tmp_path / "vae")
    published = tmp_path / "vae" / "recipe.yaml"
    written = class_paths(yaml.safe_load(published.read_text(encoding="utf-8")))
    assert {"VAE", "FakeImages", "SampleGrid", "LogActiveUnits"} <= {*written}
    assert not [path for path in written if path.startswith("zoo")]
    resolved = ckpt.parent.parent / "config.yaml"
    assert printed_recipe(capsys, published)["model"] == printed_recipe(capsys, resolved)["model"]
    assert Path("runs").is_dir()  # where the recipe logs
