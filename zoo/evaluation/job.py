"""What the jobs of a suite are given."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.base import LatentVariableModel
from zoo.batches import Batch, on_device
from zoo.datamodules.base import DataModule
from zoo.evaluation.data import held_out
from zoo.evaluation.protocol import Protocol


@dataclass(frozen=True)
class Job:
    """A model, its data, and how the one is measured on the other.

    Args:
        model: In eval mode, on the device where it is measured.
        module: The data; they are read once, by the first job that needs them.
        protocol: How.
        kept: Folder in which a job may keep what it has done so far; by default nothing is kept.
    """

    model: LatentVariableModel
    module: DataModule
    protocol: Protocol
    kept: Path | None = None

    def batches(self) -> Iterator[Batch]:
        """Batches of the test data that the protocol asks for, on the model's device."""
        for batch in held_out(self.module, self.protocol.limit):
            yield on_device(batch, self.model.device)
