"""A model from its name, and a folder from a training checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import models
from zoo.base import LatentVariableModel
from zoo.checkpoints.catalog import config_of, locate
from zoo.checkpoints.files import GOLDEN
from zoo.checkpoints.weights import read_tensors
from zoo.errors import ZooError, brief, nearest, shown


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
    config = config_of(folder)
    return family(config.family).from_folder(folder, config, name, overrides)


def check_golden(model: LatentVariableModel, folder: Path) -> None:
    """Compare a model's outputs with those that its checkpoint was exported with.

    They may differ by rounding only: in other batch sizes and in float64, outputs of order 1 differ
    by 1e-6; 2e-5 leaves room for other processors.

    Raises:
        ZooError: if they differ.
    """
    path = folder / GOLDEN
    golden = read_tensors(path)
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
