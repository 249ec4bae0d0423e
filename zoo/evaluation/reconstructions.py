"""How far images are from their reconstructions."""

from pathlib import Path

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.batches import on_device
from zoo.evaluation.data import data_module, held_out
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.records import Metrics, mean_metric


@torch.no_grad()
def reconstructions(
    model: LatentVariableModel, dataset: str | None, protocol: Protocol, kept: Path | None
) -> Metrics:
    """How far images are from what their one code gives: minus log p(x | encode(x)), and squared.

    The ELBO's distortion is another number: it is a mean over codes that are drawn.
    """
    if model.modality != "image" or not {"encode", "decode", "likelihood"} <= {*model.verbs()}:
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
