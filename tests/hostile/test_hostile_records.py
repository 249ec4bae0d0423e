"""Golden outputs, metrics and the card state numbers, and start nothing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hostile.attacks import (
    METRIC,
    ODD,
    OUTPUTS,
    SWAPS,
    TRAPPED,
    Change,
    cases,
    damages,
    filled,
    joined,
    keys,
    put,
    replaced,
    tensors,
    use,
    weights,
)
from tests.watch import TRAP


@cases(
    {
        **damages("golden.safetensors", 4),
        **{f"no {name}": tensors("golden", **{name: None}) for name in OUTPUTS},
        "unknown output": tensors("golden", dream=torch.zeros(4, 2)),
        "odd output": tensors("golden", **{"\x1b[2J" * 99: torch.zeros(4, 2)}),
        **{
            f"{name} {what}": tensors("golden", **{name: act})
            for name in OUTPUTS
            for what, act in {
                "of no rank": lambda t: t[(0,) * t.ndim],
                "of none": lambda t: t[:0],
                "of one more": lambda t: torch.cat([t, t[:1]]),
                "flat": torch.flatten,
                "wider": lambda t: torch.cat([t, t], -1),
                "long": lambda t: t.long(),
                "double": lambda t: t.double(),
                "complex": lambda t: t.to(torch.complex64),
                "nan": filled(float("nan")),
                "inf": filled(float("inf")),
                "of five": filled(5),
            }.items()
        },
        "header of 2**63": weights(lambda h, body: joined(h, body, 2**63), "golden"),
        "header of objects": weights(lambda h, body: joined(b'{"a":' * 10**5, body), "golden"),
    }
)
def test_golden(folder: Path, change: Change) -> None:
    change(folder)
    refused = use(folder, "load", "golden", "info")
    assert refused.keys() <= {"golden"}


@pytest.mark.parametrize("place", [*keys({"format": 1, "metrics": [METRIC]})], ids=str)
def test_metrics_with_another_value(folder: Path, place: tuple[Any, ...]) -> None:
    sound = {"format": 1, "metrics": [METRIC]}
    for value in (*SWAPS, *ODD):
        replaced("metrics.json", json.dumps(put(sound, place, value)))(folder)
        refused = use(folder, "info", "card")
        assert refused.keys() in (set(), {"info", "card"})


def metric(value: Any, *place: Any) -> Change:
    """One metric stated in another way, of the same weights."""

    def change(folder: Path) -> None:
        path = folder / "metrics.json"
        document = json.loads(path.read_text())
        index = [m["name"] for m in document["metrics"]].index("nll")
        path.write_text(json.dumps(put(document, ("metrics", index, *place), value)))

    return change


@cases(
    {
        f"{'.'.join(place)} {value!r}"[:40]: metric(value, *place)
        for place in (
            ("importance_samples",),
            ("quick", "importance_samples"),
            ("quick", "count"),
            ("quick", "value"),
            ("seed",),
            ("dataset",),
        )
        for value in (None, -1, 0, 1.5, 10**9, 10**18, 2**63 - 1, "x", [], {}, TRAPPED)
    }
)
def test_hostile_protocols(folder: Path, change: Change) -> None:
    """What a card says of how it was measured starts nothing that does not end."""
    change(folder)
    use(folder, "card", "verify")


def front_matter(text: str) -> Change:
    return replaced("README.md", f"---\n{text}\n---\n\n# A card\n")


@cases(
    {
        "empty": replaced("README.md", ""),
        "not in utf-8": replaced("README.md", b"---\nlicense: \xff\n---\n"),
        "blanks": replaced("README.md", " " * 10**7),
        "100 MB": lambda folder: os.truncate(folder / "README.md", 10**8),
        "lines": replaced("README.md", "---\n" * 10**6),
        "python": front_matter(f"!!python/object/apply:{TRAP}.run []"),
        "python name": front_matter(f"license: !!python/name:{TRAP}.run"),
        "brackets": front_matter("a: " + "[" * 10**5),
        "900 lists": front_matter("a: " + "[" * 900 + "]" * 900),
        "aliases": front_matter(
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 30))
        ),
        "itself": front_matter("model-index: &a [*a]"),
        **{
            f"index {value}"[:40]: front_matter(f"model-index: {json.dumps(value)}")
            for value in (1, "x", {}, [1], [{}], [{"results": 1}], [{"name": 1, "results": [{}]}])
        },
        **{
            f"index of {value}"[:40]: front_matter(
                "model-index: "
                + json.dumps(
                    [{"name": "x", "results": [{"task": {"type": "x"}, "metrics": value}]}]
                )
            )
            for value in (1, [1], [{}], [{"type": [], "value": {}}])
        },
        "row": replaced("README.md", "| nll | " + "9" * 10**6),
        "row that draws": replaced("README.md", "| nll | \x1b[2J"),
    }
)
def test_hostile_card(folder: Path, change: Change) -> None:
    change(folder)
    use(folder, "verify", "info", "card")


@cases(damages("metrics.json", 5))
def test_damaged_metrics(folder: Path, change: Change) -> None:
    change(folder)
    refused = use(folder, "load", "info", "card")
    assert refused.keys() in (set(), {"info", "card"})
