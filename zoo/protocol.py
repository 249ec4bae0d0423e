"""How a number of a card is measured: on which data, how much of it, with which seed.

A metric of metrics.json states its protocol beside its value: dataset, split, number of examples,
seed and samples. Most have a `quick` value, too, of a protocol that takes seconds.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import datamodules
from datamodules.base import DataModule, ImageDataModule, Split
from zoo.base import LatentVariableModel, checked_arguments
from zoo.errors import ZooError, brief, nearest
from zoo.evaluation import evaluate, part

T = TypeVar("T")


class Protocol(NamedTuple):
    """What has to be equal for two numbers to be comparable.

    Args:
        samples: Importance samples per datum for the NLL.
        limit: At most so many examples, the first of the test set; by default all.
        seed: Seed of all draws.
    """

    samples: int = 5000
    limit: int | None = None
    seed: int = 0


QUICK = Protocol(samples=200, limit=1000)
"""What `--quick` measures of a card with the full number of importance samples."""


def quick_of(samples: int) -> Protocol:
    """The quick protocol beside a card's: a 25th of its importance samples, 200 at the most."""
    return QUICK._replace(samples=max(1, min(QUICK.samples, samples // 25)))


def measure(
    model: LatentVariableModel,
    protocol: Protocol,
    dataset: str | None = None,
    kept: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure a model's likelihood on a test set: what `evaluate` gives, and the data's names.

    Args:
        model: The model, on the device where it is to be measured.
        protocol: How.
        dataset: Name of a DataModule; by default the model's own.
        kept: As `evaluate` has it.

    Raises:
        ZooError: if the dataset is unknown.
        DataError: if its files are missing or damaged.
    """
    module = data_module(model, dataset)
    batches = held_out(module, protocol.limit)
    found = evaluate(model, batches, protocol.samples, protocol.seed, kept)
    for metric in found:
        metric |= {"dataset": type(module).__name__, "split": "test"}
    return found


def with_quick_values(
    metrics: list[dict[str, Any]], quick: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put beside each metric its value under the quick protocol."""
    kept = ("value", "standard_error", "monte_carlo_error", "count", "importance_samples")
    values = {m["name"]: {key: m[key] for key in kept if key in m} for m in quick}
    return [{**m, "quick": values[m["name"]]} if m["name"] in values else m for m in metrics]


def data_module(model: LatentVariableModel, name: str | None = None) -> DataModule:
    """Build a DataModule that prepares inputs as this model expects them.

    Args:
        model: The model; without a name, its own training data's module is built.
        name: Name of another DataModule, such as `Digits`; it gets the model's binarisation.

    Raises:
        ZooError: if the name is unknown, the model does not say what it was trained on, or the
            data have another shape.
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
        module: DataModule = cls(**checked_arguments(cls, "the model's data", arguments, {}))
    except TypeError as error:
        raise ZooError(f"{name} cannot be built from the model's data: {brief(error)}") from None
    if isinstance(module, ImageDataModule) and module.x_shape != model.x_shape:
        raise ZooError(
            f"an image has shape {module.x_shape} in {name}, but this model was built for "
            f"{model.x_shape}; pick another with --data."
        )
    return module


def held_out(
    module: DataModule,
    limit: int | None = None,
    batch_size: int = 100,
    split: Split = "test",
) -> Iterator[dict[str, Any]]:
    """Batches of the test set, in its order, with a progress bar.

    Args:
        module: Where the data come from.
        limit: Only the first so many examples.
        batch_size: Examples in a batch.
        split: Another split, whose examples are then not held out.
    """
    if limit is not None and limit < 1:
        raise ZooError(f"limit is {limit}, but at least 1 example is needed.")
    module.batch_size = batch_size
    module.prepare_data()
    module.setup("test")
    left = limit
    loader = module.loader(split, shuffle=False, rank=0, world_size=1)
    for batch in progress(loader, f"Measuring, {split} set"):
        if left is not None:
            batch = part(batch, 0, left)
            left -= len(next(iter(batch.values())))
        yield batch
        if left == 0:
            return


def progress(steps: Iterable[T], what: str) -> Iterable[T]:
    """The same steps, with a progress bar where somebody is watching.

    Args:
        steps: What is gone through.
        what: What is done meanwhile.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)  # what is printed may be JSON
    return track(steps, what, transient=True, console=console, disable=not console.is_terminal)
