"""Training from recipes: LightningCLI, and what it needs to be safe to interrupt."""

import json
import logging
import pickle
import shlex
import signal
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
from zoo.training import monitors as monitors  # likewise
from zoo.training import push as push  # likewise
from zoo.training.divergence import StopWhenDiverged
from zoo.training.folders import SaveRecipe, resume
from zoo.training.help import page
from zoo.training.messages import explain, explain_trainer
from zoo.training.precision import suited_precision
from zoo.training.recipes import parsable, read_recipe, recipe_path
from zoo.training.saving import AtomicCheckpointIO, SaveLast
from zoo.training.seeding import SeedEpoch

_POSITIVE = ("accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps")


class ZooCLI(LightningCLI):
    """LightningCLI over the zoo's models and data; what the user gets wrong is a ZooError."""

    def __init__(self, command: Sequence[str], args: Sequence[str]) -> None:
        self.command = command  # as the user typed it, to say how to go on with it
        super().__init__(
            LatentVariableModel,
            LightningDataModule,
            save_config_callback=None,  # SaveRecipe does it
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
            args=[*args],
        )

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
        for key in _POSITIVE:
            if config[key] is not None and config[key] < 1:
                raise ZooError(f"trainer.{key} is {config[key]}, but must be at least 1.")
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
        except Exception as error:
            # jsonargparse wraps a constructor's own sentence in a report of all types it tried.
            cause: BaseException = error
            while isinstance(cause, ValueError) and cause.__cause__ is not None:
                cause = cause.__cause__
            self._explain(cause)
            raise cause from None

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
        always: list[Callback] = [SeedEpoch(), SaveLast(), StopWhenDiverged(), SaveRecipe()]
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
        self._refuse_spawning()
        callback = self.trainer.checkpoint_callback
        if config["trainer"].get("fast_dev_run") and isinstance(callback, ModelCheckpoint):
            callback.save_last = (
                None  # which ModelCheckpoint would write at the end of a trial, too
            )
        self._find_checkpoint(self.model.data["class_path"])

    def before_validate(self) -> None:
        self._find_checkpoint(None)

    def before_test(self) -> None:
        self._find_checkpoint(None)

    def _refuse_spawning(self) -> None:
        """Refuse a strategy whose processes are handed what cannot be pickled."""
        trainer = self.trainer
        if getattr(trainer.strategy, "_start_method", None) not in ("spawn", "forkserver"):
            return
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a helper
        for part in (self.model, self.datamodule, *callbacks, *trainer.loggers):
            try:
                pickle.dumps(part)
            except (pickle.PicklingError, AttributeError, TypeError):
                raise ZooError(
                    f"{type(part).__name__} cannot be handed to processes that are spawned; "
                    "give --trainer.strategy ddp, which starts them anew."
                ) from None

    def _find_checkpoint(self, data: str | None) -> None:
        """Set `ckpt_path` to the file that it means, and the model's recipe to what is run."""
        config, initial = self.config[self.subcommand], self.config_init[self.subcommand]
        config["ckpt_path"] = resume(self.trainer, self.model, config, data)
        initial["ckpt_path"] = config["ckpt_path"]
        self.model.recipe = self._parser(self.subcommand).dump(config, skip_none=False)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SystemExit:  # Lightning's answer to Ctrl-C, after which it is deaf to another
            if not self.trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt(self._how_to_go_on()) from None
        except Exception as error:
            self._explain(error)
            raise

    def _explain(self, error: BaseException) -> None:
        """Raise a ZooError for what Lightning says in its own terms, if that is known."""
        config = self._get(self.config, "trainer")
        family = self._get(self.config, "model")["class_path"].rpartition(".")[2]
        if sentence := explain_trainer(f"{type(error).__name__}: {error}", config, family):
            raise ZooError(sentence) from error

    def _how_to_go_on(self) -> str:
        if self.subcommand != "fit":
            return ""
        callback = self.trainer.checkpoint_callback
        saved = [str(self.config["fit"].get("ckpt_path") or "")]
        if isinstance(callback, ModelCheckpoint):
            saved = [callback.last_model_path, callback.best_model_path, *saved]
        for path in saved:
            if Path(path).is_file():
                command = shlex.join([*self.command, "--ckpt_path", path])
                return f"{path} is kept; to go on: {command}"
        return "no checkpoint was written yet: the first comes after the first validation"

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
    words = [short_names(flag) for flag in flags if flag not in ("-h", "--help")]
    words = ["--help" if word == "--help-all" else word for word in words]
    _calm()
    cls = ZooCLI if len(words) == len(flags) else _HelpCLI
    return cls(
        command=["zoo", subcommand, recipe, *without_checkpoint(flags)],
        args=[subcommand, "--config", parsable(config), *words],
    )


class _HelpCLI(ZooCLI):
    """Says what would be run, and runs nothing."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        subcommand, recipe = self.command[1:3]
        print(page(subcommand, recipe, recipe_path(recipe), self.config[subcommand]))
        raise SystemExit(0)


def without_checkpoint(flags: Sequence[str]) -> list[str]:
    """Flags but for `--ckpt_path` and its value."""
    return [
        flag
        for before, flag in zip(["", *flags], flags, strict=False)
        if "--ckpt_path" not in (before, flag.partition("=")[0])
    ]


def _calm() -> None:
    """Silence what is no news to the user of a recipe."""
    warnings.filterwarnings("ignore", ".*args parameter is intended to run from within Python.*")
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage().lower()
    )
