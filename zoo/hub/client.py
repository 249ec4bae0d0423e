"""What pull and push ask of huggingface_hub's client, and the hashes that they compare."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import HfApi, constants, get_session
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from zoo.hub import limits

TRANSIENT = (408, 412, 429, 500, 502, 503, 504)  # 412: somebody has pushed meanwhile
T = TypeVar("T")


class State(NamedTuple):
    """What the Hub says of a revision: its commit, the hash of each file, whether it is private."""

    commit: str
    hashes: dict[str, str]
    private: bool


def connect(token: str | bool | None) -> HfApi:
    """The client; HF_ENDPOINT is read now, and not when the client was imported."""
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or constants.ENDPOINT, token=token)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set, now or when the client was imported."""
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES
    return asked or constants.is_offline_mode()


def state(hub: HfApi, repo_id: str, revision: str) -> State:
    """Ask what a revision is."""
    info = hub.model_info(repo_id, revision=revision, timeout=limits.TIMEOUT, files_metadata=True)
    if not info.sha or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
        raise ValueError("A commit becomes the name of a folder.")
    files = {f.rfilename: f.lfs.sha256 if f.lfs else f.blob_id for f in info.siblings or ()}
    hashes = {name: digest for name, digest in files.items() if digest}
    return State(info.sha, hashes, bool(info.private))


def hashes_to(file: Path, digest: str) -> bool:
    """Whether a file is there and has this hash: git's of 40 digits, or else sha256."""
    if not file.is_file():
        return False
    with file.open("rb") as content:
        if len(digest) == 40:
            return git_hash(content.read()) == digest
        return sha_fileobj(content).hex() == digest


def retry(call: Callable[[], T]) -> T:
    """Call again after an error that may pass: the client retries some requests only."""
    for wait in limits.WAITS:
        try:
            return call()
        except (httpx.TransportError, OSError) as error:
            if not _may_pass(error):
                raise
        time.sleep(wait)
    return call()


def _may_pass(error: Exception) -> bool:
    """A broken connection, a file that was cut (a plain OSError), or a status that says so."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return type(error) is OSError or isinstance(error, httpx.TransportError) or status in TRANSIENT


@contextmanager
def timed() -> Iterator[None]:
    """Give the client's requests a time-out: it pushes without one."""
    session = get_session()
    before, session.timeout = session.timeout, limits.TIMEOUT
    try:
        yield
    finally:
        session.timeout = before
