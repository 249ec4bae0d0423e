"""A checkpoint folder from a training checkpoint."""

from pathlib import Path

import yaml

from zoo.base import LatentVariableModel
from zoo.checkpoints.files import RECIPE, write_text
from zoo.checkpoints.paths import without_paths
from zoo.checkpoints.weights import rounded
from zoo.pretrained.class_paths import short_names
from zoo.pretrained.gallery import draw_samples
from zoo.pretrained.runs import load_training_checkpoint


def _published(recipe: str) -> str:
    """The resolved recipe in short names, without paths of this machine's data and files."""
    source = short_names(recipe)
    config = yaml.safe_load(source)
    config.pop("ckpt_path", None)
    (config.get("data") or {}).get("init_args", {}).pop("root", None)
    versions = [line + "\n" for line in source.splitlines() if line.startswith("#")]
    return "".join(versions) + str(yaml.safe_dump(without_paths(config), sort_keys=False))


def export(
    ckpt: Path, folder: Path, license: str = "apache-2.0", half: bool = False
) -> LatentVariableModel:
    """Turn a training checkpoint into a checkpoint folder, with the resolved recipe and samples.

    Args:
        ckpt: Path of the `.ckpt` file.
        folder: Where to.
        license: Licence of the weights, an SPDX identifier in lower case.
        half: Round float32 weights to float16, which takes half the space.

    Returns:
        The exported model.
    """
    model = load_training_checkpoint(ckpt)
    if half:
        model = rounded(model)
    model.save_pretrained(folder, license=license, half=half)
    beside = ckpt.parent.parent / "config.yaml"  # of checkpoints that do not hold the recipe
    if model.recipe is None and beside.is_file():
        model.recipe = beside.read_text(encoding="utf-8")
    if model.recipe:
        write_text(folder / RECIPE, _published(model.recipe))
    draw_samples(model, folder)
    return model
