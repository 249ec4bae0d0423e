"""A model from its name, and a folder from a training checkpoint."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

import datamodules
from datamodules.base import ImageDataModule
from zoo import checkpoint, models
from zoo.base import LatentVariableModel, checked_arguments
from zoo.catalog import locate
from zoo.errors import ZooError, brief, nearest, shown
from zoo.plots import save_grid


def family(name: str) -> type[LatentVariableModel]:
    """The class of a family.

    Raises:
        ZooError: if the zoo has no such family.
    """
    if name not in models.FAMILIES:
        raise ZooError(f"the zoo has no family {shown(name)}; {nearest(name, models.FAMILIES)}")
    cls: type[LatentVariableModel] = getattr(models, name)
    return cls


def from_pretrained(
    name: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    **overrides: Any,
) -> LatentVariableModel:
    """Load a checkpoint as a LightningModule in eval mode.

    Args:
        name: A folder, the name of a checkpoint that ships with the package, or
            `organisation/name` on the Hub.
        revision: Branch, tag or commit; it always means the Hub.
        token: Token of the Hub; by default the one that is logged in.
        cache_dir: Where downloads are kept; by default the Hub client's cache.
        local_files_only: Take what an earlier download left and make no request.
        overrides: Constructor arguments that replace the stored ones, such as `lr`.

    Raises:
        ZooError: if there is none, it is damaged, or an argument does not fit.
    """
    folder = locate(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    cls = family(checkpoint.read_config(folder).family)
    model = cls.from_pretrained(str(folder), **overrides)
    # Of a folder only its name: the path is this machine's, and a card may be published.
    model.base_model = folder.resolve().name if Path(name).expanduser() == folder else name
    return model


def check_golden(folder: Path) -> None:
    """Load a checkpoint and compare its outputs with those that it was exported with.

    Raises:
        ZooError: if it does not load, or gives other outputs.
    """
    model = from_pretrained(str(folder))
    path = folder / checkpoint.GOLDEN
    golden = checkpoint.read_tensors(path)
    if "x" not in golden:
        raise ZooError(f"{path} has no inputs x; export the model again.")
    try:
        outputs = model.golden_outputs(golden["x"])
    except (RuntimeError, TypeError, ValueError) as error:
        why = brief(error).rstrip(".")
        raise ZooError(f"{path} has inputs that do not fit ({why}); export it again.") from None
    for name, wanted in golden.items():
        if name not in outputs or not _alike(outputs[name], wanted):
            raise ZooError(
                f"the model in {folder} does not give the {shown(name)} that its golden outputs "
                "record; export it again, or get it again from where it came."
            )


def _alike(a: Tensor, b: Tensor) -> bool:
    same = (a.shape, a.dtype) == (b.shape, b.dtype)
    return same and torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def load_training_checkpoint(path: Path) -> LatentVariableModel:
    """Build the model of a Lightning checkpoint (.ckpt), with its averaged weights if it has them.

    Raises:
        ZooError: if the file is missing, damaged, or was not written by a run of the zoo.
    """
    try:
        ckpt = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ZooError(
            f"there is no file {path}; give the .ckpt of a run, such as "
            "runs/vae-mnist/version_0/checkpoints/last.ckpt."
        ) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        detail = (str(error) or "it ends too early").splitlines()[0][:200]
        raise ZooError(
            f"{path} is no whole training checkpoint ({detail}); give another of the run."
        ) from None
    if not (
        isinstance(ckpt, dict)
        and ckpt.keys() >= {"zoo", "hyper_parameters", "state_dict"}
        and isinstance(ckpt["zoo"], dict)
        and ckpt["zoo"].keys() >= {"family", "data", "base_model"}
    ):
        raise ZooError(f"{path} was not written by `zoo fit`; train with it, or with zoo.models.")
    cls = family(ckpt["zoo"]["family"])
    model = cls(**checked_arguments(cls, str(path), ckpt["hyper_parameters"], {}))
    try:
        model.load_state_dict(ckpt["state_dict"], strict=True)
    except RuntimeError as error:
        raise ZooError(
            f"{path} does not fit the model that its arguments build "
            f"({shorten(str(error), 300)}); give another of the run."
        ) from None
    model.data = ckpt["zoo"]["data"]
    model.base_model = ckpt["zoo"]["base_model"]
    return model.eval()


def export(ckpt: Path, folder: Path, license: str = "apache-2.0") -> LatentVariableModel:
    """Turn a training checkpoint into a checkpoint folder, with the resolved recipe and samples.

    Args:
        ckpt: Path of the `.ckpt` file.
        folder: Where to.
        license: Licence of the weights, an SPDX identifier in lower case.

    Returns:
        The exported model.
    """
    model = load_training_checkpoint(ckpt)
    model.save_pretrained(folder, license=license)
    recipe = ckpt.parent.parent / "config.yaml"  # beside checkpoints/, where the run logs
    if recipe.is_file():
        checkpoint.write_atomically(
            folder / checkpoint.RECIPE, lambda part: shutil.copyfile(recipe, part)
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_grid(model.sample(64), folder / checkpoint.SAMPLES)
    return model


def data_module(model: LatentVariableModel, name: str | None = None) -> ImageDataModule:
    """Build a DataModule that prepares inputs as this model expects them.

    Args:
        model: The model; without a name, its own training data's module is built.
        name: Name of another DataModule, such as `Digits`; it gets the model's binarisation.

    Raises:
        ZooError: if the name is unknown, or the model does not say what it was trained on.
    """
    own = model.data or {}
    name = name or own.get("class_path")
    if name is None:
        raise ZooError("this model does not say what it was trained on; name a DataModule.")
    if name not in datamodules.__all__:
        raise ZooError(f"there is no DataModule {name!r}; {nearest(name, datamodules.__all__)}")
    arguments = dict(own.get("init_args", {}))
    arguments.pop("root", None)  # a path of the machine that the checkpoint is from
    if name != own.get("class_path"):
        arguments = {k: v for k, v in arguments.items() if k == "binarization"}
    cls = getattr(datamodules, name)
    try:
        module: ImageDataModule = cls(**checked_arguments(cls, "the model's data", arguments, {}))
    except TypeError as error:
        raise ZooError(f"{name} cannot be built from the model's data: {brief(error)}") from None
    if module.x_shape != model.x_shape:
        raise ZooError(
            f"an image has shape {module.x_shape} in {name}, but this model was built for "
            f"{model.x_shape}; pick another with --data."
        )
    return module


def held_out(
    module: ImageDataModule, limit: int | None = None, batch_size: int = 100
) -> Iterator[dict[str, Any]]:
    """Batches of the test set, with a progress bar.

    Args:
        module: Where the images come from.
        limit: Only the first so many images.
        batch_size: Images in a batch.
    """
    from rich.progress import track

    module.batch_size = batch_size
    module.prepare_data()
    module.setup("test")
    left = limit
    for batch in track(module.test_dataloader(), description="Measuring", transient=True):
        if left is not None:
            batch = {key: value[:left] for key, value in batch.items()}
            left -= len(batch["image"])
        yield batch
        if left == 0:
            return
