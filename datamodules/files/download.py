"""Time-outs for downloads of all data sets."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_S = 30.0


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Set a time-out for sockets without one of their own, such as torchvision's."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
