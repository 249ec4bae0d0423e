"""Noise that depends on seed, epoch and rank alone."""

import os

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SeedEpoch(Callback):
    """Reseed torch at the start of every training epoch, from the seed, the epoch and the rank.

    So ranks draw different noise, and a run resumed at the start of an epoch draws the noise of
    the run that was not interrupted. `zoo fit` installs it always.

    Args:
        seed: Seed of the run; by default the one that `seed_everything` was given.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed
        torch.manual_seed((seed * 1_000_003 + trainer.current_epoch) * 4099 + trainer.global_rank)
