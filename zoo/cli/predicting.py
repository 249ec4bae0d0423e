"""The command `predict`: what a model makes of data, in a file of numbers."""

import argparse
import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints.files import write_atomically
from zoo.cli.data import add_data, chosen
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

KEPT = ("index", "label", "lengths")  # of a batch, beside what the model makes of it


def add(commands: Any) -> None:
    """Add `predict`."""
    summary = "write codes, reconstructions and probabilities of test data to a file"
    command = commands.add_parser("predict", help=summary)
    command.add_argument("model", help="name or folder")
    add_data(command)
    command.add_argument("--limit", type=int, help="only the first so many data; by default all")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("predict.npz"),
        help=".npz, NumPy's arrays; or .csv, a row for each datum and a column for each number",
    )
    command.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> None:
    from zoo.evaluation.data import data_module, held_out
    from zoo.pretrained.loading import from_pretrained

    write = _WRITERS.get(args.output.suffix.lower())
    if write is None:
        raise ZooError(f"let {args.output} end in .npz or .csv, which say how it is written.")
    model = from_pretrained(args.model)
    found: dict[str, list[Any]] = {}
    data = data_module(model, *chosen(args, lambda: model.data))
    for batch in held_out(data, args.limit):
        kept = {key: batch[key] for key in KEPT if key in batch}
        for name, rows in (kept | model.predict_step(batch)).items():
            found.setdefault(name, []).append(rows.numpy())
    arrays = {name: _joined(parts) for name, parts in found.items()}
    write_atomically(args.output.expanduser(), lambda part: write(part, arrays))
    print(args.output)
    for name, array in arrays.items():
        print(f"  {name} {array.dtype} {array.shape}")


def _joined(parts: "list[np.ndarray]") -> "np.ndarray":
    """Rows of all batches; sequences are as long as the longest, with zeros behind their end."""
    import numpy as np

    longest = np.max([part.shape for part in parts], 0)
    for i, part in enumerate(parts):
        short = [(0, 0), *((0, n) for n in longest[1:] - part.shape[1:])]
        parts[i] = np.pad(part, short)
    return np.concatenate(parts)


def _write_npz(path: Path, arrays: "Arrays") -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its flag is a keyword too


def _write_csv(path: Path, arrays: "Arrays") -> None:
    tables = {name: array.reshape(len(array), -1) for name, array in arrays.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            name if arrays[name].ndim == 1 else f"{name}_{i}"
            for name, table in tables.items()
            for i in range(table.shape[1])
        )
        for row in zip(*tables.values(), strict=True):
            rows.writerow(f"{value:.9g}" for part in row for value in part.tolist())


_WRITERS: dict[str, Callable[[Path, "Arrays"], None]] = {".npz": _write_npz, ".csv": _write_csv}
