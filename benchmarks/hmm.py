"""Baum-Welch of the zoo's HMM against hmmlearn, how its time grows, and its two scans.

Both fit a categorical HMM of 16 states and 200 symbols to 500 sequences of 40 steps, for 10
iterations from the same start, and end with the same parameters, which is checked. hmmlearn is
measured with `implementation="log"`, its default, and `"scaling"`, its fastest. Contestants take
turns in one process on one thread, and each figure is the median of its repetitions.

Growth: seconds of an iteration as the number of sequences N, of states K, or the length T doubles,
and the slope of log seconds over log size.

Scans: seconds of smoothing one sequence of 10,000 steps, step by step and in parallel.

Target: 8 times as fast as hmmlearn's default.

    python benchmarks/hmm.py --repetitions 5

On a machine that is busy otherwise, `--clock cpu` counts the process's CPU seconds in place of the
wall clock's. hmmlearn is not among the zoo's dependencies; without it, its rows are left out.
"""

import argparse
import importlib.util
import logging
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from zoo.inference.chains import recursions
from zoo.inference.chains.layout import Layout
from zoo.models import HMM

TARGET = 8.0
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


def draw(sequences: int, steps: int, states: int, symbols: int) -> dict[str, np.ndarray]:
    """Symbols drawn from an HMM, and the start of all contestants."""
    rng = np.random.default_rng(0)

    def model(alpha: float) -> tuple[np.ndarray, ...]:
        rows = ((1, states), (states, states), (states, symbols))
        return tuple(rng.dirichlet(np.full(columns, alpha), n) for n, columns in rows)

    initial, transition, emission = model(0.3)
    z = rng.choice(states, sequences, p=initial[0])
    x = np.empty((sequences, steps), dtype=np.int64)
    for t in range(steps):
        u = rng.random((sequences, 1))
        x[:, t] = np.minimum((emission[z].cumsum(1) < u).sum(1), symbols - 1)
        z = np.minimum((transition[z].cumsum(1) < rng.random((sequences, 1))).sum(1), states - 1)
    x[0, :2] = symbols - 1  # so that the largest is there, whose number hmmlearn asks for
    return {"x": x, **dict(zip(("initial", "transition", "emission"), model(5.0), strict=True))}


def zoo_model(data: dict[str, np.ndarray], dtype: torch.dtype) -> HMM:
    states, symbols = data["emission"].shape
    model = HMM(states, symbols=symbols).to(dtype)
    for table, name in (
        (model.initial, "initial"),
        (model.transition, "transition"),
        (model.emission.table, "emission"),
    ):
        table.start(torch.from_numpy(data[name]))
    model.started.fill_(True)
    return model


def zoo_fit(data: dict[str, np.ndarray], iterations: int, dtype: torch.dtype) -> tuple[float, HMM]:
    """Seconds from an array to a fitted model, and the model."""
    model = zoo_model(data, dtype)
    start = clock()
    model.fit(data["x"], max_epochs=iterations, tol=-1, warm_start=True)
    return clock() - start, model


def hmmlearn_fit(data: dict[str, np.ndarray], iterations: int, implementation: str):
    """Seconds from an array to a fitted model, and the model."""
    from hmmlearn.hmm import CategoricalHMM

    model = CategoricalHMM(
        len(data["transition"]),
        n_iter=iterations,
        tol=-np.inf,
        init_params="",
        implementation=implementation,
    )
    model.startprob_, model.transmat_ = data["initial"][0], data["transition"]
    model.emissionprob_ = data["emission"]
    column, lengths = data["x"].reshape(-1, 1), [data["x"].shape[1]] * len(data["x"])
    start = clock()
    model.fit(column, lengths)
    return clock() - start, model


def check_equal(ours: HMM, theirs) -> None:
    """Both have learned the same."""
    pairs = (
        (ours.transition, theirs.transmat_),
        (ours.emission.table, theirs.emissionprob_),
    )
    worst = max(np.abs(a.log_p().exp().detach().numpy() - b).max() for a, b in pairs)
    print(f"largest difference to hmmlearn's parameters, in float64: {worst:.1e}")
    assert worst < 1e-8


def race(contestants: dict[str, Callable[[], float]], repetitions: int) -> dict[str, float]:
    """Median seconds of each, after a run to warm up."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, run in contestants.items():
            seconds[name].append(run())
    return {name: statistics.median(s) for name, s in seconds.items()}


def against_hmmlearn(repetitions: int) -> None:
    data = draw(500, 40, 16, 200)
    contestants: dict[str, Callable[[], float]] = {
        "zoo, float32": lambda: zoo_fit(data, 10, torch.float32)[0],
        "zoo, float64": lambda: zoo_fit(data, 10, torch.float64)[0],
    }
    if importlib.util.find_spec("hmmlearn"):
        for implementation in ("scaling", "log"):
            contestants[f"hmmlearn, {implementation}"] = lambda i=implementation: hmmlearn_fit(
                data, 10, i
            )[0]
        check_equal(zoo_fit(data, 10, torch.float64)[1], hmmlearn_fit(data, 10, "log")[1])
    medians = race(contestants, repetitions)
    slowest = max(medians.values())
    print(f"{'10 iterations, 500 x 40':28}{'ms':>10}{'times as fast':>16}")
    for name, seconds in medians.items():
        print(f"{name:28}{1e3 * seconds:10.1f}{slowest / seconds:16.1f}")
    if "hmmlearn, log" in medians:
        met = medians["hmmlearn, log"] >= TARGET * medians["zoo, float32"]
        print(f"target: {TARGET:.0f} times as fast as the default: {'met' if met else 'not met'}")


def growth(repetitions: int) -> None:
    print(f"\n{'ms an iteration, float32':28}{'sizes':>30}{'slope':>10}")
    base = {"sequences": 500, "steps": 40, "states": 16}
    for what, sizes in (
        ("sequences", (500, 1000, 2000, 4000, 8000)),
        ("steps", (40, 80, 160, 320, 640)),
        ("states", (16, 32, 64, 128, 256)),
    ):
        contestants = {}
        for size in sizes:
            data = draw(**{**base, what: size}, symbols=200)
            contestants[str(size)] = lambda d=data: zoo_fit(d, 3, torch.float32)[0] / 3
        medians = race(contestants, repetitions)
        slope = np.polyfit(np.log(sizes), np.log([*medians.values()]), 1)[0]
        cells = " ".join(f"{size}:{1e3 * s:.1f}" for size, s in medians.items())
        print(f"{what:18}{cells:>44}{slope:10.2f}")


def scans(repetitions: int, device: str) -> None:
    print(f"\n{'ms to smooth 10,000 steps':28}{'sequential':>12}{'parallel':>12}   on {device}")
    for states in (2, 4, 8, 16, 32):
        torch.manual_seed(0)
        chain = recursions.Chain(
            torch.randn(states, device=device).log_softmax(0),
            torch.randn(states, states, device=device).log_softmax(1),
        )
        log_b = torch.randn(10_000, states, device=device)
        layout = Layout.of(torch.tensor([10_000], device=device))

        def seconds(scan: recursions.Scan, chain=chain, log_b=log_b, layout=layout) -> float:
            start = clock()
            recursions.smooth(
                chain, log_b, layout, scan
            ).log_likelihood.item()  # waits for the device
            return clock() - start

        medians = race({s: lambda s=s: seconds(s) for s in ("sequential", "parallel")}, repetitions)
        row = "".join(f"{1e3 * s:12.1f}" for s in medians.values())
        print(f"{f'{states} states':28}{row}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the HMM.")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each contestant")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    args = parser.parse_args()
    global clock
    clock = CLOCKS[args.clock]
    torch.set_num_threads(args.threads)
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    against_hmmlearn(args.repetitions)
    growth(args.repetitions)
    scans(args.repetitions, "cpu")
    if torch.cuda.is_available():
        scans(args.repetitions, "cuda")


if __name__ == "__main__":
    main()
