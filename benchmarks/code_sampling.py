"""Seconds to draw grids of codes from the prior of `vqvae-celeba`, place by place.

A transformer that keeps what its blocks saw of the past reads each place once; without that, it
reads the whole past again for every place. No sampler can do with less than the matrix products of
one reading, which are those of the density of as many grids: its time is the limit. The
contestants take turns, with the same seed, and must draw the same codes.

    python benchmarks/code_sampling.py

On a machine that is busy otherwise, `--threads 1 --clock cpu` counts the process's CPU seconds in
place of the wall clock's.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

import zoo
from zoo.nn.causal import CausalTransformer

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@torch.no_grad()
def anew(network: CausalTransformer, n: int) -> Tensor:
    """Draw n sequences, and read the whole past for each place."""
    s = torch.empty(n, 0, dtype=torch.int64)
    for _ in range(network.length):
        s = torch.cat([s, torch.multinomial(network(s)[:, -1].softmax(-1), 1)], 1)
    return s


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of sampling from the prior of a VQ-VAE.")
    parser.add_argument("-n", type=int, default=64, help="grids of a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = CLOCKS[args.clock]
    model = zoo.from_pretrained("vqvae-celeba")
    network = model.transformer

    def density(n: int) -> Tensor:
        with torch.no_grad():
            return network(torch.zeros(n, network.length, dtype=torch.int64))

    contestants = {
        "kept": network.sample,
        "read anew": lambda n: anew(network, n),
        "density": density,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for seed in range(args.repetitions):
        drawn = {}
        for name, run in contestants.items():
            torch.manual_seed(seed)
            start = clock()
            drawn[name] = run(args.n)
            seconds[name].append(clock() - start)
        assert torch.equal(drawn["kept"], drawn["read anew"])
    limit = statistics.median(seconds["density"])
    print(
        f"{args.n} grids of {network.length} codes, {args.repetitions} repetitions, "
        f"{args.threads} threads, {args.clock} clock"
    )
    print(f"{'':12}{'seconds':>9}{'lowest':>9}{'highest':>9}{'of the density':>17}")
    for name, row in seconds.items():
        median = statistics.median(row)
        print(f"{name:12}{median:9.2f}{min(row):9.2f}{max(row):9.2f}{median / limit:16.2f}x")


if __name__ == "__main__":
    main()
