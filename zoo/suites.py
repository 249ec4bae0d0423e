"""One question, asked of every model in the same words: suites of jobs that give a card's numbers.

A job measures what a model's verbs and its data allow, under a `Protocol`, and gives entries of
metrics.json; where it does not apply it gives none. Every job starts from the protocol's seed, so
that its numbers do not depend on what was measured before it. Those of other jobs than `likelihood`
name theirs under `job`, by which `zoo verify` measures them again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from datamodules.base import DataModule, ImageDataModule, Split
from datamodules.factors import FactorImages
from zoo import __version__, catalog, checkpoint
from zoo.base import LatentVariableModel
from zoo.errors import ZooError, nearest
from zoo.evaluation import (
    has_likelihood,
    mean_metric,
    on_device,
    perplexity_metric,
    rate_metric,
)
from zoo.inference import inference_gap
from zoo.latent import code_length
from zoo.metrics import DCI, MIG, SAP, FactorVAEScore, FrechetDistance, Modularity
from zoo.metrics.disentanglement import factor_vae_score
from zoo.metrics.probes import knn_probe, linear_probe
from zoo.metrics.quality import density_coverage, kernel_distance, precision_recall
from zoo.pretrained import from_pretrained
from zoo.protocol import QUICK, Protocol, data_module, held_out, measure, progress

Metrics = list[dict[str, Any]]

FEATURES = {"MNIST": "lenet-mnist", "CelebA": "attributes-celeba"}
"""By data set, the published classifier in whose features samples are compared."""

NEIGHBOURS = 5
HALVES = 10  # of a set, for the errors of what is no mean
FEWEST = 100  # images that are compared: with fewer, half of them have hardly any neighbours
PAIRED = 2000  # images of which each is compared with each, at the most
ANNEALED = 100  # images whose gap is split
CODES, GROUP = 15_000, 64  # in all, and in a group that agrees on a factor
SCORES = {
    "MIG": "mig",
    "SAP": "sap",
    "Modularity": "modularity",
    "disentanglement": "dci_disentanglement",
    "completeness": "dci_completeness",
    "informativeness": "dci_informativeness",
    "FactorVAEScore": "factor_vae_score",
}


def likelihood(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """What `evaluate` measures, scores included, of models that have a likelihood or classify."""
    return measure(model, protocol, dataset, kept) if has_likelihood(model) else []


@torch.no_grad()
def probes(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """What the codes of labelled images know: accuracies of a linear probe and of 5 neighbours.

    They are fitted on as many codes, of the first training images. One index a datum counts as a
    one-hot vector; of codes that are several indices nothing is measured.
    """
    if "encode" not in model.verbs() or model.datum != "image":
        return []
    module = data_module(model, dataset)
    test = labelled(module, "test", protocol.limit, lambda batch: _vectors(model, batch))
    if test is None:
        return []
    train = labelled(module, "train", len(test[1]), lambda batch: _vectors(model, batch))
    assert train is not None
    return probed(train, test, "codes")


def labelled(
    module: DataModule,
    split: Split,
    limit: int | None,
    codes_of: Callable[[Any], Tensor | None],
) -> tuple[Tensor, Tensor] | None:
    """Codes, (N, ...), and labels, (N,), of the first examples; None where there are none."""
    codes, labels = [], []
    for batch in held_out(module, limit, split=split):
        code = codes_of(batch) if "label" in batch else None
        if code is None:
            return None
        codes.append(code)
        labels.append(batch["label"].cpu())
    return torch.cat(codes), torch.cat(labels)


def _vectors(model: LatentVariableModel, batch: Any) -> Tensor | None:
    """Codes of a batch, (B, D), or (B,) of one index each; None where there are several indices."""
    batch = on_device(batch, model.device)
    codes = model.conditioned(batch).encode(model.inputs(batch)).cpu()
    if codes.is_floating_point():
        return codes.flatten(1)
    return codes if codes.ndim == 1 else None


def probed(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], what: str) -> Metrics:
    """Accuracies of both probes; none where there is too little to fit.

    Args:
        train: Codes, (N, D) or indices (N,), and labels, (N,), to be fitted.
        test: The same, to be labelled.
        what: What the codes are, in a word.
    """
    (codes, labels), (test_codes, test_labels) = train, test
    if len(codes) < NEIGHBOURS or len(torch.unique(labels)) < 2:
        return []
    if codes.ndim == 1:
        size = int(max(codes.max(), test_codes.max())) + 1
        codes, test_codes = (_one_hot(c, size) for c in (codes, test_codes))
    kinds: dict[str, tuple[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
        "linear_probe": ("logistic regression", linear_probe),
        "knn_probe": (f"{NEIGHBOURS} nearest neighbours", partial(knn_probe, k=NEIGHBOURS)),
    }
    metrics = []
    for name, (words, probe) in kinds.items():
        right = (probe(codes, labels, test_codes) == test_labels).double()
        metric = rate_metric(name, right, torch.ones_like(right))
        metric["kind"] = f"accuracy of {words} on {what}, fitted on {len(codes):,} training images"
        metrics.append(metric)
    return metrics


def _one_hot(index: Tensor, size: int) -> Tensor:
    """Floats (N, size), one of them 1, for indices (N,)."""
    return torch.nn.functional.one_hot(index, size).float()


# --- reconstructions and codes -------------------------------------------------------------------


@torch.no_grad()
def reconstructions(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """How far images are from what their one code gives: minus log p(x | encode(x)), and squared.

    The ELBO's distortion is another number: it is a mean over codes that are drawn.
    """
    if model.datum != "image" or not {"encode", "decode", "likelihood"} <= {*model.verbs()}:
        return []
    found = []
    for batch in held_out(data_module(model, dataset), protocol.limit):
        here = on_device(batch, model.device)
        x: Tensor = model.inputs(here)
        fixed = model.conditioned(here)
        z = fixed.encode(x)
        square = (fixed.decode(z) - x).double().square().flatten(1).mean(1)
        found.append((-fixed.likelihood(z).log_prob(x), square))
    nats, squares = (torch.cat(column) for column in zip(*found, strict=True))
    words = "of (x - reconstruct(x))^2 over pixels"
    return [
        mean_metric("code_distortion", nats, None, "nats/image", "-log p(x|encode(x))"),
        mean_metric("mean_squared_error", squares, None, "a pixel", words, digits=6),
    ]


@torch.no_grad()
def codes(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """How long codes that are made of indices are, and how many of the indices are used."""
    k = model.code_symbols
    if k is None or not {"encode", "prior"} <= {*model.verbs()}:
        return []
    lengths, indices = [], []
    for batch in held_out(data_module(model, dataset), protocol.limit):
        x = model.inputs(on_device(batch, model.device))
        lengths.append(code_length(model, x))
        indices.append(model.encode(x).flatten(1))
    s = torch.cat(indices)  # (N, T)
    n, places = s.shape
    usage = torch.bincount(s.flatten(), minlength=k).double() / s.numel()
    used, bits = int((usage > 0).sum()), f"of a code of {places} of {k} indices"
    uniform = torch.full((n,), lengths[0].uniform)
    learned = torch.cat([length.learned for length in lengths])
    share = {
        "name": "codes_in_use",
        "value": round(used / k, 4),
        "unit": "share",
        "kind": f"of {k} codes, found in {n:,} images",
        "standard_error": None,
        "monte_carlo_error": 0.0,
        "count": n,
    }
    entropy = perplexity_metric("code_perplexity", usage.log()[s].sum(1), torch.full((n,), places))
    entropy |= {"unit": "equally used codes", "kind": f"exp of the entropy of {s.numel():,} codes"}
    return [
        mean_metric("bits_per_dim", learned, None, "bits/dim", f"-log2 p(s) {bits}", digits=6),
        mean_metric("bits_per_dim_uniform", uniform, None, "bits/dim", f"uniform {bits}", digits=6),
        share,
        entropy,
    ]


# --- samples -------------------------------------------------------------------------------------


class Distance(NamedTuple):
    """How two sets of features differ, and the errors of that.

    Args:
        value: The distance.
        standard_error: How far it would be off with other real data.
        monte_carlo_error: How far, with other draws.
    """

    value: float
    standard_error: float
    monte_carlo_error: float


Statistic = Callable[[Tensor, Tensor], dict[str, Tensor]]


def with_errors(statistic: Statistic, real: Tensor, generated: Tensor) -> dict[str, Distance]:
    r"""What a statistic finds in two sets of features, by name, with its errors.

    They are the spread over random halves of one set or the other: that of halves drawn without
    replacement is $\sigma / \sqrt n$, as is that of the whole (the delete-half jackknife, Shao & Wu
    1989, https://doi.org/10.1214/aos/1176347263). It holds for what is not smooth, too.

    Args:
        statistic: What to find, scalars by name.
        real: Features (N, D).
        generated: Features (M, D).
    """
    whole = statistic(real, generated)
    of_data = [statistic(half, generated) for half in _halves(real)]
    of_draws = [statistic(real, half) for half in _halves(generated)]

    def error(name: str, found: list[dict[str, Tensor]]) -> float:
        return stdev(float(values[name]) for values in found)

    return {
        name: Distance(float(value), error(name, of_data), error(name, of_draws))
        for name, value in whole.items()
    }


def frechet(real: Tensor, generated: Tensor) -> dict[str, Tensor]:
    """The Fréchet distance."""
    metric = FrechetDistance(real.shape[1]).to(real.device)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return {"frechet_distance": metric.compute()}


def pairwise(real: Tensor, generated: Tensor) -> dict[str, Tensor]:
    """What compares each datum with each: it takes N M steps."""
    return {
        "kernel_distance": kernel_distance(real, generated),
        **precision_recall(real, generated)._asdict(),
        **density_coverage(real, generated)._asdict(),
    }


def _halves(x: Tensor) -> list[Tensor]:
    return [x[torch.randperm(len(x))[: len(x) // 2].to(x.device)] for _ in range(HALVES)]


@torch.no_grad()
def samples(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """How generated images differ from as many test images, in a classifier's features.

    The test images are those that the classifier was made for, grey. Models of binary pixels are
    drawn by the means of p(x | z), where they have them: the noise of single pixels is not asked.
    """
    module = data_module(model, dataset)
    network = feature_network(module)
    if network is None or "sample" not in model.verbs() or network.x_shape != model.x_shape:
        return []
    network = network.to(model.device)

    def features(x: Tensor) -> Tensor:
        return network.encode(x.to(model.device))

    batches = held_out(data_module(network), protocol.limit)
    real = torch.cat([features(batch["image"]) for batch in batches])
    if len(real) < FEWEST:
        return []
    draw, drawn = drawing(model, module)
    torch.manual_seed(protocol.seed)  # to build the network, numbers were drawn
    parts = progress(torch.split(torch.arange(len(real)), 100), "Sampling")
    generated = torch.cat([features(draw(len(part))) for part in parts])
    name, metrics = network.loaded_from, []
    for statistic, most in ((frechet, len(real)), (pairwise, PAIRED)):
        x, y = real[:most], generated[:most]
        for metric, found in with_errors(statistic, x, y).items():
            words = metric.replace("_", " ")
            entry = {
                "name": metric,
                "value": round(found.value, 4),
                "unit": f"{name} features",
                "kind": f"{words}, {name} features, {len(x):,} {drawn}",
                "standard_error": round(found.standard_error, 4),
                "monte_carlo_error": round(found.monte_carlo_error, 5),
                "count": len(x),
            }
            metrics.append(entry)
    return metrics


def feature_network(module: DataModule) -> LatentVariableModel | None:
    """The published classifier of a data set, in eval mode, if there is one."""
    name = FEATURES.get(type(module).__name__)
    return from_pretrained(name) if name in catalog.list_models() else None


def drawing(model: LatentVariableModel, module: DataModule) -> tuple[Callable[[int], Tensor], str]:
    """What draws n images as `samples` wants them, (n, C, H, W), and what they are."""
    binary = isinstance(module, ImageDataModule) and module.binarization != "none"
    if not getattr(model, "noiseless", False):  # a Bernoulli fits the means of grey pixels, too
        binary = binary or model.hparams.get("likelihood") == "bernoulli"
    if binary and {"prior", "decode"} <= {*model.verbs()}:
        return partial(means, model), "means of p(x|z)"
    return model.sample, "samples"


def means(model: LatentVariableModel, n: int) -> Tensor:
    """Means of p(x | z) for n draws of z, and of conditions where none is fixed."""
    fixed = model.given(torch.randint(len(model.conditions), (n,))) if model.conditions else model
    return fixed.decode(fixed.prior().sample((n,)))


# --- the gap -------------------------------------------------------------------------------------


def gap(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """Annealed importance sampling on the first test images, and the split of the ELBO's gap.

    It applies to models with a posterior over real numbers and no `log_prob`, and takes long.
    """
    verbs = {*model.verbs()}
    if "log_prob" in verbs or not {"prior", "posterior", "likelihood"} <= verbs:
        return []
    module = data_module(model, dataset)
    limit = min(protocol.limit or ANNEALED, ANNEALED)
    parts = []
    for part in held_out(module, limit, batch_size=10):
        batch = on_device(part, model.device)
        x, fixed = model.inputs(batch), model.conditioned(batch)
        if not fixed.posterior(x).has_rsample:
            return []
        found = inference_gap(fixed, x, protocol.samples)
        parts.append((found.log_p, found.approximation, found.amortisation))
    k = protocol.samples
    kinds = {
        "nll_annealed": f"estimate: minus the better of AIS and the bound with k = {k}",
        "approximation_gap": "log p(x) less the ELBO of the best Gaussian of each image",
        "amortisation_gap": "what the ELBO of the encoder is below that",
    }
    metrics = []
    for (name, kind), column in zip(kinds.items(), zip(*parts, strict=True), strict=True):
        values = torch.cat([bound.value for bound in column])
        noise = torch.cat([bound.standard_error for bound in column]).square()
        values = -values if name == "nll_annealed" else values
        metric = mean_metric(name, values, noise, f"nats/{model.datum}", kind)
        metrics.append({**metric, "importance_samples": k})
    return metrics


# --- disentanglement -----------------------------------------------------------------------------


@torch.no_grad()
def disentanglement(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """How far each number of a code stands for one factor of the pictures: see zoo.metrics.

    Of pictures that are drawn from known factors, each uniform and independent of the others:
    15,000 codes, of which a third is tested, and the votes of as many groups of 64 (Locatello et
    al. 2019). The errors are those of drawing other pictures.
    """
    module = data_module(model, dataset)
    if not isinstance(module, FactorImages) or "encode" not in model.verbs():
        return []
    if len(model.latent_shape) != 1:
        return []
    n = protocol.limit or CODES
    generator = torch.Generator().manual_seed(protocol.seed)

    def encode(factors: Tensor) -> Tensor:
        images = module.render(factors.to(model.device))
        return model.encode(images).cpu()

    factors = module.sample_factors(n, generator)
    codes = torch.cat([encode(part) for part in progress(torch.split(factors, 500), "Encoding")])
    groups, fixed = module.sample_groups(n, GROUP, generator)
    votes = FactorVAEScore(model.latent_shape[0])
    parts = list(zip(torch.split(groups, 10), torch.split(fixed, 10), strict=True))
    for group, column in progress(parts, "Encoding groups"):
        votes.update(encode(group.flatten(0, 1)).reshape(*group.shape[:2], -1), column)

    def of_codes(rows: Tensor) -> dict[str, Tensor]:
        scores = MetricCollection([MIG(), SAP(), Modularity(), DCI()])
        scores.update(codes[rows], factors[rows])
        found: dict[str, Tensor] = scores.compute()
        return found

    def of_groups(rows: Tensor) -> dict[str, Tensor]:
        return {"FactorVAEScore": factor_vae_score(shares[rows], fixed[rows])}

    shares = votes.shares()
    metrics = []
    for statistic, what in ((of_codes, "codes"), (of_groups, f"groups of {GROUP} codes")):
        every = torch.arange(n)
        halves = [statistic(half) for half in _halves(every)]
        for name, value in statistic(every).items():
            error = stdev(float(half[name]) for half in halves)
            metrics.append(
                {
                    "name": SCORES[name],
                    "value": round(float(value), 4),
                    "unit": "of 1",
                    "kind": f"of {n:,} {what}",
                    "standard_error": round(error, 4),
                    "monte_carlo_error": round(error, 5),
                    "count": n,
                }
            )
    return metrics


# --- suites --------------------------------------------------------------------------------------


Job = Callable[[LatentVariableModel, str | None, Protocol, Path | None], Metrics]

JOBS: dict[str, Job] = {
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
) -> Metrics:
    """Do jobs one after another.

    Args:
        model: The model, on the device where it is to be measured.
        jobs: Their names.
        protocol: How.
        dataset: Name of a DataModule; by default the model's own.
        work: Folder to keep what is done in, job by job and batch by batch; what is there already
            is not done again. See `work_folder`.

    Raises:
        ZooError: if there is no such job, or the dataset is unknown.
        DataError: if its files are missing or damaged.
    """
    for job in jobs:
        if job not in JOBS:
            raise ZooError(f"there is no job {job!r}; {nearest(job, JOBS)}")
    name = type(data_module(model, dataset)).__name__
    found: Metrics = []
    training = model.training
    model.eval()
    try:
        for job in jobs:
            done = None if work is None else work / f"{job}.json"
            if done is not None and done.is_file():
                found += checkpoint.read_json(done)["metrics"]
                continue
            with torch.random.fork_rng():
                torch.manual_seed(protocol.seed)
                kept = None if work is None else work / f"{job}.safetensors"
                metrics = JOBS[job](model, name, protocol, kept)
            facts = {"seed": protocol.seed, "dataset": name, "split": "test"}
            facts |= {} if job == "likelihood" else {"job": job}
            metrics = [{**metric, **facts} for metric in metrics]
            if done is not None:
                checkpoint.write_json(done, {"metrics": metrics})
            found += metrics
    finally:
        model.train(training)
    return found


def work_folder(folder: Path, protocol: Protocol, dataset: str | None, device: str) -> Path:
    """Where `run` keeps what it has done of a checkpoint: in the user's cache, by what is asked.

    Args:
        folder: The checkpoint.
        protocol: How it is measured.
        dataset: On what.
        device: Where.
    """
    hashes = [checkpoint.sha256(folder / file) for file in (checkpoint.CONFIG, checkpoint.WEIGHTS)]
    asked = json.dumps([*hashes, protocol, dataset, device, __version__, str(torch.__version__)])
    key = hashlib.sha256(asked.encode()).hexdigest()[:32]
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "latent-zoo" / "evaluations" / key


def forget(work: Path) -> None:
    """Remove what `run` kept, if it kept anything."""
    if work.is_dir():
        for path in work.iterdir():
            path.unlink()
        work.rmdir()
