"""Training from recipes: LightningCLI, and what it needs to be safe to interrupt."""

import json
import logging
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from zoo import datamodules, models  # whose classes get short names in recipes
from zoo.base import LatentVariableModel
from zoo.errors import ZooError
from zoo.pretrained.class_paths import short_names
from zoo.pretrained.runs import read_training_checkpoint
from zoo.training import monitors as monitors  # likewise
from zoo.training import push as push  # likewise
from zoo.training.divergence import StopWhenDiverged
from zoo.training.messages import explain
from zoo.training.precision import suited_precision
from zoo.training.recipes import latest_checkpoint, parsable, read_recipe, recipe_path
from zoo.training.saving import AtomicCheckpointIO, SaveLast
from zoo.training.seeding import SeedEpoch


class ZooCLI(LightningCLI):
    """LightningCLI over the zoo's models and data; what the user gets wrong is a ZooError."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            subparser = self._subcommand_parsers[args[0]]
            flags = [option for a in subparser._actions for option in a.option_strings]
            classes = {
                "model": [*models.FAMILIES, "zoo.from_pretrained"],
                "data": datamodules.__all__,
                "trainer.callbacks": _subclass_names(Callback),
                "trainer.logger": _subclass_names(Logger),
            }
            raise ZooError(explain(str(error), flags, classes)) from None

    def before_instantiate_classes(self) -> None:
        config = self._get(self.config, "trainer")
        asked = str(config["precision"])
        suited = suited_precision(asked, str(config["accelerator"]))
        if suited != asked:
            config["precision"] = suited
            rank_zero_only(print)(
                f"Training in float32: this machine computes {asked} by emulation, many times "
                "slower."
            )

    def instantiate_classes(self) -> None:
        self._refuse_tokens()
        try:
            super().instantiate_classes()
        except ValueError as error:
            # jsonargparse wraps a constructor's own sentence in a report of all types it tried.
            while isinstance(error.__cause__, ValueError):
                error = error.__cause__
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise error from None

    def _refuse_tokens(self) -> None:
        """Refuse a token among the arguments, which the run's config.yaml would publish."""
        config = self._get(self.config, "model")
        for place in ("init_args", "dict_kwargs"):
            if (config.get(place) or {}).get("token") is not None:
                raise ZooError(
                    "a token in a recipe or flag would be written to the run's config.yaml; "
                    "set HF_TOKEN or run `hf auth login` instead."
                )

    def _parse_ckpt_path(self) -> None:
        # The recipe says what the model is; Lightning would parse the checkpoint's hyperparameters.
        pass

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        plugins = _as_list(config.get("plugins"))
        callbacks = _as_list(config.get("callbacks"))
        always: list[Callback] = [SeedEpoch(), SaveLast(), StopWhenDiverged()]
        if config.get("enable_progress_bar") is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            # Lightning's own is drawn at every step: a seventh of a small model's time.
            always.append(TQDMProgressBar(refresh_rate=20))
        self.trainer_defaults = {"callbacks": always}
        return super().instantiate_trainer(plugins=[*plugins, AtomicCheckpointIO()], **kwargs)

    def before_fit(self) -> None:
        config = self.config["fit"]
        arguments = dict(config["data"].get("init_args", {}))
        arguments.pop("root", None)  # a path of this machine
        self.model.data = {
            "class_path": config["data"]["class_path"].rpartition(".")[2],
            "init_args": json.loads(json.dumps(arguments)),  # tuples become lists, as they load
        }
        callback = self.trainer.checkpoint_callback
        if config.get("ckpt_path") and isinstance(callback, ModelCheckpoint):
            # A resumed run goes on beside the old checkpoints, and still knows the best of them.
            callback.dirpath = callback.dirpath or _folder_of_run(Path(config["ckpt_path"]))
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")

    def after_fit(self) -> None:
        best = self.best_checkpoint()
        trial = self.config["fit"]["trainer"].get("fast_dev_run")
        if best and self.trainer.is_global_zero and not trial:
            print(f"Checkpoint: {best}\nMake it loadable by name: zoo export {best} FOLDER")

    def best_checkpoint(self) -> Path | None:
        """This run's checkpoint with the best monitored metric, or its last, if it left any."""
        callback = self.trainer.checkpoint_callback
        if not isinstance(callback, ModelCheckpoint):
            return None
        path = callback.best_model_path or callback.last_model_path
        return Path(path) if path else None


def _folder_of_run(ckpt: Path) -> str:
    """The folder of a training checkpoint, spelt as the run did that wrote it.

    ModelCheckpoint forgets the best score of a run whose folder is spelt in another way.
    """
    folder = ckpt.resolve().parent
    for callback in read_training_checkpoint(ckpt).get("callbacks", {}).values():
        spelt = callback.get("dirpath")
        if spelt and Path(spelt).resolve() == folder:
            return str(spelt)
    return str(folder)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else [*value] if isinstance(value, list) else [value]


def _subclass_names(base: type) -> list[str]:
    below: list[type] = base.__subclasses__()
    return [name for cls in below for name in (cls.__name__, *_subclass_names(cls))]


def run(subcommand: str, recipe: str, flags: Sequence[str]) -> ZooCLI:
    """Run `fit`, `validate` or `test` on a recipe.

    Args:
        subcommand: Which of the three.
        recipe: Name or path.
        flags: Overrides, such as `--trainer.max_epochs 1`.

    Raises:
        ZooError: if the recipe or a flag does not fit; one sentence.
    """
    config = recipe_path(recipe)
    read_recipe(config)
    flags = [short_names(flag) for flag in _with_checkpoint(list(flags), config)]
    _calm()
    return ZooCLI(
        LatentVariableModel,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
        args=[subcommand, "--config", parsable(config), *flags],
    )


def _with_checkpoint(flags: list[str], config: Path) -> list[str]:
    for i, flag in enumerate(flags):
        value = flags[i + 1] if flag == "--ckpt_path" and i + 1 < len(flags) else flag
        value = value.removeprefix("--ckpt_path=")
        if value == "last" and flag.startswith("--ckpt_path"):
            end = i + 2 if flag == "--ckpt_path" else i + 1
            return [*flags[:i], "--ckpt_path", str(latest_checkpoint(config)), *flags[end:]]
    return flags


def _calm() -> None:
    """Silence what is no news to the user of a recipe."""
    warnings.filterwarnings("ignore", ".*args parameter is intended to run from within Python.*")
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage().lower()
    )
