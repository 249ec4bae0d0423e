"""Whatever goes wrong between here and the Hub, in one sentence that says what to do about it."""

import contextlib
import errno
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from huggingface_hub import HfApi, constants, errors, get_token
from huggingface_hub.utils import httpx, validate_repo_id  # type: ignore[attr-defined]

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class HubError(OSError):
    """What went wrong between here and the Hub, and what to do about it, in one sentence."""


@dataclass(frozen=True)
class Target:
    """A revision of a repository, whose token is used, and whether to `pull` or `push`."""

    repo_id: str
    revision: str
    token: str | bool | None
    verb: str

    def __str__(self) -> str:
        return f"{self.repo_id} at {self.revision}"

    @property
    def endpoint(self) -> str:
        """The Hub's address, read per call: the client reads it once, at import."""
        return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=self.token)


def is_offline() -> bool:
    """Whether no request may be made."""
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES
    return asked or constants.is_offline_mode()


@contextlib.contextmanager
def in_a_sentence(target: Target, files: Collection[str]) -> Iterator[None]:
    """Check what the caller names, and turn what client, network and disk raise into a HubError."""
    token = target.token if isinstance(target.token, str) else None
    try:
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise HubError("The token has blanks or other signs that no token has: copy it again.")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", target.revision) or ".." in target.revision:
            raise HubError(f"{target.revision!r} is no revision: name a branch, tag or commit.")
        for name in files:
            if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
                raise HubError(f"{name!r} is no plain file name: a checkpoint has no folders.")
        validate_repo_id(target.repo_id)
        yield
    except Exception as error:
        cause = root(error)
        if isinstance(cause, HubError):
            raise cause from None
        secret = rf"{re.escape(token)}|hf_\w+" if token else r"hf_\w+"
        text = re.sub(rf"{secret}|(?<=Bearer )\S+", "***", _sentence(cause, target))
        # Without its cause, whose text is the server's and may repeat what was sent.
        raise HubError(" ".join(text.split())) from None


def root(error: BaseException) -> BaseException:
    """The error that the client met, without those that it puts around it."""
    while type(error) in (RuntimeError, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__
    return error


def _sentence(error: BaseException, target: Target) -> str:
    """What happened and what to do next."""
    hub, pulling = target.endpoint, target.verb == "pull"
    page, login = f"{hub}/{target.repo_id}", "pass token= or run `hf auth login`"
    later = "push again later: what has arrived already is not sent twice"
    if pulling:
        later = (
            "try again later, or use the copy of an earlier pull with local_files_only=True or "
            "HF_HUB_OFFLINE=1"
        )
    match error:
        case errors.GatedRepoError():
            return (
                f"{target.repo_id} is gated: accept its conditions at {page} and {login} as the "
                "user who did."
            )
        case errors.RevisionNotFoundError():
            return f"{target.repo_id} has no revision {target.revision}: see {page}/tree/main."
        case errors.RepositoryNotFoundError() if pulling:
            return (
                f"{hub} has no repository {target.repo_id}, or it is private: check the name, and "
                f"if it is private {login}."
            )
        case errors.RemoteEntryNotFoundError():
            return f"A file that {target} lists cannot be fetched: pull another revision."
        case errors.HFValidationError():
            return f"{target.repo_id!r} is not the name of a repository: write organisation/name."
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status == 401 and not (get_token() if target.token is None else target.token):
                return f"To {target.verb} {target.repo_id} one has to be logged in: {login}."
            if status == 401:
                return f"{hub} does not know the token: make a new one at {hub}/settings/tokens."
            if status in TRANSIENT:
                why = "is asked too often" if status == 429 else "is out of order"
                return f"{hub} {why} ({status}): {later}."
            said = (error.server_message or "").strip()[:200] or "no reason given"
            return (
                f"{hub} refuses to {target.verb} {target.repo_id} ({status}: {said}): check what "
                f"the token may do at {hub}/settings/tokens."
            )
        case httpx.TimeoutException() | TimeoutError():
            return f"{hub} does not answer: {later}."
        case httpx.TransportError():
            return f"{hub} cannot be reached or breaks off: check the network, then {later}."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return (
                "The disk is full, and nothing was put in place: make room, or name another folder "
                f"with cache_dir, then {target.verb} again."
            )
        case OSError(errno=int()):
            return f"{error.strerror}: {error.filename}; check the permissions, or set cache_dir."
    return f"The answer of {hub} about {target} makes no sense: check HF_ENDPOINT and try again."
