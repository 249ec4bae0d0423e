"""Callbacks that recipes use beside Lightning's own."""

import logging
import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torchmetrics import Metric

from zoo import checkpoint, hub
from zoo.base import Batch, LatentVariableModel
from zoo.cards import write_card
from zoo.errors import ZooError
from zoo.evaluation import part
from zoo.metrics import ActiveUnits
from zoo.plots import grid, save_grid
from zoo.pretrained import export

log = logging.getLogger(__name__)


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


class LogActiveUnits(Callback):
    """Log `val/active_units`: latent dimensions that carry information (Burda et al. 2016)."""

    def __init__(self) -> None:
        self._metric: Metric | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LatentVariableModel)
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
        # The metric has added up all processes' sums, so the mean over processes is the number.
        pl_module.log("val/active_units", self._metric.compute().float(), sync_dist=True)


class SampleGrid(Callback):
    """Log a grid of samples, and of held-out images above their reconstructions.

    PNG files go to `pictures/` in the run's folder; loggers that take images get them too.

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
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # every process has to ask
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
        for name, (images, columns) in pictures.items():
            save_grid(
                images, folder / "pictures" / f"{name}-{trainer.current_epoch + 1:04d}.png", columns
            )
            for logger in trainer.loggers:
                log_image = getattr(logger, "log_image", None)
                if log_image is not None:
                    log_image(key=name, images=[grid(images.float().cpu(), columns)])


class _Staged(NamedTuple):
    """A checkpoint folder that is to be uploaded, and which training checkpoint it shows."""

    folder: TemporaryDirectory[str]
    best: "_Best"


class _Best(NamedTuple):
    """The best training checkpoint of a run so far."""

    path: Path
    metric: str
    score: float

    def __str__(self) -> str:
        return f"{self.path.name} ({self.metric} {self.score:.4f})"


class PushToHub(Callback):
    """Push the best checkpoint to the Hugging Face Hub whenever the run has a better one.

    The folder is staged between two epochs, and a thread uploads it. Training neither waits for the
    Hub nor fails by it: while an upload goes on only the newest best waits for its turn, what fails
    is tried again when the training ends, and what did not arrive by then is named in the log.
    The token is the one that is logged in, or `HF_TOKEN`: an argument would be written to the run's
    files.

    Args:
        repo_id: `organisation/name`; made if it is not there.
        private: Visibility of a repository that is made.
        revision: Branch to commit to; by default `main`.
        wait: Seconds to wait for the last upload when the training has ended.
    """

    def __init__(
        self,
        repo_id: str,
        private: bool | None = None,
        revision: str | None = None,
        wait: float = 300.0,
    ) -> None:
        if repo_id.count("/") != 1 or not all(repo_id.split("/")):
            raise ValueError(f"repo_id is {repo_id!r}, but must be organisation/name.")
        self.repo_id = repo_id
        self.private = private
        self.revision = revision
        self.wait = wait
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting: _Staged | None = None  # shared with the thread, as is what follows
        self._arrived: _Best | None = None
        self._staged: _Best | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        callback = trainer.checkpoint_callback
        if stage == "fit" and not (isinstance(callback, ModelCheckpoint) and callback.monitor):
            raise ZooError(
                "PushToHub pushes the best checkpoint, and nothing says which that is; "
                "add a ModelCheckpoint with a monitor to the callbacks."
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # ModelCheckpoint acts after the other callbacks, so the best is that of the last epoch.
        best = self._best(trainer)
        if best is not None and best != self._staged:
            self._stage(best)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        best = self._best(trainer)
        if best is None:
            return
        self._join()
        if self._arrived != best:  # a newer one, or the Hub did not take it
            self._stage(best)
            self._join()
        if self._arrived == best:
            return
        log.warning(
            "%s was not pushed to %s; to push it later: zoo export %s FOLDER, then "
            "zoo push FOLDER %s",
            *(best, self.repo_id, best.path, self.repo_id),
        )

    def _best(self, trainer: Trainer) -> _Best | None:
        callback = trainer.checkpoint_callback
        if not trainer.is_global_zero or not isinstance(callback, ModelCheckpoint):
            return None
        if not callback.best_model_path or callback.best_model_score is None:
            return None
        score = callback.best_model_score.item()
        return _Best(Path(callback.best_model_path), str(callback.monitor), score)

    def _stage(self, best: _Best) -> None:
        """Write the checkpoint's folder, and see that a thread uploads it."""
        self._staged = best
        folder: TemporaryDirectory[str] = TemporaryDirectory()
        try:
            # Building the model draws its first weights: not from the generator of the training.
            with torch.random.fork_rng():
                staged = Path(folder.name, self.repo_id.partition("/")[2])
                export(best.path, staged)
            write_card(staged, handle=self.repo_id)
        except Exception as error:  # nothing that goes wrong here may end the training
            folder.cleanup()
            log.warning("%s was not staged for %s: %s", best, self.repo_id, error)
            return
        with self._lock:
            if self._waiting is not None:
                self._waiting.folder.cleanup()
            self._waiting = _Staged(folder, best)
            if self._thread is None:
                self._thread = threading.Thread(target=self._upload, daemon=True)
                self._thread.start()

    def _upload(self) -> None:
        """Push what waits, and what has come to wait meanwhile."""
        while True:
            with self._lock:
                staged, self._waiting = self._waiting, None
                if staged is None:
                    self._thread = None
                    return
            try:
                hub.push(
                    next(Path(staged.folder.name).iterdir()),
                    self.repo_id,
                    files=checkpoint.FILES,
                    private=self.private,
                    revision=self.revision,
                    commit_message=f"Upload {staged.best.metric} {staged.best.score:.4f}",
                )
            except Exception as error:  # likewise
                log.warning("%s was not pushed to %s: %s", staged.best, self.repo_id, error)
            else:
                with self._lock:
                    self._arrived = staged.best
            finally:
                staged.folder.cleanup()

    def _join(self) -> None:
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(self.wait)
