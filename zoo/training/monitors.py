"""Callbacks that recipes use beside Lightning's own."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from zoo.base import LatentVariableModel
from zoo.batches import Batch, part
from zoo.errors import ZooError
from zoo.metrics import ActiveUnits
from zoo.plots.grids import grid, save_grid
from zoo.training.folders import run_folder


class LogActiveUnits(Callback):
    """Log `val/active_units`: latent dimensions that carry information (Burda et al. 2016)."""

    def __init__(self) -> None:
        self._metric: Metric | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LatentVariableModel)
        if not pl_module.latent_shape:
            raise ZooError(
                "LogActiveUnits counts latent dimensions that are in use, and codes of a "
                f"{type(pl_module).__name__} have none; take it out of the callbacks."
            )
        self._metric = ActiveUnits(pl_module.latent_shape[0]).to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, LatentVariableModel)
        assert self._metric is not None
        self._metric.update(pl_module.conditioned(batch).encode(batch["image"]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._metric is not None
        try:
            units = self._metric.compute()
        except ValueError as error:  # one image, or a model that has diverged: no reason to stop
            rank_zero_warn(f"val/active_units is not known: {error}")
            return
        # The metric has added up all processes' sums, so the mean over processes is the number.
        pl_module.log("val/active_units", units.float(), sync_dist=True)


class SampleGrid(Callback):
    """Log a grid of samples, and of held-out images above their reconstructions.

    PNG files go to `pictures/` in the run's folder; the loggers of TensorBoard, MLflow, and Weights
    & Biases get them too.

    Args:
        every_n_epochs: How often.
        n: Number of samples.
    """

    def __init__(self, every_n_epochs: int = 10, n: int = 64) -> None:
        self.every_n_epochs = every_n_epochs
        self.n = n
        self._batch: Batch = {}

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0:
            self._batch = part(batch, 0, 8)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 or last
        if trainer.sanity_checking or not due:
            return
        folder = run_folder(trainer)  # every process has to ask
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, LatentVariableModel)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            pictures: dict[str, tuple[Tensor, int | None]] = {
                "samples": (pl_module.sample(self.n), None)
            }
            if "reconstruct" in pl_module.verbs() and self._batch:
                x = self._batch["image"]
                both = torch.cat([x, pl_module.conditioned(self._batch).reconstruct(x)])
                pictures["reconstructions"] = (both, len(x))
        if getattr(trainer, "fast_dev_run", False):  # a trial leaves no files
            return
        for name, (images, columns) in pictures.items():
            save_grid(
                images, folder / "pictures" / f"{name}-{trainer.current_epoch + 1:04d}.png", columns
            )
            page = grid(images.float().cpu(), columns)
            for logger in trainer.loggers:
                _log(logger, name, page, trainer)


def _log(logger: Logger, name: str, page: Tensor, trainer: Trainer) -> None:
    """Give a picture (C, H, W) to a logger that takes any; each has its own way."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, page.clamp(0, 1), trainer.global_step)
    elif isinstance(logger, MLFlowLogger):
        pixels = (page.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(-1)
        file = f"pictures/{name}-{trainer.current_epoch + 1:04d}.png"
        logger.experiment.log_image(logger.run_id, pixels.numpy(), file)
    elif isinstance(logger, WandbLogger):
        logger.log_image(key=name, images=[page])
