"""The data that a model is measured on."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from zoo import datamodules
from zoo.base import LatentVariableModel
from zoo.batches import part
from zoo.checkpoints.arguments import arguments, checked_arguments
from zoo.datamodules.base import DataModule, ImageDataModule, Split
from zoo.errors import ZooError, brief, in_any_case, nearest

T = TypeVar("T")


def data_class(name: str | None) -> type[DataModule]:
    """The DataModule of a name, in any case.

    Raises:
        ZooError: if there is none.
    """
    if name is None:
        raise ZooError("this model does not say what it was trained on; name a DataModule.")
    name = in_any_case(name, datamodules.__all__)
    if name not in datamodules.__all__:
        raise ZooError(f"there is no DataModule {name!r}; {nearest(name, datamodules.__all__)}")
    found: type[DataModule] = getattr(datamodules, name)
    return found


def data_module(
    model: LatentVariableModel,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> DataModule:
    """Build a DataModule that prepares inputs as this model expects them.

    Args:
        model: The model; without a name, its own training data's module is built.
        name: Name of another DataModule, such as `Digits`; it gets the model's binarisation, and
            the size of the model's images where the data have none of their own.
        settings: Arguments of the DataModule, beside those that the model was trained with.

    Raises:
        ZooError: if the name is unknown, the model does not say what it was trained on, an argument
            is unknown or missing, or the data have another shape.
    """
    own, settings = model.data or {}, settings or {}
    cls = data_class(name or own.get("class_path"))
    name, given = cls.__name__, dict(own.get("init_args", {}))
    given.pop("root", None)  # a path of the machine that the checkpoint is from
    if name != own.get("class_path"):
        given = {k: v for k, v in given.items() if k == "binarization" and k in arguments(cls)}
        if cls is datamodules.ImageFolder:
            given |= {"channels": model.x_shape[0], "size": model.x_shape[-1]}
    for key, parameter in arguments(cls).items():
        if parameter.default is parameter.empty and key not in {**given, **settings}:
            folder = " or --images FOLDER" if cls is datamodules.ImageFolder else ""
            raise ZooError(
                f"{name} needs its argument {key}, which no checkpoint holds; add --set "
                f"{key}=VALUE{folder}."
            )
    try:
        module = cls(**checked_arguments(cls, "the model's data", given, settings))
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
