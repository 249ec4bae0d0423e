"""Is a checkpoint what its card says? Files, weights, outputs, and every number measured again."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.base import LatentVariableModel
from zoo.checkpoints import catalog
from zoo.checkpoints.card import contradiction
from zoo.checkpoints.config import Config, read_config
from zoo.checkpoints.files import CARD, CONFIG, FILES, WEIGHTS, sha256
from zoo.checkpoints.metrics import Metric, stated_metrics
from zoo.checkpoints.paths import portable
from zoo.errors import ZooError, brief
from zoo.evaluation.data import data_class
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import JOBS, run
from zoo.pretrained.loading import check_golden, family

ROUNDING = 1e-4  # two numbers that were rounded to four decimals
KERNELS = 1e-4  # of a value: float32 sums in another order, convolutions in TF32
SPREAD = 0.05  # of a standard error over the same images with other draws, as a share of it
RESAMPLED = 1.0  # the same, of one that is found from ten halves: it is uncertain by 1 / sqrt(18)
LABELS = 2e-3  # shares of labels: where a fit ends and who is nearest hangs on the last digits
CODES = 1e-2  # of a value: which of two codes is nearest, and so who is used, hangs on them, too


@dataclass(frozen=True)
class Check:
    """One thing that a checkpoint states, and what was found.

    Args:
        what: Its name, such as `golden outputs` or `nll`.
        passed: Whether both agree.
        stated: What the checkpoint says.
        measured: What was found.
        tolerance: How far the two may be apart.
        note: How it was measured, or what is wrong and what to do about it.
    """

    what: str
    passed: bool
    stated: float | None = None
    measured: float | None = None
    tolerance: float | None = None
    note: str = ""


def verify(
    name: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    quick: bool = False,
    device: str = "cpu",
    data: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Check]:
    r"""Check a checkpoint: hashes, strict load, golden outputs, card, and every metric.

    A metric is measured again on real data under its own protocol. With equal seeds it comes out
    equal but for the last digits; another device draws other numbers, so that the two values have
    independent Monte Carlo errors: they may be $3 \sqrt 2 \sigma$ apart, where $\sigma$ is the
    Monte Carlo error found now, so that no card can state its own tolerance.

    Args:
        name: A folder, the name of a checkpoint that ships with the package, or
            `organisation/name` on the Hub.
        revision: Branch, tag or commit; it always means the Hub.
        token: Token of the Hub; by default the one that is logged in.
        cache_dir: Where downloads are kept; by default the Hub client's cache.
        local_files_only: Take what an earlier download left and make no request.
        quick: Measure the quick values, which takes seconds, in place of the full ones.
        device: Where to measure, such as `cuda`.
        data: Name of a DataModule: only metrics of these data are measured.
        settings: Arguments of those data, or of the model's own, that no checkpoint holds, such as
            `root` of an `ImageFolder`.

    Returns:
        The checks that were made; after one of the files has failed, no metric is measured.

    Raises:
        ZooError: if there is no such checkpoint, or no such DataModule.
        HubError: if the Hub does not give it, or gives something else than it states.
    """
    folder = catalog.locate(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    chosen = None if data is None else data_class(data).__name__
    checks: list[Check] = []
    try:
        config = read_config(folder)
        checks.append(_hashes(folder, config.sha256))
        model = family(config.family).from_folder(folder, config, name, {})
        checks.append(Check("strict load", True, note=f"{config.family}, every tensor in place"))
        check_golden(model, folder)
        checks.append(Check("golden outputs", True, note="equal within 2e-5"))
        checks.append(_summary(model, config))
        checks.append(_card(folder))
        weights = config.sha256[WEIGHTS]
        # Those before an error stay.
        checks.extend(_metrics(folder, weights, model, quick, device, chosen, settings or {}))
    except (ValueError, OSError) as error:
        stages = ("files", "strict load", "golden outputs", "summary", "card", "metrics")
        what = stages[min(len(checks), len(stages) - 1)]
        checks.append(Check(what, False, note=" ".join(str(error).split())))
    return checks


def _hashes(folder: Path, recorded: Mapping[str, str]) -> Check:
    """Every binary file hashes to what config.json records; shipped files, to their pins."""
    pinned = catalog.check_pins(folder)
    for name, digest in recorded.items():
        path = folder / name
        if name not in FILES or not path.is_file() or sha256(path) != digest:
            raise ZooError(
                f"{path} is missing, damaged or was changed (its sha256 is not the one in "
                "config.json); get it again, or export the model again."
            )
    if WEIGHTS not in recorded:
        raise ZooError(f"{folder / CONFIG} records no sha256 of the weights; export it.")
    note = f"{pinned} as pinned" if pinned else f"{len(recorded)} as config.json records"
    return Check("files", True, note=note)


def _summary(model: LatentVariableModel, config: Config) -> Check:
    """Sizes are the model's; verbs may have been added since."""
    found, stated = model.summary(), config.summary
    wrong = [key for key in ("latent_shape", "parameters") if stated.get(key) != found[key]]
    if not {*stated.get("verbs", [])} <= {*found["verbs"]}:
        wrong.append("verbs")
    if wrong:
        return Check("summary", False, note=f"config.json states other {', '.join(wrong)}")
    return Check("summary", True, note=f"{found['parameters']:,} parameters")


def _card(folder: Path) -> Check:
    """README.md, where it speaks of a metric, says what metrics.json says."""
    path = folder / CARD
    if not path.is_file():
        return Check("card", True, note="the folder has no README.md")
    stated = stated_metrics(folder).metrics
    if problem := contradiction(path.read_text(encoding="utf-8"), stated):
        return Check("card", False, note=f"{problem}; `zoo card` writes the card anew")
    return Check("card", True, note="README.md states what metrics.json does")


def _metrics(
    folder: Path,
    weights: str,
    model: LatentVariableModel,
    quick: bool,
    device: str,
    data: str | None,
    settings: Mapping[str, Any],
) -> Iterator[Check]:
    """Measure what metrics.json states, each protocol once."""
    measured_on, stated = stated_metrics(folder)
    if not stated:
        yield Check("metrics", True, note="none are stated; `zoo evaluate --write` measures them")
        return
    if measured_on != weights:
        yield Check("metrics", False, note="metrics.json was measured on other weights")
        return
    if quick:
        stated = [metric.at_quick() for metric in stated if metric.quick]
        if not stated:
            yield Check("metrics", False, note="no quick value is stated; leave out --quick")
            return
    if data is not None:
        stated = [metric for metric in stated if metric.dataset == data]
        if not stated:
            yield Check("metrics", False, note=f"none are stated of {data}; leave out --data")
            return
    own = data or (model.data or {}).get("class_path")
    groups: dict[tuple[str, str, int, int, str], list[Metric]] = defaultdict(list)
    for metric in stated:
        job = metric.job or "likelihood"
        if job not in JOBS:
            yield Check("metrics", False, note=f"{brief(job)} is no job of `zoo evaluate`")
            return
        arguments = {
            **portable(metric.settings or {}),
            **(settings if metric.dataset == own else {}),
        }
        key = (job, metric.dataset, metric.count, metric.seed, json.dumps(arguments))
        groups[key].append(metric)
    model = model.to(torch.device(device))
    for (job, dataset, images, seed, given), group in groups.items():
        samples = max(metric.importance_samples or 1 for metric in group)
        protocol = Protocol(samples, images, seed)
        measured = run(model, [job], protocol, dataset, settings=json.loads(given))
        found = {m.name: m for m in measured}
        for metric in group:
            yield _compared(metric, found.get(metric.name))


def _close(stated: float | None, found: float | None, job: str | None) -> bool:
    """Whether two standard errors are the same; a single datum has none."""
    if stated is None or found is None:
        return stated is found
    spread = RESAMPLED if job in ("samples", "disentanglement") else SPREAD
    return abs(stated - found) <= spread * found + ROUNDING


def _compared(stated: Metric, found: Metric | None) -> Check:
    name, value = stated.name, stated.value
    if found is None:
        return Check(name, False, value, note=f"`zoo evaluate` measures no {name}")
    noise = found.monte_carlo_error or 0
    tolerance = 3 * math.sqrt(2) * noise + ROUNDING + KERNELS * abs(value)
    tolerance += {"probes": LABELS, "codes": CODES * abs(value)}.get(found.job or "", 0)
    errors = (stated.standard_error, found.standard_error)
    note = found.measured_on
    if found.importance_samples:
        note += f", k = {found.importance_samples}"
    passed = abs(value - found.value) <= tolerance
    if found.count != stated.count:
        passed, note = False, f"stated for {stated.count:,} examples, there are {note}"
    elif not _close(*errors, found.job):
        passed, note = False, f"standard error {errors[0]} is stated, {errors[1]} was found; {note}"
    return Check(name, passed, value, found.value, round(tolerance, 5), note)
