"""How long codes that are made of indices are, and how many of the indices are used."""

from pathlib import Path

import torch

from zoo.base import LatentVariableModel
from zoo.batches import on_device
from zoo.evaluation.data import data_module, held_out
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.records import Metrics, mean_metric, perplexity_metric
from zoo.tasks.code_length import code_length


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
