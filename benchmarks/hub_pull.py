"""What hashing costs: a pull of a 16 MB checkpoint beside the client's own download of it.

Both fetch the same files from a Hub on loopback into empty caches, by turns.

    python -m benchmarks.hub_pull
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS, SIZE = 15, 16_000_000
FILES = ("README.md", "config.json", "metrics.json", "model.safetensors")


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    """Print both medians and their ratio."""
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    from huggingface_hub import constants, hf_hub_download, snapshot_download

    from tests.hub.conftest import TOKEN, write_checkpoint
    from tests.hub.server import HubServer
    from zoo.hub import pull, push

    with tempfile.TemporaryDirectory() as scratch, HubServer() as hub:
        constants.ENDPOINT = os.environ["HF_ENDPOINT"] = hub.url
        constants.HUGGINGFACE_CO_URL_TEMPLATE = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        hub.add_token(TOKEN, "me", "org")
        folder = write_checkpoint(Path(scratch, "checkpoint"), seed=0, size=SIZE)
        push(folder, "org/vae", files=FILES, token=TOKEN)

        def caches(name: str, number: int) -> str:
            return str(Path(scratch, f"{name}{number}"))

        def each(cache: str) -> None:
            for name in FILES:
                hf_hub_download("org/vae", name, cache_dir=cache, endpoint=hub.url)

        def snapshot(cache: str) -> None:
            snapshot_download("org/vae", cache_dir=cache, endpoint=hub.url)

        def ours(cache: str) -> None:
            pull("org/vae", files=FILES, cache_dir=cache)

        times: dict[str, list[float]] = {"pull": [], "hf_hub_download": [], "snapshot_download": []}
        calls = dict(zip(times, (ours, each, snapshot), strict=True))
        for number in range(ROUNDS + 1):
            for name, call in calls.items():
                taken = seconds(lambda: call(caches(name, number)))  # noqa: B023
                if number:  # the first round imports and connects
                    times[name].append(taken)
        again = [seconds(lambda: ours(caches("pull", 1))) for _ in range(ROUNDS)]
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, median in medians.items():
        print(f"{name:18s} {1e3 * median:7.1f} ms   ratio {medians['pull'] / median:.2f}")
    print(f"{'pull, all cached':18s} {1e3 * statistics.median(again):7.1f} ms")


if __name__ == "__main__":
    main()
