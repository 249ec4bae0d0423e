"""Sequences from tables in text files, and Eisner's ice-cream diary."""

import re
import warnings
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from zoo.datamodules.base import Split, check_one_of, take
from zoo.datamodules.files.places import DataError, Inventory
from zoo.datamodules.files.table import Step, read_table
from zoo.datamodules.files.text import bad_line, brief
from zoo.datamodules.text.ragged import RaggedDataModule, check_fractions, split_fractions, starts

Kind = Literal["category", "count", "real"]
LARGEST = 2**31 - 1
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# The ice creams eaten on each of 33 days: Eisner, "An Interactive Spreadsheet for Teaching the
# Forward-Backward Algorithm" (2002), https://aclanthology.org/W02-0102.
ICE_CREAMS = "233232322313311121113121112332322"


class Sequences(RaggedDataModule):
    """Sequences of categories, counts or real vectors from one table of your own.

    Batches of categories and counts have `tokens` int64 (B, T): positions in `vocabulary`, the
    categories in alphabetical order, or the counts themselves. Batches of real values have `values`
    float64 (B, T, D). All batches have `mask` bool (B, T), `lengths` int64 (B,) and `index`.
    Padding is zero.

    The table is a `.csv` file (commas), `.tsv` (tabs) or `.txt` (spaces), or one of these with
    `.gz`, and a line has the values of one time step. A blank line separates two sequences, or the
    column `id_column` names the sequence of each line; then lines of sequences may be mixed.

    Args:
        path: The file.
        kind: "category" (any words), "count" (0, 1, 2, ...) or "real".
        columns: Names of the columns that hold the values, in the table's first line: one for
            categories and counts. When None, all columns except `id_column` hold values, and
            without an `id_column` the first line is no heading.
        id_column: Name of the column that is the same in all lines of a sequence.
        batch_size: Sequences per batch and process.
        seed: Seed of the split and of the order of training sequences.
        val_fraction: Share of the sequences for validation; 0 validates on the training sequences.
        test_fraction: Share of the sequences for the test; 0 tests on the training sequences.
    """

    units = ("sequences", "values")

    def __init__(
        self,
        path: str,
        kind: Kind = "category",
        columns: list[str] | None = None,
        id_column: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
    ) -> None:
        super().__init__(batch_size, seed)
        check_one_of(get_args(Kind), kind=kind)
        if columns is not None and (not columns or id_column in columns):
            raise ValueError(f"columns is {columns}, but must name columns other than id_column.")
        if kind != "real" and columns is not None and len(columns) > 1:
            raise ValueError(f"columns is {columns}, but kind {kind!r} takes a single column.")
        check_fractions(val_fraction, test_fraction)
        self.path = path
        self.kind: Kind = kind
        self.columns = columns
        self.id_column = id_column
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory that asks the user for the file."""
        remedy = "give path, a .csv, .tsv or .txt file"
        return Inventory(None, missing=("a file of yours",), remedy=remedy)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Read the table, and split its sequences by the seed."""
        path = Path(self.path).expanduser()
        sequences: dict[str, list[Step]] = {}
        for step in read_table(path, self.columns, self.id_column):
            if self.kind != "real" and len(step.values) > 1:
                raise bad_line(
                    path,
                    step.line,
                    f"kind {self.kind!r} takes one value a line, but here are {len(step.values)}; "
                    "name the one in columns",
                )
            sequences.setdefault(step.sequence, []).append(step)
        steps = [step for some in sequences.values() for step in some]
        if not steps:
            raise DataError(f"{path} holds no values: put a line for each time step there.")
        if self.kind == "real":
            rows = [reals(path, step) for step in steps]
            self.items = {"values": torch.tensor(rows, dtype=torch.float64)}
        elif self.kind == "count":
            counts = [count(path, step) for step in steps]
            self.items = {"tokens": torch.tensor(counts, dtype=torch.int32)}
        else:
            self.vocabulary = sorted({step.values[0] for step in steps})
            position = {name: i for i, name in enumerate(self.vocabulary)}
            tokens = [position[step.values[0]] for step in steps]
            self.items = {"tokens": torch.tensor(tokens, dtype=torch.int32)}
        lengths = torch.tensor([len(some) for some in sequences.values()])
        what = f"sequences in {path}"
        parts = split_fractions(
            len(lengths), self.val_fraction, self.test_fraction, self.seed, what
        )
        if self.kind == "category":
            whole = [*sequences.values()]
            trained = {step.values[0] for i in parts["train"].tolist() for step in whole[i]}
            warn_of_unseen(path, [s for s in steps if s.values[0] not in trained])
        return {split: take(starts(lengths), part) for split, part in parts.items()}

    def spell(self, split: Split, index: int) -> str:
        """Return a sequence's values, separated by spaces; vectors have commas in them."""
        span = self.span(split, index)
        if self.kind == "real":
            return " ".join(",".join(f"{x:.4g}" for x in v) for v in self.items["values"][span])
        tokens = self.items["tokens"][span].tolist()
        return " ".join(self.vocabulary[i] if self.kind == "category" else str(i) for i in tokens)


class IceCream(RaggedDataModule):
    """Eisner's ice-cream diary: 1, 2 or 3 a day for 33 days, whose weather is hidden.

    Jason Eisner, "An Interactive Spreadsheet for Teaching the Forward-Backward Algorithm" (2002),
    https://aclanthology.org/W02-0102. The diary is a single sequence, with nothing to hold out: the
    training, validation and test split are all the same. Batches have `tokens` int64 (1, 33),
    positions in `vocabulary` (so 0 means one ice cream), `mask` bool (1, 33), `lengths` int64 (1,)
    and `index`.

    Args:
        batch_size: Sequences per batch and process; there is only one sequence.
        seed: Has no effect, as nothing is drawn.
    """

    about = "How many ice creams somebody ate on each of 33 days (Eisner 2002)."
    knows = "one diary"
    units = ("diary", "days")

    def __init__(self, batch_size: int = 1, seed: int = 0) -> None:
        super().__init__(batch_size, seed)
        self.vocabulary = ["1", "2", "3"]

    @classmethod
    def inventory(cls, root: str | None = None) -> Inventory:
        """Return an inventory without files, because none are needed."""
        return Inventory(folder=None)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return the diary for each split."""
        tokens = [self.vocabulary.index(n) for n in ICE_CREAMS]
        self.items = {"tokens": torch.tensor(tokens, dtype=torch.int32)}
        rows = starts(torch.tensor([len(tokens)]))
        return {"train": rows, "val": rows, "test": rows}

    def spell(self, split: Split, index: int) -> str:
        """Return the ice creams of all days."""
        return " ".join(ICE_CREAMS)


def count(path: Path, step: Step) -> int:
    """Return the one value of a step as a count.

    Raises:
        DataError: if the value is not a count.
    """
    text = step.values[0]
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > LARGEST:
        why = f"{brief(text)} is no count from 0 to {LARGEST}{hint(step)}"
        raise bad_line(path, step.line, why)
    return int(text)


def reals(path: Path, step: Step) -> list[float]:
    """Return the values of a step as numbers that float32 can hold.

    Raises:
        DataError: if one is no number, not finite, or too large.
    """
    for text in step.values:
        if not NUMBER.fullmatch(text):
            raise bad_line(path, step.line, f"{brief(text)} is no finite number{hint(step)}")
        if abs(float(text)) > torch.finfo(torch.float32).max:
            raise bad_line(path, step.line, f"{brief(text)} is too large for float32")
    return [float(text) for text in step.values]


def hint(step: Step) -> str:
    """Return advice for the first line, where a bad value may be the name of a column."""
    return "; if this line is a heading, give columns" if step.line == 1 else ""


def warn_of_unseen(path: Path, unseen: list[Step]) -> None:
    """Warn of values that no training sequence has, with the name of the first."""
    if unseen:
        first = unseen[0]
        warnings.warn(
            f"{path}, line {first.line}: {brief(first.values[0])} is in no training sequence, and "
            f"neither are {len({s.values[0] for s in unseen}) - 1} other categories "
            f"({len(unseen)} values in all); a model of the training sequences cannot expect them.",
            stacklevel=3,
        )
