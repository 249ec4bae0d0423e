"""How far images are from their reconstructions."""

import torch
from torch import Tensor

from zoo.checkpoints.metrics import Metric
from zoo.evaluation.job import Job
from zoo.evaluation.records import mean_metric


@torch.no_grad()
def reconstructions(job: Job) -> list[Metric]:
    """How far images are from what their one code gives: minus log p(x | encode(x)), and squared.

    The ELBO's distortion is another number: it is a mean over codes that are drawn.
    """
    model = job.model
    if model.modality != "image" or not {"encode", "decode", "likelihood"} <= {*model.verbs()}:
        return []
    found = []
    for batch in job.batches():
        x: Tensor = model.inputs(batch)
        fixed = model.conditioned(batch)
        z = fixed.encode(x)
        square = (fixed.decode(z) - x).double().square().flatten(1).mean(1)
        found.append((-fixed.likelihood(z).log_prob(x), square))
    nats, squares = (torch.cat(column) for column in zip(*found, strict=True))
    words = "of (x - reconstruct(x))^2 over pixels"
    return [
        mean_metric("code_distortion", nats, None, "nats/image", "-log p(x|encode(x))"),
        mean_metric("mean_squared_error", squares, None, "a pixel", words, digits=6),
    ]
