"""Is a checkpoint what its card says? Files, weights, outputs, and every number measured again."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from zoo.base import LatentVariableModel
from zoo.checkpoints import catalog
from zoo.checkpoints.card import contradiction
from zoo.checkpoints.config import Config, read_config
from zoo.checkpoints.files import CARD, CONFIG, FILES, METRICS, WEIGHTS, read_json, sha256
from zoo.checkpoints.metrics import Metric, read_metrics
from zoo.errors import ZooError, brief
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

    Returns:
        The checks that were made; after one of the files has failed, no metric is measured.

    Raises:
        ZooError: if there is no such checkpoint, or a shipped one is not as pinned.
        HubError: if the Hub does not give it, or gives something else than it states.
    """
    folder = catalog.locate(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    checks: list[Check] = []
    try:
        checks.append(_hashes(folder))
        config = read_config(folder)
        model = family(config.family).from_folder(folder, name, {})
        checks.append(Check("strict load", True, note=f"{config.family}, every tensor in place"))
        check_golden(model, folder)
        checks.append(Check("golden outputs", True, note="equal within 2e-5"))
        checks.append(_summary(model, config))
        checks.append(_card(folder))
        checks.extend(_metrics(folder, model, quick, device))  # those before an error stay
    except (ValueError, OSError) as error:
        stages = ("files", "strict load", "golden outputs", "summary", "card", "metrics")
        what = stages[min(len(checks), len(stages) - 1)]
        checks.append(Check(what, False, note=" ".join(str(error).split())))
    return checks


def _hashes(folder: Path) -> Check:
    """Every binary file hashes to what config.json records; shipped files, to their pins."""
    recorded = read_config(folder).sha256
    for name, digest in recorded.items():
        path = folder / name
        if name not in FILES or not path.is_file() or sha256(path) != digest:
            raise ZooError(
                f"{path} is missing, damaged or was changed (its sha256 is not the one in "
                "config.json); get it again, or export the model again."
            )
    if WEIGHTS not in recorded:
        raise ZooError(f"{folder / CONFIG} records no sha256 of the weights; export it.")
    pinned = catalog.pins(folder.name) if folder.resolve().parent == catalog.CARDS else {}
    note = f"{len(pinned)} as pinned" if pinned else f"{len(recorded)} as config.json records"
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
    if problem := contradiction(path.read_text(encoding="utf-8"), folder):
        return Check("card", False, note=f"{problem}; `zoo card` writes the card anew")
    return Check("card", True, note="README.md states what metrics.json does")


def _metrics(folder: Path, model: LatentVariableModel, quick: bool, device: str) -> Iterator[Check]:
    """Measure what metrics.json states, each protocol once."""
    stated = read_metrics(folder)
    measured_on = read_json(folder / METRICS).get("weights") if stated else ""
    if not stated:
        yield Check("metrics", False, note="nothing is stated; `zoo evaluate --write` measures it")
        return
    if measured_on != sha256(folder / WEIGHTS):
        yield Check("metrics", False, note="metrics.json was measured on other weights")
        return
    if quick:
        stated = [metric.at_quick() for metric in stated if metric.quick]
        if not stated:
            yield Check("metrics", False, note="no quick value is stated; leave out --quick")
            return
    groups: dict[tuple[str, str, int, int], list[Metric]] = defaultdict(list)
    for metric in stated:
        job = metric.job or "likelihood"
        if job not in JOBS:
            yield Check("metrics", False, note=f"{brief(job)} is no job of `zoo evaluate`")
            return
        groups[job, metric.dataset, metric.count, metric.seed].append(metric)
    model = model.to(torch.device(device))
    for (job, dataset, images, seed), group in groups.items():
        samples = max(metric.importance_samples or 1 for metric in group)
        protocol = Protocol(samples, images, seed)
        found = {m.name: m for m in run(model, [job], protocol, dataset)}
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
