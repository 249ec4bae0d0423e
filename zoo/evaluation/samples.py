"""How generated images differ from real ones, in the features of a classifier."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.checkpoints import catalog
from zoo.checkpoints.metrics import Metric
from zoo.datamodules.base import DataModule, ImageDataModule
from zoo.evaluation.data import data_module, held_out, progress
from zoo.evaluation.jackknife import with_errors
from zoo.evaluation.job import Job
from zoo.evaluation.records import rounded
from zoo.metrics import FrechetDistance
from zoo.metrics.quality import density_coverage, kernel_distance, precision_recall
from zoo.pretrained.loading import from_pretrained

FEWEST = 100  # images that are compared: with fewer, half of them have hardly any neighbours

PAIRED = 2000  # images of which each is compared with each, at the most


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


@torch.no_grad()
def samples(job: Job) -> list[Metric]:
    """How generated images differ from as many test images, in a classifier's features.

    The test images are those that the classifier was made for, grey. Models of binary pixels are
    drawn by the means of p(x | z), where they have them: the noise of single pixels is not asked.
    """
    model, module, protocol = job.model, job.module, job.protocol
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
    unit, metrics = f"{network.loaded_from} features", []
    for statistic, most in ((frechet, len(real)), (pairwise, PAIRED)):
        x, y = real[:most], generated[:most]
        for name, (value, of_data, of_draws) in with_errors(statistic, x, y).items():
            kind = f"{name.replace('_', ' ')}, {unit}, {len(x):,} {drawn}"
            metrics.append(rounded(name, value, unit, kind, len(x), of_data, of_draws))
    return metrics


def feature_network(module: DataModule) -> LatentVariableModel | None:
    """The published classifier of a data set, in eval mode, if there is one."""
    name = module.feature_network
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
