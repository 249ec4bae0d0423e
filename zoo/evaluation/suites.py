"""One question, asked of every model in the same words: suites of jobs that give a card's numbers.

A job measures what a model's verbs and its data allow, under a `Protocol`, and gives metrics; where
it does not apply it gives none. It stands in the file of its name. Every job starts from the
protocol's seed, so that its numbers do not depend on what was measured before it. Those of other
jobs than `likelihood` name theirs, by which `zoo verify` measures them again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.base import LatentVariableModel
from zoo.checkpoints.files import CONFIG, WEIGHTS, read_json, sha256, write_json
from zoo.checkpoints.metrics import Metric, entries, metrics_of
from zoo.checkpoints.paths import portable
from zoo.errors import ZooError, in_any_case, nearest
from zoo.evaluation.codes import codes
from zoo.evaluation.data import data_module
from zoo.evaluation.disentanglement import disentanglement
from zoo.evaluation.gap import gap
from zoo.evaluation.job import Job
from zoo.evaluation.likelihood import likelihood
from zoo.evaluation.probes import probes
from zoo.evaluation.protocol import QUICK, Protocol
from zoo.evaluation.reconstructions import reconstructions
from zoo.evaluation.samples import samples
from zoo.version import __version__

JOBS: dict[str, Callable[[Job], list[Metric]]] = {
    "likelihood": likelihood,
    "probes": probes,
    "reconstructions": reconstructions,
    "codes": codes,
    "samples": samples,
    "disentanglement": disentanglement,
    "gap": gap,
}


class Suite(NamedTuple):
    """Jobs, and how they are done.

    Args:
        jobs: Names of jobs, in their order.
        protocol: How.
    """

    jobs: tuple[str, ...]
    protocol: Protocol


CARD = ("likelihood", "probes", "reconstructions", "codes", "samples", "disentanglement")

SUITES = {
    "quick": Suite(CARD, QUICK),
    "card": Suite(CARD, Protocol()),
    "full": Suite((*CARD, "gap"), Protocol()),
}
"""`quick` takes seconds for most models; `card` is what a card states; `full` adds what is slow."""


def run(
    model: LatentVariableModel,
    jobs: Sequence[str],
    protocol: Protocol,
    dataset: str | None = None,
    work: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Metric]:
    """Do jobs one after another.

    Args:
        model: The model, on the device where it is to be measured.
        jobs: Their names.
        protocol: How.
        dataset: Name of a DataModule; by default the model's own.
        work: Folder to keep what is done in, job by job and batch by batch; what is there already
            is not done again. See `work_folder`.
        settings: Arguments of the DataModule: see `data_module`.

    Raises:
        ZooError: if there is no such job, or the dataset is unknown.
        DataError: if its files are missing or damaged.
    """
    jobs = [in_any_case(name, JOBS) for name in jobs]
    for name in jobs:
        if name not in JOBS:
            raise ZooError(f"there is no job {name!r}; {nearest(name, JOBS)}")
    job = Job(model, data_module(model, dataset, settings), protocol, work)
    stated = portable(settings or {})
    found: list[Metric] = []
    training = model.training
    model.eval()
    try:
        for name in jobs:
            done = None if work is None else work / f"{name}.json"
            if done is not None and done.is_file():
                found += metrics_of(read_json(done), done)
                continue
            with torch.random.fork_rng():
                torch.manual_seed(protocol.seed)
                metrics = [_signed(metric, name, job, stated) for metric in JOBS[name](job)]
            if done is not None:
                write_json(done, {"metrics": entries(metrics)})
            found += metrics
    finally:
        model.train(training)
    return found


def _signed(metric: Metric, name: str, job: Job, settings: Mapping[str, Any]) -> Metric:
    """The metric with the names of what was measured and of the job that did."""
    return replace(
        metric,
        seed=job.protocol.seed,
        dataset=type(job.module).__name__,
        split="test",
        job=None if name == "likelihood" else name,
        settings=dict(settings) or None,
    )


def work_folder(
    folder: Path,
    protocol: Protocol,
    dataset: str | None,
    device: str,
    settings: Mapping[str, Any] | None = None,
) -> Path | None:
    """Where `run` keeps what it has done of a checkpoint: in the user's cache, by what is asked.

    Args:
        folder: The checkpoint.
        protocol: How it is measured.
        dataset: On what.
        device: Where.
        settings: Arguments of the data.

    Returns:
        The folder, or None where the user has no cache that can be written to.
    """
    hashes = [sha256(folder / file) for file in (CONFIG, WEIGHTS)]
    about = [protocol, dataset, device, dict(settings or {})]
    asked = json.dumps([*hashes, *about, __version__, str(torch.__version__)])
    key = hashlib.sha256(asked.encode()).hexdigest()[:32]
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        work = Path(cache).expanduser() / "latent-zoo" / "evaluations" / key
        work.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a read-only disk, or nobody's home
        return None
    return work if os.access(work, os.W_OK) else None


def forget(work: Path | None) -> None:
    """Remove what `run` kept, if it kept anything."""
    if work is not None and work.is_dir():
        for path in work.iterdir():
            path.unlink()
        work.rmdir()
