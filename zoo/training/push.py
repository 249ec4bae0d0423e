"""The best checkpoint of a run, pushed to the Hugging Face Hub while it trains."""

import logging
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from zoo.checkpoints.card import write_card
from zoo.checkpoints.models import upload
from zoo.errors import ZooError
from zoo.pretrained.export import export

log = logging.getLogger(__name__)


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
                upload(
                    next(Path(staged.folder.name).iterdir()),
                    self.repo_id,
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
