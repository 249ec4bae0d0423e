"""Noise that depends on seed, epoch and rank alone."""

import os
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor


class SeedEpoch(Callback):
    """Reseed torch at the start of every training epoch, from the seed, the epoch and the rank.

    So ranks draw different noise, and a run that is resumed draws the noise of the run that was not
    interrupted: in the middle of an epoch the generators of all ranks go on from the states that
    the checkpoint has. What validation draws leaves the noise of training as it is. `zoo fit`
    installs it always.

    Args:
        seed: Seed of the run; by default the one that `seed_everything` was given.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._loaded: tuple[int, list[Tensor]] | None = None  # the epoch, and states in it
        self._training: list[Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Once a schedule has asked for the number of steps, Lightning does not do it itself
        # (https://github.com/Lightning-AI/pytorch-lightning/issues/20550).
        trainer.fit_loop._load_combined_loader_states()
        if self._loaded is not None:
            epoch, states = self._loaded
            if epoch == trainer.current_epoch:
                _set_states(states, pl_module.device)
            else:  # saved behind the last batch: Lightning skips the next epoch's start
                self.on_train_epoch_start(trainer, pl_module)
            self._loaded = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed
        torch.manual_seed((seed * 1_000_003 + trainer.current_epoch) * 4099 + trainer.global_rank)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._training = _states(pl_module.device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._training is not None:
            _set_states(self._training, pl_module.device)
            self._training = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states: list[Any] = [_states(pl_module.device)]
        if trainer.world_size > 1:
            states *= trainer.world_size
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["generators"] = {"epoch": trainer.current_epoch, "states": states}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved = checkpoint.get("generators", {"epoch": 0, "states": []})
        if trainer.global_rank < len(saved["states"]):
            self._loaded = saved["epoch"], saved["states"][trainer.global_rank]


def _states(device: torch.device) -> list[Tensor]:
    """The states of torch's generators on the CPU and on an accelerator."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def _set_states(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0].cpu())
    if device.type != "cpu" and len(states) > 1:
        torch.get_device_module(device).set_rng_state(states[1].cpu(), device)
