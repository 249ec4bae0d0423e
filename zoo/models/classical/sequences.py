"""Sequences of symbols or of vectors: how they are given, checked and packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from zoo.checks import check_batch, check_finite, check_lengths, check_symbols
from zoo.inference.chains.layout import Layout, pad
from zoo.verbs import floats, whole

Sequences = Tensor | ArrayLike | Mapping[str, Any]
"""A tensor or array of sequences of equal length, (B, T) or (B, T, D); a list of sequences; or a
dict of these under `tokens` or `values`, or of `lengths` (B,) and what is padded to the longest."""


class Packed(NamedTuple):
    """Sequences whose steps are the rows of x, (N,) or (N, D), and how they are padded: to T."""

    x: Tensor
    layout: Layout
    length: int


@dataclass(frozen=True)
class Reader:
    """What reads the sequences that a model takes.

    Args:
        symbols: Number of symbols, V; None for vectors.
        shape: Shape of a step: () or (D,).
    """

    symbols: int | None
    shape: tuple[int, ...]

    @property
    def key(self) -> str:
        """The key that a batch has the sequences under."""
        return "values" if self.symbols is None else "tokens"

    def batch(self, data: Sequences, device: torch.device) -> dict[str, Tensor]:
        """Put sequences of different lengths into a padded batch, with `tags` if they have any.

        Args:
            data: The sequences.
            device: Where the batch is to be.

        Raises:
            ValueError: if a sequence is empty or of another shape than the model's.
        """
        named = data if isinstance(data, Mapping) else {self.key: data}
        check_batch(named, self.key)
        if "lengths" not in named:
            found = {name: pad(name, named[name]) for name in (self.key, "tags") if name in named}
            lengths = found[self.key][1]
            if any(not torch.equal(each, lengths) for _, each in found.values()):
                raise ValueError("tags and sequences differ in length; give a tag to each step.")
            named = {name: x for name, (x, _) in found.items()} | {"lengths": lengths}
        numbers = floats if self.symbols is None else whole
        batch = {self.key: numbers(self.key, named[self.key]).to(device)} | {
            name: whole(name, named[name]).to(device)
            for name in ("lengths", "mask", "tags")
            if name in named
        }
        values = batch[self.key]
        if values.ndim != 2 + len(self.shape) or tuple(values.shape[2:]) != self.shape:
            wanted = ", ".join(map(str, ("B", "T", *self.shape)))
            raise ValueError(
                f"{self.key} has shape {tuple(values.shape)}, but this model was built for "
                f"({wanted})."
            )
        check_lengths(self.key, values, batch["lengths"], batch.get("mask"))
        return batch

    def pack(self, values: Tensor, lengths: Tensor) -> Packed:
        """Pack padded sequences; raise ValueError if a step does not fit the model.

        Args:
            values: (B, T) or (B, T, D).
            lengths: (B,).
        """
        layout = Layout.of(lengths)
        rows = layout.pack(values)
        if self.symbols is None:
            check_finite("values", rows)
        else:
            check_symbols("tokens", rows, self.symbols)
            rows = rows.long()
        return Packed(rows, layout, values.shape[1])
