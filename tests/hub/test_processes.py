"""A process killed at any point leaves nothing that could be taken for a checkpoint."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import FILES, REQUIRED, TOKEN, content, write_checkpoint
from tests.hub.server import HubServer
from zoo.hub import HubError, pull, push

ROOT = Path(__file__).parents[2]
SIZE = 4_000_000
KILLS = [pytest.param(4), pytest.param(20, marks=pytest.mark.slow)]


class Worker:
    """The other side of worker.py."""

    def __init__(self, home: Path) -> None:
        settings = {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **settings},
        )
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def run(self, *orders: dict[str, Any]) -> list[int]:
        """Make calls at once, and say how each ended."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(orders) + "\n")
        self.process.stdin.flush()
        return json.loads(self.read())


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    assert worker.process.stdin
    assert worker.process.stdout
    worker.process.stdin.close()
    worker.process.wait(10)
    worker.process.stdout.close()


@pytest.fixture
def pulling(hub: HubServer, cache: Path) -> dict[str, Any]:
    return {"verb": "pull", "cache": str(cache), "endpoint": hub.url}


def duration(worker: Worker, order: dict[str, Any]) -> float:
    begun = time.monotonic()
    assert worker.run(order) == [0]
    return time.monotonic() - begun


@pytest.mark.parametrize("kills", KILLS)
def test_pull_killed_at_any_point(
    hub: HubServer,
    worker: Worker,
    pulling: dict[str, Any],
    folder: Path,
    tmp_path: Path,
    kills: int,
) -> None:
    push(write_checkpoint(folder, 0, SIZE), "org/vae", files=FILES, token=TOKEN)
    before = content(folder)
    length = duration(worker, pulling)
    draw, ends = random.Random(0), []
    caches = [tmp_path / f"cache{number}" for number in range(kills)]
    for cache in caches[::2]:  # every other one holds an older commit
        pull("org/vae", files=FILES, cache_dir=cache)
    push(write_checkpoint(folder, 1, SIZE), "org/vae", files=FILES, token=TOKEN)
    for number, cache in enumerate(caches):
        moment = length * (number + draw.random()) / kills
        ends += worker.run({**pulling, "cache": str(cache), "kill_after": moment})
        try:
            got = pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
        except HubError as error:
            # An older checkpoint is never lost, and half of a new one never found.
            assert (number % 2, "not in the cache" in str(error)) == (1, True)  # noqa: PT017
        else:
            assert content(got) in ([before] if number % 2 == 0 else []) + [content(folder)]
        got = pull("org/vae", files=FILES, required=REQUIRED, cache_dir=cache)
        assert content(got) == content(folder)
        assert content(
            pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
        ) == content(folder)
    assert -signal.SIGKILL in ends


@pytest.mark.parametrize("kills", KILLS)
def test_push_killed_at_any_point(
    hub: HubServer, worker: Worker, folder: Path, tmp_path: Path, kills: int
) -> None:
    order = {"verb": "push", "folder": str(folder), "token": TOKEN, "endpoint": hub.url}
    write_checkpoint(folder, 0, SIZE)
    length = duration(worker, order)
    draw, ends = random.Random(0), []
    states = [content(folder)]
    for number in range(kills):
        states.append(content(write_checkpoint(folder, number + 1, SIZE)))
        moment = length * (number + draw.random()) / kills
        ends += worker.run({**order, "kill_after": moment})
        got = pull("org/vae", files=FILES, required=REQUIRED, cache_dir=tmp_path / "cache")
        assert content(got) in states[-2:]  # all old or all new
        push(folder, "org/vae", files=FILES, token=TOKEN)
        got = pull("org/vae", files=FILES, required=REQUIRED, cache_dir=tmp_path / "cache")
        assert content(got) == states[-1]
        assert not push(folder, "org/vae", files=FILES, token=TOKEN).changed
    assert len(hub.history("org/vae")) == kills + 2  # no checkpoint was committed twice
    assert -signal.SIGKILL in ends


@pytest.mark.parametrize("rounds", [pytest.param(2), pytest.param(10, marks=pytest.mark.slow)])
def test_two_pulls_into_one_cache(
    hub: HubServer,
    worker: Worker,
    pulling: dict[str, Any],
    folder: Path,
    cache: Path,
    rounds: int,
) -> None:
    for number in range(rounds):
        push(write_checkpoint(folder, number, SIZE), "org/vae", files=FILES, token=TOKEN)
        assert worker.run(pulling, pulling) == [0, 0]
        for offline in (True, False):
            got = pull("org/vae", files=FILES, cache_dir=cache, local_files_only=offline)
            assert content(got) == content(folder)
        assert not list(cache.rglob("*.part"))


def test_a_pull_survives_its_twin_being_killed(
    hub: HubServer, worker: Worker, pulling: dict[str, Any], folder: Path, cache: Path
) -> None:
    push(write_checkpoint(folder, 0, SIZE), "org/vae", files=FILES, token=TOKEN)
    assert worker.run({**pulling, "kill_after": 0.03}, pulling)[1] == 0
    got = pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
    assert content(got) == content(folder)


def test_importing_the_module_is_quick() -> None:
    """No client is imported before it is used."""
    code = "import sys, zoo.hub; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
