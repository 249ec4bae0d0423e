"""Models of all families side by side: a table of what the same suite finds, a page of pictures.

Numbers stand in one column only where they are of one kind: the likelihood of binary pixels, which
is a probability, never beside that of grey values, which is a density and has no bound; and
distances of samples only where the same network looked.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.batches import on_device
from zoo.checkpoints import catalog
from zoo.checkpoints.files import write_text
from zoo.checkpoints.metrics import Metric
from zoo.datamodules.base import DataModule, ImageDataModule
from zoo.errors import ZooError, in_any_case, nearest
from zoo.evaluation.data import data_class, data_module, held_out
from zoo.evaluation.probes import labelled, probed
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.samples import drawing
from zoo.evaluation.suites import SUITES, forget, run, work_folder
from zoo.evaluation.tables import Row, spreadsheet, table, web_page
from zoo.plots.charts import strips
from zoo.plots.grids import grid, save_grid
from zoo.pretrained.loading import from_pretrained

SHOWN = 8
"""Samples and reconstructions of each model on the page."""

TIMED = 100  # data that are drawn or encoded at a time
TIMED_FOR = 1.0  # seconds, at least


def compare(
    models: Sequence[str],
    data: str | None = None,
    suite: str = "quick",
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Ask several models the same: a suite's jobs, probes beside PCA, speed, and pictures.

    A comparison that was stopped goes on where it was when it is asked again.

    Args:
        models: Names or folders, or patterns of shipped names such as `*-mnist`.
        data: Name of a DataModule, in any case; by default each model's own.
        suite: Which of `zoo.evaluation.suites.SUITES`.
        device: Where to measure, such as `cuda`.
        settings: Arguments of the data, such as `root` of an `ImageFolder`.

    Returns:
        A row a model; those that the data do not fit have a note in place of numbers.

    Raises:
        ZooError: if there is no such model, suite or DataModule.
        DataError: if files of the data are missing or damaged.
    """
    suite = in_any_case(suite, SUITES)
    if suite not in SUITES:
        raise ZooError(f"there is no suite {suite!r}; {nearest(suite, SUITES)}")
    if data is not None:
        data = data_class(data).__name__
    jobs, protocol = SUITES[suite]
    rows, done = [], []
    for name in named(models):
        work = work_folder(catalog.locate(name), protocol, data, device, settings)
        rows.append(_row(name, data, settings, jobs, protocol, device, work))
        done.append(work)
    for work in done:
        forget(work)
    return rows


def named(models: Sequence[str]) -> list[str]:
    """The names that names and patterns stand for, each once."""
    return [*dict.fromkeys(name for given in models for name in _names(given))]


def _names(given: str) -> list[str]:
    """Names that a pattern stands for; a name stands for itself."""
    if not any(sign in given for sign in "*?["):
        return [given]
    names = catalog.list_models(given)
    if not names:
        raise ZooError(f"no model matches {given!r}; {nearest(given, catalog.list_models())}")
    return names


def _row(
    name: str,
    data: str | None,
    settings: Mapping[str, Any] | None,
    jobs: Sequence[str],
    protocol: Protocol,
    device: str,
    work: Path | None,
) -> Row:
    model = from_pretrained(name).to(device)
    about = catalog.describe(name)
    row = Row(
        name,
        about.family,
        model.datum,
        about.latent_shape,
        about.parameters,
        about.bytes,
        condition=model.condition,
    )
    try:
        module = data_module(model, data, settings)
    except ZooError as error:
        return replace(row, note=str(error))
    metrics = run(model, jobs, protocol, data, work, settings)
    note = "" if metrics else "no job applies"
    batch = on_device(next(iter(held_out(module, TIMED))), model.device)
    x, verbs, fixed = model.inputs(batch), model.verbs(), model.conditioned(batch)
    found: dict[str, Any] = {}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(protocol.seed)
        found["principal"] = _principal(model, module, metrics, protocol)
        if "sample" in verbs:
            found["samples_per_second"] = throughput(model.sample, TIMED, model.device)
        if "encode" in verbs:
            found["codes_per_second"] = throughput(lambda _: fixed.encode(x), len(x), model.device)
        if model.modality == "image":
            found["inputs"] = x[:SHOWN]
            torch.manual_seed(protocol.seed)
            if "sample" in verbs:
                found["samples"] = drawing(model, module)[0](SHOWN)
            if "reconstruct" in verbs:
                found["reconstructions"] = fixed.reconstruct(x)[:SHOWN]
    return replace(row, support=_support(model, module), metrics=metrics, note=note, **found)


def _support(model: LatentVariableModel, module: DataModule) -> str:
    if isinstance(module, ImageDataModule):
        return "grey values" if module.binarization == "none" else "binary pixels"
    return model.datum


def throughput(act: Callable[[int], Tensor], n: int, device: torch.device) -> float:
    """How many data an act on n of them at a time gets through; a first one is not timed."""
    act(1)
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < TIMED_FOR:
        act(n)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        count += n
    return count / seconds


def _principal(
    model: LatentVariableModel,
    module: DataModule,
    metrics: list[Metric],
    protocol: Protocol,
) -> list[Metric]:
    """Probes of as many principal components as a code has numbers, if its own were measured."""
    from sklearn.decomposition import PCA

    if not {"linear_probe"} & {metric.name for metric in metrics} or not model.latent_shape:
        return []

    def pixels(batch: Any) -> Tensor:
        return torch.as_tensor(model.inputs(batch)).flatten(1)

    test = labelled(module, "test", protocol.limit, pixels)
    assert test is not None
    train = labelled(module, "train", len(test[1]), pixels)
    assert train is not None
    size = min(math.prod(model.latent_shape), *train[0].shape)
    pca = PCA(size, svd_solver="full").fit(train[0].double().numpy())
    first, second = (
        (torch.from_numpy(pca.transform(x.double().numpy())), labels) for x, labels in (train, test)
    )
    found = probed(first, second, f"{size} principal components")
    return [replace(metric, dataset=type(module).__name__) for metric in found]


def write(rows: Sequence[Row], folder: Path, about: str) -> list[Path]:
    """Write `comparison.csv`, `comparison.html`, and `pictures.png` where there are any.

    Args:
        rows: What `compare` gave.
        folder: Where to; made if it is not there.
        about: What was done, in a sentence.

    Returns:
        The files.

    Raises:
        ZooError: if they cannot be written.
    """
    columns = table(rows)
    files = [folder / "comparison.csv", folder / "comparison.html"]
    write_text(files[0], spreadsheet(columns))
    page = pictures(rows)
    if page is not None:
        files.append(folder / "pictures.png")
        save_grid(page[None], files[-1], 1)
    write_text(files[1], web_page(columns, about, files[2:]))
    return files


def pictures(rows: Sequence[Row]) -> Tensor | None:
    """One page, (3, H, W) in [0, 1]: a row a model, its samples, and what it makes of test images.

    Above them the test images, as the first model takes them that takes the finest.
    """
    seen = [row for row in rows if row.samples is not None or row.reconstructions is not None]
    if not seen:
        return None
    first = max(seen, key=lambda row: row.support == "grey values").inputs
    page: dict[str, list[Tensor | None]] = {"test images": [None, first]}
    page |= {row.name: [row.samples, row.reconstructions] for row in seen}
    lines = {
        name: [None if x is None else grid(x.float().cpu(), SHOWN) for x in pair]
        for name, pair in page.items()
    }
    return strips(lines, ("samples (means, where pixels are binary)", "reconstructions"))
