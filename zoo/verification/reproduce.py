"""Can a checkpoint be had again? Train its recipe, measure the result, compare with other seeds."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

from zoo.checkpoints import catalog
from zoo.checkpoints.card import refresh
from zoo.checkpoints.metrics import Metric, Quick, read_metrics, write_metrics
from zoo.errors import ZooError
from zoo.evaluation.data import data_module, held_out
from zoo.evaluation.likelihood import evaluate
from zoo.evaluation.protocol import QUICK, Protocol
from zoo.pretrained.runs import load_training_checkpoint
from zoo.training import fit
from zoo.training.recipes import read_recipe, recipe_path
from zoo.verification.verify import ROUNDING, Check

RUNS = Path("runs", "reproduce")
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Reproduction:
    """A checkpoint trained again.

    Args:
        checkpoint: The training checkpoint with the best monitored metric.
        checks: Each metric beside what the card states, and the band of other seeds.
        note: What was other than in the recipe, if anything.
    """

    checkpoint: Path
    checks: list[Check]
    note: str


def reproduce(
    name: str,
    *,
    seed: int | None = None,
    budget: float = 1.0,
    full: bool = False,
    record: bool = False,
    device: str = "cpu",
) -> Reproduction:
    """Train the recipe of a shipped checkpoint again, measure it, and compare.

    The run is kept in `runs/reproduce/NAME/seed-N` below the working directory; called again, it
    goes on where it was killed. A metric passes if it lies in the band that a further seed would
    fall into with 99 % probability, given the recorded ones: mean ± t s sqrt(1 + 1/n).

    Args:
        name: The checkpoint.
        seed: Seed of the training; by default the recipe's own.
        budget: Share of the recipe's epochs to train, in (0, 1]; warm-ups shrink with it. Below 1,
            nothing is compared with the band.
        full: Measure by the card's own protocol, which may take long, besides the quick one.
        record: Write what was measured into the checkpoint's metrics.json, to be part of the band.
        device: Where to measure; the Trainer chooses where to train.

    Raises:
        ZooError: if the checkpoint does not ship with the package, or has no recipe.
    """
    if not 0 < budget <= 1:
        raise ZooError(f"the budget is {budget}, but a share of the epochs is in (0, 1].")
    if record and budget < 1:
        raise ZooError("a run that is cut short is no part of a band; leave out --budget.")
    folder = catalog.shipped(name)  # of no other: a recipe may name any code
    name = folder.name
    recipe = read_recipe(recipe_path(name))
    seed = int(recipe["seed_everything"]) if seed is None else seed
    run = RUNS / name / (f"seed-{seed}" + (f"-budget-{budget:g}" if budget < 1 else ""))
    flags, note = _shortened(recipe, budget)
    best = _train(name, run, ["--seed_everything", str(seed), *flags])

    model = load_training_checkpoint(best).to(device)
    stated = read_metrics(folder)
    quick_values = (metric.quick for metric in stated)
    samples = (q.importance_samples for q in quick_values if q and q.importance_samples)
    short = QUICK._replace(samples=next(samples, QUICK.samples))
    protocols = [short] + [Protocol(*_own(stated))] * full
    module, checks = data_module(model), []
    for protocol in protocols:
        batches = held_out(module, protocol.limit)
        found = {m.name: m for m in evaluate(model, batches, protocol.samples, protocol.seed)}
        quick = protocol == short
        for metric in stated:
            entry = metric.quick if quick else metric
            if entry and metric.name in found:
                label = metric.name + (" (quick)" if quick else "")
                checks.append(_against_band(label, entry, found[metric.name], budget))
        stated = _recorded(stated, found, (seed, int(recipe["seed_everything"])), quick)
    if record:
        write_metrics(folder, stated)
        refresh(folder)
    return Reproduction(best, checks, note)


def _shortened(recipe: dict[str, Any], budget: float) -> tuple[list[str], str]:
    """Flags that shorten a recipe to a share of its epochs, and a sentence about it."""
    if budget == 1:
        return [], ""
    whole = int(recipe["trainer"]["max_epochs"])
    epochs = max(1, round(budget * whole))
    every = min(int(recipe["trainer"].get("check_val_every_n_epoch", 1)), epochs)
    flags = ["--trainer.max_epochs", str(epochs), "--trainer.check_val_every_n_epoch", str(every)]
    for place in ("init_args", "dict_kwargs"):
        for name, value in recipe["model"].get(place, {}).items():
            if name.endswith("warmup_steps"):
                flags += [f"--model.{place}.{name}", str(round(value * epochs / whole))]
    return flags, f"shortened to {epochs} of {whole} epochs, so the figures are no reproduction"


def _train(name: str, run: Path, flags: list[str]) -> Path:
    """Train, or go on, in a folder of the run's own; return the best training checkpoint."""
    last = run / "checkpoints" / "last.ckpt"
    logs = run.name
    if last.is_file():
        flags = [*flags, "--ckpt_path", str(last)]
        logs += f"/resumed-{1 + len(list(run.glob('resumed-*')))}"  # beside the first log
    flags = [
        *flags,
        *("--trainer.logger", "CSVLogger"),
        *("--trainer.logger.save_dir", str(run.parent.parent)),
        *("--trainer.logger.name", run.parent.name),
        *("--trainer.logger.version", logs),
    ]
    best = fit.run("fit", name, flags).best_checkpoint()
    if best is None:
        raise ZooError(f"the run in {run} left no checkpoint; delete the folder and run again.")
    return best


def _own(stated: list[Metric]) -> tuple[int, int, int]:
    """Samples, images and seed of the card's NLL."""
    for metric in stated:
        if metric.name == "nll":
            return metric.importance_samples or 1, metric.count, metric.seed
    raise ZooError("the card states no nll; leave out --full.")


def _recorded(
    stated: list[Metric], found: dict[str, Metric], seeds: tuple[int, int], quick: bool
) -> list[Metric]:
    """The metrics with this seed's value beside those of others, first the checkpoint's own."""
    seed, own = map(str, seeds)

    def values(entry: Metric | Quick, now: Metric) -> dict[str, float]:
        return {**(entry.seeds or {own: entry.value}), seed: now.value}

    result = []
    for metric in stated:
        now = found.get(metric.name)
        if now and not quick:
            metric = replace(metric, seeds=values(metric, now))
        elif now and metric.quick:
            metric = replace(metric, quick=replace(metric.quick, seeds=values(metric.quick, now)))
        result.append(metric)
    return result


def _against_band(label: str, stated: Metric | Quick, found: Metric, budget: float) -> Check:
    """Hold a value to the prediction interval of those that other trainings gave."""
    values = list((stated.seeds or {}).values())
    n, note = len(values), f"{len(values)} trainings recorded"
    if budget < 1 or n < 2:
        note += ", not compared" if budget < 1 else ": too few for a band, not compared"
        return Check(label, True, stated.value, found.value, None, note)
    mean = sum(values) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_t.ppf(0.5 + CONFIDENCE / 2, n - 1) * spread * math.sqrt(1 + 1 / n)
    half += 3 * (found.monte_carlo_error or 0) + ROUNDING
    if isinstance(found.value, int):  # a count: that few were the same is no proof
        half += 1
    passed = bool(abs(found.value - mean) <= half)
    note = f"band {mean:.2f} ± {half:.2f} of {n} trainings"
    return Check(label, passed, stated.value, found.value, round(half, 4), note)
