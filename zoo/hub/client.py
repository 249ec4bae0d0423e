"""Limits on the Hub's client, which waits as long as it is told to and reads whatever it is sent.

They are hooks of its session, there for as long as a call takes: the session stays the user's own.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status, httpx  # type: ignore[attr-defined]

from zoo.hub import limits
from zoo.hub.errors import TRANSIENT, root

CHANGED = 412  # somebody has pushed meanwhile, so that it is to be seen again what is there

T = TypeVar("T")
_LOCK = threading.Lock()


@contextlib.contextmanager
def limited(
    most: int, commit: str = "", digest: str = "", *, uploads: bool = False
) -> Iterator[None]:
    """Bound what this thread's requests wait for, and what is read of the answers.

    Args:
        most: Bytes that are read of an answer.
        commit: What a file belongs to, whatever the answer about it says.
        digest: What it is stored under, likewise: the client makes paths of both.
        uploads: Bound the waiting of other threads too, as the client uploads in such.
    """
    session, thread, asked = get_session(), threading.get_ident(), set[str]()

    def asks(request: httpx.Request) -> None:
        mine = threading.get_ident() == thread
        if mine or uploads:
            timeouts = request.extensions["timeout"]
            unset = [kind for kind, seconds in timeouts.items() if seconds is None]
            request.extensions["timeout"] = timeouts | dict.fromkeys(unset, limits.PUSH_TIMEOUT)
        if mine:
            request.headers["Accept-Encoding"] = "identity"
            if request.method == "HEAD" and str(request.url) in asked:
                # What was not answered is for `retry`: the client's session may be another by now.
                raise httpx.ProxyError("no answer", request=request)
            asked.add(str(request.url))

    def answers(response: httpx.Response) -> None:
        mine = threading.get_ident() == thread
        if mine or uploads:
            response.headers.pop("X-HF-Warning", None)  # the client would log it, whatever it says
        if mine:
            response.headers.pop("Content-Encoding", None)  # unpacked it may be a thousandfold
            response.stream = _Bounded(response.stream, most)
            if response.request.method == "HEAD":
                response.headers.update({"X-Repo-Commit": commit, "X-Linked-ETag": digest})
        if (mine or uploads) and response.status_code in TRANSIENT:
            try:
                hf_raise_for_status(response)
            except HfHubHTTPError as error:  # hidden from the client, which would wait as told
                raise RuntimeError("try again") from error

    with _LOCK:
        hooks = session.event_hooks
        session.event_hooks = {
            "request": [*hooks["request"], asks],
            "response": [*hooks["response"], answers],
        }
    try:
        yield
    finally:
        with _LOCK:
            session.event_hooks = {
                kind: [hook for hook in hooks if hook not in (asks, answers)]
                for kind, hooks in session.event_hooks.items()
            }


class _Bounded(httpx.SyncByteStream):
    """What an answer holds, unless it is too much or comes too slowly."""

    def __init__(self, stream: Any, most: int) -> None:
        self.stream, self.most = stream, most

    def __iter__(self) -> Iterator[bytes]:
        begun, length = time.monotonic(), 0
        for chunk in self.stream:
            length += len(chunk)
            if length > self.most:
                raise OSError("too much")
            if time.monotonic() > begun + limits.PATIENCE + length / limits.SLOWEST:
                raise TimeoutError("too slow")
            yield chunk

    def close(self) -> None:
        self.stream.close()


def retry(call: Callable[[], T]) -> T:
    """Call again after an error that may pass."""
    tries, begun = 0, time.monotonic()
    while True:
        try:
            return call()
        except Exception as error:
            wait = max(limits.BACKOFF * 2.0**tries, _asked(root(error)))
            if tries >= limits.RETRIES or time.monotonic() + wait > begun + limits.PATIENCE:
                raise
        time.sleep(wait)
        tries += 1


def _asked(error: BaseException) -> float:
    """Seconds that the Hub asks to wait; infinity if it is of no use."""
    if isinstance(error, HfHubHTTPError) and error.response.status_code in {*TRANSIENT, CHANGED}:
        said = error.response.headers.get("Retry-After", "")
        return float(said) if said.isdecimal() else 0.0
    return 0.0 if isinstance(error, httpx.TransportError) else math.inf
