"""How long codes that are made of indices are, and how many of the indices are used."""

from dataclasses import replace

import torch

from zoo.checkpoints.metrics import Metric
from zoo.evaluation.job import Job
from zoo.evaluation.records import mean_metric, perplexity_metric, rounded
from zoo.tasks.code_length import code_length


@torch.no_grad()
def codes(job: Job) -> list[Metric]:
    """How long codes that are made of indices are, and how many of the indices are used."""
    model, k = job.model, job.model.code_symbols
    if k is None or not {"encode", "prior"} <= {*model.verbs()}:
        return []
    lengths, indices = [], []
    for batch in job.batches():
        x = model.inputs(batch)
        lengths.append(code_length(model, x))
        indices.append(model.encode(x).flatten(1))
    s = torch.cat(indices)  # (N, T)
    n, places = s.shape
    usage = torch.bincount(s.flatten(), minlength=k).double() / s.numel()
    used, bits = int((usage > 0).sum()), f"of a code of {places} of {k} indices"
    uniform = torch.full((n,), lengths[0].uniform)
    learned = torch.cat([length.learned for length in lengths])
    found = f"of {k} codes, found in {n:,} images"
    entropy = perplexity_metric("code_perplexity", usage.log()[s].sum(1), torch.full((n,), places))
    words = f"exp of the entropy of {s.numel():,} codes"
    return [
        mean_metric("bits_per_dim", learned, None, "bits/dim", f"-log2 p(s) {bits}", digits=6),
        mean_metric("bits_per_dim_uniform", uniform, None, "bits/dim", f"uniform {bits}", digits=6),
        rounded("codes_in_use", used / k, "share", found, n, standard_error=None),
        replace(entropy, unit="equally used codes", kind=words),
    ]
