"""Images per second of `zoo fit` against a bare PyTorch loop on the same network and data.

The network is the 784-400-20 VAE of Kingma & Welling (ReLU, Adam at 1e-3), the data MNIST with
dynamic binarization in batches of 128; where MNIST is not there, as many drawn shapes stand in.
Everything runs in one process, the contestants in turn, and each row is the median of its
repetitions. One repetition is a run of one epoch, cut after `--steps` batches.

The limit is the faster of two bare loops, which hold the training images in memory as uint8:
randperm, index, binarize by comparing with `torch.rand`, forward, summed binary cross-entropy and
closed-form KL, backward, Adam; once with Adam's defaults and once with its fused kernel.

`zoo fit` is measured through the command's own entry with a recipe file, from the start to the end
of the training epoch, so start-up, validation and checkpoints at the end are left out:

- plain: progress bar (drawn for a terminal that discards it), CSV logger, checkpoint callback;
- with EMA: the same and `EMAWeightAveraging`, the additions that the shipped recipes make to each
  step. The bare loop has no average of weights, so this row also shows what the average costs.

Target on a CPU: plain at 0.9 of the limit or more.

    python benchmarks/fit_speed.py --repetitions 7

`--recipe NAME_OR_FILE` takes the model of a recipe for images of 28x28 instead. The bare loops then
minimise that family's own `loss`, so that what is measured is all that `zoo fit` adds to it:

    python benchmarks/fit_speed.py --recipe hvae-mnist --steps 50

On a machine that is busy otherwise, `--threads 1 --clock cpu` counts the process's CPU seconds in
place of the wall clock's.
"""

import argparse
import contextlib
import functools
import io
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import zoo.models
from zoo import datamodules, recipes
from zoo.datamodules.files.places import DataError
from zoo.training.fit import run

TARGET = 0.9
BATCH = 128


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


class EpochTimer(Callback):
    """Keep the seconds and the images of the last training epoch."""

    seconds = float("nan")
    images = 0

    def on_train_epoch_start(self, trainer, pl_module):
        cls = type(self)
        cls.images = 0
        synchronize(pl_module.device)
        cls.seconds = -clock()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        type(self).images += len(batch["image"])

    def on_train_epoch_end(self, trainer, pl_module):
        synchronize(pl_module.device)
        type(self).seconds += clock()


class Terminal(io.StringIO):
    """Takes what a terminal would be sent, so that progress bars are drawn, and drops it."""

    def isatty(self):
        return True

    def write(self, text):
        return len(text)


class BareVAE(nn.Module):
    """The network, as few lines as it takes."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def loss(self, x: Tensor) -> Tensor:
        mean, log_var = self.encoder(x).chunk(2, dim=-1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        distortion = binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        rate = 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum()
        return (distortion + rate) / len(x)


class BareFamily(nn.Module):
    """A model of the zoo outside of its trainer.

    Args:
        family: Its class.
        init_args: Its arguments.
    """

    def __init__(self, family: str, init_args: dict):
        super().__init__()
        self.model = getattr(zoo.models, family)(**init_args)

    def loss(self, x: Tensor) -> Tensor:
        return self.model.loss({"image": x.unflatten(1, self.model.x_shape)})["loss"]


PLAIN = {
    "class_path": "VAE",
    "init_args": {
        "x_shape": [1, 28, 28],
        "latent_dim": 20,
        "network": "mlp",
        "hidden": [400],
        "activation": "relu",
        "lr": 1e-3,
    },
}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bare_loop(images: Tensor, steps: int, fused: bool, network: Callable[[], nn.Module]) -> float:
    """Train a new network; return images per second."""
    torch.manual_seed(0)
    model = network().to(images.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    seen = 0
    synchronize(images.device)
    start = clock()
    order = torch.randperm(len(images), device=images.device)
    for index in order.split(BATCH)[:steps]:
        pixels = images[index].float()
        x = (torch.rand_like(pixels) < pixels / 255).float()
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
        seen += len(x)
    synchronize(images.device)
    return seen / (clock() - start)


def write_recipe(folder: Path, model: dict, data: dict, steps: int, ema: bool) -> Path:
    """Write a recipe in the form of the shipped ones."""
    callbacks = [
        {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.999}},
        {
            "class_path": "ModelCheckpoint",
            "init_args": {"monitor": "val/loss", "save_last": True},
        },
    ]
    recipe = {
        "seed_everything": 0,
        "model": model,
        "data": data,
        "trainer": {
            "max_epochs": 1,
            "limit_train_batches": steps,
            # Validation would fall between the start and the end of the training epoch.
            "check_val_every_n_epoch": 2,
            "num_sanity_val_steps": 0,
            "callbacks": callbacks[0 if ema else 1 :],
            "logger": {
                "class_path": "CSVLogger",
                "init_args": {"save_dir": str(folder / "runs"), "name": "fit_speed"},
            },
        },
    }
    path = folder / ("ema.yaml" if ema else "plain.yaml")
    path.write_text(yaml.safe_dump(recipe))
    return path


def zoo_fit(recipe: Path, flags: list[str]) -> float:
    """Run `zoo fit`; return images per second of its training epoch."""
    quiet = Terminal()
    timer = f"--trainer.callbacks+={EpochTimer.__module__}.EpochTimer"
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        run("fit", str(recipe), [timer, *flags])
    return EpochTimer.images / EpochTimer.seconds


def find_data() -> tuple[dict, Tensor]:
    """The `data` of the recipe, and its training images for the bare loop."""
    arguments: dict = {"batch_size": BATCH, "binarization": "dynamic"}
    try:
        module = datamodules.MNIST(**arguments)
        module.prepare_data()
        module.setup()
        name = "MNIST"
    except DataError as error:
        print(f"MNIST is not there, so drawn shapes are taken: {error}\n", file=sys.stderr)
        arguments |= {"n": 55_000}
        module = datamodules.FakeImages(**arguments)
        module.setup()
        name = "FakeImages"
    images = module.splits["train"]["image"].flatten(1).contiguous()
    return {"class_path": name, "init_args": arguments}, images


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of `zoo fit` against a bare PyTorch loop.")
    parser.add_argument("--recipe", help="whose model to take: the name of a recipe, or a file")
    parser.add_argument("--repetitions", type=int, default=7, help="runs of each contestant")
    parser.add_argument("--steps", type=int, default=430, help="batches in a run; 430 is MNIST")
    parser.add_argument("--threads", type=int, help="threads of torch; by default as torch chooses")
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    args = parser.parse_args()
    global clock
    clock = CLOCKS[args.clock]
    if args.threads:
        torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TERM", "xterm")

    model, network = PLAIN, BareVAE
    if args.recipe:
        file = Path(args.recipe)
        file = file if file.is_file() else recipes.path(args.recipe)
        model = yaml.safe_load(file.read_text())["model"]
        network = functools.partial(BareFamily, model["class_path"], model["init_args"])
    data, images = find_data()
    if args.accelerator != "cpu":
        images = images.cuda()
    flags = ["--trainer.accelerator", args.accelerator, "--trainer.devices", "1"]
    with tempfile.TemporaryDirectory() as folder:
        plain = write_recipe(Path(folder), model, data, args.steps, ema=False)
        ema = write_recipe(Path(folder), model, data, args.steps, ema=True)
        contestants: dict[str, Callable[[], float]] = {
            "bare loop, Adam": lambda: bare_loop(images, args.steps, False, network),
            "bare loop, Adam(fused=True)": lambda: bare_loop(images, args.steps, True, network),
            "zoo fit, plain": lambda: zoo_fit(plain, flags),
            "zoo fit, with EMA": lambda: zoo_fit(ema, flags),
        }
        for run in contestants.values():  # one run each to warm up
            run()
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(args.repetitions):
            for name, run in contestants.items():
                speeds[name].append(run())

    medians = {name: statistics.median(values) for name, values in speeds.items()}
    limit = max(medians[name] for name in medians if name.startswith("bare"))
    print(
        f"{model['class_path']}, {data['class_path']}, {args.accelerator}, {args.clock} clock, "
        f"{torch.get_num_threads()} threads, "
        f"{args.repetitions} repetitions of {args.steps} steps of {BATCH}"
    )
    print(f"{'':28}{'images/s':>10}{'lowest':>10}{'highest':>10}{'of limit':>10}")
    for name, values in speeds.items():
        cells = f"{medians[name]:10,.0f}{min(values):10,.0f}{max(values):10,.0f}"
        print(f"{name:28}{cells}{medians[name] / limit:10.3f}")
    met = medians["zoo fit, plain"] >= TARGET * limit
    print(f"target: plain >= {TARGET} of the limit: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
