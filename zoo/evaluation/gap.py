"""What the gap between log p(x) and the ELBO is made of."""

from dataclasses import replace

import torch

from zoo.batches import on_device
from zoo.checkpoints.metrics import Metric
from zoo.evaluation.data import held_out
from zoo.evaluation.job import Job
from zoo.evaluation.records import mean_metric
from zoo.inference import inference_gap

ANNEALED = 100  # images whose gap is split


def gap(job: Job) -> list[Metric]:
    """Annealed importance sampling on the first test images, and the split of the ELBO's gap.

    It applies to models with a posterior over real numbers and no `log_prob`, and takes long.
    """
    model, k = job.model, job.protocol.samples
    verbs = {*model.verbs()}
    if "log_prob" in verbs or not {"prior", "posterior", "likelihood"} <= verbs:
        return []
    limit = min(job.protocol.limit or ANNEALED, ANNEALED)
    parts = []
    for part in held_out(job.module, limit, batch_size=10):
        batch = on_device(part, model.device)
        x, fixed = model.inputs(batch), model.conditioned(batch)
        if not fixed.posterior(x).has_rsample:
            return []
        found = inference_gap(fixed, x, k)
        parts.append((found.log_p, found.approximation, found.amortisation))
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
        metrics.append(replace(metric, importance_samples=k))
    return metrics
