"""Fixtures: a Hub on loopback, a client that talks to no other, and a checkpoint folder."""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from tests.hub.server import HubServer
from zoo.hub import limits

FILES = ("README.md", "config.json", "model.safetensors", "metrics.json", "tokenizer.json")
REQUIRED = ("config.json", "model.safetensors")
TOKEN = "hf_" + "t0k3n" * 7
OTHER = "hf_" + "0th3r" * 7


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Overlook that the client uploads files in a way its HTTP library deprecates."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"))


@pytest.fixture(autouse=True, scope="package")
def connections() -> Iterator[None]:
    """One set of connections for all tests here: to set one up reads all certificates."""
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture(autouse=True)
def client(connections: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client with an empty home, its settings replaced where it keeps them, and no patience."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    home = tmp_path / "hf"
    for name, value in {
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "ENDPOINT": "http://127.0.0.1:9",
        "HUGGINGFACE_CO_URL_TEMPLATE": "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,  # read per call, unlike the variable of this name
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    monkeypatch.setattr(limits, "WAITS", (0.01, 0.02, 0.04))
    set_timeouts(monkeypatch, 0.3)
    huggingface_hub.utils.disable_progress_bars()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with the organisation `org`, to which TOKEN may write; OTHER is a stranger's."""
    with HubServer() as server:
        server.add_token(TOKEN, "me", "org")
        server.add_token(OTHER, "stranger")
        set_endpoint(monkeypatch, server.url)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder."""
    return write_checkpoint(tmp_path / "checkpoint", seed=0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where pulls of a test go."""
    return tmp_path / "cache"


def set_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Where the client finds the Hub; it reads HF_ENDPOINT when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def set_timeouts(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Wait no longer than that for an answer."""
    monkeypatch.setattr(limits, "TIMEOUT", seconds)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)


def write_checkpoint(folder: Path, seed: int, size: int = 300_000) -> Path:
    """A folder with all but a tokenizer; the seed is in every file but the README."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# A checkpoint\n")
    (folder / "config.json").write_text(
        json.dumps({"format": 1, "family": "VAE", "init_args": {"seed": seed}})
    )
    (folder / "metrics.json").write_text(json.dumps({"seed": seed}))
    (folder / "model.safetensors").write_bytes(random.Random(seed).randbytes(size))
    (folder / "notes.txt").write_text("stays here")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """What a folder holds of a checkpoint."""
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
