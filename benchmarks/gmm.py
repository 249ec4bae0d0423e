"""Seconds of 20 EM iterations of a Gaussian mixture against scikit-learn and pomegranate.

Full covariances, 60,000 x 32 drawn data, 10 components. Everybody starts from the same weights,
means and covariances, and no tolerance ends a run early. A run is a fit on data that are in memory
as the library wants them; the contestants take turns in one process, and each row is the median of
its repetitions. The last column is the mean log-likelihood of the parameters that a run ended with,
computed with torch.distributions in float64 from what the library reports, so that equal work is
visible. (scikit-learn does one E-step more than the others, to label the data.)

Targets, each library in the precision it has by default (scikit-learn that of its data, and numpy's
are float64): at least 4 times as fast as scikit-learn and 1.5 times as fast as pomegranate 1.x,
which is left out where it is not installed.

    python benchmarks/gmm.py --repetitions 5 --threads 2

Measured on a 2-core machine that was not idle, medians of 3 repetitions, zoo in float32 and in
float64 against float64 of scikit-learn and float32 of pomegranate:

| clock, threads | zoo        | scikit-learn | pomegranate | ratios of zoo in float32 |
| wall, 2        | 0.78, 1.25 | 4.65         | 1.25        | 5.99 and 1.61            |
| cpu, 1         | 0.98, 1.73 | 3.79         | 1.92        | 3.86 (missed) and 1.95   |

In float64 alike, zoo is 3.74 and 2.19 times as fast as scikit-learn. All end with -46.08554 nats.
Slopes, by the wall clock: 0.98 in N, 0.95 in K, 1.54 in D. The fit to the mapped array of 256 MiB
took 13 MiB of own memory where 64 were allowed; with more load, 20.

Two more tables: how the time of an iteration grows with N, K and D, as slopes on a log-log scale;
and the memory of a fit to an array of 256 MB that is mapped from disk, in a process that may
allocate a quarter of that. On a machine that is busy otherwise, `--clock cpu` counts the process's
CPU seconds, of all threads, in place of the wall clock's.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from zoo.models import GMM

try:
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel
except ImportError:
    GeneralMixtureModel = None

ITERATIONS = 20
FLOOR = 1e-6
TARGETS = {"scikit-learn, float64": 4.0, "pomegranate, float32": 1.5}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


class Problem(NamedTuple):
    """Data (N, D) float64, and the start: weights (K,), means (K, D), covariances (K, D, D)."""

    x: Tensor
    weights: Tensor
    means: Tensor
    covariances: Tensor


class Run(NamedTuple):
    """Seconds of the fit, and the parameters it ended with."""

    seconds: float
    weights: Tensor
    means: Tensor
    covariances: Tensor


def draw(n: int, k: int, dim: int) -> Problem:
    """A mixture whose components overlap; a start near their means with the data's covariance.

    pomegranate adds nothing to a covariance, so no component may run out of data on the way.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    centres = 0.7 * normal(k, dim)
    deviations = torch.linspace(0.5, 1.5, dim, dtype=torch.float64)
    mixing = deviations[:, None] * torch.linalg.qr(normal(k, dim, dim)).Q
    label = torch.randint(k, (n,), generator=generator)
    x = normal(n, dim)
    for j in range(k):
        x[label == j] = centres[j] + x[label == j] @ mixing[j]
    spread = torch.cov(x.T).expand(k, dim, dim)
    start = centres + 0.5 * normal(k, dim)
    return Problem(x, torch.full((k,), 1 / k, dtype=torch.float64), start, spread)


@contextmanager
def timed() -> Iterator[list[float]]:
    seconds: list[float] = []
    start = clock()
    yield seconds
    seconds.append(clock() - start)


def zoo_fit(p: Problem, dtype: torch.dtype, iterations: int = ITERATIONS) -> Run:
    k, dim = p.means.shape
    model = GMM((dim,), k, "full", floor=FLOOR).to(dtype)
    model.set_components(p.weights, p.means, p.covariances)
    x = p.x.to(dtype)
    with timed() as seconds:
        model.fit(x, max_epochs=iterations, tol=-1.0)
    assert len(model.history) == iterations + 1
    return Run(seconds[0], model.weights, model.means, model.covariances)


def sklearn_fit(p: Problem, dtype: type) -> Run:
    x, weights, means = (t.numpy().astype(dtype) for t in (p.x, p.weights, p.means))
    model = GaussianMixture(
        len(means),
        covariance_type="full",
        tol=0.0,
        reg_covar=FLOOR,
        max_iter=ITERATIONS,
        weights_init=weights,
        means_init=means,
        precisions_init=np.linalg.inv(p.covariances.numpy()).astype(dtype),
    )
    with timed() as seconds:
        model.fit(x)
    assert model.n_iter_ == ITERATIONS
    found = (model.weights_, model.means_, model.covariances_)
    return Run(seconds[0], *map(torch.from_numpy, found))


def pomegranate_fit(p: Problem, dtype: torch.dtype) -> Run:
    components = [
        # copies, since it updates what it was given in place
        Normal(mean.to(dtype, copy=True), covariance.to(dtype, copy=True), covariance_type="full")
        for mean, covariance in zip(p.means, p.covariances, strict=True)
    ]
    model = GeneralMixtureModel(
        components, priors=p.weights.to(dtype, copy=True), max_iter=ITERATIONS, tol=-float("inf")
    )
    x = p.x.to(dtype)
    with timed() as seconds:
        model.fit(x)
    return Run(
        seconds[0],
        model.priors.data,
        torch.stack([d.means.data for d in model.distributions]),
        torch.stack([d.covs.data for d in model.distributions]),
    )


def log_likelihood(x: Tensor, run: Run) -> float:
    """Mean log p(x) of what a run ended with, in nats."""
    weights, means, covariances = (t.double() for t in run[1:])
    components = MultivariateNormal(means, covariances, validate_args=False)
    mixture = MixtureSameFamily(Categorical(weights), components, validate_args=False)
    return torch.cat([mixture.log_prob(part) for part in x.split(2000)]).mean().item()


def compare(repetitions: int) -> None:
    problem = draw(60_000, 10, 32)
    contestants: dict[str, Callable[[], Run]] = {
        "zoo, float32": lambda: zoo_fit(problem, torch.float32),
        "zoo, float64": lambda: zoo_fit(problem, torch.float64),
        "scikit-learn, float32": lambda: sklearn_fit(problem, np.float32),
        "scikit-learn, float64": lambda: sklearn_fit(problem, np.float64),
    }
    if GeneralMixtureModel is None:
        print("pomegranate is not installed and left out\n")
    else:
        for dtype in (torch.float32, torch.float64):
            name = f"pomegranate, {str(dtype).removeprefix('torch.')}"
            contestants[name] = lambda dtype=dtype: pomegranate_fit(problem, dtype)
    ends = {name: log_likelihood(problem.x, run()) for name, run in contestants.items()}  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, run in contestants.items():
            seconds[name].append(run().seconds)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'':24}{'seconds':>9}{'lowest':>9}{'highest':>9}{'zoo is faster':>15}{'nats':>12}")
    for name, values in seconds.items():
        own = "zoo, float64" if name.endswith("64") else "zoo, float32"
        cells = f"{median[name]:9.2f}{min(values):9.2f}{max(values):9.2f}"
        print(f"{name:24}{cells}{median[name] / median[own]:14.2f}x{ends[name]:12.5f}")
    for name, target in TARGETS.items():
        if name in median:
            ratio = median[name] / median["zoo, float32"]
            met = "met" if ratio >= target else "not met"
            print(f"target: zoo, float32 >= {target}x {name}: {ratio:.2f}x, {met}")


def growth(repetitions: int) -> None:
    """Seconds of an iteration, with one of N, K, D changed, and the slope of log time."""
    base = {"n": 30_000, "k": 10, "dim": 32}
    grid = {
        "n": [15_000, 30_000, 60_000, 120_000],
        "k": [5, 10, 20, 40],
        "dim": [16, 32, 64, 128],
    }
    print(f"\nmilliseconds of an iteration, float32, from N, K, D = {[*base.values()]}")
    for name, values in grid.items():
        times = []
        for value in values:
            problem = draw(**{**base, name: value})
            zoo_fit(problem, torch.float32, 2)
            runs = [zoo_fit(problem, torch.float32, 5).seconds / 5 for _ in range(repetitions)]
            times.append(statistics.median(runs))
        slope = np.polyfit(np.log(values), np.log(times), 1)[0]
        cells = "  ".join(f"{v}: {1000 * t:.1f}" for v, t in zip(values, times, strict=True))
        print(f"{name:4} {cells}   slope {slope:.2f}")


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def fit_mapped(path: str, limit: int) -> None:
    """Fit to an array mapped from disk with `limit` more bytes of own memory; print the peaks."""
    x = np.load(path, mmap_mode="r")
    model = GMM((x.shape[1],), 8, "full")
    model.fit(np.random.default_rng(0).normal(size=(1000, x.shape[1])), max_epochs=1)  # warm up
    model = GMM((x.shape[1],), 8, "full")
    peak, done, before = [0], threading.Event(), status("RssAnon")

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], status("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    allowed = status("VmData") + limit
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    start = time.perf_counter()
    model.fit(x, max_epochs=3, tol=-1.0)
    seconds = time.perf_counter() - start
    done.set()
    thread.join()
    print(
        json.dumps(
            {
                "seconds": seconds,
                "before": before,
                "peak": max(peak[0], status("RssAnon")),
                "hwm": status("VmHWM"),
                "history": model.history,
            }
        )
    )


def memory(threads: int) -> None:
    n, dim, mib = 1_048_576, 64, 2**20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npy")
        shape = (n, dim)
        x = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        generator = np.random.default_rng(0)
        for i in range(0, n, 65_536):
            x[i : i + 65_536] = generator.normal(size=(65_536, dim)) + i % 3
        x.flush()
        size = x.nbytes
        del x
        command = [sys.executable, __file__, "--threads", str(threads)]
        command += ["--mapped", str(path), str(size // 4)]
        child = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(child.stdout)
    print(
        f"\nan array of {size // mib} MiB mapped from disk, {size // 4 // mib} MiB allowed: "
        f"3 iterations in {found['seconds']:.1f} s; own memory (RssAnon) rose from "
        f"{found['before'] // mib} to {found['peak'] // mib} MiB at the most; VmHWM, with "
        f"the pages of the file, {found['hwm'] // mib} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of Gaussian mixtures.")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each contestant")
    parser.add_argument("--threads", type=int, default=2, help="threads of every library")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    parser.add_argument("--mapped", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # nothing converges in 20 iterations
    torch.set_num_threads(args.threads)
    if args.mapped:
        fit_mapped(args.mapped[0], int(args.mapped[1]))
        return
    global clock
    clock = CLOCKS[args.clock]
    with threadpool_limits(args.threads):
        print(f"60,000 x 32, 10 components, {args.clock} clock, {args.threads} threads, ", end="")
        print(f"{args.repetitions} repetitions of {ITERATIONS} iterations")
        compare(args.repetitions)
        growth(args.repetitions)
        memory(args.threads)


if __name__ == "__main__":
    main()
