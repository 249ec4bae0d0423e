"""Base class of families that are trained by gradients: Adam and its schedule."""

from abc import ABC
from typing import ClassVar

from lightning.pytorch.utilities.types import OptimizerLRScheduler

from zoo.base import LatentVariableModel
from zoo.checkpoints.arguments import refuse_unknown
from zoo.checks import check_at_least, check_choice
from zoo.optim import Schedule, adam


class GradientModel(LatentVariableModel, ABC):
    """A model that Adam trains.

    A family's constructor takes the arguments below as keywords and passes them on.

    Args:
        lr: Peak learning rate of Adam.
        lr_schedule: `constant`, or `cosine` to zero at the end of the run.
        lr_warmup_steps: Optimiser steps over which the learning rate rises to `lr`.
        unknown: Misspelt arguments, which are refused.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Decays of Adam's running averages of the gradient and of its square."""

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        lr_schedule: Schedule = "constant",
        lr_warmup_steps: int = 0,
        **unknown: object,
    ) -> None:
        refuse_unknown(type(self), unknown)
        super().__init__()
        self.save_hyperparameters()  # the family's too
        check_at_least(0, lr=lr, lr_warmup_steps=lr_warmup_steps)
        check_choice(Schedule, lr_schedule=lr_schedule)
        self.lr, self.lr_schedule, self.lr_warmup_steps = lr, lr_schedule, lr_warmup_steps

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with this model's schedule, on all parameters that require gradients."""
        return adam(
            (p for p in self.parameters() if p.requires_grad),
            self.lr,
            self.lr_schedule,
            self.lr_warmup_steps,
            self.trainer.estimated_stepping_batches,
            self.betas,
        )
