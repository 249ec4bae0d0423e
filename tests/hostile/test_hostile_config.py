"""A checkpoint folder is what a stranger says: harmless, or refused in a sentence, and never run.

Here its config.json says something else.
"""

import json
import mmap
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attacks import (
    ARGUMENTS,
    ODD,
    OUTPUTS,
    PLACES,
    SWAPS,
    TRAPPED,
    Change,
    argument,
    cases,
    config,
    damages,
    keys,
    literal,
    replaced,
    sound,
    use,
    written,
)
from tests.watch import TRAP, bounded, watched


def test_the_sound_folder_is_refused_by_nothing(folder: Path) -> None:
    assert use(folder) == {}
    config, files = sound()
    assert {*keys(config)} == {*PLACES}
    assert {*files["golden"]} == {*OUTPUTS}


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
DEEP = {"format": 1, "family": "VAE", "init_args": {"hidden": "@"}}


def convolutions(hidden: list[int]) -> Change:
    changes = {"hidden": hidden, "network": "conv"}
    return written(lambda sound: json.dumps(sound | {"init_args": sound["init_args"] | changes}))


HOSTILE_CONFIGS: dict[str, Change] = {
    "empty": replaced("config.json", ""),
    "byte order mark": written(lambda sound: "\ufeff" + json.dumps(sound)),
    "utf-16": written(lambda sound: json.dumps(sound).encode("utf-16")),
    "latin-1": written(
        lambda sound: json.dumps(sound).replace("apache", "apach\xe9").encode("latin-1")
    ),
    "100,000 brackets": replaced("config.json", "[" * 100_000),
    "100,000 objects": replaced("config.json", '{"a":' * 100_000),
    "900 lists": replaced("config.json", json.dumps(DEEP).replace('"@"', "[" * 900 + "]" * 900)),
    "100 MB of blanks": written(lambda sound: json.dumps(sound) + " " * 10**8),
    "100 MB without content": lambda folder: os.truncate(folder / "config.json", 10**8),
    "a million lists": literal("[" + "[]," * 10**6 + "[]]", "summary", "facts"),
    "family twice": written(lambda sound: json.dumps(sound).replace("{", '{"family": "GMM", ', 1)),
    "20,000 keys and one twice": replaced(
        "config.json", json.dumps(dict.fromkeys(map(str, range(20_000)), 1))[:-1] + ',"1":1}'
    ),
    "two documents": written(lambda sound: 2 * json.dumps(sound)),
    "python": written(repr),
    "yaml": replaced("config.json", "!!python/object/apply:os.system [true]"),
    "pickle": written(pickle.dumps),
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
    **{f"{name} as class": argument(name, COMMAND) for name in ARGUMENTS},
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
    "40,000 stages": convolutions([2] * 40_000),
    "stages of 1e9": convolutions([10**9, 10**9]),
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


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
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
