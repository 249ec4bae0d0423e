"""A checkpoint from the Hub, in the client's own cache.

::

    models--ORG--NAME/blobs/HASH             a file's content, under the hash the Hub states for it
                      snapshots/COMMIT/FILE  a link to it: the folder that `pull` returns
                      refs/REVISION          the commit that a branch or tag stood for
                      zoo/COMMIT.json        what was verified: hash of each file, null for none

The client checks the size of what it fetches, and no more: here each file is hashed. The record
comes after the last file, and the ref after the record. A process that dies leaves the cache as it
was or complete, and what is used offline is known to be whole.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, hf_hub_download

from zoo.hub import limits
from zoo.hub.client import limited, retry
from zoo.hub.errors import HubError, Target, in_a_sentence, is_offline
from zoo.hub.stated import Stated, hashes_to, is_hash, state


def pull(
    repo_id: str,
    *,
    files: Collection[str],
    required: Collection[str] = (),
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    pinned: Mapping[str, str] | None = None,
) -> Path:
    """Return a folder with a checkpoint's files, all of one commit and each hashed just now.

    Args:
        repo_id: `organisation/name` on the Hub.
        files: Names that may be fetched; what else the repository holds is never looked at.
        required: Those among them without which it is no checkpoint.
        revision: A branch, tag or commit; `main` if None.
        token: As everywhere in huggingface_hub: None means the one that is logged in, False none.
        cache_dir: Where to keep the files; the client's own cache if None.
        local_files_only: Make no request and take what an earlier pull of this revision left.
        pinned: sha256 of files that must be exactly these, whatever the Hub states.
    """
    target, files = Target(repo_id, revision or "main", token, "pull"), {*files, *required}
    pins = {name: digest for name, digest in (pinned or {}).items() if name in files}
    with in_a_sentence(target, files):
        top = Path(cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()
        cache = _Cache(target, top, top / f"models--{repo_id.replace('/', '--')}")
        if local_files_only or is_offline():
            return cache.verified(files, {*required, *pins}, pins)
        commit, stated, _ = retry(lambda: state(target, limits.TIMEOUT))
        _require({*required, *pins}, stated, target)
        cache.sweep()
        for name in sorted(stated.keys() & files):
            cache.fetch(commit, name, stated[name], pins.get(name))
        return cache.record(commit, {n: stated[n].digest if n in stated else None for n in files})


@dataclass(frozen=True)
class _Cache:
    """One repository's folder in the cache."""

    target: Target
    top: Path
    folder: Path

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def sweep(self) -> None:
        """Remove what processes that were killed have left unfinished."""
        for part in [*self.folder.glob("blobs/*.incomplete"), *self.folder.glob("zoo/*.part")]:
            with contextlib.suppress(OSError):  # another process sweeps too
                if time.time() - part.lstat().st_mtime > limits.ABANDONED:
                    part.unlink()

    def fetch(self, commit: str, name: str, stated: Stated, pin: str | None) -> None:
        """Have a file in the snapshot whose content has just been hashed."""
        file, blob = self.snapshot(commit) / name, self.folder / "blobs" / stated.digest
        tries, why = 0, None
        while not hashes_to(file, stated.digest):
            for path in (file, blob):
                if path.is_file() and not hashes_to(path, stated.digest):
                    path.unlink(missing_ok=True)  # another process mends it too
            if tries == 2:
                why = "arrived twice with another hash than it should have"
                break
            self.download(commit, name, stated)
            tries += 1
        if pin and not why and not hashes_to(file, pin):
            why = "is not the file that this release was made with"
        if why:
            raise HubError(
                f"{name} of {self.target} {why}, and is not used: pull another revision, or tell "
                "the repository's owner or whoever runs the proxy in between."
            )

    def download(self, commit: str, name: str, stated: Stated) -> None:
        """Let the client put a file where it belongs by what the commit states."""
        target = self.target

        @limited(max(stated.size, limits.ANSWER), commit, stated.digest)
        def once() -> str:
            return hf_hub_download(
                target.repo_id,
                name,
                revision=commit,
                cache_dir=self.top,
                endpoint=target.endpoint,
                token=target.token,
                etag_timeout=limits.TIMEOUT,
            )

        try:
            retry(once)
        except OSError as error:
            if type(error) is not OSError or error.errno is not None:
                raise
            # Of another length than was said; that no file is there shows when it is hashed.

    def record(self, commit: str, digests: Mapping[str, str | None]) -> Path:
        """Note that these files of a commit are whole, then which revision they are."""
        for name, digest in digests.items():
            stray = self.snapshot(commit) / name
            if digest is None and os.path.lexists(stray):  # the commit did not put it there
                stray.unlink()
        known = json.dumps({**self.recorded(commit), **digests}, indent=1, sort_keys=True)
        self.write(f"zoo/{commit}.json", known)
        if self.target.revision != commit:
            self.write(f"refs/{self.target.revision}", commit)
        return self.snapshot(commit)

    def recorded(self, commit: str) -> dict[str, str | None]:
        try:
            known = json.loads((self.folder / "zoo" / f"{commit}.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def write(self, name: str, text: str) -> None:
        """Write all or nothing; and nothing if it is there, as the disk may be read-only."""
        path, part = self.folder / name, self.folder / "zoo" / f"{uuid.uuid4().hex}.part"
        if path.is_file() and path.read_text() == text:
            return
        for folder in (part.parent, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(text)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def verified(
        self, files: Collection[str], needed: Collection[str], pins: Mapping[str, str]
    ) -> Path:
        """The snapshot of a revision pulled before, hashed again, without a request."""
        ref = self.folder / "refs" / self.target.revision
        commit = ref.read_text().strip() if ref.is_file() else self.target.revision
        known = self.recorded(commit) if is_hash(commit) else {}
        if not known.keys() >= {*files}:
            raise HubError(
                f"{self.target} is not in the cache {self.top}, and no request is made while "
                "offline: pull it once with HF_HUB_OFFLINE and local_files_only unset, or name the "
                "cache that has it with cache_dir."
            )
        _require(needed, {name for name in files if known[name]}, self.target)
        for name in files:
            file, digest = self.snapshot(commit) / name, known[name]
            if file.exists() if not digest else not hashes_to(file, digest, pins.get(name)):
                raise HubError(
                    f"{name} of {self.target} in the cache {self.top} is not what was pulled or "
                    "pinned, and is not used: pull it again with HF_HUB_OFFLINE and "
                    "local_files_only unset."
                )
        return self.snapshot(commit)


def _require(needed: Collection[str], there: Collection[str], target: Target) -> None:
    for name in sorted({*needed} - {*there}):
        raise HubError(
            f"{target} has no file {name}, so it is no checkpoint of this zoo: check the name and "
            "the revision."
        )
