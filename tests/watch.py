"""What a process does while it reads a stranger's files, watched and bounded."""

import contextlib
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SECONDS = 20.0
BYTES = 2**29
"""How long one thing may take, and how much it may reserve beyond what the process has."""

ROOT = Path(__file__).resolve().parents[1]
STATM = Path("/proc/self/statm")
TRAP = "trap_for_imports"
"""Name of a module that a test can put in the way, and that nothing may import."""

STARTED = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "pty.spawn",
    "subprocess.Popen",
    "webbrowser.open",
}
CONNECTED = {"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"}
PATHS = {  # events on files, and how many of their first arguments are paths
    "glob.glob": 1,
    "os.chdir": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.listdir": 1,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.scandir": 1,
    "os.truncate": 1,
    "os.utime": 1,
    "shutil.copyfile": 2,
    "shutil.copytree": 2,
    "shutil.move": 2,
    "shutil.rmtree": 1,
}
LOOKING = {"glob.glob", "os.listdir", "os.scandir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
PYTHON = (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), ROOT)
READABLE = (*(f"{os.path.realpath(p)}{os.sep}" for p in PYTHON), "/dev/null", "/proc/", "/sys/")


class Watch:
    """An audit hook that notes what no checkpoint may cause while `folder` is in use."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.connects = False  # whether it may
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in STARTED or (event in CONNECTED and not self.connects):
            self.seen.append(f"{event} {arguments}")
        elif event == "import" and arguments[0].partition(".")[0] in (TRAP, "antigravity", "this"):
            self.seen.append(f"import of {arguments[0]}")
        elif event == "exec" and not Path(arguments[0].co_filename).is_absolute():
            self.seen.append(f"exec of {arguments[0]}")
        elif event == "open":
            self.check(event, arguments[0], bool(arguments[2] & WRITING))
        elif event == "ctypes.dlopen" and os.sep in str(arguments[0]):  # torch asks for a driver
            self.check(event, arguments[0], writes=False)
        elif event in PATHS:
            for path in arguments[: PATHS[event]]:
                if event in ("os.remove", "os.rmdir") and arguments[1] != -1:  # an open folder
                    path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
                self.check(event, path, event not in LOOKING)
        elif event == "os.symlink":  # to a place as seen from the link
            self.check(event, os.path.join(os.path.dirname(arguments[1]), arguments[0]), True)
            self.check(event, arguments[1], True)

    def check(self, event: str, path: Any, writes: bool) -> None:
        """Note what lies outside of the folder and, to be read only, Python's own files."""
        if path is None or isinstance(path, int):  # of what was opened before
            return
        name = os.path.abspath(os.fsdecode(path))
        inside = f"{name}{os.sep}".startswith(f"{self.folder}{os.sep}")
        if inside and name.endswith(PICKLES):
            self.seen.append(f"{event} of a pickle, {name}")
        elif not inside and (writes or not f"{name}{os.sep}".startswith(READABLE)):
            self.seen.append(f"{event} of {name}{' to write' if writes else ''}")


@cache
def _hook() -> Watch:
    """The one hook of this process: it cannot be removed, only be idle."""
    watch = Watch()
    sys.addaudithook(watch)
    return watch


@contextlib.contextmanager
def watched(folder: Path, *, connects: bool = False) -> Iterator[list[str]]:
    """Note what is done inside the context that a checkpoint in `folder` must not cause.

    Args:
        folder: What may be read and written.
        connects: Whether connections may be made.
    """
    watch = _hook()
    watch.seen, watch.connects, watch.folder = [], connects, str(folder)
    try:
        yield watch.seen
    finally:
        watch.folder = None


class HungError(BaseException):
    """Raised by the clock; no `except Exception` takes it for something else."""


@contextlib.contextmanager
def bounded(seconds: float = SECONDS, room: int = BYTES) -> Iterator[None]:
    """Bound time, and address space where the system says how much of it is in use."""

    def ring(*_: object) -> None:
        raise HungError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if STATM.exists():
        used = int(STATM.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
