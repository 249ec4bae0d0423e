"""What goes wrong between here and the Hub, in one sentence that says what to do."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, errors
from huggingface_hub.utils import httpx, validate_repo_id  # type: ignore[attr-defined]


class HubError(OSError):
    """What went wrong between here and the Hub, and what to do about it, in one sentence."""


LOGIN = "check the name, or log in with token= or `hf auth login`"
LATER = "try again later, or use what was pulled before with local_files_only=True"
SENTENCES: dict[type[Exception], str] = {
    HubError: "{error}",
    errors.GatedRepoError: "{repo} is gated: accept its conditions at {hub}/{repo}; {login}.",
    errors.RevisionNotFoundError: "{repo} has no revision {revision}: see {hub}/{repo}/tree/main.",
    errors.RepositoryNotFoundError: "{hub} has no {repo}, or it is private: {login}.",
    errors.HFValidationError: "{repo!r} is not the name of a repository: write organisation/name.",
    errors.HfHubHTTPError: "{hub} refuses {repo} ({said}): {login}, or {later}.",
    httpx.TransportError: "{hub} does not answer or breaks off: {later}.",
    OSError: "{error!s:.200}: try again, make room, or set cache_dir.",
    Exception: "The answer of {hub} makes no sense: check HF_ENDPOINT, or {later}.",
}
"""By class of error, the first that fits."""


@contextmanager
def in_a_sentence(hub: HfApi, repo: str, revision: str, files: Collection[str]) -> Iterator[None]:
    """Check what the caller names; turn errors of client, network and disk into a HubError."""
    token = hub.token if isinstance(hub.token, str) else "hf_"
    try:
        if not re.fullmatch(r"[!-~]+", token):
            raise HubError("The token has blanks or other signs that no token has: copy it again.")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision) or ".." in revision:
            raise HubError(f"{revision!r} is no revision: name a branch, tag or commit.")
        for name in files:
            if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
                raise HubError(f"{name!r} is no plain file name: a checkpoint has no folders.")
        validate_repo_id(repo)
        yield
    except Exception as error:
        text = _sentence(_root(error), hub.endpoint, repo, revision)
        text = re.sub(rf"{re.escape(token)}\w*|hf_\w+", "***", text)
        raise HubError(text) from None  # the cause's own text may repeat the token


def _root(error: Exception) -> Exception:
    """The error that the client met, without those that it puts around it."""
    while isinstance(error.__cause__, Exception) and not isinstance(error, httpx.HTTPError):
        error = error.__cause__
    return error


def _sentence(error: Exception, hub: str, repo: str, revision: str) -> str:
    text = next(text for kind, text in SENTENCES.items() if isinstance(error, kind))
    said = ""
    if isinstance(error, errors.HfHubHTTPError):
        reason = " ".join((error.server_message or "no reason given").split())
        said = f"{error.response.status_code}: {reason[:200]}"
    words = {"hub": hub, "repo": repo, "revision": revision, "error": error, "said": said}
    return " ".join(text.format(**words, login=LOGIN, later=LATER).split())
