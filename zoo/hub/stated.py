"""What the Hub states about a revision, and whether a file is that."""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple, TypeGuard

from zoo.hub import limits
from zoo.hub.client import limited
from zoo.hub.errors import Target


class Stated(NamedTuple):
    """What the Hub says a file is: sha256 of a large one, git's hash of a small one."""

    digest: str
    size: int


class State(NamedTuple):
    """What the Hub says a revision is."""

    commit: str
    files: dict[str, Stated]
    private: bool


def state(target: Target, timeout: float) -> State:
    """Ask which commit is behind a revision, and for hash and size of its files."""
    with limited(limits.ANSWER):
        info = target.api.model_info(
            target.repo_id, revision=target.revision, timeout=timeout, files_metadata=True
        )
    files: dict[str, Stated] = {}
    for file in info.siblings or ():
        digest, size = (file.lfs.sha256, file.lfs.size) if file.lfs else (file.blob_id, file.size)
        if not is_hash(digest) or type(size) is not int or size < 0 or file.rfilename in files:
            raise ValueError("no hash, no size, or a file twice")
        files[file.rfilename] = Stated(digest, size)
    if not is_hash(info.sha):
        raise ValueError("no commit")
    return State(info.sha, files, bool(info.private))


def is_hash(text: str | None) -> TypeGuard[str]:
    """Whether it is a hash, and so may be the name of a file."""
    return isinstance(text, str) and bool(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text))


def hashes_to(path: Path, *digests: str | None) -> bool:
    """Whether it is a file and has these hashes: a sha256 or git's, None for any."""
    return path.is_file() and all(
        _digest(path, len(wanted)) == wanted for wanted in digests if wanted
    )


def _digest(path: Path, length: int) -> str:
    """sha256 of a file for 64 hexadecimal digits, the hash git gives it for 40."""
    with path.open("rb") as file:
        if length == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        header = b"blob %d\0" % os.fstat(file.fileno()).st_size
        return hashlib.sha1(header + file.read(), usedforsecurity=False).hexdigest()
