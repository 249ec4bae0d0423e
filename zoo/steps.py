"""What a Trainer asks of every family: its steps, its logs, and what it notes in checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from zoo.batches import Batch, check_dict


class Steps(LightningModule, ABC):
    """A LightningModule that is trained and measured by its `loss`."""

    loaded_from: str | None = None
    """What the checkpoint was called that the weights come from."""

    base_model: str | None = None
    """Name of the checkpoint whose weights the training of this model started from."""

    assets: Mapping[str, str] = {}
    """Text files that say what the numbers in the data stand for, such as `vocabulary.json`."""

    data: dict[str, Any] | None = None
    """The DataModule that the model was trained on, as `class_path` and `init_args`."""

    recipe: str | None = None
    """The resolved recipe of the run that trains the model, as YAML."""

    in_loss: bool = False
    """Whether `loss` is at work, whose verbs have gradients in any mode."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """What training minimises under "loss", and the named terms it is made of; scalars."""

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        terms = self.loss(batch)
        # Lightning keeps only each `log_every_n_steps`-th value; collecting the rest costs time.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a helper
        if (self.global_step + 1) % every == 0:
            self._log("train", terms, batch)
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        check_dict(batch)
        self._log("val", self.loss(batch), batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        check_dict(batch)
        self._log("test", self.loss(batch), batch)

    def _log(self, stage: str, terms: Mapping[str, Tensor], batch: Batch) -> None:
        self.log_dict(
            {f"{stage}/{name}": value.detach() for name, value in terms.items()},
            prog_bar=stage == "train",
            batch_size=len(next(iter(batch.values()))),
            sync_dist=stage != "train",
        )

    def on_fit_start(self) -> None:
        # from_pretrained returns eval mode, and Lightning would keep it.
        self.train()
        self.base_model = self.loaded_from or self.base_model
        assets = getattr(getattr(self.trainer, "datamodule", None), "assets", None)
        if assets is not None:
            self.assets = assets()

    def on_fit_end(self) -> None:
        # Nobody trains any more, and the verbs give tensors without gradients again.
        self.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["zoo"] = {
            "family": type(self).__name__,
            "data": self.data,
            "base_model": self.base_model,
            "assets": dict(self.assets),
            "recipe": self.recipe,
        }
