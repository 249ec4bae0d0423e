r"""Pictures drawn from known factors; the data set has all combinations of their values.

With factors of $K_1, \dots, K_F$ values, the combination $(v_1, \dots, v_F)$ is row
$((v_1 K_2 + v_2) K_3 + \dots) K_F + v_F$: the last factor changes fastest.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from zoo.datamodules.base import DataModule, Split, check_at_least, check_one_of, split_indices
from zoo.datamodules.files.places import Example
from zoo.datamodules.loader import Finish


def factors_of(row: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the factors of each row, int64 (B, F) for int64 (B,)."""
    columns = []
    for size in reversed(sizes):
        columns.append(row % size)
        row = row.div(size, rounding_mode="floor")
    return torch.stack(columns[::-1], 1)


def row_of(factors: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the row of each combination of factors, int64 (B,) for int64 (B, F)."""
    row = torch.zeros_like(factors[:, 0])
    for size, column in zip(sizes, factors.unbind(1), strict=True):
        row = row * size + column
    return row


def check_factors(factors: Tensor, sizes: Mapping[str, int]) -> None:
    """Raise a ValueError unless `factors` is int64 (B, F) and every value is in range.

    Args:
        factors: The factors to check.
        sizes: Number of values of each factor, by its name.
    """
    if factors.dtype != torch.int64 or factors.shape[1:] != (len(sizes),):
        raise ValueError(
            f"factors are {str(factors.dtype).removeprefix('torch.')} {tuple(factors.shape)}, but "
            f"must be int64 (B, {len(sizes)}): {', '.join(sizes)}."
        )
    for (name, size), column in zip(sizes.items(), factors.unbind(1), strict=True):
        wrong = column[(column < 0) | (column >= size)]
        if len(wrong):
            raise ValueError(f"{name} is {int(wrong[0])}, but must be 0 to {size - 1}.")


class FactorImages(DataModule, ABC):
    """All combinations of known factors, as pictures that are drawn a batch at a time.

    A batch is `{"image", "factors", "index"}`: float32 (B, C, H, W), int64 (B, F), int64 (B,). Only
    the rows of each split are held in memory.

    Args:
        x_shape: Shape (C, H, W) of a picture.
        factors: The values of each factor by its name.
        batch_size: Pictures per batch and process.
        seed: Seed of the splits and of the order of training pictures.
        train_size: Number of training pictures, disjoint from the other splits; None trains on all
            pictures, including those of the other splits.
        val_size: Number of validation pictures.
        test_size: Number of test pictures.
    """

    def __init__(
        self,
        x_shape: tuple[int, int, int],
        factors: Mapping[str, Sequence[float | str]],
        batch_size: int,
        seed: int,
        train_size: int | None,
        val_size: int,
        test_size: int,
    ) -> None:
        super().__init__(batch_size, seed)
        check_at_least(1, val_size=val_size, test_size=test_size)
        self.x_shape = x_shape
        self.factor_values = {name: tuple(values) for name, values in factors.items()}
        self.n = prod(self.factor_sizes)
        if train_size is not None:
            check_at_least(1, train_size=train_size)
        if (wanted := (train_size or 0) + val_size + test_size) > self.n:
            raise ValueError(
                f"The splits have {wanted:,} pictures together, but there are only {self.n:,}: "
                "lower train_size, val_size or test_size."
            )
        self.train_size = train_size
        self.val_size = val_size
        self.test_size = test_size

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors, in the order of the columns of `factors`."""
        return tuple(self.factor_values)

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(len(values) for values in self.factor_values.values())

    @abstractmethod
    def draw(self, factors: Tensor) -> Tensor:
        """Return the pictures of valid factors, float32 (B, C, H, W) in [0, 1].

        Args:
            factors: Value of each factor, int64 (B, F), on any device.
        """

    @abstractmethod
    def say(self, factors: Sequence[int]) -> str:
        """Return the factors of one picture in words."""

    def render(self, factors: Tensor) -> Tensor:
        """Return the pictures with the given factors, as in a batch.

        Args:
            factors: Value of each factor, int64 (B, F), on any device.

        Returns:
            Tensor in [0, 1], float32 (B, C, H, W), on the device of `factors`.

        Raises:
            ValueError: if a value is out of range.
        """
        check_factors(factors, {name: len(v) for name, v in self.factor_values.items()})
        return self.draw(factors)

    def factors_of(self, row: Tensor) -> Tensor:
        """Return the factors of each row of the data set, int64 (B, F) for int64 (B,)."""
        return factors_of(row, self.factor_sizes)

    def row_of(self, factors: Tensor) -> Tensor:
        """Return the row of the data set of each combination, int64 (B,) for int64 (B, F)."""
        return row_of(factors, self.factor_sizes)

    def sample_factors(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw factors, each uniform and independent of the others.

        Args:
            n: Number of combinations.
            generator: Source of the draw, on the CPU; torch's global generator when None.

        Returns:
            Tensor, int64 (n, F).
        """
        columns = [torch.randint(size, (n,), generator=generator) for size in self.factor_sizes]
        return torch.stack(columns, 1)

    def sample_pairs(
        self, n: int, factor: str, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw pairs that agree on one factor and are independent in the others.

        Args:
            n: Number of pairs.
            factor: Name of the factor that both members of a pair share.
            generator: Source of the draw, on the CPU; torch's global generator when None.

        Returns:
            The factors of the first and of the second of each pair, int64 (n, F) each.
        """
        check_one_of(self.factor_names, factor=factor)
        first, second = (self.sample_factors(n, generator) for _ in range(2))
        column = self.factor_names.index(factor)
        second[:, column] = first[:, column]
        return first, second

    def sample_groups(
        self, n: int, size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw groups that agree on one random factor and are independent in the others.

        Args:
            n: Number of groups.
            size: Number of combinations in each group.
            generator: Source of the draw, on the CPU; torch's global generator when None.

        Returns:
            The factors, int64 (n, size, F), and the column that each group agrees on, int64 (n,).
        """
        factors = self.sample_factors(n * size, generator).view(n, size, -1)
        fixed = torch.randint(len(self.factor_sizes), (n,), generator=generator)
        group = torch.arange(n)
        factors[group, :, fixed] = factors[group, :1, fixed]
        return factors, fixed

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits, each with `row` int64 (N,), in a random order."""
        parts = split_indices(self.n, self.val_size, self.test_size, self.seed)
        if self.train_size is None:
            parts["train"] = torch.cat([parts["train"], parts["val"], parts["test"]])
        else:
            parts["train"] = parts["train"][: self.train_size]
        return {split: {"row": row} for split, row in parts.items()}

    def finish(self, split: Split) -> Finish:
        """Return the function that draws the pictures of a batch."""
        return self._drawn

    def _drawn(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        factors = self.factors_of(batch["row"])
        return {"image": self.draw(factors), "factors": factors, "index": batch["index"]}

    def examples(self, n: int) -> list[Example]:
        """Return the first n training pictures with their factors in words."""
        check_at_least(1, n=n)
        if not self.splits:
            raise RuntimeError(f"Call {type(self).__name__}.setup() before asking for examples.")
        factors = self.factors_of(self.splits["train"]["row"][:n])
        image = self.draw(factors).mul(255).round().to(torch.uint8)
        return [Example(x, self.say(v)) for x, v in zip(image, factors.tolist(), strict=True)]
