"""The data that a model is measured on."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from zoo import datamodules
from zoo.base import LatentVariableModel
from zoo.batches import part
from zoo.checkpoints.arguments import checked_arguments
from zoo.datamodules.base import DataModule, ImageDataModule, Split
from zoo.errors import ZooError, brief, nearest

T = TypeVar("T")


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
