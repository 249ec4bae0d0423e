"""Pulls and pushes in processes that can be killed.

The client is imported once. Each line on standard input, a list of calls as JSON, forks a process
for each; how they ended is printed when they have: exit status, or minus the signal. A call may say
after how many seconds its process is to be killed.
"""

import json
import os
import signal
import sys
import time

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, constants, get_session  # noqa: F401
from huggingface_hub.utils import httpx  # noqa: F401

from zoo.hub import pull, push

FILES = ("README.md", "config.json", "model.safetensors", "metrics.json", "tokenizer.json")


def call(order: dict[str, str]) -> None:
    """Make the call that was ordered."""
    constants.ENDPOINT = order["endpoint"]
    constants.HUGGINGFACE_CO_URL_TEMPLATE = (
        order["endpoint"] + "/{repo_id}/resolve/{revision}/{filename}"
    )
    constants.HF_HUB_DISABLE_XET = True
    huggingface_hub.utils.disable_progress_bars()
    if order["verb"] == "pull":
        pull("org/vae", files=FILES, cache_dir=order["cache"])
    else:
        push(order["folder"], "org/vae", files=FILES, token=order["token"])


def start(order: dict[str, str]) -> int:
    """Fork a process that makes a call and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            call(order)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def main() -> None:
    """Serve orders until standard input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        orders, begun = json.loads(line), time.monotonic()
        pids = [start(order) for order in orders]
        for pid, order in zip(pids, orders, strict=True):
            if "kill_after" in order:
                time.sleep(max(0, begun + order["kill_after"] - time.monotonic()))
                os.kill(pid, signal.SIGKILL)  # not waited for yet, so the id is still its own
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    main()
