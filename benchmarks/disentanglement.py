"""Time all disentanglement scores of 15,000 codes of sprites, beside scikit-learn's parts.

    python benchmarks/disentanglement.py [--peer]

The code is made: ten dimensions, of which five know one factor each with noise, two mix two factors
and three are noise. MIG, modularity, SAP and DCI fit on 10,000 codes and test on 5,000; the
FactorVAE score is of 15,000 batches of 64 codes. With `--peer`, DCI of the two factors with the
fewest values once more, by scikit-learn's GradientBoostingClassifier and by these trees.
"""

import argparse
import time

import numpy as np
import torch

from zoo.datamodules import Sprites
from zoo.metrics import DCI, MIG, SAP, FactorVAEScore, Modularity
from zoo.metrics.disentanglement import _parts, _purity, dci


def encode(factors):
    """Codes (..., 10) of factors (..., 5)."""
    v = factors / torch.tensor([2.0, 5, 39, 31, 31]) * 3.5 - 1.75
    known = v + 0.3 * torch.randn_like(v)
    mixed = torch.stack([v[..., 3] + v[..., 4], v[..., 2] * v[..., 1]], -1)
    noise = torch.randn(*v.shape[:-1], 3)
    return torch.cat([known, mixed + 0.3 * torch.randn_like(mixed), noise], -1)


def timed(name, function):
    start = time.perf_counter()
    found = function()
    seconds = time.perf_counter() - start
    values = found if isinstance(found, dict) else {name: found}
    print(f"{name:20} {seconds:7.1f} s  " + "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
    return seconds


def by_scikit_learn(codes, factors):
    """DCI as a few lines of scikit-learn."""
    from sklearn.ensemble import GradientBoostingClassifier

    (z, v), (test_z, test_v) = _parts(codes.double(), factors)
    fits = [GradientBoostingClassifier(random_state=0).fit(z, y) for y in v.T]
    importance = torch.from_numpy(np.stack([fit.feature_importances_ for fit in fits], 1))
    accuracy = [fit.score(test_z, y) for fit, y in zip(fits, test_v.T, strict=True)]
    return {
        "disentanglement": _purity(importance),
        "completeness": _purity(importance.T),
        "informativeness": np.mean(accuracy),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    data = Sprites()
    factors = data.sample_factors(15_000)
    codes = encode(factors)
    total = 0.0
    for metric in (MIG(), Modularity(), SAP(), DCI()):
        metric.update(codes, factors)
        total += timed(type(metric).__name__, metric.compute)
    groups, fixed = data.sample_groups(15_000, 64)
    group_codes = encode(groups)

    def votes():
        metric = FactorVAEScore(10)
        for part, column in zip(group_codes.split(500), fixed.split(500), strict=True):
            metric.update(part, column)
        return metric.compute()

    total += timed("FactorVAEScore", votes)
    print(f"{'all':20} {total:7.1f} s on {torch.get_num_threads()} threads")
    if arguments.peer:
        few = factors[:, :2]
        timed("DCI, 2 factors", lambda: dci(codes, few)._asdict())
        timed("scikit-learn's", lambda: by_scikit_learn(codes, few))


if __name__ == "__main__":
    main()
