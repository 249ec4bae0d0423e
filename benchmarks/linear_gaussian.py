"""Seconds of a fit by the zoo's linear-Gaussian families, and by scikit-learn's.

The data are the 60,000 training images of MNIST as rows of 784 numbers in [0, 1], with 32 latent
dimensions; where MNIST is not there, as many random rows stand in. Both libraries fit the same rows
in one process, in turn, on as many threads, and a row of the table is the median of the ratios of
its rounds, each of them scikit-learn's seconds over the zoo's. A fit begins with the array and ends
with the parameters: checks, the pass over the data, and the log-likelihood of the fit are within.

- PPCA in closed form, and `PCA(svd_solver="covariance_eigh")`: from float32, float64, and from
  bytes, which both sides divide by 255 as float32. scikit-learn computes in the type of the data.
- Factor analysis, 20 steps of the same kind, and `FactorAnalysis(max_iter=20)` with its default,
  randomized SVD; `--lapack` takes the exact one in its place, which needs minutes a fit.
  scikit-learn computes in float64, and would stop where a step lowers the likelihood, as randomized
  ones do: its tolerance is set to minus infinity for all 20. The two start from other noise
  variances; the likelihoods show that they go as far.

Targets on a CPU: 1 for PPCA, 20 for factor analysis.

Then, of random rows, how a fit's seconds grow with the number of data N, of entries D and of latent
dimensions K: the exponents between two sizes that differ by a factor of 4.

    python benchmarks/linear_gaussian.py --threads 2 --rounds 5

On a machine that is busy otherwise, `--threads 1 --clock cpu` counts the process's CPU seconds in
place of the wall clock's.
"""

import argparse
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as Peer
from threadpoolctl import threadpool_limits

from zoo import datamodules
from zoo.datamodules.files.places import DataError
from zoo.models import PPCA, FactorAnalysis

TARGETS = {"PPCA": 1.0, "factor analysis": 20.0}
Q = 32
STEPS = 20
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def find_data() -> tuple[str, NDArray[np.uint8]]:
    """The name of the data, and their bytes, (60000, 784)."""
    module = datamodules.MNIST(binarization="none")
    try:
        module.prepare_data()
        module.setup()
    except DataError as error:
        print(f"MNIST is not there, so random rows are taken: {error}\n", file=sys.stderr)
        rng = np.random.default_rng(0)
        factors = rng.normal(size=(60_000, Q)) @ rng.normal(size=(Q, 784))
        noise = rng.normal(size=(60_000, 784)) * rng.uniform(1, 3, 784)
        return "random rows", np.clip(128 + 10 * (factors / 4 + noise), 0, 255).astype(np.uint8)
    images = torch.cat([module.splits[split]["image"] for split in ("train", "val")])
    return "MNIST", images.flatten(1).numpy()


def floats(x: NDArray[np.generic]) -> NDArray[np.floating]:
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


def zoo_ppca(x: NDArray[np.generic]) -> float:
    model = PPCA((784,), Q)
    if x.dtype == np.float64:
        model.double()
    return model.fit(floats(x)).history[-1]


def peer_ppca(x: NDArray[np.generic]) -> PCA:
    return PCA(Q, svd_solver="covariance_eigh").fit(floats(x))


def zoo_fa(x: NDArray[np.generic]) -> float:
    model = FactorAnalysis((784,), Q, max_iter=STEPS, tol=0.0)
    if x.dtype == np.float64:
        model.double()
    return model.fit(floats(x)).history[-1]


def exponents(clock: Callable[[], float], rounds: int) -> None:
    """Print how seconds grow with N, D and K, the others staying as they are."""
    largest = {"N": 40_000, "D": 784, "K": 32}
    rows = np.random.default_rng(0).normal(size=(largest["N"], largest["D"])).astype(np.float32)

    def seconds(fit: Callable, n: int, d: int, k: int) -> float:
        x, times = np.ascontiguousarray(rows[:n, :d]), []
        for _ in range(rounds):
            start = clock()
            fit(x, k)
            times.append(clock() - start)
        return statistics.median(times)

    fits = {
        "PPCA": lambda x, k: PPCA((x.shape[1],), k).fit(x),
        f"factor analysis, {STEPS} steps": lambda x, k: FactorAnalysis(
            (x.shape[1],), k, max_iter=STEPS, tol=0.0
        ).fit(x),
    }
    for name, fit in fits.items():
        whole = seconds(fit, *largest.values())
        cells = []
        for size in largest:
            less = {**largest, size: largest[size] // 4}
            cells.append(f"{size} {math.log(whole / seconds(fit, *less.values()), 4):.2f}")
        print(f"{name}: {whole:.2f} s at {largest}, exponents {', '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of linear-Gaussian fits.")
    parser.add_argument("--rounds", type=int, default=5, help="fits of each contestant")
    parser.add_argument("--threads", type=int, default=2, help="threads of both libraries")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    parser.add_argument("--lapack", action="store_true", help="the exact SVD in scikit-learn's FA")
    args = parser.parse_args()
    clock = CLOCKS[args.clock]
    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)
    warnings.filterwarnings("ignore")

    name, data = find_data()
    forms = {
        "float32": floats(data),
        "float64": data / 255,
        "bytes": data,
    }
    svd = "lapack" if args.lapack else "randomized"

    def peer_fa(x: NDArray[np.generic]) -> Peer:
        peer = Peer(Q, svd_method=svd, max_iter=STEPS, tol=-np.inf, random_state=0)
        with sklearn.config_context(skip_parameter_validation=True):
            return peer.fit(floats(x))

    contests: list[tuple[str, str, Callable, Callable]] = [
        *(("PPCA", form, zoo_ppca, peer_ppca) for form in forms),
        *(("factor analysis", form, zoo_fa, peer_fa) for form in ("float32", "float64")),
    ]
    print(f"{name}, {args.clock} clock, {args.threads} threads, {args.rounds} rounds, {svd} SVD")
    print(f"{'':28}{'zoo/s':>9}{'peer/s':>9}{'ratio':>8}{'lowest':>8}{'highest':>9}")
    met = True
    for family, form, ours, theirs in contests:
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        ours(forms[form])  # to warm up
        for _ in range(args.rounds):
            for side, fit in (("theirs", theirs), ("ours", ours)):
                start = clock()
                fit(forms[form])
                seconds[side].append(clock() - start)
        ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
        ratio = statistics.median(ratios)
        met &= ratio >= TARGETS[family]
        medians = [statistics.median(seconds[side]) for side in seconds]
        cells = "".join(f"{value:9.2f}" for value in medians)
        cells += f"{ratio:8.2f}{min(ratios):8.2f}{max(ratios):9.2f}"
        print(f"{family + ', ' + form:28}{cells}", flush=True)

    exponents(clock, args.rounds)

    # how far the steps went: the likelihood of the pixels that vary, whose noise has no floor
    varying = forms["float64"][:, forms["float64"].std(0) > 0.05]
    model = FactorAnalysis((varying.shape[1],), Q, max_iter=STEPS, tol=0.0).double().fit(varying)
    print(
        f"after {STEPS} steps on the {varying.shape[1]} columns that vary most, nats per row: "
        f"zoo {model.history[-1]:.4f}, scikit-learn {peer_fa(varying).score(varying):.4f}"
    )
    targets = ", ".join(f"{family} {target:g}" for family, target in TARGETS.items())
    print(f"targets, {targets}: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
