"""Training checkpoints (.ckpt) of runs of the zoo."""

import pickle
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from zoo.base import LatentVariableModel
from zoo.checkpoints.arguments import checked_arguments
from zoo.errors import ZooError
from zoo.pretrained.loading import family


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
    if all(t.dtype == torch.float64 for t in ckpt["state_dict"].values() if t.is_floating_point()):
        model.double()
    try:
        # Of parts that were compiled, weights have this in their names.
        weights = {name.replace("_orig_mod.", ""): w for name, w in ckpt["state_dict"].items()}
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ZooError(
            f"{path} does not fit the model that its arguments build "
            f"({shorten(str(error), 300)}); give another of the run."
        ) from None
    model.data = ckpt["zoo"]["data"]
    model.base_model = ckpt["zoo"]["base_model"]
    model.assets = ckpt["zoo"].get("assets", {})
    model.recipe = ckpt["zoo"].get("recipe")
    return model.eval()
