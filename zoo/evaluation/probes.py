"""What codes know of labels: a linear probe and nearest neighbours."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.batches import on_device
from zoo.checkpoints.metrics import Metric
from zoo.datamodules.base import DataModule, Split
from zoo.evaluation.data import held_out
from zoo.evaluation.job import Job
from zoo.evaluation.records import rate_metric
from zoo.metrics.probes import knn_probe, linear_probe

NEIGHBOURS = 5


@torch.no_grad()
def probes(job: Job) -> list[Metric]:
    """What the codes of labelled images know: accuracies of a linear probe and of 5 neighbours.

    They are fitted on as many codes, of the first training images. One index a datum counts as a
    one-hot vector; of codes that are several indices nothing is measured.
    """
    model, module = job.model, job.module
    if "encode" not in model.verbs() or model.modality != "image":
        return []
    test = labelled(module, "test", job.protocol.limit, lambda batch: _vectors(model, batch))
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


def probed(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], what: str) -> list[Metric]:
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
        kind = f"accuracy of {words} on {what}, fitted on {len(codes):,} training images"
        metrics.append(replace(rate_metric(name, right, torch.ones_like(right)), kind=kind))
    return metrics


def _one_hot(index: Tensor, size: int) -> Tensor:
    """Floats (N, size), one of them 1, for indices (N,)."""
    return torch.nn.functional.one_hot(index, size).float()
