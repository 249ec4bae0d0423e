r"""Examples of different lengths, such as sentences, that are padded only in a batch.

The items of all examples stand one after another in flat tensors; example $i$ is the $l_i$ items
from position $s_i$ on. A batch pads its examples with zeros to the longest of them.
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

    From the rows `start` and `lengths`, both (B,), it makes a tensor (B, T, ...) for each key of
    `items`, with T the longest length, and `mask` bool (B, T), true at items. Integers become
    int64; the other rows stay.

    Args:
        items: Flat tensors with one row for every item of all examples.
    """

    def __init__(self, items: Mapping[str, Tensor]) -> None:
        self.items = dict(items)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = dict(batch)
        start, lengths = rest.pop("start"), rest["lengths"]
        # the loader holds the rows on the accelerator if the whole set fits, items included
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
    """Plural nouns for examples and for items."""

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
            split: Split of the example.
            index: Position of the example in its split, as in `index` of batches.
        """

    def span(self, split: Split, index: int) -> slice:
        """Return the positions of one example's items in the flat tensors."""
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
        """Return the numbers of examples and items in each split, and the vocabulary's size."""
        self._check_setup()
        examples, items = self.units
        facts = {
            split: f"{self._rows(split):,} {examples}, {self.size(split):,} {items}"
            for split in self.splits
        }
        return facts | ({"vocabulary": f"{len(self.vocabulary):,}"} if self.vocabulary else {})

    def assets(self) -> dict[str, str]:
        """Return `vocabulary.json`: the words in the order of their positions, if there are any."""
        return vocabulary_json(vocabulary=self.vocabulary) if self.vocabulary else {}

    def size(self, split: Split) -> int:
        """Return the number of items in a split."""
        return int(self.splits[split]["lengths"].sum())

    def finish(self, split: Split) -> Finish:
        """Return the function that pads the examples of a batch."""
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
    """Split range(n) at random by the seed; a part of fraction 0 is a copy of the training part.

    Args:
        n: Number of examples.
        val_fraction: Share for validation; if above 0, at least one example.
        test_fraction: Share for the test; if above 0, at least one example.
        seed: Seed of the split.
        what: Noun for the examples and their place, for the error: "documents in ap.dat".

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
