"""Weights are numbers of known names, shapes and size, or refused in a sentence."""

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn

from tests.hostile.attacks import (
    Change,
    cases,
    damages,
    filled,
    joined,
    one_byte,
    tensors,
    unhashed,
    use,
    weights,
)
from tests.watch import bounded
from zoo.checkpoints.weights import build
from zoo.errors import ZooError
from zoo.models import VAE


def entry(**changes: Any) -> Change:
    """One tensor described in another way."""
    return weights(lambda h, body: joined(h | {BIAS: h[BIAS] | changes}, body))


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
