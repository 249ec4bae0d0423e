"""Batches of data: dicts of tensors, (B, ...) each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Any]


def examples(loader: Any) -> int:
    """How many data an epoch of a loader has, of the zoo's or of torch's."""
    return getattr(loader, "n", None) or len(loader.dataset)


def part(batch: Batch, start: int, stop: int) -> dict[str, Any]:
    """The batch of its data from one position to another."""
    return {key: rows[start:stop] for key, rows in batch.items()}


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    return {key: v.to(device) if isinstance(v, Tensor) else v for key, v in batch.items()}
