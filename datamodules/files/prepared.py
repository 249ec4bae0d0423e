"""Pictures that are decoded once, and then mapped into memory or read by the batch.

A store is a folder of two files. `image.u8` has only the pixels of all pictures, one after another,
in consecutive parts (such as the training pictures). `labels.npz` has the labels, arrays with a row
for each picture, and `about`, a JSON text with the shape of a picture, the size of each part, and
notes on the pictures that were skipped. The format keeps a checksum of every array in `labels.npz`;
of `image.u8` only the length is checked.

A store is made in a hidden folder beside its place and renamed when it is complete and on the disk,
so an existing store is whole. One process makes it, and the others wait for its lock on an empty
hidden file. A killed process loses the lock; the next one deletes its files and starts again.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datamodules.files.arrays import Arrays, FileRows, map_file, read_npz, reason, write_npz
from zoo.datamodules.files.places import DataError
from zoo.datamodules.loader import Rows

IMAGE, LABELS = "image.u8", "labels.npz"
FORMAT = 1
PROGRESS_FROM = 200
# Pictures of more bytes than this are read a batch at a time, not mapped as a whole.
MAPPED = 512 * 2**20


@dataclass(frozen=True)
class Chunk:
    """Some pictures that are decoded together; all chunks of a part follow each other.

    Args:
        part: The part they belong to.
        names: Name of each picture in messages.
        pictures: Their files, or the contents of the files.
        labels: Arrays with a row for each.
    """

    part: str
    names: Sequence[str]
    pictures: Sequence[Path | BinaryIO]
    labels: Arrays


@dataclass(frozen=True)
class Plan:
    """Plan of a store.

    Args:
        source: Folder or file of the pictures, for messages.
        shape: Shape (C, H, W) of a picture in the store.
        parts: Names of all parts in their order.
        n: Number of pictures in all chunks.
        chunks: The pictures; only one chunk at a time is held in memory.
        decode: Reads one picture as uint8 of this shape, or raises an exception that says why not.
        notes: Clauses about skipped data, one for each kind.
    """

    source: Path
    shape: tuple[int, int, int]
    parts: tuple[str, ...]
    n: int
    chunks: Iterable[Chunk]
    decode: Callable[[Path | BinaryIO], NDArray[np.uint8]]
    notes: tuple[str, ...] = ()


def fingerprint(files: Iterable[os.DirEntry[str]]) -> str:
    """Return 12 hex digits for the names, lengths and modification times of some files.

    A change that keeps a file's length and time goes unnoticed.
    """
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for file in sorted(files, key=lambda file: file.path):
        status = file.stat()
        digest.update(f"\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


def prepare(folder: Path, plan: Callable[[], Plan]) -> None:
    """Make the store unless it is there, or wait for the process that is making it.

    Args:
        folder: The store; its name should say all that it depends on.
        plan: Returns the plan; called only if the store has to be made.

    Raises:
        DataError: if the store cannot be written, or none of the pictures can be read.
    """
    if folder.exists():
        return
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock")):
            if folder.exists():
                return
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                partial.mkdir()
                write(partial, plan())
                os.rename(partial, folder)
                sync(folder.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise a DataError if the system cannot write a folder."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{folder} could not be written ({reason(error)}): make room or allow writing there, "
            "or point the environment variable ZOO_DATA elsewhere and root to where the data are."
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file; the system releases it when the process ends in any way."""
    import fcntl

    from rich.console import Console

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Console().status(f"Waiting for the process that holds {path}"):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(folder: Path, plan: Plan) -> None:
    """Decode all pictures of a plan in threads, and write them and their labels."""
    counts = Counter[str]()
    labels: list[Arrays] = []
    bad: dict[str, str] = {}
    with open(folder / IMAGE, "wb") as file:
        for chunk, pictures in decoded(plan):
            good = [i for i, picture in enumerate(pictures) if not isinstance(picture, str)]
            bad |= {
                name: why
                for name, why in zip(chunk.names, pictures, strict=True)
                if isinstance(why, str)
            }
            if good:  # in one piece, because the system later maps it faster
                file.write(np.stack([pictures[i] for i in good]).data)
            labels.append({key: values[good] for key, values in chunk.labels.items()})
            assert not any(counts[part] for part in plan.parts[plan.parts.index(chunk.part) + 1 :])
            counts[chunk.part] += len(good)
        file.flush()
        os.fsync(file.fileno())
    unread = (
        [f"pictures that cannot be read: {len(bad):,} of {plan.n:,}{named(bad)}"] if bad else []
    )
    notes = [*plan.notes, *unread]
    if not counts.total():
        why = "".join(f"; {note}" for note in notes)
        raise DataError(f"{plan.source} holds no picture that can be used{why}.")
    about = {
        "format": FORMAT,
        "shape": plan.shape,
        "parts": [[part, counts[part]] for part in plan.parts],
        "notes": notes,
    }
    arrays = {key: np.concatenate([some[key] for some in labels]) for key in labels[0]}
    with open(folder / LABELS, "wb") as file:
        write_npz(file, {**arrays, "about": np.array(json.dumps(about))})
        file.flush()
        os.fsync(file.fileno())
    sync(folder)


def decoded(plan: Plan) -> Iterator[tuple[Chunk, list[NDArray[np.uint8] | str]]]:
    """Yield each chunk with its pictures, or with the reason for an unreadable picture."""
    from rich.progress import Progress

    def read(picture: Path | BinaryIO) -> NDArray[np.uint8] | str:
        try:
            return plan.decode(picture)
        except MemoryError:
            raise
        except Exception as error:
            # Pillow raises almost anything on a damaged file, and one file must not end the run;
            # but a picture with a system error may be sound
            if isinstance(error, OSError) and error.errno is not None:
                raise DataError(f"{picture} could not be read ({reason(error)}).") from error
            return reason(error)

    # Pillow's own warnings name no file
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
        Progress(transient=True, disable=plan.n < PROGRESS_FROM) as progress,
    ):
        warnings.simplefilter("ignore")
        task = progress.add_task(f"Preparing {plan.source}", total=plan.n)
        for chunk in plan.chunks:
            yield chunk, list(pool.map(read, chunk.pictures))
            progress.advance(task, len(chunk.pictures))


def named(bad: Mapping[str, str] | Iterable[str], most: int = 5) -> str:
    """Return the first few names in brackets, each with the reason where there is one."""
    reasons = bad if isinstance(bad, Mapping) else {}
    names = sorted(bad)
    if not names:
        return ""
    first = [f"{name}: {reasons[name]}" if name in reasons else name for name in names[:most]]
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return f" ({', '.join(first + more)})"


def sync(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Prepared:
    """A store, read-only.

    Args:
        folder: The store.

    Raises:
        DataError: if the store is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            raise DataError(f"{folder} is not there; call prepare_data() to make it.")
        try:
            labels = read_npz(folder / LABELS)
            about = json.loads(str(labels.pop("about")))
            names, counts = zip(*about["parts"], strict=True)
            shape = tuple(about["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(LABELS, str(error)) from error
        if about["format"] != FORMAT or {sum(counts)} != {len(rows) for rows in labels.values()}:
            raise self._damaged(LABELS, "its arrays do not fit together")
        path = folder / IMAGE
        size = path.stat().st_size if path.exists() else 0
        if size != sum(counts) * prod(shape):
            should = sum(counts) * prod(shape)
            raise self._damaged(IMAGE, f"it has {size} bytes, but should have {should}")
        ends = accumulate(counts, initial=0)
        self.parts = {name: range(*ends) for name, ends in zip(names, pairwise(ends), strict=True)}
        self.notes: list[str] = about["notes"]
        self.path, self.shape = path, shape
        self.image = map_file(path, (sum(counts), *shape))
        self.labels = {key: torch.from_numpy(rows) for key, rows in labels.items()}

    def rows(self, *parts: str) -> dict[str, Tensor]:
        """Return the pictures and labels of consecutive parts.

        `image` is uint8 (N, C, H, W), mapped from the file: writing to it ends the process.
        """
        start, stop = self._ends(parts)
        tensors = {"image": self.image, **self.labels}
        return {key: tensor[start:stop] for key, tensor in tensors.items()}

    def image_rows(self, *parts: str) -> Rows:
        """Return the pictures of consecutive parts for a loader that takes little memory.

        A file of at most `MAPPED` bytes is mapped, and its pictures take memory of the process once
        they are read. A larger file takes memory for one batch only. (The system caches both files
        in free memory, and gives it back when memory is needed.)
        """
        start, stop = self._ends(parts)
        if self.image.nbytes <= MAPPED:
            return self.image[start:stop]
        return FileRows(self.path, range(start, stop), self.shape)

    def _ends(self, parts: tuple[str, ...]) -> tuple[int, int]:
        return self.parts[parts[0]].start, self.parts[parts[-1]].stop

    def _damaged(self, name: str, why: str) -> DataError:
        return DataError(
            f"{self.folder} is damaged ({name}: {why}): delete this folder and run again."
        )
