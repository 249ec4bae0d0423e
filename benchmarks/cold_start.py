"""Seconds that a fresh process needs: loading a model and sampling, listing, describing.

The limit is `python -c "import lightning.pytorch"`, which any user of a LightningModule pays.
Against it: the same process that imports zoo, loads a checkpoint and draws 64 samples. `zoo list`
and `zoo info` read small files and do without torch, so their limit is a number of seconds.

Each measurement starts a new interpreter and takes its wall time from start to exit; the commands
take turns, after one round that warms the file cache, and each row is a median.

The checkpoint is the shipped `vae-mnist`; where it is not there, a throw-away folder with an
untrained model of the recipe's size is written first.

Targets: from_pretrained and sample at most 1.15 times the import; list and info below 0.6 s.

    python benchmarks/cold_start.py --repetitions 7
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from zoo import recipes
from zoo.checkpoints import catalog

NAME = "vae-mnist"
RATIO = 1.15
SECONDS = 0.6


def write_checkpoint(folder: Path) -> None:
    """Write an untrained model of the recipe's size, in a process of its own."""
    arguments = yaml.safe_load(recipes.path(NAME).read_text())["model"]["init_args"]
    code = (
        "import sys; from zoo.models import VAE; "
        f"model = VAE(**{arguments!r}); "
        "model.data = {'class_path': 'MNIST', 'init_args': {'binarization': 'dynamic'}}; "
        "model.save_pretrained(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def seconds(arguments: list[str], lists_none: bool = False) -> float:
    """Run a new interpreter; return its wall time.

    Raises:
        RuntimeError: if it failed, unless by saying that there is no model to list.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    taken = time.perf_counter() - start
    if done.returncode and not (lists_none and "there are none" in done.stderr):
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds that a fresh process needs.")
    parser.add_argument("--repetitions", type=int, default=7, help="runs of each command")
    args = parser.parse_args()

    shipped = NAME in catalog.list_models()
    with tempfile.TemporaryDirectory() as folder:
        model = NAME if shipped else folder
        if not shipped:
            write_checkpoint(Path(folder))
        limit = "import lightning.pytorch"
        load = "from_pretrained(...).sample(64)"
        commands = {
            limit: ["-c", "import lightning.pytorch"],
            load: ["-c", f"import zoo; zoo.from_pretrained({model!r}).sample(64)"],
            "zoo list": ["-m", "zoo.cli", "list"],
            "zoo info": ["-m", "zoo.cli", "info", model],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for repetition in range(args.repetitions + 1):
            for name, command in commands.items():
                value = seconds(command, lists_none=name == "zoo list" and not shipped)
                if repetition > 0:
                    taken[name].append(value)

    medians = {name: statistics.median(values) for name, values in taken.items()}
    print(f"{args.repetitions} repetitions, {'shipped' if shipped else 'throw-away'} checkpoint")
    print(f"{'':34}{'median s':>10}{'lowest':>10}{'highest':>10}{'to import':>11}  target")
    for name, values in taken.items():
        ratio = medians[name] / medians[limit]
        met = {
            limit: "",
            load: f"<= {RATIO}: {'met' if ratio <= RATIO else 'not met'}",
        }.get(name, f"< {SECONDS} s: {'met' if medians[name] < SECONDS else 'not met'}")
        cells = f"{medians[name]:10.3f}{min(values):10.3f}{max(values):10.3f}{ratio:11.3f}"
        print(f"{name:34}{cells}  {met}".rstrip())


if __name__ == "__main__":
    main()
