"""What a stranger may do to one file of a sound checkpoint folder, and every use of the folder.

What still loads must give the sound folder's outputs. See `tests/watch.py` for what is watched.
"""

import contextlib
import copy
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.watch import TRAP, bounded, watched
from zoo.checkpoints.arguments import arguments
from zoo.checkpoints.metrics import metrics_of, write_metrics
from zoo.cli.main import main
from zoo.errors import ZooError
from zoo.models import VAE
from zoo.pretrained.loading import check_golden

METRIC = {
    "name": "nll",
    "value": 84.25,
    "unit": "nats/image",
    "kind": "estimate",
    "standard_error": 0.5,
    "count": 250,
    "seed": 0,
    "dataset": "Digits",
    "split": "test",
    "importance_samples": 2,
    "monte_carlo_error": 0.5,
    "quick": {
        "value": 84.5,
        "standard_error": 0.75,
        "monte_carlo_error": 0.5,
        "count": 10,
        "importance_samples": 2,
    },
}
SECRET = "root:x:0:0"
Change = Callable[[Path], object]


def make(folder: Path) -> None:
    """Write the sound folder."""
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 8, 8), latent_dim=2, hidden=(3,))
    model.data = {"class_path": "Digits", "init_args": {"size": 8, "binarization": "none"}}
    model.save_pretrained(folder)
    write_metrics(folder, metrics_of({"metrics": [METRIC]}, folder))


ARGUMENTS = tuple(arguments(VAE))
OUTPUTS = ("x", "encode", "reconstruct")


@cache
def sound() -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """The config.json of the sound folder, and its tensors by file."""
    with TemporaryDirectory() as parent:
        make(Path(parent))
        files = {
            name: load_file(Path(parent, f"{name}.safetensors")) for name in ("model", "golden")
        }
        return json.loads(Path(parent, "config.json").read_text()), files


# --- uses of a folder ----------------------------------------------------------------------------


def load(folder: Path) -> None:
    """Load it; what loads gives the outputs of the sound folder."""
    model = zoo.from_pretrained(str(folder))
    golden = sound()[1]["golden"]
    for name, outputs in model.golden_outputs(golden["x"]).items():
        torch.testing.assert_close(outputs, golden[name], rtol=0, atol=1e-6)


def command(name: str, *words: str) -> Change:
    """A command as a function that raises the line it writes to stderr."""

    def run(folder: Path) -> None:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([name, str(folder), *words])
        out.seek(0)
        err.seek(0)
        said = err.read().strip()  # of a progress bar a line is left
        assert all(c.isprintable() or c == "\n" for c in out.read())
        assert (code, said) == (0, "") or (code == 1 and said.startswith("zoo: "))
        if code:
            raise ZooError(said.removeprefix("zoo: "))

    return run


USES: dict[str, Change] = {
    "load": load,
    "golden": lambda folder: check_golden(zoo.from_pretrained(str(folder)), folder),
    "info": command("info"),
    "card": command("card"),
    "evaluate": command("evaluate", "--limit", "2", "--samples", "2"),
    "verify": command("verify", "--quick", "--device", "cpu"),
}


def use(folder: Path, *names: str) -> dict[str, str]:
    """Use a folder in the ways named, or in all; the sentences with which it was refused."""
    refused = {}
    kept = {"XDG_CACHE_HOME": str(folder / "cache")}  # where a measurement keeps what it has done
    with patch.dict(os.environ, kept), watched(folder) as seen, bounded():
        for name in names or USES:
            try:
                USES[name](folder)
            except ZooError as error:
                refused[name] = str(error)
    assert not seen
    for sentence in refused.values():
        assert sentence.isprintable(), sentence
        assert sentence == sentence.strip() != ""
        assert len(sentence.replace(str(folder), "")) < 500
        assert not [w for w in ("Traceback", "allocate", "at 0x", SECRET) if w in sentence]
    return refused


# --- changes of a folder -------------------------------------------------------------------------


def keys(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON document stand; of a list, the list and its first."""
    if place:
        yield place
    items: Any = node.items() if isinstance(node, dict) else ()
    for key, value in enumerate(node[:1]) if isinstance(node, list) else items:
        yield from keys(value, (*place, key))


def put(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The document with another value in one place; `...` removes what is there."""
    document = copy.deepcopy(document)
    node = document
    for key in place[:-1]:
        node = node[key]
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return document


def replaced(file: str, content: bytes | str) -> Change:
    content = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / file).write_bytes(content)


def written(text: Callable[[dict[str, Any]], bytes | str]) -> Change:
    """Write config.json from what it says in the sound folder."""
    return lambda folder: replaced("config.json", text(sound()[0]))(folder)


def damaged(file: str, damage: Callable[[bytes, random.Random], bytes], seed: int) -> Change:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_bytes(damage(path.read_bytes(), random.Random(seed)))

    return change


def config(value: Any, *place: Any) -> Change:
    return written(lambda sound: json.dumps(put(sound, place, value)))


def argument(name: str, value: Any) -> Change:
    return config(value, "init_args", name)


def literal(text: str, *place: Any) -> Change:
    """What Python's writer would not write, in the place of a value."""
    return written(lambda sound: json.dumps(put(sound, place, "@")).replace('"@"', text))


def cases(changes: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "change", [pytest.param(change, id=name) for name, change in changes.items()]
    )


def one_byte(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(1) + data[at + 1 :]


def some_bytes(data: bytes, draw: random.Random) -> bytes:
    a, b = sorted(draw.randrange(len(data)) for _ in range(2))
    return data[:a] + draw.randbytes(draw.randrange(4)) + data[b:]


def truncated(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def doubled(data: bytes, draw: random.Random) -> bytes:
    a, b = sorted(draw.randrange(len(data)) for _ in range(2))
    return data[:b] + data[a:]


def damages(file: str, rounds: int) -> dict[str, Change]:
    kinds = (one_byte, one_byte, one_byte, some_bytes, truncated, doubled) * rounds
    return {f"{kind.__name__}-{i}": damaged(file, kind, i) for i, kind in enumerate(kinds)}


TRAPPED = {"class_path": f"{TRAP}.run", "init_args": {}}
SWAPS: tuple[Any, ...] = (..., None, True, -1, 1.5, 10**18, "", "2", [], [[]], {}, TRAPPED)
ODD = ("two\nlines", "\x1b[2J", "\u202e", "\ud800", "\0", "x" * 10**5)


PLACES = [
    *keys(
        {
            "format": 1,
            "family": "",
            "init_args": dict.fromkeys(ARGUMENTS) | {"x_shape": [1], "hidden": [1]},
            "data": {"class_path": "", "init_args": {"size": 8, "binarization": ""}},
            "summary": {
                **{"latent_shape": [1], "parameters": 1, "verbs": [""], "about": "", "tags": [""]},
                **{"task": "", "datum": "", "limits": ""},
            },
            "sha256": {"model.safetensors": "", "golden.safetensors": ""},
            "license": "",
            "base_model": None,
        }
    )
]


def unhashed(folder: Path) -> None:
    config({}, "sha256")(folder)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file, as its format says: length, JSON, numbers."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, body: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def weights(rewrite: Callable[[dict[str, Any], bytes], bytes], file: str = "model") -> Change:
    """Write a safetensors file anew from its header and body; no hash says how it was."""

    def change(folder: Path) -> None:
        path = folder / f"{file}.safetensors"
        path.write_bytes(rewrite(*parts(path.read_bytes())))
        unhashed(folder)

    return change


def tensors(file: str = "model", **changes: Any) -> Change:
    """Other tensors; None removes one, a function makes another of it."""

    def change(folder: Path) -> None:
        content = dict(sound()[1][file])
        for name, value in changes.items():
            content[name] = value(content[name]) if callable(value) else value
        content = {name: value.contiguous() for name, value in content.items() if value is not None}
        save_file(content, folder / f"{file}.safetensors")
        unhashed(folder)

    return change


def filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.full_like(tensor, value)
