"""Batches of data: dicts of tensors, (B, ...) each."""

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = Mapping[str, Any]


def tensor_of(name: str, data: Any) -> Tensor:
    """Numbers of any kind as a tensor: NumPy's in any order of items and bytes, lists, tensors.

    Unsigned integers of more than a byte become int64, as torch computes little with them.

    Args:
        name: What they are called.
        data: The numbers.

    Raises:
        ValueError: if they are no numbers, or rows differ in length.
    """
    if isinstance(data, Tensor):
        unsigned = data.dtype in (torch.uint16, torch.uint32, torch.uint64)
        return data.long() if unsigned else data
    try:
        array = np.asarray(data)
    except (TypeError, ValueError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds something else than numbers, or rows of different lengths.")
    dtype = array.dtype.newbyteorder("=")
    if dtype.itemsize > 1 and dtype.kind == "u":
        dtype = np.dtype(np.int64)
    elif dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    array = array.astype(dtype, order="C", copy=not array.flags.writeable)
    return torch.from_numpy(array)


def examples(loader: Any) -> int | None:
    """How many data an epoch of a loader has, of the zoo's or of torch's; None of a stream."""
    found: int | None = getattr(loader, "n", None)
    if found is None and isinstance(getattr(loader, "dataset", None), Sized):
        found = len(loader.dataset)
    return found


def part(batch: Batch, start: int, stop: int) -> dict[str, Any]:
    """The batch of its data from one position to another."""
    return {key: rows[start:stop] for key, rows in batch.items()}


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    return {key: v.to(device) if isinstance(v, Tensor) else v for key, v in batch.items()}
