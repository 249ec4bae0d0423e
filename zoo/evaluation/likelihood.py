"""The likelihood of data, exactly or as bounds, and what a model scores and predicts of them."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.batches import Batch, on_device
from zoo.checkpoints.metrics import Metric
from zoo.checkpoints.weights import read_tensors, write_tensors
from zoo.evaluation.job import Job
from zoo.evaluation.records import mean_metric, perplexity_metric, rate_metric, rounded
from zoo.inference import elbo, importance_weighted_bound
from zoo.metrics import ActiveUnits, auroc

KEEP_EVERY = 5.0  # seconds between two writings of what was measured so far

DRAWS = 10  # from q(z|x) for the ELBO: what they cost is nothing beside the NLL's


def has_likelihood(model: LatentVariableModel) -> bool:
    """Whether the model's verbs give a likelihood or a bound on it, or classify."""
    verbs = {*model.verbs()}
    return bool({"log_prob", "classify"} & verbs) or {"prior", "posterior", "likelihood"} <= verbs


@torch.no_grad()
def evaluate(
    model: LatentVariableModel,
    batches: Iterable[Batch],
    samples: int = 5000,
    seed: int = 0,
    kept: Path | None = None,
) -> list[Metric]:
    """Measure a model on the data of a loader: the NLL, exactly where the model has `log_prob`.

    With it goes what `scores` counts, which is all that is measured of a mere classifier.

    Where batches say under `anomaly` which data are not of the kind that the model was trained on,
    (B,) bool, what is a mean over data is one over the others, and with it goes the area under the
    ROC curve with which the NLL tells the two kinds apart.

    Of others that have `prior`, `posterior` and `likelihood`: the NLL by importance sampling, the
    ELBO, its rate and distortion, the active units, and how well parts of data are predicted. Those
    of a conditional model are given each datum's own condition, out of its batch. Two
    errors go with each mean: `standard_error` is that over data, so how far another test set would
    be off (None where there is one datum), and `monte_carlo_error` that over the draws of z, so how
    far the same data would be off with another seed.

    Args:
        model: The model, on the device where it is to be measured.
        batches: Batches as the model's DataModule gives them.
        samples: Importance samples per datum for the NLL.
        seed: Seed of the posterior draws.
        kept: File to keep in, every few seconds and when it is stopped, what was measured so far.
            If it is there, measuring goes on behind it, and ends with the same numbers as if never
            interrupted.

    Returns:
        The metrics, such as `nll`: see `zoo.checkpoints.metrics.Metric` for what each says. Its
        `dataset` and `split` are empty, as only the caller knows them.

    Raises:
        NotImplementedError: if the model has no likelihood and is no classifier.
    """
    if not has_likelihood(model):
        raise NotImplementedError(
            f"{type(model).__name__} has no likelihood to measure: it lacks log_prob, and the "
            "prior, posterior and likelihood that a bound needs."
        )
    verbs = {*model.verbs()}
    exact = "log_prob" in verbs or not {"prior", "posterior", "likelihood"} <= verbs
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            metrics = (
                _exact(model, batches, kept) if exact else _bounds(model, batches, samples, kept)
            )
    finally:
        model.train(training)
    return [replace(metric, seed=seed) for metric in metrics]


def _columns(
    batches: Iterable[Batch],
    measured: Callable[[Batch], Mapping[str, Tensor]],
    units: ActiveUnits,
    kept: Path | None,
) -> dict[str, Tensor]:
    """What is measured of each datum, (N,) by name: see `evaluate` for what is kept.

    Args:
        batches: The data.
        measured: What to measure of a batch that is on the device of `units`, (B,) by name.
        units: What `measured` updates besides.
        kept: The file.
    """
    device, chunks, done = units.device, list[Mapping[str, Tensor]](), 0
    units.persistent(True)
    if kept is not None and kept.is_file():
        state = read_tensors(kept)
        done = int(state.pop("batches"))
        torch.set_rng_state(state.pop("rng"))
        if "device_rng" in state:
            torch.get_device_module(device).set_rng_state(state.pop("device_rng"), device)
        units.load_state_dict({name: state.pop(f"units.{name}") for name in units.state_dict()})
        chunks.append({name: column.to(device) for name, column in state.items()})

    def joined(count: int) -> dict[str, Tensor]:
        """Columns of the first so many chunks."""
        names = chunks[0] if chunks else ()
        return {name: torch.cat([chunk[name] for chunk in chunks[:count]]) for name in names}

    after, written = (0, dict[str, Tensor]()), time.monotonic()
    try:
        for batch in islice(batches, done, None):
            chunks.append(measured(on_device(batch, device)))
            done += 1
            if kept is None:
                continue
            state = {"batches": torch.tensor(done), "rng": torch.get_rng_state()}
            if device.type != "cpu":
                state["device_rng"] = torch.get_device_module(device).get_rng_state(device)
            for name, value in units.state_dict(prefix="units.").items():
                state[name] = value.clone()  # the next batch changes it
            after = len(chunks), state
            if time.monotonic() - written > KEEP_EVERY:
                write_tensors(joined(len(chunks)) | state, kept)
                written = time.monotonic()
    finally:
        count, state = after
        if kept is not None and count:
            write_tensors(joined(count) | state, kept)
    return joined(len(chunks))


def _exact(model: LatentVariableModel, batches: Iterable[Batch], kept: Path | None) -> list[Metric]:
    density = "log_prob" in model.verbs()

    def measured(batch: Batch) -> dict[str, Tensor]:
        columns: dict[str, Tensor] = {}
        if density:
            columns["nll"] = -model.conditioned(batch).log_prob(model.inputs(batch))
            columns["anomaly"] = _anomalies(batch, columns["nll"])
        return columns | _scores(model, batch)

    columns = _columns(batches, measured, ActiveUnits(0).to(model.device), kept)
    metrics = []
    if density:
        unit = f"nats/{model.datum}"
        nll, anomaly = columns["nll"], columns["anomaly"]
        kind = f"exact: minus log {model.density}"
        metrics.append(mean_metric("nll", nll[~anomaly], None, unit, kind))
        metrics += _auroc(nll, anomaly)
    return [*metrics, *_rates(columns)]


def _scores(model: LatentVariableModel, batch: Batch) -> dict[str, Tensor]:
    """What a model scores of a batch, as columns."""
    columns: dict[str, Tensor] = {}
    for name, (right, of) in model.scores(batch).items():
        columns |= {f"right.{name}": right, f"of.{name}": of}
    return columns


def _rates(columns: Mapping[str, Tensor]) -> list[Metric]:
    """A metric for each of the scores."""
    names = [key.removeprefix("of.") for key in columns if key.startswith("of.")]
    return [
        rate_metric(n, columns[f"right.{n}"].double(), columns[f"of.{n}"].double()) for n in names
    ]


def _bounds(
    model: LatentVariableModel, batches: Iterable[Batch], samples: int, kept: Path | None
) -> list[Metric]:
    kinds = {
        "elbo": f"lower bound on log {model.density}, {DRAWS} draws",
        "rate": "KL(q(z|x) || p(z))",
        "distortion": f"-E_q[log p(x|z)], {DRAWS} draws",
        "nll": f"estimate: minus the importance-weighted bound on log {model.density}, "
        f"k = {samples}",
    }
    units = ActiveUnits(math.prod(model.latent_shape)).to(model.device)

    def measured(batch: Batch) -> dict[str, Tensor]:
        """Terms in nats, and the squares of their Monte Carlo errors."""
        x, fixed = model.inputs(batch), model.conditioned(batch)
        q = fixed.posterior(x)
        draws = torch.stack([torch.stack(elbo(fixed, x, q)) for _ in range(DRAWS)]).double()
        terms = {"elbo": -draws.sum(1), "distortion": draws[:, 0], "rate": draws[:, 1]}
        columns = {name: term.mean(0) for name, term in terms.items()}  # from (DRAWS, B)
        noise = {f"noise.{name}": term.var(0) / DRAWS for name, term in terms.items()}
        bound = importance_weighted_bound(fixed, x, samples)
        anomaly = _anomalies(batch, bound.value)
        units.update(fixed.encode(x).flatten(1)[~anomaly])
        nll = {"nll": -bound.value, "noise.nll": bound.standard_error.square(), "anomaly": anomaly}
        for name, (log_prob, items) in model.predictions(batch).items():
            columns |= {f"log_p.{name}": log_prob, f"items.{name}": items}
        return columns | noise | nll | _scores(model, batch)

    columns = _columns(batches, measured, units, kept)
    anomaly = columns["anomaly"]
    unit = f"nats/{model.datum}"
    *terms, nll = (
        mean_metric(name, columns[name][~anomaly], columns[f"noise.{name}"][~anomaly], unit, kind)
        for name, kind in kinds.items()
    )
    dimensions = f"of {math.prod(model.latent_shape)} latent dimensions"
    kind = "dimensions of the code whose variance over x is above 0.01"
    active = rounded(
        "active_units", int(units.compute()), dimensions, kind, nll.count, standard_error=0.0
    )
    names = [key.removeprefix("items.") for key in columns if key.startswith("items.")]
    predicted = [perplexity_metric(n, columns[f"log_p.{n}"], columns[f"items.{n}"]) for n in names]
    bounds = [*terms, replace(nll, importance_samples=samples), active]
    return [*bounds, *predicted, *_rates(columns), *_auroc(columns["nll"], anomaly)]


def _anomalies(batch: Batch, values: Tensor) -> Tensor:
    """Which data of a batch are marked as anomalies, (B,) bool; without marks, none."""
    marked = batch.get("anomaly")
    return torch.zeros_like(values, dtype=torch.bool) if marked is None else marked


def _auroc(nll: Tensor, anomaly: Tensor) -> list[Metric]:
    """How well minus log p(x) tells anomalies, where there are some: none or one metric.

    Args:
        nll: One a datum, (N,).
        anomaly: Which are marked, (N,) bool.
    """
    if not anomaly.any():
        return []
    area, error = auroc(nll, anomaly)
    kind = f"of the NLL, for {int(anomaly.sum()):,} anomalies"
    spread = None if error.isnan() else error.item()
    return [rounded("auroc", area.item(), "area under the ROC curve", kind, len(nll), spread)]


def likelihood(job: Job) -> list[Metric]:
    """What `evaluate` measures, scores included, of models that have a likelihood or classify."""
    if not has_likelihood(job.model):
        return []
    kept = None if job.kept is None else job.kept / "likelihood.safetensors"
    return evaluate(job.model, job.batches(), job.protocol.samples, job.protocol.seed, kept)
