r"""Batches of examples that are held in memory, sliced a whole batch at a time.

Let $\pi$ be a permutation of the $n$ examples that depends on the seed and the epoch only. Of $W$
processes, process $r$ sees $\pi_r, \pi_{r+W}, \pi_{r+2W}, \dots$, so that the $b$-th batches of all
processes together are the $b$-th batch of one process with $W$ times the batch size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

Finish = Callable[[dict[str, Tensor]], dict[str, Any]]
"""Function that turns the rows of a batch into the batch: tensors, and lists of text."""

# Largest row in bytes of a tensor that is reordered as a whole for an epoch.
NARROW = 512


class Rows(Protocol):
    """Source of batches: a tensor, or an object that reads its rows from elsewhere."""

    @property
    def nbytes(self) -> int:
        """Size of all rows in bytes."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """Return a new tensor of the chosen rows; `dim` is 0."""

    def to(self, device: torch.device | str, /) -> "Rows":
        """Return the rows on this device."""


def binarize(image: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw float pixels that are 1 with probability v / 255 for a uint8 pixel v, and 0 otherwise.

    The probability is exact to 2^-16; v = 0 always gives 0, and v = 255 always 1. Sixteen random
    bits per pixel are drawn for four pixels at a time, in a third of the time of `torch.rand` on a
    CPU.

    Args:
        image: Pixels, uint8, of any shape.
        generator: Source of the noise; the global generator of the image's device when None.

    Returns:
        Tensor of zeros and ones, float32, in the shape of `image`.
    """
    n = image.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64, device=image.device)
    words.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[:n].view(image.shape)  # uniform on -2^15, ..., 2^15 - 1
    return bits.float().add_(image.float(), alpha=-(2**16) / 255).lt_(-(2.0**15))


def binarized(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Draw the pixels of `image` anew, with the global generator of their device."""
    return {**batch, "image": binarize(batch["image"])}


def scaled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Divide the pixels of `image` by 255."""
    return {**batch, "image": batch["image"].float().div_(255)}


def binarize_split(image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw all pixels of a split once, as uint8 values 0 and 255."""
    parts = torch.split(image, 4096)  # floats of one part at a time
    return torch.cat([binarize(part, generator).mul_(255).to(torch.uint8) for part in parts])


def seeded(seed: int, stream: int) -> torch.Generator:
    """Return a private CPU generator; streams below 900,000 are the epochs' orders."""
    return torch.Generator().manual_seed(seed * 1_000_003 + stream)


class InOrder(SequentialSampler):
    """The order of the split; Lightning sets its epoch, which a loader's place records."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Note the epoch; Lightning calls it before every epoch."""
        self.epoch = epoch


class Shuffled:
    """A random order in each epoch, which depends only on the seed and the epoch.

    If `weights` are set, an order is n draws with replacement, in proportion to the weights.

    Args:
        n: Number of examples in the split.
        seed: Seed of all orders.
        rank: Rank of this process.
        world_size: Number of processes; together they take every example once.
    """

    def __init__(self, n: int, seed: int, rank: int, world_size: int) -> None:
        self.n = n
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.weights: Tensor | None = None

    def __len__(self) -> int:
        return len(range(self.rank, self.n, self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; Lightning calls it before every epoch."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Return this process's positions in the split, shape (len(self),)."""
        noise = seeded(self.seed, self.epoch)
        if self.weights is None:
            order = torch.randperm(self.n, generator=noise)
        else:
            order = torch.multinomial(self.weights, self.n, replacement=True, generator=noise)
        return order[self.rank :: self.world_size]


@dataclass
class Place:
    """Position of a loader in an epoch.

    Args:
        epoch: Number of the epoch.
        batches: Number of batches in the epoch.
        taken: Number of batches that the loader has returned.
    """

    epoch: int
    batches: int
    taken: int = 0


class Batches:
    """Loader over tensors in memory.

    The rows of a batch are a dict with the keys of `tensors` and `index`, the positions of the
    examples in the split, int64 (B,); `finish` turns them into the batch.

    In an epoch one process sees each example once or, after `weigh`, as often as it is drawn. The
    numbers of examples of two processes may differ by one. All processes take the same number of
    batches, because collective operations inside a step need it; if a process would run short, its
    last two batches share its remaining examples. (Batch size 1 does not allow that: in training,
    the last batch of some processes has two examples; in evaluation, the numbers of batches may
    differ.)

    A loader that loads the `state_dict` of another continues after the last batch of the other, if
    it iterates over the same epoch. Lightning keeps the state in its checkpoints.

    Args:
        tensors: The split: tensors whose first dimension is N, or what reads like them.
        batch_size: Examples per batch and process.
        finish: Turns the rows of a batch into the batch; the default, `scaled`, turns the uint8
            pixels of `image` into float32.
        shuffle: Whether to draw a new order in each epoch.
        seed: Seed of the order.
        rank: Rank of this process.
        world_size: Number of processes.
        device: Where the tensors are kept and the batches made.
        draw: Returns further tensors with N rows for an epoch, such as the caption drawn for each
            image; they are sliced like the others.
    """

    def __init__(
        self,
        tensors: Mapping[str, Rows],
        batch_size: int,
        *,
        finish: Finish = scaled,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        draw: Callable[[int], Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.tensors = {key: tensor.to(device) for key, tensor in tensors.items()}
        self.batch_size = batch_size
        self.finish = finish
        self.draw = draw
        self.device = torch.device(device)
        self.n = len(next(iter(self.tensors.values())))
        self.rank = rank
        self.world_size = world_size
        # Lightning looks for set_epoch in `sampler`, for a SequentialSampler where nothing may be
        # shuffled, and for `batch_sampler` where it finds a sampler.
        self.batch_sampler = None
        self.sampler: Shuffled | InOrder = (
            Shuffled(self.n, seed, rank, world_size)
            if shuffle
            else InOrder(range(rank, self.n, world_size))
        )
        self._place = Place(0, len(self))  # of the iterator that is in use
        self._loaded: Place | None = None  # for the next one

    def weigh(self, weights: Tensor) -> None:
        """Draw examples in proportion to weights from the next epoch on, if the loader shuffles.

        Args:
            weights: At least 0, and not all 0, (N,) on the CPU, the same in all processes.

        Raises:
            ValueError: if the number of weights is not the number of examples.
        """
        if weights.shape != (self.n,):
            shape = tuple(weights.shape)
            raise ValueError(f"weights has shape {shape}, but there are {self.n} examples.")
        if isinstance(self.sampler, Shuffled):
            self.sampler.weights = weights

    def __len__(self) -> int:
        longest = -(-self.n // self.world_size)
        batches = min(-(-longest // self.batch_size), len(self.sampler))
        if isinstance(self.sampler, Shuffled):
            # a gradient step of a single process would wait for the others forever
            return min(batches, self.n // self.world_size)
        return batches

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch, the same in all processes, and the examples' weights."""
        weights = self.sampler.weights if isinstance(self.sampler, Shuffled) else None
        return asdict(self._loaded or self._place) | (
            {} if weights is None else {"weights": weights}
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iterator continue from the place of another loader."""
        self._loaded = Place(state["epoch"], state["batches"], state["taken"])
        if "weights" in state:
            self.weigh(state["weights"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        here = Place(self.sampler.epoch, len(self))
        if (loaded := self._loaded) and loaded.epoch == here.epoch:
            if loaded.batches != here.batches:
                raise ValueError(
                    f"the checkpoint is of an epoch of {loaded.batches} batches, but here it has "
                    f"{here.batches}; resume with the same data, batch size and number of "
                    "processes, or from the end of an epoch."
                )
            here.taken = loaded.taken % loaded.batches
        # a model may iterate during an epoch, and the place in the epoch must survive that
        outer, self._place, self._loaded = self._place, here, None
        try:
            for batch in self._epoch(here.taken):
                here.taken += 1
                yield batch
        finally:
            if self._place is here:
                self._place = outer

    def _epoch(self, first: int) -> Iterator[dict[str, Any]]:
        """Yield the batches of this epoch, beginning with the batch of number `first`."""
        if isinstance(self.sampler, Shuffled):
            order = self.sampler.indices().to(self.device)
        else:
            order = torch.arange(self.rank, self.n, self.world_size, device=self.device)
        tensors = self.tensors | self._drawn()
        # Small tensors allocated between the large ones of each batch fragment the heap, and then
        # allocating memory takes a fifth of the time on a CPU.
        narrow = {k: t for k, t in tensors.items() if t.nbytes <= NARROW * len(t)}
        ordered = {key: rows.index_select(0, order) for key, rows in narrow.items()} | {
            "index": order
        }
        wide = {k: t for k, t in tensors.items() if k not in narrow}
        n, batches = len(order), len(self)
        # leaves one example for each later batch; this is b * B unless the process runs short
        starts = [min(b * self.batch_size, n - batches + b) for b in range(batches)]
        for start, stop in list(pairwise([*starts, n]))[first:]:
            ready = {key: rows[start:stop] for key, rows in ordered.items()}
            # no name here holds the rows while the batch is used: the next rows reuse the memory
            yield self.finish(_taken(wide, order[start:stop]) | ready)

    def _drawn(self) -> dict[str, Tensor]:
        if self.draw is None:
            return {}
        epoch = self.sampler.epoch if isinstance(self.sampler, Shuffled) else 0
        return {key: tensor.to(self.device) for key, tensor in self.draw(epoch).items()}


def _taken(tensors: Mapping[str, Rows], index: Tensor) -> dict[str, Tensor]:
    # index_select is several times faster than tensor[index] on a CPU
    return {key: rows.index_select(0, index) for key, rows in tensors.items()}
