"""One page on what a recipe does, and the flags that change it."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import docstring_parser

from zoo.checkpoints.arguments import arguments
from zoo.checkpoints.catalog import locate
from zoo.checkpoints.config import read_config
from zoo.errors import ZooError
from zoo.pretrained.class_paths import short_names
from zoo.pretrained.loading import family

_TRAINER = {
    "max_epochs": "Passes over the data.",
    "accelerator": "Such as cpu, gpu or auto.",
    "devices": "How many, or which: '0,1'.",
    "strategy": "How several devices work together, such as ddp.",
    "precision": "Such as 32-true or bf16-mixed.",
    "gradient_clip_val": "Largest norm of the gradients.",
    "check_val_every_n_epoch": "Epochs from one validation, and checkpoint, to the next.",
    "limit_train_batches": "How many batches, or which share of them, an epoch takes.",
    "logger": "Such as CSVLogger, TensorBoardLogger or WandbLogger; false for none.",
    "fast_dev_run": "Try so many batches, and leave no files.",
}
_RUN = {
    "ckpt_path": "Training checkpoint to go on from: a file, or last.",
    "seed_everything": "Seed of all random numbers.",
}


def page(command: str, name: str, recipe: Path, config: Mapping[str, Any]) -> str:
    """What a recipe's header says, and flags with their values: the model's, the data's, others.

    Args:
        command: `fit`, `validate` or `test`.
        name: What the user calls the recipe.
        recipe: The file.
        config: The recipe as it is parsed, with the flags.
    """
    lines = recipe.read_text(encoding="utf-8").splitlines()
    header = [line[2:] for line in takewhile(lambda line: line.startswith("#"), lines)]
    parts = [f"zoo {command} {name}: {' '.join(header[:1])}", *header[1:]]
    for part in ("model", "data"):
        path = config[part]["class_path"]
        cls = getattr(import_module(path.rpartition(".")[0]), path.rpartition(".")[2])
        docs = _documented(cls)
        given = dict(config[part].get("init_args") or {})
        extra = config[part].get("dict_kwargs") or {}
        if extra:  # overrides what the checkpoint was built with
            with suppress(ZooError):
                folder = locate(given["name"], local_files_only=True)
                docs |= _documented(family(read_config(folder).family))
        rows = {f"--{part}.{key}": (value, docs.get(key, "")) for key, value in given.items()}
        rows |= {
            f"--{part}.dict_kwargs.{k}": (value, docs.get(k, "")) for k, value in extra.items()
        }
        rows.pop(f"--{part}.token", None)  # which no flag may tell
        parts += ["", f"{part}: {short_names(f'={path}')[1:]}", *_rows(rows)]
    trainer = {f"--trainer.{k}": (config["trainer"][k], text) for k, text in _TRAINER.items()}
    others = {f"--{name}": (config[name], text) for name, text in _RUN.items() if name in config}
    parts += ["", "training:", *_rows(trainer | others)]
    return "\n".join([*parts, "", f"All other flags: zoo {command} {name} --help-all"])


def _documented(call: Callable[..., Any]) -> dict[str, str]:
    """What docstrings say of the arguments of a class, and of its bases, or of a function."""
    found: dict[str, str] = {}
    for place in reversed(call.__mro__ if isinstance(call, type) else (call,)):
        for parameter in docstring_parser.parse(place.__doc__ or "").params:
            found[parameter.arg_name] = " ".join((parameter.description or "").split())
    return {name: found.get(name, "") for name in arguments(call)}


def _rows(rows: Mapping[str, tuple[Any, str]]) -> list[str]:
    """A line for each flag: its name, its value, and of its description what there is room for."""
    values = {flag: _shown(value) for flag, (value, _) in rows.items()}
    wide = max(map(len, rows), default=0)
    column = min(20, max(map(len, values.values()), default=0))
    room = get_terminal_size((100, 24)).columns
    lines = [f"  {flag:{wide}} {values[flag]:{column}}  {text}" for flag, (_, text) in rows.items()]
    return [line.rstrip() if len(line) <= room else f"{line[: room - 3]}..." for line in lines]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    path = value.get("class_path") if hasattr(value, "get") else None
    if path:
        return str(path).rpartition(".")[2]
    return value if isinstance(value, str) else json.dumps(value, default=str)
