"""A checkpoint to the Hub, in one commit."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors

from zoo.hub.client import State, connect, hashes_to, is_offline, retry, state, timed
from zoo.hub.errors import HubError, in_a_sentence


class PushResult(NamedTuple):
    """Where a push ended up: the commit that holds the folder, its page, and whether it is new."""

    commit: str
    url: str
    changed: bool


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

    Repository and branch are created where they are missing. Of the names in `files` the repository
    then holds just those of the folder; other names are left alone.

    Args:
        folder: Where the files lie.
        repo_id: `organisation/name` on the Hub.
        files: Names that make up a checkpoint.
        private: Visibility of a repository that is created; True refuses one that is public.
        revision: The branch to commit to; `main` if None.
        commit_message: Title of the commit.
        create_pr: Open a pull request instead of committing to the branch.
        token: As everywhere in huggingface_hub: None means the one that is logged in, False none.
        keep_readme: Leave a README alone that is there already and differs.

    Raises:
        HubError: if the Hub does not take it.
    """
    hub, revision, folder, tries = connect(token), revision or "main", Path(folder), 0
    here = {name for name in files if (folder / name).is_file()}

    def attempt() -> PushResult:
        nonlocal tries
        head, hashes, is_private = _created(hub, repo_id, revision, private)
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

    with in_a_sentence(hub, repo_id, revision, files), timed():
        if is_offline():
            raise HubError("Nothing is pushed with HF_HUB_OFFLINE: unset it and push again.")
        if not here:
            raise HubError(f"{folder} has no file of a checkpoint: nothing was pushed, check it.")
        return attempt() if create_pr else retry(attempt)  # not to open a second pull request


def _created(hub: HfApi, repo_id: str, revision: str, private: bool | None) -> State:
    """The branch's state; the branch and its repository are created where they are missing."""
    try:
        return state(hub, repo_id, revision)
    except errors.GatedRepoError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        hub.create_repo(repo_id, private=private, exist_ok=True)
        if revision != "main":
            hub.create_branch(repo_id, branch=revision, exist_ok=True)
        return state(hub, repo_id, revision)
