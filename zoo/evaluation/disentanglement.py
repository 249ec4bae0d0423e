"""How far each number of a code stands for one factor of the pictures."""

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from zoo.checkpoints.metrics import Metric
from zoo.datamodules.sprites.factors import FactorImages
from zoo.evaluation.data import progress
from zoo.evaluation.jackknife import errors
from zoo.evaluation.job import Job
from zoo.evaluation.records import rounded
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
def disentanglement(job: Job) -> list[Metric]:
    """How far each number of a code stands for one factor of the pictures: see zoo.metrics.

    Of pictures that are drawn from known factors, each uniform and independent of the others:
    15,000 codes, of which a third is tested, and the votes of as many groups of 64 (Locatello et
    al. 2019). The errors are those of drawing other pictures.
    """
    model, module, protocol = job.model, job.module, job.protocol
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
    metrics, every = [], torch.arange(n)
    for statistic, what in ((of_codes, "codes"), (of_groups, f"groups of {GROUP} codes")):
        spread = errors(statistic, every)
        for name, value in statistic(every).items():
            error, kind = spread[name], f"of {n:,} {what}"
            metrics.append(rounded(SCORES[name], float(value), "of 1", kind, n, error, error))
    return metrics
