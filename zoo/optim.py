"""Adam with a learning-rate schedule, for Lightning's `configure_optimizers`."""

import math
from collections.abc import Iterable
from typing import Literal

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine"]


def adam(
    parameters: Iterable[nn.Parameter],
    lr: float,
    schedule: Schedule,
    warmup_steps: int,
    total_steps: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> OptimizerLRScheduler:
    """Adam (Kingma & Ba 2015) whose learning rate rises linearly, then stays or falls.

    Args:
        parameters: Parameters to train.
        lr: Peak learning rate.
        schedule: `constant`, or `cosine` to zero at the last step (Loshchilov & Hutter 2017).
        warmup_steps: Steps over which the rate rises from zero to `lr`.
        total_steps: Optimiser steps of the whole run; `cosine` needs a finite number.
        betas: Decays of the running averages of the gradient and of its square.

    Raises:
        ValueError: if the schedule is `cosine` and the run has no end.
    """
    if schedule == "cosine" and not math.isfinite(total_steps):
        raise ValueError(
            "lr_schedule=cosine needs a run with an end: "
            "set --trainer.max_epochs or --trainer.max_steps, or use lr_schedule=constant."
        )

    optimizer = Adam(parameters, lr=lr, betas=betas, fused=True)
    # If it is True, Lightning refuses to clip gradients in mixed precision, because the fused
    # kernel unscales them after clipping; if it is False, a scaler unscales them before.
    optimizer._step_supports_amp_scaling = False
    if schedule == "constant" and warmup_steps == 0:
        return {"optimizer": optimizer}  # a scheduler without effect would cost time at every step

    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / (warmup_steps + 1))
        if schedule == "constant":
            return warmup
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))

    scheduler = LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
