"""A checkpoint's folder from the Hub, in the client's own cache, and to the Hub in one commit."""

import contextlib
import json
import os
import uuid
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors

from zoo.hub import client
from zoo.hub.client import HubError, hashes_to, in_a_sentence, retry, state


class PushResult(NamedTuple):
    """Where a push ended up: the commit that holds the folder, its page, and whether it is new."""

    commit: str
    url: str
    changed: bool


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

    Nothing but `files` is fetched: the `required` must be there, and those `pinned` have this
    sha256. With `local_files_only`, or offline, what an earlier pull left is hashed again.
    """
    hub, revision, names = HfApi(token=token), revision or "main", sorted({*files, *required})
    pins = {name: digest for name, digest in (pinned or {}).items() if name in names}
    top = Path(cache_dir or constants.HF_HUB_CACHE).expanduser().resolve()
    folder, what = top / f"models--{repo_id.replace('/', '--')}", f"{repo_id} at {revision}"
    ref, offline = folder / "refs" / revision, local_files_only or constants.is_offline_mode()
    fetch = partial(hub.hf_hub_download, repo_id, cache_dir=top, etag_timeout=client.TIMEOUT)

    def attempt() -> Path:
        record: dict[str, str | None] = {}
        if offline:
            commit = ref.read_text().strip() if ref.is_file() else revision
            with contextlib.suppress(FileNotFoundError, TypeError, ValueError):
                record = dict(json.loads((folder / "zoo" / f"{commit}.json").read_text()))
        else:
            commit, hashes, _ = state(hub, repo_id, revision)
            record = {name: hashes.get(name) for name in names}
        if not record.keys() >= {*names}:
            raise HubError(f"{what} is not in the cache {top}: pull it once with HF_HUB_OFFLINE=0.")
        for name in sorted({*required, *pins} - {name for name in names if record[name]}):
            raise HubError(f"{what} has no file {name}: check the name and the revision.")
        snapshot = folder / "snapshots" / commit
        for again in (None,) if offline else (False, True, None):
            inside = [n for n in names if (snapshot / n).resolve().is_relative_to(top)]
            wrong = [n for n in names if n not in inside or not hashes_to(snapshot / n, record[n])]
            if again is None or not wrong:
                break
            for name in wrong:
                if again:
                    (snapshot / name).unlink(missing_ok=True)
                if record[name]:
                    fetch(name, revision=commit, force_download=again)
        for name in wrong or [n for n, pin in pins.items() if not hashes_to(snapshot / n, pin)]:
            why = "is not what its commit states or the file that this release was made with"
            raise HubError(f"{name} of {what} {why}: pull it again online, or another revision.")
        if not offline:
            _write(folder / "zoo" / f"{commit}.json", json.dumps(record, indent=1))
        if not offline and commit != revision:
            _write(ref, commit)
        return snapshot

    with in_a_sentence(hub, repo_id, revision, names):
        return retry(attempt)


def _write(path: Path, text: str) -> None:
    """Write all or nothing; and nothing if it is there, as the disk may be read-only."""
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        part.write_text(text)
        part.replace(path)


def push(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    files: Collection[str],
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
    keep_readme: bool = True,
) -> PushResult:
    """Make a folder's checkpoint the one that a repository holds, in one commit or none.

    Repository and branch are created where missing; `private` refuses one that is public. What
    the folder lacks of `files` is removed; a README stays with `keep_readme`, and other names do.
    """
    hub, revision, folder, tries = HfApi(token=token), revision or "main", Path(folder), 0
    here = {name for name in files if (folder / name).is_file()}

    def attempt() -> PushResult:
        nonlocal tries
        try:
            head, hashes, is_private = state(hub, repo_id, revision)
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            hub.create_repo(repo_id, private=private, exist_ok=True)
            if revision != "main":
                hub.create_branch(repo_id, branch=revision, exist_ok=True)
            head, hashes, is_private = state(hub, repo_id, revision)
        if private and not is_private:
            raise HubError(f"{repo_id} is public and private=True was asked for: push elsewhere.")
        kept = {"README.md"} & hashes.keys() if keep_readme else set()
        add = [n for n in sorted(here - kept) if not hashes_to(folder / n, hashes.get(n, ""))]
        drop = sorted(hashes.keys() & {*files} - here - {"README.md"})
        if not add and not drop:  # or a commit of ours, whose answer was lost
            return PushResult(head, f"{hub.endpoint}/{repo_id}/commit/{head}", tries > 0)
        tries += 1
        deletions = [CommitOperationDelete(name) for name in drop]
        commit = hub.create_commit(
            repo_id,
            [*(CommitOperationAdd(name, folder / name) for name in add), *deletions],
            commit_message=commit_message or "Upload checkpoint",
            revision=revision,
            create_pr=create_pr,
            parent_commit=head,
        )
        _, hashes, _ = retry(lambda: state(hub, repo_id, commit.oid))
        if left := [n for n in add if not hashes_to(folder / n, hashes.get(n, ""))]:
            # The client leaves out what a .gitignore in the repository names, and says nothing.
            raise HubError(f"The Hub has not taken {', '.join(left)}: look for a .gitignore there.")
        return PushResult(commit.oid, commit.pr_url or commit.commit_url, changed=True)

    with in_a_sentence(hub, repo_id, revision, files):
        if not here:
            raise HubError(f"{folder} has no file of a checkpoint: nothing was pushed, check it.")
        return attempt() if create_pr else retry(attempt)  # not to open a second pull request
