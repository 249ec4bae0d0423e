"""A checkpoint folder is what a stranger says: harmless, or refused in a sentence, and never run.

Each case changes one file of a sound folder and then uses the folder in every way there is. What
still loads must give the sound folder's outputs. See `tests/watch.py` for what is watched.
"""

import contextlib
import copy
import io
import json
import mmap
import os
import pickle
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from tests.watch import TRAP, bounded, watched
from zoo.checkpoints.card import write_card
from zoo.checkpoints.files import FILES
from zoo.checkpoints.metrics import metrics_of, write_metrics
from zoo.checkpoints.weights import build
from zoo.cli.main import main
from zoo.errors import ZooError
from zoo.evaluation.protocol import Protocol, with_quick_values
from zoo.evaluation.suites import run
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


with TemporaryDirectory() as parent:
    make(Path(parent))
    CONFIG: dict[str, Any] = json.loads(Path(parent, "config.json").read_text())
    TENSORS = {name: load_file(Path(parent, f"{name}.safetensors")) for name in ("model", "golden")}


# --- all uses of a folder ------------------------------------------------------------------------


def load(folder: Path) -> None:
    """Load it; what loads gives the outputs of the sound folder."""
    model = zoo.from_pretrained(str(folder))
    for name, outputs in model.golden_outputs(TENSORS["golden"]["x"]).items():
        torch.testing.assert_close(outputs, TENSORS["golden"][name], rtol=0, atol=1e-6)


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
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}  # where a measurement keeps what it has done
    with patch.dict(os.environ, cache), watched(folder) as seen, bounded():
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "vae-tiny"
    make(folder)
    model = zoo.from_pretrained(str(folder))
    metrics, quick = (run(model, ["likelihood"], Protocol(2, n)) for n in (20, 10))
    write_metrics(folder, with_quick_values(metrics, quick))
    write_card(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        for act in USES.values():  # what is imported and cached the first time is not watched
            act(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{TRAP}.py").write_text("def run(*_, **__): raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    return shutil.copytree(whole, tmp_path / "vae-tiny")


def test_the_sound_folder_is_refused_by_nothing(folder: Path) -> None:
    assert use(folder) == {}


def test_the_watch_sees(folder: Path, tmp_path: Path) -> None:
    """What would be missed here would be missed below."""

    def hang() -> None:
        os.mkfifo(folder / "fifo")
        (folder / "fifo").read_bytes()

    acts: list[tuple[str, Callable[[], object]]] = [
        ("os.system", lambda: os.system("true")),
        ("import", lambda: __import__(TRAP)),
        ("find_class", lambda: pickle.loads(pickle.dumps(folder))),
        ("exec", lambda: exec("1")),
        ("passwd", lambda: Path("/etc/passwd").read_text()),
        ("beside to write", lambda: (tmp_path / "beside").write_text("")),
        ("beside to write", lambda: (folder / ".." / "beside").write_text("")),
        ("os.rename", lambda: (tmp_path / "beside").rename(folder / "inside")),
        ("pickle", lambda: (folder / "model.bin").write_bytes(b"")),
    ]
    for event, act in acts:
        with watched(folder) as seen, bounded():
            act()
        assert any(event in line for line in seen), event
    with pytest.raises(BaseException, match="still running"), bounded(seconds=0.05):
        hang()
    with pytest.raises(OSError, match="allocate memory"), bounded(room=2**26):
        mmap.mmap(-1, 2**28)  # from the system: `bytearray` may get what lies free


# --- config.json ---------------------------------------------------------------------------------


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


def damaged(file: str, damage: Callable[[bytes, random.Random], bytes], seed: int) -> Change:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_bytes(damage(path.read_bytes(), random.Random(seed)))

    return change


def config(value: Any, *place: Any) -> Change:
    return replaced("config.json", json.dumps(put(CONFIG, place, value)))


def argument(name: str, value: Any) -> Change:
    return config(value, "init_args", name)


def literal(text: str, *place: Any) -> Change:
    """What Python's writer would not write, in the place of a value."""
    return replaced("config.json", json.dumps(put(CONFIG, place, "@")).replace('"@"', text))


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
COMMAND = {"class_path": "os.system", "init_args": {"command": "true"}}
FAMILIES = (
    "os.system",
    f"{TRAP}.run",
    "__class__",
    "FAMILIES",
    "VAE.__init__",
    "zoo.models.VAE",
    "../VAE",
    "/etc/passwd",
    "vae",
    " VAE",
    "V\u0391E",
    "!!python/object/apply:os.system [true]",
    *ODD,
    ["VAE"],
    {"VAE": 1},
    TRAPPED,
)
WHOLE = json.dumps(CONFIG)
DEEP = {"format": 1, "family": "VAE", "init_args": {"hidden": "@"}}

HOSTILE_CONFIGS: dict[str, Change] = {
    "empty": replaced("config.json", ""),
    "byte order mark": replaced("config.json", "\ufeff" + WHOLE),
    "utf-16": replaced("config.json", WHOLE.encode("utf-16")),
    "latin-1": replaced("config.json", WHOLE.replace("apache", "apach\xe9").encode("latin-1")),
    "100,000 brackets": replaced("config.json", "[" * 100_000),
    "100,000 objects": replaced("config.json", '{"a":' * 100_000),
    "900 lists": replaced("config.json", json.dumps(DEEP).replace('"@"', "[" * 900 + "]" * 900)),
    "100 MB of blanks": lambda folder: replaced("config.json", WHOLE + " " * 10**8)(folder),
    "100 MB without content": lambda folder: os.truncate(folder / "config.json", 10**8),
    "a million lists": literal("[" + "[]," * 10**6 + "[]]", "summary", "facts"),
    "family twice": replaced("config.json", WHOLE.replace("{", '{"family": "GMM", ', 1)),
    "20,000 keys and one twice": replaced(
        "config.json", json.dumps(dict.fromkeys(map(str, range(20_000)), 1))[:-1] + ',"1":1}'
    ),
    "two documents": replaced("config.json", WHOLE + WHOLE),
    "python": replaced("config.json", repr(CONFIG)),
    "yaml": replaced("config.json", "!!python/object/apply:os.system [true]"),
    "pickle": replaced("config.json", pickle.dumps(CONFIG)),
    **{f"format {n!r}"[:20]: config(n, "format") for n in (0, 2, 10**30, 1.0, "1", [1], True)},
    "format 1e0": literal("1e0", "format"),
    "format of 4,000 digits": literal("1" * 4000, "format"),
    "format of 5,000 digits": literal("1" * 5000, "format"),
    **{f"family {value!r}"[:40]: config(value, "family") for value in FAMILIES},
    "unknown argument": argument("os", "system"),
    "argument self": argument("self", 1),
    "argument __class__": argument("__class__", TRAPPED),
    "argument of 100 kB": argument("x" * 10**5, 1),
    "arguments as class": config(COMMAND, "init_args"),
    **{f"{name} as class": argument(name, COMMAND) for name in CONFIG["init_args"]},
    **{
        f"{name} {text[:20]!r}": argument(name, text)
        for name in ("likelihood", "hidden", "lr", "latent_dim")
        for text in (
            "!!python/object/apply:os.system [true]",
            "/etc/passwd",
            "config.json",
            "${oc.env:HOME}",
            "x" * 10**5,
        )
    },
    "list of a million": argument("hidden", [1] * 10**6),
    "list of 40,000": argument("hidden", [0] * 40_000),
    "file of sha256 above": config("0" * 64, "sha256", "../../x"),
    "file of sha256 at the root": config("0" * 64, "sha256", "/etc/passwd"),
    "file of sha256 by odd name": config("0" * 64, "sha256", "\x1b[2J"),
    "sha256 of another": config("0" * 64, "sha256", "model.safetensors"),
    "license of 4,000 digits": literal("1" * 4000, "license"),
    **{
        f"{'.'.join(place)} {text[:9]!r}": config(text, *place)
        for place in (("license",), ("base_model",), ("data", "class_path"))
        for text in ODD
    },
    **{f"verb {text[:9]!r}": config([text], "summary", "verbs") for text in ODD},
}
HUGE: dict[str, Change] = {
    **{
        f"{name} 1e{digits}": literal(f"1{'0' * digits}", "init_args", name)
        for name in ("latent_dim", "residual_blocks")
        for digits in (6, 9, 18, 30, 4000)
    },
    **{
        f"{name}[{at}] 1e{digits}": literal(f"1{'0' * digits}", "init_args", name, at)
        for name, at in (("x_shape", 0), ("x_shape", 2), ("hidden", 0))
        for digits in (9, 18, 30)
    },
    "20,000 by 20,000": argument("hidden", [20_000, 20_000]),
    "40,000 layers": argument("hidden", [1] * 40_000),
    "40,000 stages": config(
        CONFIG["init_args"] | {"hidden": [2] * 40_000, "network": "conv"}, "init_args"
    ),
    "stages of 1e9": config(
        CONFIG["init_args"] | {"hidden": [10**9, 10**9], "network": "conv"}, "init_args"
    ),
    "negative": argument("latent_dim", -(10**18)),
    "negative of 4,000 digits": literal("-" + "1" * 4000, "init_args", "latent_dim"),
    **{
        f"{name} {text}": literal(text, "init_args", name)
        for name in ("beta", "lr", "latent_dim")
        for text in ("NaN", "Infinity", "-Infinity", "1e999")
    },
}


@cases(damages("config.json", 15))
def test_damaged_config(folder: Path, change: Change) -> None:
    change(folder)
    use(folder, "load", "info", "card")


@pytest.mark.parametrize("place", [*keys(CONFIG)], ids=lambda place: ".".join(map(str, place)))
def test_config_with_another_value(folder: Path, place: tuple[Any, ...]) -> None:
    more = {"data": ["evaluate"], "summary": ["info"]}.get(place[0], [])
    for value in SWAPS:
        config(value, *place)(folder)
        use(folder, "load", "card", *more)


@cases(HOSTILE_CONFIGS | HUGE)
def test_hostile_config(folder: Path, change: Change) -> None:
    change(folder)
    refused = use(folder, "load", "info", "card")
    assert re.search("config.json|no family|sha256", refused["load"])


@cases(
    {
        f"{name} {value!r}"[:40]: config({name: value}, "data", "init_args")
        for name in ("size", "batch_size", "seed", "binarization")
        for value in (None, True, -1, 0, 1.5, 10**6, 10**18, 10**30, "8", [], TRAPPED)
    }
    | {
        f"{name} {arguments}"[:60]: config({"class_path": name, "init_args": arguments}, "data")
        for name in ("os", "os.system", f"{TRAP}.run", "datamodules.Digits", "Batches", "__all__")
        for arguments in ({}, {"command": "true"})
    }
    | {
        f"{name} {arguments}"[:60]: config({"class_path": name, "init_args": arguments}, "data")
        for name, arguments in (
            ("ImageFolder", {"root": "/etc", "size": 8, "channels": 1}),
            ("ImageFolder", {"root": "/", "size": 10**9}),
            ("MNIST", {"root": "/tmp/somewhere"}),
            ("FakeImages", {"x_shape": [1, 8, 8], "n": 10**12}),
            ("FakeImages", {"x_shape": [1, 8, 8], "n": 10**7}),
            ("FakeImages", {"x_shape": [1, 8, 8], "n": 4, "classes": 10**30}),
            ("FakeImages", {"x_shape": [1, 10**9, 10**9]}),
        )
    }
)
def test_hostile_data(folder: Path, change: Change) -> None:
    """What the config says of its data names no module, no folder and no size of its own."""
    change(folder)
    use(folder, "load", "evaluate")


# --- weights -------------------------------------------------------------------------------------


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


def entry(**changes: Any) -> Change:
    """One tensor described in another way."""
    return weights(lambda h, body: joined(h | {BIAS: h[BIAS] | changes}, body))


def tensors(file: str = "model", **changes: Any) -> Change:
    """Other tensors; None removes one, a function makes another of it."""

    def change(folder: Path) -> None:
        content = dict(TENSORS[file])
        for name, value in changes.items():
            content[name] = value(content[name]) if callable(value) else value
        content = {name: value.contiguous() for name, value in content.items() if value is not None}
        save_file(content, folder / f"{file}.safetensors")
        unhashed(folder)

    return change


def filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


def long_header(folder: Path) -> None:
    """550 MB of header, as ten million tensors would have, without a byte on the disk."""
    path = folder / "model.safetensors"
    path.write_bytes((550_000_000).to_bytes(8, "little"))
    os.truncate(path, 550_000_008)
    unhashed(folder)


def many_tensors(n: int) -> Change:
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(f'"{i}":{empty}' for i in range(n)) + "}"
    return weights(lambda h, body: joined(text.encode(), b""))


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def bomb(how: Callable[[Any, Any], object], name: str, instead: bool) -> Change:
    def change(folder: Path) -> None:
        unhashed(folder)
        if instead:
            (folder / "model.safetensors").unlink()
        with (folder / name).open("wb") as file:
            how({"state_dict": Bomb()}, file)

    return change


BIAS = "encoder.1.0.bias"
WEIGHT = "encoder.1.0.weight"
FLOATS = torch.float32
HOSTILE_WEIGHTS: dict[str, Change] = {
    "nothing": weights(lambda h, body: b""),
    "seven bytes": weights(lambda h, body: b"1234567"),
    "no header": weights(lambda h, body: bytes(8)),
    **{
        f"header of {length}": weights(lambda h, body, n=length: joined(h, body, n))
        for length in (1, 2, 100, 10**5, 10**8 + 1, 2**32, 2**63, 2**64 - 1)
    },
    "header without end": weights(lambda h, body: joined(b"{", b"")),
    "header as list": weights(lambda h, body: joined([h], body)),
    "header as pickle": weights(lambda h, body: joined(pickle.dumps(h), body)),
    "header not in utf-8": weights(lambda h, body: joined(b'{"\xff": {}}', body)),
    "header of brackets": weights(lambda h, body: joined(b"[" * 10**5, body)),
    "header of objects": weights(lambda h, body: joined(b'{"a":' * 10**5, body)),
    "header of 550 MB": long_header,
    "header of 70,000 tensors": many_tensors(70_000),
    "header of 100,000 tensors": many_tensors(100_000),
    "empty header": weights(lambda h, body: joined({}, body)),
    "metadata only": weights(lambda h, body: joined({"__metadata__": {"format": "pt"}}, b"")),
    "metadata of a list": weights(lambda h, body: joined(h | {"__metadata__": [1]}, body)),
    "no body": weights(lambda h, body: joined(h, b"")),
    "a byte less": weights(lambda h, body: joined(h, body[:-1])),
    "a byte more": weights(lambda h, body: joined(h, body + b"0")),
    "an archive behind": weights(lambda h, body: joined(h, body + b"PK\x05\x06" + bytes(18))),
    **{
        f"dtype {dtype}": entry(dtype=dtype)
        for dtype in ("I32", "U32", "F16", "F64", "BOOL", "X", "f32", "", None, 1, "\x1b[2J" * 99)
    },
    **{
        f"shape {shape}"[:40]: entry(shape=shape)
        for shape in ([], [0], [2], [4], [3, 1], [-3], [3.0], ["3"], [10**18], [2**64], [2**32] * 2)
    },
    **{
        f"offsets {offsets}": entry(data_offsets=offsets)
        for offsets in ([0, 12], [12, 0], [-12, 0], [0], [10**6, 10**6 + 12], [2**64 - 12, 2**64])
    },
    "missing": tensors(**{BIAS: None}),
    "extra": tensors(extra=torch.zeros(1)),
    "extra of odd name": tensors(**{"\x1b[2J": torch.zeros(1)}),
    "extra of long name": tensors(**{"x" * 10**5: torch.zeros(1)}),
    "extra of 40 MB": tensors(extra=torch.zeros(10**7)),
    "turned": tensors(**{WEIGHT: lambda t: t.T}),
    "flat": tensors(**{WEIGHT: torch.flatten}),
    "as int64": tensors(**{BIAS: lambda t: t.long()}),
    "as bool": tensors(**{BIAS: lambda t: t > 0}),
    "as complex": tensors(**{BIAS: lambda t: t.to(torch.complex64)}),
    **{
        f"{value} in {name}": tensors(**{name: filled(value)})
        for name in (BIAS, WEIGHT, "decoder.0.2.bias")
        for value in (float("nan"), float("inf"), -float("inf"))
    },
    "1e300": tensors(**{BIAS: lambda t: torch.full_like(t, 1e300, dtype=torch.float64)}),
    **{
        f"{how.__module__}.{how.__name__} as {name}, {instead}": bomb(how, name, instead)
        for how in (pickle.dump, torch.save)
        for name, instead in (
            ("model.safetensors", True),
            ("pytorch_model.bin", True),
            ("model.ckpt", True),
            ("model.pt", True),
        )
    },
}


@cases(damages("model.safetensors", 5))
def test_damaged_weights(folder: Path, change: Change) -> None:
    before = (folder / "model.safetensors").read_bytes()
    change(folder)
    refused = use(folder, "load", "info")
    same = (folder / "model.safetensors").read_bytes() == before
    assert same or "its sha256 is not the recorded one" in refused["load"]


@pytest.mark.parametrize("seed", range(60))
def test_damaged_header(folder: Path, seed: int) -> None:
    """No hash tells; a header that still makes sense describes the same tensors."""

    def flip(header: dict[str, Any], body: bytes) -> bytes:
        text = one_byte(json.dumps(header).encode(), random.Random(seed))
        return joined(text, body)

    weights(flip)(folder)
    use(folder, "load")


@cases(HOSTILE_WEIGHTS)
def test_hostile_weights(folder: Path, change: Change) -> None:
    change(folder)
    assert "model.safetensors" in use(folder, "load", "info")["load"]


@cases(
    {
        "as float64": tensors(**{BIAS: lambda t: t.double()}),
        "in another order": weights(lambda h, body: joined(dict(reversed(h.items())), body)),
        "other metadata": weights(lambda h, body: joined(h | {"__metadata__": {"a": "b"}}, body)),
        "pickles beside": lambda folder: [
            bomb(how, f"{name}{how.__name__}{suffix}", instead=False)(folder)
            for how in (pickle.dump, torch.save)
            for name in ("pytorch_model", "model", "optimizer", "training_args")
            for suffix in (".bin", ".ckpt", ".pt", ".pth", ".pkl")
        ],
    }
)
def test_harmless_weights(folder: Path, change: Change) -> None:
    change(folder)
    # Without a recorded hash nothing can be verified.
    assert use(folder).keys() <= {"verify"}


# --- golden outputs and metrics ------------------------------------------------------------------


@cases(
    {
        **damages("golden.safetensors", 4),
        **{f"no {name}": tensors("golden", **{name: None}) for name in TENSORS["golden"]},
        "unknown output": tensors("golden", dream=torch.zeros(4, 2)),
        "odd output": tensors("golden", **{"\x1b[2J" * 99: torch.zeros(4, 2)}),
        **{
            f"{name} {what}": tensors("golden", **{name: act})
            for name in TENSORS["golden"]
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


# --- what is no file -----------------------------------------------------------------------------


def placed(kind: str, path: Path) -> None:
    """Put something where a file should be."""
    path.unlink(missing_ok=True)
    other = path.parents[1] / "other.txt"
    other.write_text(SECRET)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to nothing":
            path.symlink_to("nothing")
        case "link to itself":
            path.symlink_to(path.name)
        case "link to a file":
            path.symlink_to(other)
        case _:
            path.symlink_to(kind)


KINDS = (
    "folder",
    "pipe",
    "link to nothing",
    "link to itself",
    "link to a file",
    "/etc/passwd",
    "/dev/zero",
    "/dev/null",
    "/dev/stdin",
    "/proc/self/environ",
    "/",
)


READERS = {  # and README.md, written by `card` aside and then into its place
    "config.json": ("load", "info", "card"),
    "model.safetensors": ("load", "info", "card"),
    "golden.safetensors": ("golden", "info"),
    "metrics.json": ("info", "card"),
}


@pytest.mark.parametrize("name", [*FILES, ".README.md.{process}.part"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_plain_file(folder: Path, name: str, kind: str) -> None:
    placed(kind, folder / name.format(process=os.getpid()))
    passwd = Path("/etc/passwd").read_bytes()
    refused = use(folder, *READERS.get(name, ("card",)))
    assert (name in ("config.json", "model.safetensors")) == ("load" in refused)
    assert (name == "golden.safetensors") == ("golden" in refused)
    assert (folder.parent / "other.txt").read_text() == SECRET
    assert Path("/etc/passwd").read_bytes() == passwd


def test_a_checkpoint_of_links_loads(folder: Path, tmp_path: Path) -> None:
    """As the Hub's cache has it: each file is a link to a blob elsewhere."""
    links = tmp_path / "links"
    links.mkdir()
    for file in folder.iterdir():
        (links / file.name).symlink_to(file)
    load(links)


# --- the size of a model -------------------------------------------------------------------------


class Built(nn.Module):
    """Holds what it is given."""

    def __init__(self, weights: list[Any], buffer: int = 0) -> None:
        super().__init__()
        for i, make in enumerate(weights):
            setattr(self, f"weight{i}", make)
        if buffer:
            self.register_buffer("table", torch.zeros(buffer), persistent=False)


def test_a_model_may_not_outgrow_its_weights() -> None:
    header = {"weight0": ("F32", 100)}

    def shape(*sizes: int) -> list[nn.Parameter]:
        return [nn.Parameter(torch.zeros(size)) for size in sizes]

    fitting: list[Callable[[], Built]] = [
        lambda: Built(shape(100)),
        lambda: Built(shape(100) * 50),  # tied
        lambda: Built(shape(100, 100)),  # one of them is replaced later
        lambda: Built(shape(100), buffer=10**6),
    ]
    for make in fitting:
        assert build(make, header).weight0.device.type == "cpu"
    growing: list[Callable[[], Built]] = [
        lambda: Built(shape(201)),
        lambda: Built(shape(*[1] * 201)),
        lambda: Built(shape(*[0] * 201)),
        lambda: Built(shape(100), buffer=10**12),
        lambda: Built(shape(int(torch.ones(1).item()) * 201)),  # asks for a value
    ]
    for make in growing:
        with pytest.raises(ZooError, match="asks for a larger model"), bounded():
            build(make, header)
    Built(shape(10**6))  # nothing is counted any more


def test_an_error_of_the_constructor_is_its_own() -> None:
    with pytest.raises(ValueError, match="latent_dim is 0"):
        build(lambda: VAE(latent_dim=0), {})


def test_what_others_build_meanwhile_is_not_counted() -> None:
    def make() -> nn.Module:
        thread = Thread(target=nn.Linear, args=(1000, 1000))
        thread.start()
        thread.join()
        return nn.Identity()

    build(make, {"weight": ("F32", 1)})
