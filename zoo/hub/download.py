"""A checkpoint from the Hub: fetched into the client's own cache, hashed before it is read.

Beside the client's files, `zoo/COMMIT.json` in a repository's folder of the cache records what was
verified of a commit: the hash of each file, null for one that the commit lacks.
"""

import json
import os
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from huggingface_hub import HfApi, constants

from zoo.hub import limits
from zoo.hub.client import connect, hashes_to, is_offline, retry, state
from zoo.hub.errors import HubError, in_a_sentence

Hashes = dict[str, str | None]


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
        files: Names that may be fetched; nothing else of the repository is.
        required: Those among them without which it is no checkpoint.
        revision: A branch, tag or commit; `main` if None.
        token: As everywhere in huggingface_hub: None means the one that is logged in, False none.
        cache_dir: Where to keep the files; the client's own cache if None.
        local_files_only: Make no request and take what an earlier pull of this revision left.
        pinned: sha256 of files that must be exactly these, whatever the Hub states.

    Raises:
        HubError: if the Hub does not give it, or what it gives is not what it states.
    """
    hub, revision, names = connect(token), revision or "main", sorted({*files, *required})
    pins = {name: digest for name, digest in (pinned or {}).items() if name in names}
    top = Path(cache_dir or constants.HF_HUB_CACHE).expanduser().resolve()
    folder, what = top / f"models--{repo_id.replace('/', '--')}", f"{repo_id} at {revision}"
    ref, offline = folder / "refs" / revision, local_files_only or is_offline()

    def attempt() -> Path:
        if offline:
            commit = ref.read_text().strip() if ref.is_file() else revision
            stated = _recorded(folder / "zoo" / f"{commit}.json")
            if not stated.keys() >= {*names}:
                raise HubError(
                    f"{what} is not in the cache {top}: pull it once with HF_HUB_OFFLINE=0."
                )
        else:
            commit, hashes, _ = state(hub, repo_id, revision)
            stated = {name: hashes.get(name) for name in names}
        for name in (*required, *pins):
            if stated[name] is None:
                raise HubError(f"{what} has no file {name}: check the name and the revision.")
        snapshot = folder / "snapshots" / commit
        if not offline:
            _fetch(hub, repo_id, commit, top, snapshot, stated)
        wrong = [name for name in names if not _is(snapshot / name, stated[name], top)]
        wrong += [name for name, pin in pins.items() if not hashes_to(snapshot / name, pin)]
        if wrong:
            raise HubError(
                f"{wrong[0]} of {what} is not what its commit states or the file that this release "
                "was made with: pull it again online, or another revision."
            )
        if not offline:
            _write(folder / "zoo" / f"{commit}.json", json.dumps(stated, indent=1))
            if commit != revision:
                _write(ref, commit)
        return snapshot

    with in_a_sentence(hub, repo_id, revision, names):
        return retry(attempt)


def _fetch(
    hub: HfApi, repo_id: str, commit: str, top: Path, snapshot: Path, stated: Hashes
) -> None:
    """Have the client fetch what is missing, and what is damaged anew: in the cache, or on its way.

    Args:
        hub: The client.
        repo_id: The repository.
        commit: Of this commit.
        top: The cache.
        snapshot: The commit's folder in it.
        stated: What the files have to be.
    """
    for anew in (False, True, True):
        for name, digest in stated.items():
            file = snapshot / name
            if _is(file, digest, top):
                continue
            if anew or digest is None:
                file.unlink(missing_ok=True)
            if digest is not None:
                hub.hf_hub_download(
                    repo_id,
                    name,
                    revision=commit,
                    cache_dir=top,
                    etag_timeout=limits.TIMEOUT,
                    force_download=anew,
                )


def _is(file: Path, digest: str | None, top: Path) -> bool:
    """Whether a file lies in the cache and has this hash, or is missing where there is none."""
    if digest is None:
        return not os.path.lexists(file)
    return file.resolve().is_relative_to(top) and hashes_to(file, digest)


def _recorded(path: Path) -> Hashes:
    """What was verified of a commit; nothing if there is no record that can be read."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return {}


def _write(path: Path, text: str) -> None:
    """Write a file atomically, unless it holds this text; a cache may be read-only."""
    if path.is_file() and path.read_text() == text:
        return
    with suppress(OSError):  # offline use needs it, and nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        part.write_text(text)
        part.replace(path)
