"""Commands that measure, compare, verify and reproduce models."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoints import catalog
from zoo.checkpoints.config import read_config
from zoo.cli.data import add_data, chosen
from zoo.cli.words import print_metrics, print_table
from zoo.errors import ZooError
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.verification.verify import Check


def add(commands: Any) -> None:
    """Add `evaluate`, `compare`, `verify` and `reproduce`."""
    command = commands.add_parser("evaluate", help="measure a model on its test set")
    command.add_argument("model", help="name or folder")
    add_data(command)
    _add_suite(command, "card")
    command.add_argument(
        "--samples", type=int, help="importance samples for each image; by default the suite's"
    )
    command.add_argument("--limit", type=int, help="images to measure on; by default the suite's")
    command.add_argument("--seed", type=int, help="seed of all draws")
    command.add_argument("--write", action="store_true", help="write metrics.json and the card")
    _add_device(command)
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("compare", help="put models side by side: a table and pictures")
    command.add_argument("models", nargs="+", help="names, folders, or patterns such as '*-mnist'")
    add_data(command)
    _add_suite(command, "quick")
    command.add_argument(
        "-o", "--output", type=Path, help="folder for comparison.csv, comparison.html, pictures.png"
    )
    _add_device(command)
    command.set_defaults(run=_compare)

    command = commands.add_parser("verify", help="check a model's files and measure its numbers")
    command.add_argument("model", help="name, folder, or organisation/name on the Hub")
    command.add_argument("--revision", help="branch, tag or commit on the Hub")
    add_data(command)
    command.add_argument("--quick", action="store_true", help="measure on 1,000 images, in seconds")
    command.add_argument("--json", action="store_true", help="print the checks as JSON")
    _add_device(command)
    command.set_defaults(run=_verify)

    command = commands.add_parser("reproduce", help="train a model's recipe again, and compare")
    command.add_argument("model", help="name of a shipped model")
    command.add_argument("--seed", type=int, help="seed of the training; by default the recipe's")
    command.add_argument("--budget", type=float, default=1.0, help="share of the recipe's epochs")
    command.add_argument("--full", action="store_true", help="measure by the card's own protocol")
    command.add_argument("--record", action="store_true", help="add the result to the card's band")
    command.add_argument("--json", action="store_true", help="print the checks as JSON")
    _add_device(command)
    command.set_defaults(run=_reproduce)


def _add_suite(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--suite",
        type=str.lower,
        choices=["quick", "card", "full"],
        default=default,
        help="what to measure: likelihood, probes of codes and distances of samples, on 1,000 "
        "images (quick) or all (card), and the parts of the ELBO's gap (full); by default "
        "%(default)s",
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", help="such as cpu or cuda; by default the fastest there is")


def _device(args: argparse.Namespace) -> str:
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = args.device or str(found or "cpu")
    try:
        torch.zeros(1, device=name).item()  # which the device "meta" cannot
    except (RuntimeError, AssertionError):  # torch's own texts are pages long
        raise ZooError(f"there is no device {name!r} here; try --device cpu.") from None
    return name


def _evaluate(args: argparse.Namespace) -> None:
    from zoo.checkpoints.card import refresh
    from zoo.checkpoints.metrics import write_metrics
    from zoo.evaluation.protocol import quick_of, with_quick_values
    from zoo.evaluation.suites import SUITES, forget, run, work_folder
    from zoo.pretrained.loading import from_pretrained

    folder, device = catalog.locate(args.model), _device(args)
    model = from_pretrained(args.model).to(device)
    suite = SUITES[args.suite]
    flags = {"samples": args.samples, "limit": args.limit, "seed": args.seed}
    protocol = suite.protocol._replace(**{k: v for k, v in flags.items() if v is not None})
    data, settings = chosen(args, lambda: model.data)
    work = work_folder(folder, protocol, data, device, settings)
    metrics = run(model, suite.jobs, protocol, data, work, settings)
    if not metrics:
        raise ZooError(f"nothing of {args.model} can be measured on these data; see --data.")
    print_metrics(metrics)
    if args.write:
        short = quick_of(protocol.samples)
        rough = work_folder(folder, short, data, device, settings)
        quick = run(model, SUITES["quick"].jobs, short, data, rough, settings)
        write_metrics(folder, with_quick_values(metrics, quick))
        refresh(folder)
        forget(rough)
    forget(work)


def _compare(args: argparse.Namespace) -> None:
    from zoo.evaluation.comparison import compare, write
    from zoo.evaluation.tables import markdown, table

    device = _device(args)
    data, settings = chosen(args, lambda: _shared_data(args.models))
    rows = compare(args.models, data, args.suite, device, settings)
    print(markdown(table(rows)))
    if args.output is not None:
        about = f"zoo compare, version {__version__}, {args.suite} suite, on {device}."
        for path in write(rows, args.output.expanduser(), about):
            print(path)


def _shared_data(models: list[str]) -> dict[str, Any] | None:
    """The data that all these models were trained on.

    Raises:
        ZooError: if they are several.
    """
    from zoo.evaluation.comparison import named

    found = {name: read_config(catalog.locate(name)).data for name in named(models)}
    classes = {(data or {}).get("class_path") for data in found.values()}
    if len(classes) > 1:
        raise ZooError("the models were trained on several data sets; say with --data which.")
    return next(iter(found.values()))


def _verify(args: argparse.Namespace) -> None:
    from zoo.verification.verify import verify

    def own() -> dict[str, Any] | None:
        return read_config(catalog.locate(args.model, revision=args.revision)).data

    data, settings = chosen(args, own)
    checks = verify(
        args.model,
        revision=args.revision,
        quick=args.quick,
        device=_device(args),
        data=data,
        settings=settings,
    )
    _report(args, checks, {"model": args.model, "quick": args.quick})


def _reproduce(args: argparse.Namespace) -> None:
    from zoo.verification.reproduce import reproduce

    result = reproduce(
        args.model,
        seed=args.seed,
        budget=args.budget,
        full=args.full,
        record=args.record,
        device=_device(args),
    )
    facts = {"model": args.model, "checkpoint": str(result.checkpoint), "note": result.note}
    _report(args, result.checks, facts)


def _report(args: argparse.Namespace, checks: "list[Check]", facts: dict[str, Any]) -> None:
    """Print what was checked, as a table or as JSON.

    Raises:
        ZooError: if a check failed.
    """
    failed = [check.what for check in checks if not check.passed]
    if args.json:
        found = {**facts, "passed": not failed, "checks": [asdict(check) for check in checks]}
        print(json.dumps(found, indent=2))
    else:
        rows: list[tuple[str, ...]] = [("check", "", "stated", "measured", "tolerance", "")]
        for c in checks:
            numbers = (c.stated, c.measured, c.tolerance)
            cells = ("" if number is None else f"{number:g}" for number in numbers)
            rows.append((c.what, "ok" if c.passed else "FAILED", *cells, c.note))
        print_table(rows)
        if facts.get("note"):
            print(facts["note"])
    if failed:
        raise ZooError(
            f"{args.model} failed {len(failed)} of {len(checks)} checks: {', '.join(failed)}."
        )
