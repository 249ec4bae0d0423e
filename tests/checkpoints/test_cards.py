"""What ships in hub_cards is what its own files say it is."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import zoo
from zoo import recipes
from zoo.checkpoints import catalog
from zoo.checkpoints.card import card, models_table, write_card
from zoo.checkpoints.config import read_config
from zoo.checkpoints.files import sha256
from zoo.checkpoints.metrics import Metric, read_metrics, write_metrics
from zoo.checkpoints.weights import read_tensors
from zoo.models import VAE

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
NAMES = catalog.list_models()

shipped = pytest.mark.parametrize("name", NAMES)


def recipe_of(name):
    found = [r for r in recipes.names() if r.rpartition("/")[2] == name]
    assert found, f"no recipe is called {name}"
    return yaml.safe_load(recipes.path(found[0]).read_text(encoding="utf-8"))


def python_blocks(text):
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def check_model_index(text, metrics):
    """The front matter says what metrics.json says, entry for entry."""
    from huggingface_hub import ModelCard

    results = ModelCard(text).data.eval_results or []
    assert [(r.metric_type, r.metric_value, r.dataset_name, r.dataset_split) for r in results] == [
        (m.name, m.value, m.dataset, m.split) for m in metrics
    ]


@shipped
def test_card_is_written_from_the_folder(name):
    folder = catalog.CARDS / name
    assert (folder / "README.md").read_text(encoding="utf-8") == card(folder)


@shipped
def test_card_parses_and_carries_the_metrics(name):
    folder = catalog.CARDS / name
    metrics = read_metrics(folder)
    assert metrics
    check_model_index((folder / "README.md").read_text(encoding="utf-8"), metrics)


@shipped
def test_config_is_the_recipes_constructor_call(name):
    config, recipe = read_config(catalog.CARDS / name), recipe_of(name)
    assert recipe["data"]["class_path"] == config.data["class_path"]
    if recipe["model"]["class_path"] == "zoo.from_pretrained":
        assert config.base_model == recipe["model"]["init_args"]["name"]
        wanted = recipe["model"].get("dict_kwargs", {})
        assert {k: config.init_args[k] for k in wanted} == wanted
        return
    assert recipe["model"]["class_path"] == config.family
    cls = getattr(zoo.models, config.family)
    # Arguments that the family did not have yet when a checkpoint was written have their defaults.
    stated, call = (
        json.loads(json.dumps(dict(cls(**arguments).hparams)))
        for arguments in (config.init_args, recipe["model"]["init_args"])
    )
    assert config.init_args == {name: call[name] for name in config.init_args}
    assert stated == call


@shipped
def test_summary_is_the_models(name):
    d, model = zoo.describe(name), zoo.from_pretrained(name)
    assert d.parameters == model.free_parameters
    assert d.latent_shape == model.latent_shape
    assert d.verbs == model.verbs()


@shipped
def test_golden_outputs(name):
    golden = read_tensors(catalog.CARDS / name / "golden.safetensors")
    model = zoo.from_pretrained(name)
    outputs = model.golden_outputs(golden["x"])
    assert outputs.keys() == golden.keys()
    for key, expected in golden.items():
        torch.testing.assert_close(outputs[key], expected, rtol=0, atol=1e-4)


@shipped
def test_every_file_is_there_and_pinned(name):
    folder = catalog.CARDS / name
    pins = json.loads(catalog.PINS.read_text(encoding="utf-8"))
    files = {file.name for file in folder.iterdir()}
    assert files >= {
        "README.md",
        "config.json",
        "golden.safetensors",
        "metrics.json",
        "model.safetensors",
        "recipe.yaml",
    }
    samples = bool(files & {"samples.png", "samples.txt"})
    assert samples == ("sample" in read_config(folder).summary["verbs"])
    assert pins[name] == {file: sha256(folder / file) for file in files}


def test_pins_name_shipped_models_only():
    pins = json.loads(catalog.PINS.read_text(encoding="utf-8")) if catalog.PINS.exists() else {}
    assert sorted(pins) == NAMES


@shipped
def test_the_cards_code_runs(name):
    blocks = python_blocks((catalog.CARDS / name / "README.md").read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, f"{name}/README.md", "exec"), {})


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_the_readmes_code_runs():
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_the_code_of_the_pages_runs(path):
    namespace = {}  # a page is read from its top
    blocks = python_blocks(path.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, path.name, "exec"), namespace)


def test_sizes():
    sizes = {p: p.stat().st_size for p in catalog.CARDS.rglob("*") if p.is_file()}
    assert all(size <= 16 * MIB for size in sizes.values())
    assert sum(sizes.values()) <= 80 * MIB


def test_readme_has_the_table_of_models():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- models -->(.*?)<!-- /models -->", text, flags=re.DOTALL)
    assert found, "README.md has no table between <!-- models --> and <!-- /models -->"
    assert found[1].strip() == models_table()


# --- the writer, on a small checkpoint -----------------------------------------------------------

METRIC = Metric(
    name="nll",
    value=84.25,
    unit="nats/image",
    kind="estimate",
    standard_error=0.5,
    count=1000,
    dataset="MNIST",
    split="test",
)


@pytest.fixture
def folder(tmp_path):
    model = VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(5,))
    model.data = {"class_path": "MNIST", "init_args": {"binarization": "dynamic"}}
    model.save_pretrained(tmp_path / "vae-tiny")
    return tmp_path / "vae-tiny"


def test_a_card_carries_its_metrics(folder):
    write_metrics(folder, [METRIC, replace(METRIC, name="elbo", value=-90.5)])
    write_card(folder)
    text = (folder / "README.md").read_text()
    check_model_index(text, [METRIC, replace(METRIC, name="elbo", value=-90.5)])
    assert (
        "| nll | 84.25 | 0.5 | nats/image | estimate | MNIST test, 1,000 examples, seed 0 |" in text
    )


def test_a_card_without_metrics_says_so(folder):
    text = card(folder)
    check_model_index(text, [])
    assert "None measured yet" in text
    assert "samples.png" not in text
    assert "{" not in text.replace("{}", "")  # nothing left unfilled


def test_a_card_states_how_pixels_were_drawn_and_what_it_started_from(folder):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), "base_model": "vae-mnist"}
    path.write_text(json.dumps(config))
    text = card(folder)
    assert "Fine-tuned from `vae-mnist`" in text
    assert "anew in each epoch" in text


def test_a_change_of_a_number_changes_the_card(folder):
    write_metrics(folder, [METRIC])
    before = card(folder)
    write_metrics(folder, [replace(METRIC, value=84.26)])
    assert card(folder) != before


def test_published_figures_stand_beside_a_metric_of_the_card():
    published = json.loads(catalog.PUBLISHED.read_text(encoding="utf-8"))
    for name in published.keys() & set(catalog.list_models()):
        metrics = {m.name for m in catalog.describe(name).metrics}
        text = (catalog.CARDS / name / "README.md").read_text(encoding="utf-8")
        for entry in published[name]:
            assert entry["metric"] in metrics, name
            assert f"| {entry['of']} | {entry['metric']} | {entry['value']} |" in text, name
    assert published.keys() <= set(recipes.names())
