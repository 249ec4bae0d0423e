r"""Examples of different lengths, such as sentences, that are padded only in a batch.

The items of all examples stand one after another in flat tensors; example $i$ is the $l_i$ items
from position $s_i$ on. A batch fills its examples up with zeros to the longest of them.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from zoo.datamodules.base import DataModule, Split, check_at_least, split_indices
from zoo.datamodules.files.places import DataError, Example
from zoo.datamodules.loader import Finish


class Padded:
    """Gathers the items of a batch's examples and pads them with zeros.

    Of the rows `start` and `lengths`, both (B,), it makes the keys of `items`, (B, T, ...) where T
    is the longest of the batch, and `mask` bool (B, T), true where an example has an item. Whole
    numbers become int64; the other rows stay.

    Args:
        items: Flat tensors with one row for every item of all examples.
    """

    def __init__(self, items: Mapping[str, Tensor]) -> None:
        self.items = dict(items)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = dict(batch)
        start, lengths = rest.pop("start"), rest["lengths"]
        # the loader holds the rows on the accelerator where the whole set fits, items included
        self.items = {key: flat.to(start.device) for key, flat in self.items.items()}
        step = torch.arange(int(lengths.max()), device=start.device)
        mask = step < lengths[:, None]  # (B, T)
        at = (start[:, None] + step).where(mask, 0)
        return {key: _padded(flat, at, mask) for key, flat in self.items.items()} | {
            "mask": mask,
            **rest,
        }


def _padded(flat: Tensor, at: Tensor, mask: Tensor) -> Tensor:
    rows = flat.index_select(0, at.flatten()).view(*at.shape, *flat.shape[1:])  # (B, T, ...)
    rows = rows.masked_fill(~mask.view(*mask.shape, *[1] * (flat.ndim - 1)), 0)
    return rows if rows.is_floating_point() else rows.long()


class RaggedDataModule(DataModule, ABC):
    """Examples of different lengths, in batches `{..., "mask", "lengths", "index"}`.

    Args:
        batch_size: Examples per batch and process.
        seed: Seed of the split, the order of training examples, and all that is drawn once.
    """

    units: ClassVar[tuple[str, str]]
    """What an example and what an item is called, in the plural."""

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__(batch_size, seed)
        self.items: dict[str, Tensor] = {}
        self.vocabulary: list[str] = []

    @abstractmethod
    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Keep `items`, and return all splits, each with `start` and `lengths` int64 (N,)."""

    @abstractmethod
    def spell(self, split: Split, index: int) -> str:
        """Return one example in words.

        Args:
            split: The split that it is in.
            index: Its position there, as the batches have it under `index`.
        """

    def span(self, split: Split, index: int) -> slice:
        """Return where the items of one example stand in the flat tensors."""
        self._check_setup()
        start, length = (int(self.splits[split][key][index]) for key in ("start", "lengths"))
        return slice(start, start + length)

    def examples(self, n: int) -> list[Example]:
        """Return the first n training examples in words."""
        check_at_least(1, n=n)
        self._check_setup()
        some = range(min(n, self._rows("train")))
        return [Example(None, self.spell("train", i)) for i in some]

    def facts(self) -> dict[str, str]:
        """Return how many examples and items a split has, and how many words there are."""
        self._check_setup()
        examples, items = self.units
        facts = {
            split: f"{self._rows(split):,} {examples}, {self.size(split):,} {items}"
            for split in self.splits
        }
        return facts | ({"vocabulary": f"{len(self.vocabulary):,}"} if self.vocabulary else {})

    def assets(self) -> dict[str, str]:
        """Return `vocabulary.json`: the words whose positions are in the batches, if there are."""
        return vocabulary_json(vocabulary=self.vocabulary) if self.vocabulary else {}

    def size(self, split: Split) -> int:
        """Return how many items the examples of a split have together."""
        return int(self.splits[split]["lengths"].sum())

    def finish(self, split: Split) -> Finish:
        """Return what pads the examples of a batch."""
        return Padded(self.items)

    def _device(self, n_bytes: int) -> torch.device:
        return super()._device(n_bytes + sum(flat.nbytes for flat in self.items.values()))


def vocabulary_json(**names: list[str]) -> dict[str, str]:
    """Return `vocabulary.json` with lists of names, one name a line."""
    return {"vocabulary.json": json.dumps(names, ensure_ascii=False, indent=0) + "\n"}


def starts(lengths: Tensor) -> dict[str, Tensor]:
    """Return the rows of examples that stand one after another: `start` and `lengths`, (N,)."""
    return {"start": lengths.cumsum(0) - lengths, "lengths": lengths}


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise a ValueError unless both are at least 0 and leave something to train on."""
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise ValueError(
            f"val_fraction and test_fraction are {val_fraction} and {test_fraction}, but must be "
            "at least 0 and leave something to train on."
        )


def split_fractions(
    n: int, val_fraction: float, test_fraction: float, seed: int, what: str
) -> dict[Split, Tensor]:
    """Split range(n) at random by the seed; a part of fraction 0 is the training part once more.

    Args:
        n: Number of examples.
        val_fraction: Share to validate with; if above 0, at least one example.
        test_fraction: Share to test with; if above 0, at least one example.
        seed: Seed of the split.
        what: What there are n of, and where, for the error: "documents in ap.dat".

    Raises:
        DataError: if nothing is left to train on.
    """
    n_val, n_test = (max(1, round(n * f)) if f > 0 else 0 for f in (val_fraction, test_fraction))
    if n_val + n_test >= n:
        raise DataError(
            f"there are {n} {what}, too few to hold out {n_val} to validate and {n_test} to test "
            "with: add some, or set val_fraction and test_fraction to 0 to measure on what is "
            "trained on."
        )
    parts = split_indices(n, n_val, n_test, seed)
    return {split: part if len(part) else parts["train"] for split, part in parts.items()}
