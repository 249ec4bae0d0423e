"""Base classes of DataModules: checked arguments, one loader per split, binarized images."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from inspect import getdoc
from typing import ClassVar, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from zoo.datamodules.files.places import Example, Inventory
from zoo.datamodules.loader import Batches, Finish, Rows, binarize_split, binarized, scaled, seeded

Binarization = Literal["dynamic", "static", "none"]
Split = Literal["train", "val", "test"]
# Streams of the seeded generators, one for each thing that is drawn once.
SPLIT, SHAPES = 900_000, 900_001
PIXELS: dict[Split, int] = {"train": 900_002, "val": 900_003, "test": 900_004}
# First stream for the draws of an epoch other than the order of its examples.
DRAWS = 910_000


def check_at_least(low: int, **values: int) -> None:
    """Raise a ValueError that names the first value below `low`."""
    for name, value in values.items():
        if value < low:
            raise ValueError(f"{name} is {value}, but must be at least {low}.")


def check_one_of(known: Sequence[str], **values: str) -> None:
    """Raise a ValueError for the first value that is not in `known`, with the nearest known one."""
    for name, value in values.items():
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.0)
            raise ValueError(
                f"{name} is {value!r}, but must be one of {', '.join(known)}; "
                f"did you mean {near[0]!r}?"
            )


def place(kind: str, name: str, known: Sequence[str]) -> int:
    """Return the position of a name, in any case, among the known names.

    Args:
        kind: Kind of thing that has the name, for the error.
        name: The name.
        known: All names.

    Raises:
        ValueError: if the name is unknown; the message has the nearest one.
    """
    if name in known:
        return known.index(name)
    alike = [i for i, other in enumerate(known) if other.casefold() == str(name).casefold()]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    raise ValueError(f"there is no {kind} {name!r}; did you mean {near[0]!r}?")


class DataModule(LightningDataModule, ABC):
    """Splits of tensors in memory (or mapped into it), one loader for each.

    Works with a Trainer and without one: `prepare_data()`, `setup()`, then any of the loaders.
    Under a Trainer with several processes, each process reads its own share of every split. Tensors
    that take less than a quarter of the accelerator's free memory are moved to it once.

    Args:
        batch_size: Examples per batch and process.
        seed: Seed of the split, the order of training examples, and all that is drawn once.
    """

    about: ClassVar[str] = ""
    """Sentences of cards about the set: its content, authors and licence."""

    hub_id: ClassVar[str | None] = None
    """Name of the set on the Hub, or None if the Hub lacks it."""

    knows: ClassVar[str] = "what it was trained on and nothing else"
    """End of the sentence "The model knows ..." on cards."""

    feature_network: ClassVar[str | None] = None
    """Name of the published classifier whose features compare samples with the set."""

    directions: ClassVar[tuple[str, ...]] = ()
    """Attributes whose directions cards apply to test data."""

    balanced: ClassVar[Mapping[str, str]] = {}
    """Attributes that these directions leave unchanged, each with its name in a sentence."""

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__()
        check_at_least(1, batch_size=batch_size)
        check_at_least(0, seed=seed)
        if seed >= 2**32:  # as for seed_everything
            raise ValueError(f"seed is {seed}, but must be below 2^32.")
        # A process that gets no example of a very small split has no batch of it either.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.batch_size = batch_size
        self.seed = seed
        self.splits: dict[Split, dict[str, Tensor]] = {}

    @classmethod
    @abstractmethod
    def inventory(cls, root: str | None = None) -> Inventory | dict[str, Inventory]:
        """Return the files of the data set that are on disk and those that are missing.

        A set with an argument `source` returns one inventory for each source.

        Args:
            root: As in the constructor.
        """

    @classmethod
    def inventories(cls, root: str | None = None) -> dict[str, Inventory]:
        """Return the inventory of each source; a set without sources has the key "".

        Args:
            root: As in the constructor.
        """
        found = cls.inventory(root)
        return found if isinstance(found, dict) else {"": found}

    @classmethod
    def summary(cls) -> str:
        """Return the description of the set in one line, the first of its docstring."""
        return (getdoc(cls) or "").partition("\n")[0]

    @abstractmethod
    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each a dict of tensors with one row for each example."""

    @abstractmethod
    def examples(self, n: int) -> list[Example]:
        """Return the first n training examples for display, or all if there are fewer.

        Args:
            n: Number of examples.

        Raises:
            RuntimeError: if `setup()` was not called.
        """

    def tensors(self, split: Split) -> Mapping[str, Rows]:
        """Return the tensors that the loader of a split slices, with one row for each example."""
        return self.splits[split]

    def finish(self, split: Split) -> Finish:
        """Return the function that turns the rows of a batch into the batch."""
        return scaled

    def setup(self, stage: str | None = None) -> None:
        """Read all splits, for every stage, unless they have been read."""
        if not self.splits:
            self.splits = self.load()

    def facts(self) -> dict[str, str]:
        """Return the number of examples in each split, and other facts about the set.

        Raises:
            RuntimeError: if `setup()` was not called.
        """
        self._check_setup()
        return {split: f"{self._rows(split):,} examples" for split in self.splits}

    def assets(self) -> dict[str, str]:
        """Return the text files that a model of this data needs, by name, after `setup()`.

        They are stored with a checkpoint, and give the meaning of the numbers in batches.
        """
        return {}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ... after `setup()`; empty for data without labels."""
        return ()

    def attribute(self, batch: Mapping[str, Tensor], name: str) -> Tensor:
        """Return whether each example of a batch has an attribute: int64 (B,) of 0 and 1.

        Raises:
            ValueError: if no attribute has this name; the message has the nearest one.
        """
        raise ValueError(f"{type(self).__name__} has no attributes and no labels.")

    def train_dataloader(self) -> Batches:
        """Return the training split, shuffled anew in each epoch."""
        # Overfitting a few batches needs the same batches in every epoch.
        overfit = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        return self._batches("train", shuffle=not overfit)

    def val_dataloader(self) -> Batches:
        """Return the validation split: in order, the same batches every time."""
        return self._batches("val", shuffle=False)

    def test_dataloader(self) -> Batches:
        """Return the test split: in order, the same batches every time."""
        return self._batches("test", shuffle=False)

    def predict_dataloader(self) -> Batches:
        """Return the test split, for `Trainer.predict`."""
        return self.test_dataloader()

    def _batches(self, split: Split, *, shuffle: bool) -> Batches:
        self._check_setup()
        rank = self.trainer.global_rank if self.trainer else 0
        world_size = self.trainer.world_size if self.trainer else 1
        return self.loader(split, shuffle=shuffle, rank=rank, world_size=world_size)

    def loader(self, split: Split, *, shuffle: bool, rank: int, world_size: int) -> Batches:
        """Return the loader of one process's share of a split."""
        tensors = self.tensors(split)
        return Batches(
            tensors,
            self.batch_size,
            finish=self.finish(split),
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            device=self._device(sum(t.nbytes for t in tensors.values())),
        )

    def _rows(self, split: Split) -> int:
        return len(next(iter(self.splits[split].values())))

    def _check_setup(self) -> None:
        if not self.splits:
            raise RuntimeError(f"Call {type(self).__name__}.setup() before asking for its data.")

    def _device(self, n_bytes: int) -> torch.device:
        """Return the device that keeps a split of this size in bytes."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        # Only CUDA reports its free memory; on other devices the Trainer moves each batch.
        if device.type == "cuda" and n_bytes < torch.cuda.mem_get_info(device)[0] / 4:
            return device
        return torch.device("cpu")


class ImageDataModule(DataModule, ABC):
    """Images as uint8 tensors, in batches `{"image", "label", "index"}`.

    Args:
        x_shape: Shape (C, H, W) of an image.
        batch_size: Images per batch and process.
        binarization: "dynamic" draws each training pixel v in each epoch, as 1 with probability
            v / 255, else 0; "static" draws it once; "none" keeps grey values. "dynamic" and
            "static" draw the validation and test pixels once, by the seed.
        seed: Seed of the split, the order of training images, and pixels that are drawn once.
    """

    def __init__(
        self,
        x_shape: tuple[int, int, int],
        batch_size: int,
        binarization: Binarization,
        seed: int,
    ) -> None:
        super().__init__(batch_size, seed)
        check_one_of(get_args(Binarization), binarization=binarization)
        self._x_shape = x_shape
        self.binarization = binarization

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        return self._x_shape

    @abstractmethod
    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `image` uint8 (N, C, H, W) and `label` int64 (N,)."""

    def examples(self, n: int) -> list[Example]:
        """Return the first n training images, grey as they are stored, with their labels."""
        check_at_least(1, n=n)
        self._check_setup()
        rows = {key: tensor[:n] for key, tensor in self.splits["train"].items()}
        return [
            Example(drawable(image), self.label_name(int(label)))
            for image, label in zip(rows["image"], rows["label"], strict=True)
        ]

    def label_name(self, label: int) -> str:
        """Return the name of a label."""
        return str(label)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels from 0 to the largest.

        Raises:
            RuntimeError: if `setup()` was not called.
        """
        self._check_setup()
        largest = max(int(split["label"].max()) for split in self.splits.values())
        return tuple(self.label_name(label) for label in range(largest + 1))

    def attribute(self, batch: Mapping[str, Tensor], name: str) -> Tensor:
        """Return whether each image of a batch has the label of this name: int64 (B,), 0 or 1."""
        return (batch["label"] == place("label", name, self.label_names)).long()

    def tensors(self, split: Split) -> dict[str, Tensor]:
        """Return the split; pixels that are drawn only once are drawn here."""
        tensors = dict(self.splits[split])
        if self.binarization != "none" and not self._dynamic(split):
            noise = seeded(self.seed, PIXELS[split])
            tensors["image"] = binarize_split(tensors["image"], noise)
        return tensors

    def finish(self, split: Split) -> Finish:
        """Return the function that turns pixels into floats: a new draw, or the value / 255."""
        return binarized if self._dynamic(split) else scaled

    def _dynamic(self, split: Split) -> bool:
        return split == "train" and self.binarization == "dynamic"


def drawable(image: Tensor) -> Tensor:
    """Return an image (C, H, W) unchanged if it has 1 or 3 channels, else its first channel."""
    return image if len(image) in (1, 3) else image[:1]


def split_indices(n: int, n_val: int, n_test: int, seed: int) -> dict[Split, Tensor]:
    """Split range(n) at random into train, val and test positions, by the seed only."""
    order = torch.randperm(n, generator=seeded(seed, SPLIT))
    val, test, train = torch.split(order, [n_val, n_test, n - n_val - n_test])
    return {"train": train, "val": val, "test": test}


def take(tensors: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Return the chosen rows of every tensor."""
    return {key: tensor.index_select(0, index) for key, tensor in tensors.items()}
