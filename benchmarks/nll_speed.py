"""Seconds of an NLL with 5,000 importance samples against the matrix products that it must do.

The model is `vae-mnist`, the data are images of the MNIST test set, or of the model where MNIST is
not there: its time does not depend on them. Every code is decoded, so the products of the
decoder's weights with as many activations, in parts of the same size, are what no implementation
avoids. What it does besides: draw the codes, the non-linearities, and 784 softplus per code for
log p(x | z). The time of those alone, by torch's own kernel, is printed as well, and that of the
bound that decodes all codes of a chunk at once, for which a CPU fetches fresh memory each time.

The contestants take turns; each row is the median of its repetitions. Repetitions are of
`--images` images at a time until `--total` images are done, so that a table comes out in minutes.

Target: at most 4 times the products.

    python benchmarks/nll_speed.py

On a machine that is busy otherwise, `--threads 1 --clock cpu` counts the process's CPU seconds in
place of the wall clock's.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import zoo
from zoo.base import LatentVariableModel
from zoo.datamodules.files.places import DataError
from zoo.evaluation.data import data_module, held_out
from zoo.inference import bounds, importance_weighted_bound

TARGET = 4.0
CHUNK = 4096  # codes at a time, as importance_weighted_bound has it
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def images(model: LatentVariableModel, n: int) -> Tensor:
    """The first images of the test set."""
    try:
        batches = held_out(data_module(model), n)
        return torch.cat([model.inputs(batch) for batch in batches])
    except DataError as error:
        print(f"{error} Samples of the model stand in.")
        return model.sample(n)


def products(model: LatentVariableModel) -> Callable[[int], None]:
    """The decoder's matrix products for so many codes."""
    weights = [m.weight.detach() for m in model.decoder.modules() if isinstance(m, nn.Linear)]
    inputs = [torch.randn(CHUNK, w.shape[1]) for w in weights]

    def run(codes: int) -> None:
        for start in range(0, codes, CHUNK):
            n = min(CHUNK, codes - start)
            for h, w in zip(inputs, weights, strict=True):
                torch.mm(h[:n], w.mT)

    return run


def softplus_alone(pixels: int) -> Callable[[int], None]:
    logits = torch.randn(CHUNK, pixels)

    def run(codes: int) -> None:
        for start in range(0, codes, CHUNK):
            softplus(logits[: min(CHUNK, codes - start)])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the importance-weighted bound.")
    parser.add_argument("--total", type=int, default=1000, help="images in all")
    parser.add_argument("--images", type=int, default=100, help="images of a repetition")
    parser.add_argument("--samples", type=int, default=5000, help="importance samples of each")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = CLOCKS[args.clock]
    model = zoo.from_pretrained("vae-mnist")
    parts = images(model, args.total).split(args.images)
    gemm, nonlinear = products(model), softplus_alone(parts[0][0].numel())
    importance_weighted_bound(model, parts[0], 50)  # warm up
    gemm(CHUNK)

    seconds: dict[str, list[float]] = {"bound": [], "products": [], "softplus": [], "at once": []}
    part = bounds.PART
    values = []
    for x in parts:
        codes = len(x) * args.samples
        start = clock()
        values.append(importance_weighted_bound(model, x, args.samples).value)
        seconds["bound"].append(clock() - start)
        start = clock()
        gemm(codes)
        seconds["products"].append(clock() - start)
        start = clock()
        nonlinear(codes)
        seconds["softplus"].append(clock() - start)
        bounds.PART = CHUNK * x[0].numel()
        start = clock()
        importance_weighted_bound(model, x, args.samples)
        seconds["at once"].append(clock() - start)
        bounds.PART = part
        print("  ".join(f"{name} {row[-1]:.2f} s" for name, row in seconds.items()), flush=True)

    print(
        f"vae-mnist, {args.total:,} images in {len(parts)} repetitions of {args.images}, "
        f"k = {args.samples:,}, {args.threads} threads, {args.clock} clock; "
        f"NLL {-torch.cat(values).mean():.4f} nats"
    )
    print(f"{'':12}{'seconds':>9}{'lowest':>9}{'highest':>9}{'of the products':>17}")
    limit = statistics.median(seconds["products"])
    for name, row in seconds.items():
        median = statistics.median(row)
        cells = f"{median:9.2f}{min(row):9.2f}{max(row):9.2f}"
        print(f"{name:12}{cells}{median / limit:16.2f}x")
    ratio = statistics.median(b / p for b, p in zip(*[*seconds.values()][:2], strict=True))
    met = "met" if ratio <= TARGET else "not met"
    print(f"target: at most {TARGET}x the products: {ratio:.2f}x, {met}")


if __name__ == "__main__":
    main()
