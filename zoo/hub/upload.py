"""A checkpoint to the Hub."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors

from zoo.hub import limits
from zoo.hub.client import limited, retry
from zoo.hub.errors import HubError, Target, in_a_sentence, is_offline
from zoo.hub.stated import State, hashes_to, state

README = "README.md"


@dataclass(frozen=True)
class PushResult:
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

    The repository and the branch are created where they are missing. Of the names in `files` the
    repository holds afterwards just those of the folder: a file that the folder lacks would belong
    to another checkpoint and is removed. Names outside `files` are left alone, here and there.

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
    """
    target, folder = Target(repo_id, revision or "main", token, "push"), Path(folder)
    tries = 0

    @limited(limits.ANSWER, uploads=True)
    def attempt() -> PushResult:
        nonlocal tries
        there = _created(target, private)
        add, drop = difference(there, folder, files, keep_readme)
        if not add and not drop:
            # A commit whose answer was lost is found here by the second try, and was ours.
            url = f"{target.endpoint}/{repo_id}/commit/{there.commit}"
            return PushResult(there.commit, url, changed=tries > 0)
        tries += 1
        commit = target.api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, folder / name) for name in add),
                *(CommitOperationDelete(name) for name in drop),
            ],
            commit_message=commit_message or "Upload checkpoint",
            revision=target.revision,
            create_pr=create_pr,
            parent_commit=there.commit,
        )
        made = replace(target, revision=commit.oid)
        there = retry(lambda: state(made, limits.PUSH_TIMEOUT))
        left, _ = difference(there, folder, files, keep_readme)
        if left:
            # The client leaves out what a .gitignore in the repository names, and says nothing.
            raise HubError(
                f"The Hub has not taken {', '.join(left)} into {repo_id}: look for a .gitignore "
                "there that names them, and whether something writes to the folder; push again."
            )
        return PushResult(commit.oid, commit.pr_url or commit.commit_url, changed=True)

    with in_a_sentence(target, files):
        if is_offline():
            raise HubError("HF_HUB_OFFLINE is set, so nothing was pushed: unset it and push again.")
        if not any((folder / name).is_file() for name in files):
            raise HubError(f"{folder} has no file of a checkpoint: nothing was pushed, check it.")
        # A second try could open a second pull request.
        return attempt() if create_pr else retry(attempt)


def _created(target: Target, private: bool | None) -> State:
    """State of the branch, which is created with its repository where they are missing."""
    try:
        there = state(target, limits.PUSH_TIMEOUT)
    except errors.GatedRepoError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        if isinstance(error, errors.RepositoryNotFoundError):
            target.api.create_repo(target.repo_id, private=private, exist_ok=True)
        if target.revision != "main":
            target.api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)
        there = state(target, limits.PUSH_TIMEOUT)
    if private and not there.private:
        raise HubError(
            f"{target.repo_id} is public and private=True was asked for, so nothing was pushed: "
            f"change it at {target.endpoint}/{target.repo_id}/settings, or push to another name."
        )
    return there


def difference(
    there: State, folder: Path, files: Collection[str], keep_readme: bool
) -> tuple[list[str], list[str]]:
    """Names to add to a commit and names to drop from it so that it holds the folder."""
    stated = {name: file.digest for name, file in there.files.items()}
    here = {name for name in files if (folder / name).is_file()}
    kept = {README} & stated.keys() if keep_readme else set()
    same = {name for name in here & stated.keys() if hashes_to(folder / name, stated[name])}
    return sorted(here - kept - same), sorted(stated.keys() & {*files} - here - {README})
