"""Sequences of different lengths, packed so that nothing is computed for padding.

All first steps come first, then all second ones, and so on, each from the longest sequence to the
shortest, as in torch's `PackedSequence`: the sequences that have a step are the first ones.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo.verbs import from_array


class Layout(NamedTuple):
    """Where the N steps of B packed sequences stand.

    Args:
        sizes: For each of T steps, how many sequences have it.
        rank: Which sequence a row belongs to, counted from the longest, (N,).
        step: Which of its steps a row is, (N,).
        order: The sequences from the longest to the shortest, (B,).
    """

    sizes: list[int]
    rank: Tensor
    step: Tensor
    order: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Self:
        """The layout of sequences of these lengths, (B,), all at least 1."""
        order = torch.argsort(lengths, descending=True, stable=True)
        sizes = len(lengths) - torch.bincount(lengths).cumsum(0)[:-1]  # how many are longer, (T,)
        total = int(sizes.sum())
        step = torch.repeat_interleave(sizes, output_size=total)
        rank = torch.arange(total, device=step.device) - (sizes.cumsum(0) - sizes)[step]
        return cls(sizes.tolist(), rank, step, order)

    @property
    def previous(self) -> Tensor:
        """The rows before all that are not a first step, (N - B,)."""
        first = len(self.order)
        sizes = torch.tensor(self.sizes, device=self.step.device)
        rows = torch.arange(first, len(self.step), device=self.step.device)
        return rows - sizes[self.step[first:] - 1]

    @property
    def last(self) -> Tensor:
        """The rows of the last steps, (B,), from the longest sequence to the shortest."""
        sizes = torch.tensor(self.sizes, device=self.step.device)
        final = torch.bincount(self.rank) - 1
        return (sizes.cumsum(0) - sizes)[final] + torch.arange(len(final), device=final.device)

    def pack(self, x: Tensor) -> Tensor:
        """Padded sequences (B, T, ...) as rows (N, ...)."""
        return x.flatten(0, 1).index_select(0, self.order[self.rank] * x.shape[1] + self.step)

    def unpack(self, rows: Tensor, length: int | None = None) -> Tensor:
        """Rows (N, ...) as sequences (B, T, ...), padded with zeros.

        Args:
            rows: What is packed.
            length: T; by default the length of the longest sequence.
        """
        padded = rows.new_zeros(len(self.order), length or len(self.sizes), *rows.shape[1:])
        padded[self.order[self.rank], self.step] = rows
        return padded

    def steps(self, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Views of rows (N, ...) by their step, T of (B_t, ...), for each of the tensors."""
        return (torch.split(x, self.sizes) for x in rows)

    def total(self, values: Tensor) -> Tensor:
        """Sums of the rows' values (..., N) over each sequence, (..., B) in float64."""
        sums = values.new_zeros(*values.shape[:-1], len(self.order), dtype=torch.float64)
        return sums.index_add_(-1, self.order[self.rank], values.double())

    def part(self, chosen: Tensor) -> tuple[Tensor, "Layout"]:
        """The rows of some sequences, and the layout that these have.

        Args:
            chosen: Which, bool (B,), counted from the longest.
        """
        rows = chosen[self.rank].nonzero().squeeze(1)
        step = self.step[rows]
        rank = (chosen.cumsum(0) - 1)[self.rank[rows]]
        order = torch.arange(int(chosen.sum()), device=step.device)
        return rows, Layout(torch.bincount(step).tolist(), rank, step, order)


def blocks(lengths: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Part sequences into blocks of some `size` steps, those of like lengths together.

    Args:
        lengths: Of the sequences, (B,).
        size: Steps in a block; the last sequence of a block may reach beyond it.

    Yields:
        Which sequences a block has, and their lengths, the longest first.
    """
    ordered, order = torch.sort(lengths, descending=True, stable=True)
    block = (ordered.cumsum(0) - ordered) // size
    counts = torch.unique_consecutive(block, return_counts=True)[1].tolist()
    yield from zip(torch.split(order, counts), torch.split(ordered, counts), strict=True)


def pad(name: str, sequences: Any) -> tuple[Tensor, Tensor]:
    """Put sequences of numbers into one tensor (B, T, ...), and their lengths into another, (B,).

    Args:
        name: What they are called.
        sequences: A list of lists, arrays or tensors; or a tensor or array, if all are as long.

    Raises:
        ValueError: if there are none, one is empty, or they are no numbers.
    """
    if isinstance(sequences, np.ndarray) and sequences.dtype != object:
        sequences = from_array(name, sequences)
    if isinstance(sequences, Tensor) and sequences.ndim > 1 and 0 not in sequences.shape[:2]:
        x = from_array(name, sequences)
        return x, torch.full(x.shape[:1], x.shape[1], device=x.device)
    if not isinstance(sequences, Iterable) or getattr(sequences, "ndim", None) == 0:
        sequences = [sequences]
    found = []
    for i, sequence in enumerate(sequences):
        x = from_array(f"sequence {i} of {name}", sequence)
        if x.ndim == 0:
            raise ValueError(f"{name} must be a list of sequences; put a single one into a list.")
        if len(x) == 0:
            raise ValueError(f"sequence {i} of {name} is empty; leave it out.")
        found.append(x)
    if not found:
        raise ValueError(f"{name} has no sequences.")
    if len({(x.dtype, x.shape[1:]) for x in found}) > 1:
        raise ValueError(f"the sequences of {name} differ in type or in the shape of a step.")
    lengths = torch.tensor([len(x) for x in found], device=found[0].device)
    return pad_sequence(found, batch_first=True), lengths
