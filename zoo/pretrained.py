"""A model from its name, and a folder from a training checkpoint."""

import pickle
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import yaml
from torch import Tensor

from zoo import checkpoint, models
from zoo.base import LatentVariableModel, checked_arguments
from zoo.catalog import locate
from zoo.errors import ZooError, brief, nearest, shown
from zoo.gallery import draw_samples


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
    return cls.from_folder(folder, name, overrides)


def check_golden(model: LatentVariableModel, folder: Path) -> None:
    """Compare a model's outputs with those that its checkpoint was exported with.

    They may differ by rounding only: in other batch sizes and in float64, outputs of order 1 differ
    by 1e-6; 2e-5 leaves room for other processors.

    Raises:
        ZooError: if they differ.
    """
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
    return same and torch.allclose(a, b, rtol=2e-5, atol=2e-5)


def _published(recipe: Path) -> str:
    """The resolved recipe without what is of this machine alone: paths of data and of files."""
    source = recipe.read_text(encoding="utf-8")
    config = yaml.safe_load(source)
    config.pop("ckpt_path", None)
    (config.get("data") or {}).get("init_args", {}).pop("root", None)
    arguments = (config.get("model") or {}).get("init_args", {})
    if "name" in arguments and Path(arguments["name"]).expanduser().is_dir():
        arguments["name"] = Path(arguments["name"]).name
    versions = [line + "\n" for line in source.splitlines() if line.startswith("#")]
    return "".join(versions) + str(yaml.safe_dump(config, sort_keys=False))


def read_training_checkpoint(path: Path) -> dict[str, Any]:
    """Read a Lightning checkpoint (.ckpt) of a run of the zoo.

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
    except pickle.UnpicklingError:  # whose text advises to run what the file says
        raise ZooError(
            f"{path} is no whole training checkpoint (it holds something else than tensors and "
            "plain values); give another of the run."
        ) from None
    except (OSError, RuntimeError, EOFError) as error:
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
    return ckpt


def load_training_checkpoint(path: Path) -> LatentVariableModel:
    """Build the model of a training checkpoint, with its averaged weights if it has them.

    Raises:
        ZooError: if the file is missing, damaged, or was not written by a run of the zoo.
    """
    ckpt = read_training_checkpoint(path)
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
    model.assets = ckpt["zoo"].get("assets", {})
    return model.eval()


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
        model = checkpoint.rounded(model)
    model.save_pretrained(folder, license=license, half=half)
    recipe = ckpt.parent.parent / "config.yaml"  # beside checkpoints/, where the run logs
    if recipe.is_file():
        checkpoint.write_text(folder / checkpoint.RECIPE, _published(recipe))
    draw_samples(model, folder)
    return model
