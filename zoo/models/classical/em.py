r"""Expectation-maximisation (Dempster, Laird & Rubin 1977) as Lightning runs it.

With sufficient statistics $s(x, z)$, one iteration is

$$\text{E:}\quad S = \sum_n \mathbb E_{p(z | x_n; \theta)} [s(x_n, z)], \qquad
  \text{M:}\quad \theta \leftarrow \arg\max_\theta \; \log p(S \mid \theta).$$

$S$ is a sum over data: it is accumulated in float64 over batches and summed over processes, so that
neither the batch size nor the number of processes changes the result. Full-batch EM takes one
M-step an epoch and never lowers the likelihood. Stepwise EM (Cappé & Moulines 2009, eq. 10; Liang &
Klein 2009) takes one a batch, on a running average of the statistics of a datum,

$$\bar s \leftarrow (1 - \eta_t) \, \bar s + \eta_t \, S_t / |B_t|, \qquad
  \eta_t = (t + t_0)^{-\kappa}, \quad \kappa \in (1/2, 1].$$
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor

from zoo.base import LatentVariableModel, Modality
from zoo.batches import Batch, examples
from zoo.checks import check_at_least, check_images, check_seen, check_shape
from zoo.errors import ConvergenceWarning
from zoo.nn.precision import AtLeastFloat32
from zoo.verbs import floats, images

Statistics = dict[str, Tensor]
"""Sums over data, float64. `count` is the number of data, `log_likelihood` the sum of their
log p(x), or of its bound, under the parameters that the E-step had; of a family of one pass, under
those that `maximization` found, which puts it there, and sets `history` and `converged`."""


ROWS = 4096
"""Data that are checked at a time, as what is made of them takes memory."""


class EMModel(AtLeastFloat32, LatentVariableModel, ABC):
    """A model that is fitted by EM: by a Trainer over any loader, or by `fit` over an array.

    A family gives the two steps, and a start if it depends on data.
    """

    keeps_floats: ClassVar = True  # which are rounded once they are centred

    one_pass: bool = False
    """Whether the E-step is the same under any parameters, so that one M-step is the last."""

    kappa: float | None = None
    """Exponent of the step size of stepwise EM; None for full batches."""

    t0: float = 2.0
    """Delay of stepwise EM: early statistics are forgotten the faster, the larger it is."""

    patience: int = 1
    """Iterations that must not raise `history` beyond what it was before, for `fit` to stop: more
    than one where an iteration can lower it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.started: Tensor
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self._statistics: Statistics = {}  # of this epoch, or the running average of stepwise EM
        self._steps = 0
        self._data_size: int | None = None

    @abstractmethod
    def expectation(self, batch: Batch) -> Statistics:
        """The E-step: sums over the batch under the current parameters."""

    @abstractmethod
    def maximization(self, statistics: Statistics) -> None:
        """The M-step: set the parameters to what maximises the expected log-likelihood."""

    def start(self, batches: Iterable[Batch]) -> None:
        """Set the parameters that the first E-step has, from the data if need be."""

    def log_prior(self) -> Tensor | float:
        """What EM raises besides the log-likelihood of all data, in nats.

        The log-density of the parameters under their prior, or minus KL(q || p) of variational
        Bayes.
        """
        return 0.0

    def initial_statistics(self) -> Statistics:
        """The statistics of a datum that stepwise EM sets out from.

        By default there are none, and those of the first batch take their place.
        """
        return {}

    @abstractmethod
    def as_batch(self, data: Any) -> Batch:
        """What `fit` was given, as a batch of all data; raise ValueError if it is unfit."""

    # --- with a Trainer --------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return []

    def on_train_start(self) -> None:
        strategy = self.trainer.strategy
        self.history, self.converged = (), False  # those of an earlier `fit`
        self._data_size = examples(self.trainer.train_dataloader)
        if self._data_size is None:  # each process has its own part of a stream
            own = sum(len(next(iter(batch.values()))) for batch in self._epoch())
            if next(self._epoch(), None) is None:
                raise ValueError(
                    "the loader has no data once it has been read; EM reads them in every epoch."
                )
            count = torch.tensor(own, device=self.device)
            self._data_size = int(strategy.reduce(count, reduce_op="sum"))
        if not self.started:
            if self.trainer.is_global_zero:
                with torch.no_grad():
                    self.start(strategy.batch_to_device(batch) for batch in self._epoch())
            started = strategy.broadcast({k: v.cpu() for k, v in self.state_dict().items()})
            self.load_state_dict(started)
            self.started.fill_(True)

    def _epoch(self) -> Iterator[Batch]:
        """The batches of an epoch; of a stream, which may be endless, as many as are trained on."""
        loader, batches = self.trainer.train_dataloader, self.trainer.num_training_batches
        assert loader is not None  # while it trains there is one
        ends = examples(loader) is not None or batches == float("inf")
        return islice(loader, None if ends else int(batches))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        pass  # every batch is checked by the E-step, and not the first alone

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        if self.automatic_optimization:
            return super().training_step(batch, batch_idx)
        statistics = self._expectation(batch)
        if self.kappa is not None:
            self._stepwise(self._summed(statistics))
        else:
            _add(self._statistics, statistics)
            # Before the validation of this epoch, which on_train_epoch_end would come after.
            if self.trainer.is_last_batch:
                total = self._summed(self._statistics)
                if self.one_pass:
                    self._maximization(total)
                    self._log_likelihood(total)
                    self._warn()
                else:
                    self._log_likelihood(total)
                    self._maximization(total)
                self._statistics = {}
        # Lightning counts the steps of optimisers, and where there are none it saves no checkpoint.
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        statistics = self._statistics
        if self.kappa is None:  # a row for the part of an epoch that each process has seen
            rows, world = {}, self.trainer.world_size
            for name, s in statistics.items():
                rows[name] = s.new_zeros(world, *s.shape)
                rows[name][self.global_rank] = s
            statistics = self._summed(rows)
        checkpoint["em"] = {"statistics": statistics, "steps": self._steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "em" in checkpoint:
            statistics = checkpoint["em"]["statistics"]
            if self.kappa is None:
                statistics = {name: s[self.global_rank] for name, s in statistics.items()}
            self._statistics, self._steps = statistics, checkpoint["em"]["steps"]

    def _summed(self, statistics: Statistics) -> Statistics:
        """The statistics of all processes."""
        reduce = self.trainer.strategy.reduce
        return {name: reduce(s, reduce_op="sum") for name, s in statistics.items()}

    def _log_likelihood(self, statistics: Statistics) -> None:
        value = statistics["log_likelihood"] / statistics["count"]
        self.log("train/log_likelihood", value, prog_bar=True, rank_zero_only=False)

    # --- both ways -------------------------------------------------------------------------------

    @torch.no_grad()
    def _expectation(self, batch: Batch) -> Statistics:
        return {name: s.double() for name, s in self.expectation(batch).items()}

    @torch.no_grad()
    def _maximization(self, statistics: Statistics) -> None:
        self.maximization(statistics)

    def _stepwise(self, statistics: Statistics) -> None:
        assert self.kappa is not None
        self._log_likelihood(statistics)
        self._steps += 1
        rate = (self._steps + self.t0) ** -self.kappa
        if not self._statistics:
            self._statistics = self.initial_statistics()
        for name, s in statistics.items():
            mean = s / statistics["count"]
            before = self._statistics.get(name, mean).to(mean.device)
            self._statistics[name] = torch.lerp(before, mean, rate)
        # of as many data as there are, which a prior is weighed against
        n = self._data_size or 1
        self._maximization({name: n * s for name, s in self._statistics.items()})

    history: tuple[float, ...] = ()
    """What EM raises, before each M-step of the last `fit` and at its end, in nats per datum: the
    mean log-likelihood, and the share of the log-prior. In a family of one pass, how it rose in the
    M-step."""

    converged: bool = False
    """Whether the last `fit` ended because the model no longer changed."""

    def fit(
        self,
        data: Any,
        max_epochs: int = 100,
        tol: float = 1e-6,
        batch_size: int | None = None,
        warm_start: bool = False,
    ) -> Self:
        """Fit to data in memory, without a Trainer, on the device and in the type of the model.

        It starts anew, whatever the model was fitted to before.

        Args:
            data: As the family takes it; for images and vectors, an array (N, *x_shape).
            max_epochs: Number of EM iterations at the most; a family of one pass takes one.
            tol: Stop when an iteration, or `patience` of them, raise `history` by less, in nats
                per datum; a negative one asks for all iterations.
            batch_size: Data per E-step, to bound the memory; by default all.
            warm_start: Go on from the parameters that the model has.

        Returns:
            The model, in eval mode; `history` and `converged` say how it went, and a
            `ConvergenceWarning` that `max_epochs` ended it.

        Raises:
            ValueError: if the data do not fit the model.
        """
        check_at_least(1, max_epochs=max_epochs, batch_size=1 if batch_size is None else batch_size)
        batch = self.as_batch(data)
        n = len(next(iter(batch.values())))
        size = n if batch_size is None else batch_size
        self._data_size = n
        self.history, self.converged = (), False
        with torch.no_grad():
            if self.one_pass or not (warm_start and self.started):
                self.start(_parts(batch, size))
                self.started.fill_(True)
            if self.one_pass:
                self.maximization(self._total(batch, size))
            else:
                self._iterate(batch, size, max_epochs, tol)
        if tol >= 0:
            self._warn()
        return self.eval()

    def _warn(self) -> None:
        if not self.converged:
            limit = "max_iter" if self.one_pass else "max_epochs"
            warnings.warn(
                f"{type(self).__name__} has not converged: the last iteration still raised the "
                f"log-likelihood by more than tol; raise {limit} or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _iterate(self, batch: Batch, size: int, max_epochs: int, tol: float) -> None:
        for epoch in range(max_epochs + 1):
            total = self._total(batch, size)
            self.history += (float((total["log_likelihood"] + self.log_prior()) / total["count"]),)
            self.converged = self._settled(tol)
            if self.converged or epoch == max_epochs:
                break
            self.maximization(total)

    def _settled(self, tol: float) -> bool:
        """Whether the last iterations, as many as `patience`, raised `history` by less than tol."""
        before, last = self.history[: -self.patience], self.history[-self.patience :]
        return bool(before) and max(last) - max(before) < tol

    def _total(self, batch: Batch, size: int) -> Statistics:
        total: Statistics = {}
        for part in _parts(batch, size):
            _add(total, self._expectation(part))
        return total


def modality_of(x_shape: Sequence[int]) -> Modality:
    """What families that take any shape call a datum: (C, H, W) is an image, others are vectors."""
    return "image" if len(x_shape) == 3 else "vector"


def array_batch(data: Any, key: str, x_shape: Sequence[int], missing: bool = False) -> Batch:
    """A batch of an array (N, *x_shape), also one that is mapped into memory, which is not copied.

    Args:
        data: Of NumPy or torch.
        key: What the batch has it under.
        x_shape: The model's.
        missing: Whether a NaN is allowed, for an entry that was not seen.

    Raises:
        ValueError: if it is empty, of another shape, no numbers, or not finite.
    """
    data = images("data", data) if key == "image" else floats("data", data)
    check_shape("data", data, x_shape)
    check_rows(key, data, x_shape, missing)
    return {key: data}


def check_rows(key: str, x: Tensor, x_shape: Sequence[int], missing: bool = False) -> None:
    """Raise ValueError unless x is images in [0, 1] or vectors of finite floats, (B, *x_shape).

    Args:
        key: What a batch has it under.
        x: The data.
        x_shape: The model's.
        missing: Whether a NaN is allowed, for an entry that was not seen.
    """
    check_shape(key, x, x_shape)
    for i, part in enumerate(torch.split(x, ROWS)):
        if key == "image":
            check_images(part, x_shape, missing)
        elif missing:
            check_seen(key, part, x_shape)
        elif not part.isfinite().all():
            datum = i * ROWS + int(part.flatten(1).isfinite().all(1).logical_not().nonzero()[0])
            raise ValueError(f"{key}: datum {datum} holds NaN or infinite values; remove it.")


def _add(total: Statistics, statistics: Mapping[str, Tensor]) -> None:
    for name, s in statistics.items():
        total[name] = total[name].to(s.device) + s if name in total else s


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    n = len(next(iter(batch.values())))
    for start in range(0, n, size):
        yield {name: value[start : start + size] for name, value in batch.items()}
