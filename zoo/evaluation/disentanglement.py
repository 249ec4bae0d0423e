"""How far each number of a code stands for one factor of the pictures."""

from pathlib import Path
from statistics import stdev

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from zoo.base import LatentVariableModel
from zoo.datamodules.sprites.factors import FactorImages
from zoo.evaluation.data import data_module, progress
from zoo.evaluation.jackknife import _halves
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.records import Metrics
from zoo.metrics import DCI, MIG, SAP, FactorVAEScore, Modularity
from zoo.metrics.disentanglement import factor_vae_score

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
