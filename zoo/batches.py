"""Batches of data: dicts of tensors, (B, ...) each."""

from collections.abc import Mapping, Sized
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Any]


def check_dict(batch: object) -> None:
    """Raise ValueError unless a batch is a dict with something in it."""
    if isinstance(batch, Mapping) and batch:
        return
    empty = isinstance(batch, Mapping | list | tuple) and not batch
    raise ValueError(
        f"a batch is {'an empty' if empty else 'a'} {type(batch).__name__}, but must be a dict of "
        'tensors, such as {"image": x}, or {"x": x} of vectors; let the dataset give dicts.'
    )


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
    check_dict(batch)
    return {key: v.to(device) if isinstance(v, Tensor) else v for key, v in batch.items()}
