"""A training whose numbers are no longer finite stops before they spoil its weights."""

from typing import NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from zoo.errors import ZooError


class StopWhenDiverged(Callback):
    """Stop before a step along gradients that are not finite; `zoo fit` installs it always.

    All processes have the same gradients, and so stop together.

    Raises:
        ZooError: then; it names the last checkpoint, which is a good one.
    """

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        # The scaler of float16 passes over steps whose gradients are not finite: over all, then.
        if _scaled(trainer) and not loss.isfinite():
            _stop(trainer, f"the loss is {loss.item():g}")

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        sums = [
            p.grad.sum(dtype=torch.float32) for p in pl_module.parameters() if p.grad is not None
        ]
        if sums and not _scaled(trainer) and not torch.stack(sums).isfinite().all():
            _stop(trainer, "gradients are not finite")


def _scaled(trainer: Trainer) -> bool:
    """Whether losses are scaled, as float16 needs it."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _stop(trainer: Trainer, why: str) -> NoReturn:
    callback, last = trainer.checkpoint_callback, ""
    if isinstance(callback, ModelCheckpoint):
        last = callback.last_model_path or callback.best_model_path
    remedy = "start anew with a lower learning rate; no checkpoint was written before."
    if last:
        remedy = (
            f"{last} is from before that: go on from it by --ckpt_path and "
            "--trainer.gradient_clip_val 1, or start anew with a lower learning rate."
        )
    epoch, step = trainer.current_epoch + 1, trainer.global_step + 1
    raise ZooError(f"training diverged at step {step:,} (epoch {epoch}): {why}; {remedy}")
