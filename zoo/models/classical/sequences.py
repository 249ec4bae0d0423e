"""Sequences of symbols or of vectors: how they are given, checked and packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.checks import check_batch, check_finite, check_lengths, check_symbols
from zoo.inference.chains.layout import Layout, pad
from zoo.verbs import floats, tensor, whole

Sequences = Tensor | Mapping[str, Tensor]
"""Sequences of equal length, (B, T) or (B, T, D); or of any: `tokens` or `values`, padded to the
longest, and `lengths` (B,)."""


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

    def read(self, x: Any, device: torch.device) -> dict[str, Tensor]:
        """What a verb was given, as a padded batch of numbers of the right kind.

        Args:
            x: As `batch` takes it.
            device: Where arrays and lists go.
        """
        named = x if isinstance(x, Mapping) else {self.key: x}
        check_batch(named, self.key)
        if "lengths" not in named and not isinstance(named[self.key], Tensor | np.ndarray):
            return self.batch({self.key: named[self.key]}, device)
        numbers = floats if self.symbols is None else whole
        rest = {key: whole(key, named[key], device) for key in ("lengths", "mask") if key in named}
        return {self.key: numbers(self.key, named[self.key], device=device), **rest}

    def batch(self, data: Any, device: torch.device) -> dict[str, Tensor]:
        """Put sequences of different lengths into a padded batch.

        Args:
            data: A list, tensor or array of sequences; or a dict of these under `key` and `tags`.
            device: Where the batch is to be.

        Raises:
            ValueError: if a sequence is empty or does not fit the model.
        """
        named = data if isinstance(data, Mapping) else {self.key: data}
        check_batch(named, self.key)
        if "lengths" not in named:
            found = {name: pad(name, named[name]) for name in (self.key, "tags") if name in named}
            lengths = found[self.key][1]
            if any(not torch.equal(each, lengths) for _, each in found.values()):
                raise ValueError("tags and sequences differ in length; give a tag to each step.")
            named = {name: x for name, (x, _) in found.items()} | {"lengths": lengths}
        batch = {name: tensor(name, x, device).to(device) for name, x in named.items()}
        if self.symbols is None:
            batch[self.key] = floats(self.key, batch[self.key])
        self.padded(batch)
        return {self.key: batch.pop(self.key), **batch}

    def padded(self, x: Sequences) -> tuple[Tensor, Tensor]:
        """Return padded sequences and their lengths; raise ValueError if their shapes are wrong."""
        batch = {self.key: x} if isinstance(x, Tensor) else x
        check_batch(batch, self.key)
        values = batch[self.key]
        if values.ndim != 2 + len(self.shape) or tuple(values.shape[2:]) != self.shape:
            wanted = ", ".join(map(str, ("B", "T", *self.shape)))
            raise ValueError(
                f"{self.key} has shape {tuple(values.shape)}, but this model was built for "
                f"({wanted})."
            )
        lengths = batch.get("lengths")
        if lengths is None:
            lengths = torch.full(values.shape[:1], values.shape[1], device=values.device)
        check_lengths(self.key, values, lengths, batch.get("mask"))
        return values, lengths

    def pack(self, values: Tensor, lengths: Tensor, like: Tensor) -> Packed:
        """Pack padded sequences; raise ValueError if a step does not fit the model.

        Args:
            values: (B, T) or (B, T, D).
            lengths: (B,).
            like: Has the type and the device that vectors are to have.
        """
        layout = Layout.of(lengths)
        rows = layout.pack(values)
        if self.symbols is None:
            check_finite("values", rows)
            rows = rows.to(like)
        else:
            check_symbols("tokens", rows, self.symbols)
            rows = rows.long()
        return Packed(rows, layout, values.shape[1])
