"""What pull and push need besides huggingface_hub's client: hashes, retries, plain errors."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, errors
from huggingface_hub.utils import httpx, validate_repo_id  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash, sha_fileobj

TIMEOUT = 10.0  # seconds until a question about a repository or a file is given up
WAITS = (0.5, 1.0, 2.0)  # seconds before each retry, beyond those that the client makes
TRANSIENT = (408, 412, 429, 500, 502, 503, 504)  # 412: somebody has pushed meanwhile
T = TypeVar("T")


class HubError(OSError):
    """What went wrong between here and the Hub, and what to do about it, in one sentence."""


LOGIN = "check the name, or log in with token= or `hf auth login`"
SAID = "{error.response.status_code}: {error.server_message!s:.200}"
LATER = "try again later, or use what was pulled before with local_files_only=True"
SENTENCES: dict[type[Exception], str] = {
    HubError: "{error}",
    errors.GatedRepoError: "{repo} is gated: accept its conditions at {hub}/{repo}; {login}.",
    errors.RevisionNotFoundError: "{repo} has no revision {revision}: see {hub}/{repo}/tree/main.",
    errors.RepositoryNotFoundError: "{hub} has no {repo}, or it is private: {login}.",
    errors.HFValidationError: "{repo!r} is not the name of a repository: write organisation/name.",
    errors.HfHubHTTPError: "{hub} refuses {repo} (" + SAID + "): {login}, or {later}.",
    errors.OfflineModeIsEnabled: "Nothing is pushed with HF_HUB_OFFLINE: unset it and push again.",
    httpx.TransportError: "{hub} does not answer or breaks off: {later}.",
    OSError: "{error!s:.200}: try again, make room, or set cache_dir.",
    Exception: "The answer of {hub} makes no sense: check HF_ENDPOINT, or {later}.",
}


def state(hub: HfApi, repo_id: str, revision: str) -> tuple[str, dict[str, str], bool]:
    """Commit of a revision, the hash that it states for each file, and whether it is private."""
    info = hub.model_info(repo_id, revision=revision, timeout=TIMEOUT, files_metadata=True)
    if not info.sha or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
        raise ValueError("A commit becomes the name of a folder.")
    files = {f.rfilename: f.lfs.sha256 if f.lfs else f.blob_id for f in info.siblings or ()}
    return info.sha, {name: digest for name, digest in files.items() if digest}, bool(info.private)


def hashes_to(file: Path, digest: str | None) -> bool:
    """Whether a file has this hash, git's of 40 digits or else sha256; with None, is missing."""
    if digest is None or not file.is_file():
        return digest is None and not os.path.lexists(file)
    with file.open("rb") as lines:
        return (git_hash(lines.read()) if len(digest) == 40 else sha_fileobj(lines).hex()) == digest


def retry(call: Callable[[], T]) -> T:
    """Call again after an error that may pass: the client retries some requests only."""
    for wait in WAITS:
        try:
            return call()
        except (httpx.TransportError, OSError) as error:  # OSError itself if a file is cut
            status = getattr(getattr(error, "response", None), "status_code", 0)
            passes = type(error) is OSError or isinstance(error, httpx.TransportError)
            if not passes and status not in TRANSIENT:
                raise
        time.sleep(wait)
    return call()


@contextlib.contextmanager
def in_a_sentence(hub: HfApi, repo: str, revision: str, files: Collection[str]) -> Iterator[None]:
    """Check what the caller names, and turn what client, network and disk raise into a HubError."""
    token = hub.token if isinstance(hub.token, str) else "hf_"
    try:
        if not re.fullmatch(r"[!-~]+", token):
            raise HubError("The token has blanks or other signs that no token has: copy it again.")
        if not re.fullmatch(r"(?!.*\.\.)[\w.-]+(/[\w.-]+)*", revision):
            raise HubError(f"{revision!r} is no revision: name a branch, tag or commit.")
        if odd := [name for name in files if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name)]:
            raise HubError(f"{odd[0]!r} is no plain file name: a checkpoint has no folders.")
        validate_repo_id(repo)
        yield
    except Exception as error:
        while isinstance(error.__cause__, Exception) and not isinstance(error, httpx.HTTPError):
            error = error.__cause__  # what the client met, without what it puts around it
        text = next(text for kind, text in SENTENCES.items() if isinstance(error, kind))
        words = {"hub": hub.endpoint, "repo": repo, "revision": revision, "error": error}
        text = text.format(**words, login=LOGIN, later=LATER)
        text = re.sub(rf"{re.escape(token)}\w*|hf_\w+", "***", " ".join(text.split()))
        raise HubError(text) from None  # the cause's own text may repeat the token
