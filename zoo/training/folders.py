"""Where runs lie, what one leaves beside its checkpoints, and which checkpoint it goes on from."""

import warnings
from glob import escape
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from zoo.base import LatentVariableModel
from zoo.checkpoints.files import write_text
from zoo.errors import ZooError, shown
from zoo.pretrained.runs import read_training_checkpoint


def run_folder(trainer: Trainer) -> Path:
    """The folder of this run alone, where its `checkpoints/` are; every process has to ask.

    Without a logger it is the folder of the checkpoints itself: the one above is the user's.
    """
    callback, logger = trainer.checkpoint_callback, trainer.logger
    if isinstance(callback, ModelCheckpoint) and callback.dirpath:
        folder = Path(callback.dirpath)
        return folder.parent if logger and folder.name == "checkpoints" else folder
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    if logger is None or isinstance(logger, (CSVLogger, TensorBoardLogger)):
        return folder
    return folder / str(logger.name) / str(logger.version)  # others log into a folder of all runs


def checkpoint_folders(trainer: Trainer, version: int | str | None) -> tuple[Path, str]:
    """Where checkpoints lie of runs with this trainer's logger: a folder, and a glob in it.

    Args:
        trainer: Before it has set up its callbacks.
        version: The one run's version or id, if it was given one; behind a slash may follow a
            folder in the run's, for the logs of one that goes on.
    """
    callback, logger = trainer.checkpoint_callback, trainer.logger
    if isinstance(callback, ModelCheckpoint) and callback.dirpath:
        folder = Path(callback.dirpath)
        return folder.parent, escape(folder.name)
    root = Path(trainer.default_root_dir)
    if logger is None:
        return root, "checkpoints"
    run = (
        f"version_{version}"
        if isinstance(version, int)
        else escape((version or "").partition("/")[0]) or "*"
    )
    return Path(logger.save_dir or root, str(logger.name or "")), f"{run}/checkpoints"


def resume(
    trainer: Trainer, model: LatentVariableModel, config: Any, data: str | None
) -> str | None:
    """The training checkpoint that `ckpt_path` means, checked against the recipe.

    A training goes on beside it if it is of a run that the logger names, else in a new folder.

    Args:
        trainer: Before it has set up its callbacks.
        model: The recipe's.
        config: The parsed recipe and flags.
        data: Name of the DataModule that a training is on; None of a measurement.

    Raises:
        ZooError: if there is none, it is not of this recipe, or another run would be overwritten.
    """
    logger = config["trainer"].get("logger")
    logger = logger[0] if isinstance(logger, list) and logger else logger
    named = getattr(logger, "init_args", None) or {}
    versions = [named[key] for key in ("version", "id", "run_id") if named.get(key) is not None]
    root, pattern = checkpoint_folders(trainer, versions[0] if versions else None)
    given: str | None = config.get("ckpt_path")
    if versions and (given is None or data is None):
        for folder in root.glob(pattern):
            raise ZooError(
                f"{folder.parent} holds a run already; leave out the version of the logger"
                + (", or go on with that run by --ckpt_path last." if data else ".")
            )
    if given is None or "://" in str(given):
        return given
    path = Path(given)
    if given == "last":
        path = last_checkpoint(root, pattern, model, data, named.get("name"))
    ckpt = read_training_checkpoint(path)
    if reason := misfit(ckpt, model, data):
        raise ZooError(
            f"{path} {reason}; give a checkpoint of this recipe, or start from its weights: "
            f"zoo export {path} FOLDER, and --model zoo.from_pretrained --model.name FOLDER."
        )
    if data is None:
        return str(path)
    if "optimizer_states" not in ckpt:
        raise ZooError(f"{path} holds weights alone, from which no training can go on.")
    for limit, unit, done in (
        (trainer.max_epochs, "epochs", ckpt["epoch"] + 1),
        (trainer.max_steps, "steps", ckpt["global_step"]),
    ):
        if limit is not None and -1 < limit < done:
            raise ZooError(
                f"{path} is of a training of {done} {unit}, more than the {limit} that are asked "
                f"for; raise --trainer.max_{unit}, or start anew without --ckpt_path."
            )
    callback, folder = trainer.checkpoint_callback, path.resolve().parent
    if isinstance(callback, ModelCheckpoint) and folder in {
        f.resolve() for f in root.glob(pattern)
    }:
        # ModelCheckpoint forgets the best score of a run whose folder is spelt in another way.
        spelt = [str(c.get("dirpath")) for c in ckpt.get("callbacks", {}).values()]
        same = [name for name in spelt if Path(name).resolve() == folder]
        callback.dirpath = same[0] if same else str(folder)
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", "The dirpath has changed")  # as another run is named
    return str(path)


def last_checkpoint(
    root: Path, pattern: str, model: LatentVariableModel, data: str | None, name: str | None
) -> Path:
    """The newest `last.ckpt` that is of a run of this recipe, for `--ckpt_path last`.

    Args:
        root: Where to look, as `checkpoint_folders` has it.
        pattern: Likewise.
        model: The recipe's.
        data: Name of the DataModule that it has to be trained on; None where that is free.
        name: The run's name, as its logger has it.

    Raises:
        ZooError: if there is none; the message says what is wrong with the newest.
    """
    found = root.glob(f"{pattern}/last*.ckpt")
    reasons = []
    for path in sorted(found, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        ckpt = read_training_checkpoint(path)
        reason = misfit(ckpt, model, data)
        if reason is None and name != (other := _run_name(ckpt, default=name)):
            reason = f"is of the run {shown(other)}"
        if reason is None:
            return path
        reasons.append(f"{path} {reason}")
    detail = f" ({reasons[0]})" if reasons else ""
    raise ZooError(
        f"no run under {root} has a last.ckpt to resume{detail}; "
        "leave out --ckpt_path, or give a file."
    )


def misfit(ckpt: dict[str, Any], model: LatentVariableModel, data: str | None) -> str | None:
    """Why a model cannot take over a training checkpoint, as the end of a sentence, if so.

    Args:
        ckpt: As `read_training_checkpoint` has it.
        model: The recipe's.
        data: Name of the DataModule that it has to be trained on; None where that is free.
    """
    family, own = ckpt["zoo"]["family"], type(model).__name__
    if family != own:
        return f"is of a {family}, not of a {own} as the recipe"
    trained = (ckpt["zoo"]["data"] or {}).get("class_path", data)
    if data is not None and trained != data:
        return f"was trained on {trained}, not on {data} as the recipe says"
    shapes = {name: tensor.shape for name, tensor in ckpt["state_dict"].items()}
    if shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}:
        return None
    theirs, ours = ckpt["hyper_parameters"], model.hparams
    differing = [
        f"{key} is {shown(theirs.get(key))} there and {shown(ours[key])} here"
        for key in ours
        if key in theirs and theirs[key] != ours[key]
    ]
    return f"holds other weights ({', '.join(differing[:3]) or 'their shapes differ'})"


def _run_name(ckpt: dict[str, Any], default: str | None) -> str | None:
    """What the logger of a checkpoint's run called it."""
    recipe = yaml.safe_load(ckpt["zoo"].get("recipe") or "") or {}
    logger = recipe.get("trainer", {}).get("logger")
    return logger["init_args"].get("name", default) if isinstance(logger, dict) else default


class SaveRecipe(Callback):
    """Write the resolved recipe to the run's folder; `zoo fit` installs it always.

    It is `config.yaml`, or `config-1.yaml` where that is taken: nothing is overwritten. Without a
    logger there is no such folder. Checkpoints carry the recipe, too.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LatentVariableModel)
        folder = run_folder(trainer)
        trial = getattr(trainer, "fast_dev_run", False)
        if not trainer.is_global_zero or trainer.logger is None or trial:
            return
        path, n = folder / "config.yaml", 0
        while path.exists():
            n += 1
            path = folder / f"config-{n}.yaml"
        write_text(path, pl_module.recipe or "")
