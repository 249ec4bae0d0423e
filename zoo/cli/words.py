"""How the command line reads words and prints tables."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from zoo.checkpoints.metrics import Metric
from zoo.errors import nearest


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, with the nearest name.

    Args:
        first_only: Whether only the first word is read, and `rest` is a list of the others.
        **kwargs: Arguments of argparse's parser.
    """

    def __init__(self, *, first_only: bool = False, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "allow_abbrev": False})
        self.first_only = first_only

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.first_only and args and args[0] not in ("-h", "--help"):
            # Behind "--" argparse takes a flag, too, as a word; the command refuses it.
            found, _ = super().parse_known_args(["--", args[0]], namespace)
            found.rest = args[1:]
            return found, []
        # The parser of the sub-command answers: only it knows which flags come near.
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            flags = [option for action in self._actions for option in action.option_strings]
            what = "flag" if extra[0].startswith("-") else "argument"
            word = extra[0].partition("=")[0]
            hint = nearest(word, flags) if what == "flag" else f"see {self.prog} --help."
            self.error(f"unknown {what} {word}; {hint}")
        return found, extra

    def error(self, message: str) -> NoReturn:
        chosen = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if chosen:
            known = [word.strip(" '") for word in chosen[3].split(",")]
            message = f"there is no {chosen[1]} {chosen[2]!r}; {nearest(chosen[2], known)}"
        self.exit(2, f"{self.prog}: {message}\n")


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of as many cells each, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def print_metrics(metrics: Sequence[Metric], indent: str = "") -> None:
    """Print a line for each metric: name, value, unit and kind."""
    width = max((len(metric.name) for metric in metrics), default=0)
    for metric in metrics:
        print(f"{indent}{metric.name:<{width}} {metric.words}")
