"""Training checkpoints that survive a killed run."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from zoo.checkpoints.files import write_atomically
from zoo.errors import ZooError


class SaveLast(Callback):
    """Keep `last.ckpt` that of the last validation, where ModelCheckpoint is to save it.

    ModelCheckpoint itself saves it together with a new best only, so that a run which was killed
    later would go back there. `zoo fit` installs it always.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callback = trainer.checkpoint_callback
        if trainer.sanity_checking or not isinstance(callback, ModelCheckpoint):
            return
        # A new best is saved after this, under the same name, with the state that knows it.
        if callback.save_last and callback.last_model_path:
            trainer.save_checkpoint(callback.last_model_path)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: a killed run leaves no half a file.

    Lightning's own goes through the system's temporary folder, and moving a file from there to
    another disk is a copy. Weights that are not a number do not replace those of before.
    """

    def save_checkpoint(
        self, checkpoint_: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        for name, tensor in checkpoint_.get("state_dict", {}).items():
            if tensor.isnan().any():
                raise ZooError(
                    f"training diverged: {name} is not a number, so {path} is not written; "
                    "start anew with a lower learning rate."
                )
        if "://" in str(path):  # a remote store has its own way to be atomic
            super().save_checkpoint(checkpoint_, path, storage_options)
            return
        buffer = io.BytesIO()
        torch.save(checkpoint_, buffer)
        write_atomically(Path(path), lambda part: part.write_bytes(buffer.getbuffer()))
