"""What downloads of all data sets share."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_S = 30.0


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Bound the waits of sockets that set no time-out, as torchvision's do not."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
