"""Checkpoints to and from the Hugging Face Hub: folder in, folder out.

The cache is laid out as the Hub's own client does it, so that both share what they have fetched::

    models--ORG--NAME/blobs/HASH             a file's content, under the hash the Hub states for it
                      snapshots/COMMIT/FILE  a link to it: the folder that `pull` returns
                      refs/REVISION          the commit that a branch or tag stood for
                      zoo/COMMIT.json        what was verified: hash of each file, null for none

A pull asks once which commit is meant and which hash each file has there. Bytes are written aside,
hashed, and only then moved into place; the record comes after the last file, and the ref after the
record. A process that dies leaves the cache as it was or complete, and what is used offline is
known to be whole.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import quote

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT = 10.0  # seconds without a byte until a request of a pull is given up
PUSH_TIMEOUT = 30.0  # the same for a push: a commit is answered when it has been made
RETRIES = 3  # of a request that came to nothing, or broke off without a byte more than before
BACKOFF = 0.5  # seconds before the first retry, doubled with each
PATIENCE = 60.0  # no retry starts later than that after the first try, even if asked to wait
SLOWEST = 1000.0  # bytes a second; what comes slower is given up after PATIENCE
LIMIT = 2**24  # bytes of an answer about a repository
ABANDONED = 3600.0  # seconds after which an unfinished file of a dead process is swept up

README = "README.md"
NOT_OURS = "is not the file that this release was made with"
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
SAID = frozenset({"retry-after", "x-error-code", "x-error-message"})  # headers that are looked at

T = TypeVar("T")
_PUSHING = threading.Lock()


class HubError(OSError):
    """What went wrong between here and the Hub, and what to do about it, in one sentence."""


class _Stated(NamedTuple):
    """What the Hub says a file is."""

    digest: str
    size: int


class _State(NamedTuple):
    """What the Hub says a revision is."""

    commit: str
    files: dict[str, _Stated]
    private: bool


@dataclass(frozen=True)
class PushResult:
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
    target, files = _Target(repo_id, revision or "main", token, "pull"), {*files, *required}
    pins = {name: digest for name, digest in (pinned or {}).items() if name in files}
    with _in_a_sentence(target, files):
        cache = _Cache(target, cache_dir)
        if local_files_only or _is_offline():
            return cache.verified(files, {*required, *pins}, pins)
        commit, stated, _ = _retry(lambda: target.state(TIMEOUT))
        _require({*required, *pins}, stated, target)
        cache.prepare(commit)
        for name in sorted(stated.keys() & files):
            cache.fetch(commit, name, stated[name], pins.get(name))
        cache.record(commit, {n: stated[n].digest if n in stated else None for n in files})
        return cache.snapshot(commit)


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
    target = _Target(repo_id, revision or "main", token, "push")
    tries = 0

    def attempt() -> PushResult:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        nonlocal tries
        api = target.api()
        state = _created(api, target, private)
        add, drop = _difference(state, Path(folder), files, keep_readme)
        if not add and not drop:
            # A commit whose answer was lost is found here by the second try, and was ours.
            url = f"{target.endpoint}/{repo_id}/commit/{state.commit}"
            return PushResult(state.commit, url, changed=tries > 0)
        tries += 1
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, str(Path(folder, name))) for name in add),
                *(CommitOperationDelete(name) for name in drop),
            ],
            commit_message=commit_message or "Upload checkpoint",
            revision=target.revision,
            create_pr=create_pr,
            parent_commit=state.commit,
        )
        made = replace(target, revision=commit.oid)
        there = _retry(lambda: made.state(PUSH_TIMEOUT))
        left, _ = _difference(there, Path(folder), files, keep_readme)
        if left:
            # The client leaves out what a .gitignore in the repository names, and says nothing.
            raise HubError(
                f"The Hub has not taken {', '.join(left)} into {repo_id}: look for a .gitignore "
                "there that names them, and whether something writes to the folder; push again."
            )
        return PushResult(commit.oid, commit.pr_url or commit.commit_url, changed=True)

    with _in_a_sentence(target, files):
        if _is_offline():
            raise HubError("HF_HUB_OFFLINE is set, so nothing was pushed: unset it and push again.")
        if not any(Path(folder, name).is_file() for name in files):
            raise HubError(f"{folder} has no file of a checkpoint: nothing was pushed, check it.")
        with _bounded():
            # A second try could open a second pull request.
            return attempt() if create_pr else _retry(attempt)


@dataclass(frozen=True)
class _Target:
    """What a call is about: for its requests, and for its errors."""

    repo_id: str
    revision: str
    token: str | bool | None
    verb: str

    def __str__(self) -> str:
        return f"{self.repo_id} at {self.revision}"

    @property
    def endpoint(self) -> str:
        """The Hub's address, read per call: the client reads it once, at import."""
        from huggingface_hub import constants

        return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")

    def api(self) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token)

    def headers(self) -> dict[str, str]:
        """What a request says of us: the token, and that no answer is to be packed."""
        headers: dict[str, str] = _client().build_hf_headers(token=self.token)
        return {**headers, "Accept-Encoding": "identity"}

    def state(self, timeout: float) -> _State:
        """The commit behind the revision, and name, size and hash of its files.

        The client's `model_info` asks the same, and reads an answer of any length.
        """
        revision = quote(self.revision, safe="")
        url = f"{self.endpoint}/api/models/{self.repo_id}/revision/{revision}?blobs=true"
        text = bytearray()
        with _answer(url, self.headers(), timeout) as response:
            for chunk in _chunks(response):
                text += chunk
                if len(text) > LIMIT:
                    raise ValueError("too much")
        return _state(json.loads(text.decode()))

    def scrubbed(self, text: str) -> str:
        """The text in one line and without anything that could be a token."""
        if isinstance(self.token, str) and self.token:
            text = text.replace(self.token, "***")
        return re.sub(r"hf_\w+|(?<=Bearer )\S+", "***", " ".join(text.split()))


class _Cache:
    """One repository's folder in the cache; the module's docstring has its layout."""

    def __init__(self, target: _Target, cache_dir: str | os.PathLike[str] | None) -> None:
        from huggingface_hub import constants

        self.target = target
        self.top = Path(cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()
        self.folder = self.top / f"models--{target.repo_id.replace('/', '--')}"
        self.ref = self.folder / "refs" / target.revision

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def prepare(self, commit: str) -> None:
        """Make the folders, and sweep up what processes that were killed have left."""
        for folder in (self.folder / "blobs", self.folder / "zoo", self.snapshot(commit)):
            folder.mkdir(parents=True, exist_ok=True)
        for part in (self.folder / "zoo").glob("*.part"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                if time.time() - part.lstat().st_mtime > ABANDONED:
                    part.unlink()

    @contextlib.contextmanager
    def aside(self) -> Iterator[Path]:
        """A path that no other process writes to, on the disk where the result belongs."""
        part = self.folder / "zoo" / f"{uuid.uuid4().hex}.part"
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def fetch(self, commit: str, name: str, stated: _Stated, pin: str | None) -> None:
        """Have a file in the snapshot whose content has just been hashed."""
        wanted = {stated.digest, pin or stated.digest}
        file, blob = self.snapshot(commit) / name, self.folder / "blobs" / stated.digest
        if pin and len(stated.digest) == len(pin) and pin != stated.digest:
            raise HubError(self.refusal(name, NOT_OURS))
        if _hashes_to(file, wanted):
            return
        if not _hashes_to(blob, wanted):
            self.download(commit, name, stated.size, wanted, blob)
        with self.aside() as part:
            try:
                part.symlink_to(Path("..", "..", "blobs", blob.name))
            except OSError:  # no symbolic links on this file system
                os.link(blob, part)
            os.replace(part, file)

    def download(self, commit: str, name: str, size: int, wanted: set[str], blob: Path) -> None:
        """Fetch a file, once more if it arrives damaged; put it in place if its hash is right."""
        from huggingface_hub import hf_hub_url

        target = self.target
        url = hf_hub_url(target.repo_id, name, revision=commit, endpoint=target.endpoint)
        headers = target.headers()
        if size > shutil.disk_usage(self.folder).free:
            raise OSError(errno.ENOSPC, "No space left on device")
        for _ in range(2):
            with self.aside() as part:
                with part.open("xb") as file:
                    _retry(partial(_get, url, headers, file, size), file.tell)
                if _hashes_to(part, wanted):
                    os.replace(part, blob)
                    return
                if _hashes_to(part, {blob.name}):  # as the Hub states it, and not as pinned
                    raise HubError(self.refusal(name, NOT_OURS))
        raise HubError(self.refusal(name, "arrived twice with another hash than it should have"))

    def refusal(self, name: str, why: str) -> str:
        return (
            f"{name} of {self.target} {why}, and is not used: pull another revision, or tell the "
            "repository's owner or whoever runs the proxy in between."
        )

    def record(self, commit: str, digests: Mapping[str, str | None]) -> None:
        """Note that these files of a commit are here and whole, then which revision they are."""
        for name, digest in digests.items():
            if digest is None:  # what the commit lacks was not put there by this commit
                (self.snapshot(commit) / name).unlink(missing_ok=True)
        known = json.dumps({**self.recorded(commit), **digests}, indent=1, sort_keys=True)
        self.write(self.folder / "zoo" / f"{commit}.json", known)
        if self.target.revision != commit:
            self.write(self.ref, commit)

    def recorded(self, commit: str) -> dict[str, str | None]:
        try:
            known = json.loads((self.folder / "zoo" / f"{commit}.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def write(self, path: Path, text: str) -> None:
        if path.is_file() and path.read_text() == text:
            return  # so that a complete cache may be read-only
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.aside() as part:
            part.write_text(text)
            os.replace(part, path)

    def verified(
        self, files: Collection[str], required: Collection[str], pins: Mapping[str, str]
    ) -> Path:
        """The snapshot of a revision pulled before, hashed again, without a request."""
        commit = self.ref.read_text().strip() if self.ref.is_file() else self.target.revision
        known = self.recorded(commit) if _is_hash(commit) else {}
        if not known.keys() >= {*files}:
            raise HubError(
                f"{self.target} is not in the cache {self.top}, and no request is made while "
                "offline: pull it once with HF_HUB_OFFLINE and local_files_only unset, or name the "
                "cache that has it with cache_dir."
            )
        _require(required, {name for name in files if known[name]}, self.target)
        for name in files:
            file, digest = self.snapshot(commit) / name, known[name]
            wanted = {digest, pins.get(name, digest)} if digest else set()
            if file.exists() != bool(wanted) or (wanted and not _hashes_to(file, wanted)):
                raise HubError(
                    f"{name} of {self.target} in the cache {self.top} is not what was pulled or "
                    "pinned, and is not used: pull it again with HF_HUB_OFFLINE and "
                    "local_files_only unset."
                )
        return self.snapshot(commit)


def _client() -> Any:
    """Import huggingface_hub's tools when they are needed: it takes half a second."""
    import huggingface_hub.utils

    return huggingface_hub.utils


def _state(said: Any) -> _State:
    """Read the Hub's answer: sha256 of a large file, git's hash of a small one."""
    files = {}
    for file in said.get("siblings") or ():
        stated = file.get("lfs") or {"sha256": file["blobId"], "size": file["size"]}
        digest, size = stated["sha256"], stated["size"]
        if not _is_hash(digest) or type(size) is not int or size < 0:  # a hash becomes a file name
            raise ValueError("no hash")
        if file["rfilename"] in files:
            raise ValueError("a file twice")
        files[file["rfilename"]] = _Stated(digest, size)
    if not _is_hash(said["sha"]):
        raise ValueError("no commit")
    return _State(said["sha"], files, bool(said.get("private")))


def _require(needed: Collection[str], there: Collection[str], target: _Target) -> None:
    for name in sorted({*needed} - {*there}):
        raise HubError(
            f"{target} has no file {name}, so it is no checkpoint of this zoo: check the name and "
            "the revision."
        )


def _created(api: "HfApi", target: _Target, private: bool | None) -> _State:
    """State of the branch, which is created with its repository where they are missing."""
    from huggingface_hub import errors

    try:
        state = target.state(PUSH_TIMEOUT)
    except errors.GatedRepoError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        if isinstance(error, errors.RepositoryNotFoundError):
            api.create_repo(target.repo_id, private=private, exist_ok=True)
        if target.revision != "main":
            api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)
        state = target.state(PUSH_TIMEOUT)
    if private and not state.private:
        raise HubError(
            f"{target.repo_id} is public and private=True was asked for, so nothing was pushed: "
            f"change it at {target.endpoint}/{target.repo_id}/settings, or push to another name."
        )
    return state


def _difference(
    state: _State, folder: Path, files: Collection[str], keep_readme: bool
) -> tuple[list[str], list[str]]:
    """Names to add to the commit and names to drop from it so that it holds the folder."""
    stated = {name: file.digest for name, file in state.files.items()}
    here = {name for name in files if (folder / name).is_file()}
    kept = {README} & stated.keys() if keep_readme else set()
    add = [n for n in sorted(here - kept) if not _hashes_to(folder / n, {stated.get(n, "")})]
    return add, sorted(stated.keys() & {*files} - here - {README})


@contextlib.contextmanager
def _answer(url: str, headers: Mapping[str, str], timeout: float) -> Iterator[Any]:
    """The answer to a request, of which nothing but the headers was read."""
    from huggingface_hub import get_session

    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        _check(response)
        yield response


def _check(response: Any) -> None:
    """Raise what a status means; nothing else is read of the answer, which may have no end."""
    headers = {name: text for name, text in response.headers.items() if name in SAID}
    bare = _client().httpx.Response(response.status_code, headers=headers, request=response.request)
    _client().hf_raise_for_status(bare)


def _chunks(response: Any) -> Iterator[bytes]:
    """What an answer holds as it arrives: a packed one is not unpacked, it may grow a thousandfold.

    Raises:
        httpx.ReadTimeout: if it comes too slowly, though never as slowly as one byte a TIMEOUT.
    """
    begun, length = time.monotonic(), 0
    for chunk in response.iter_raw():  # of larger chunks a broken one would be lost
        yield chunk
        length += len(chunk)
        if time.monotonic() > begun + PATIENCE + length / SLOWEST:
            raise _client().httpx.ReadTimeout("too slow", request=response.request)


def _get(url: str, headers: Mapping[str, str], file: BinaryIO, size: int) -> None:
    """Fetch a file, from where an earlier try broke off."""
    start = file.tell()
    if start and start >= size:
        return
    asked = {**headers, "Range": f"bytes={start}-"} if start else headers
    with _answer(url, asked, TIMEOUT) as response:
        if response.status_code != 206:
            file.seek(0)
            file.truncate()
        for chunk in _chunks(response):
            file.write(chunk)
            if file.tell() > size:  # not the file that was stated, and perhaps without an end
                return


def _digest(path: Path, length: int) -> str:
    """sha256 of a file for 64 hexadecimal digits, the hash git gives it for 40."""
    with path.open("rb") as file:
        if length == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        header = b"blob %d\0" % os.fstat(file.fileno()).st_size
        return hashlib.sha1(header + file.read(), usedforsecurity=False).hexdigest()


def _hashes_to(path: Path, wanted: set[str]) -> bool:
    return path.is_file() and all(_digest(path, len(digest)) == digest for digest in wanted)


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text))


def _is_offline() -> bool:
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES
    return asked or constants.is_offline_mode()


def _retry(call: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Call again after an error that may pass; a try that made progress starts the count anew.

    Progress of less than SLOWEST is none.
    """
    first = begun = time.monotonic()
    tries, seen = 0, progress()
    while True:
        try:
            return call()
        except Exception as error:
            if progress() > seen:
                tries, begun, seen = 0, time.monotonic(), progress()
            wait = _wait(_root(error), tries)
            last = min(begun, first + seen / SLOWEST) + PATIENCE
            if wait is None or tries >= RETRIES or time.monotonic() + wait > last:
                raise
        time.sleep(wait)
        tries += 1


def _wait(error: BaseException, tries: int) -> float | None:
    """Seconds until it is worth trying again, None if it is not."""
    from huggingface_hub.errors import HfHubHTTPError

    wait = BACKOFF * 2.0**tries
    if not isinstance(error, HfHubHTTPError):
        return wait if isinstance(error, _client().httpx.TransportError) else None
    asked = error.response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", asked):
        wait = max(wait, float(asked))
    # 412: somebody has pushed meanwhile, so that it is to be seen again what is there.
    return wait if error.response.status_code in TRANSIENT | {412} else None


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Bound what the client does not: it pushes without time-outs, and waits as long as it is told.

    Its own retries after a status are switched off in favour of `_retry`.
    """
    from huggingface_hub import get_session

    def raise_if_transient(response: Any) -> None:
        response.headers.pop("X-HF-Warning", None)  # the client would log it, whatever it says
        if response.status_code in TRANSIENT:
            _check(response)

    with _PUSHING:
        session = get_session()
        timeout, hooks = session.timeout, session.event_hooks
        session.timeout = PUSH_TIMEOUT
        session.event_hooks = {**hooks, "response": [*hooks["response"], raise_if_transient]}
        try:
            yield
        finally:
            session.timeout, session.event_hooks = timeout, hooks


def _root(error: BaseException) -> BaseException:
    """The error that an upload's worker thread met, without the RuntimeError around it."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _in_a_sentence(target: _Target, files: Collection[str]) -> Iterator[None]:
    """Check what the caller names, and turn what client, network and disk raise into a HubError."""
    client = _client()
    expected = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)
    try:
        if isinstance(target.token, str) and not re.fullmatch(r"[!-~]+", target.token):
            raise HubError("The token has blanks or other signs that no token has: copy it again.")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", target.revision) or ".." in target.revision:
            raise HubError(f"{target.revision!r} is no revision: name a branch, tag or commit.")
        for name in files:
            if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
                raise HubError(f"{name!r} is no plain file name: a checkpoint has no folders.")
        client.validate_repo_id(target.repo_id)
        yield
    except (*expected, client.httpx.HTTPError, client.httpx.InvalidURL) as error:
        root = _root(error)
        if isinstance(root, HubError):
            raise root from None
        # Without its cause, whose text is the server's and may repeat what was sent.
        raise HubError(target.scrubbed(_sentence(root, target))) from None


def _sentence(error: BaseException, target: _Target) -> str:
    """What happened and what to do next."""
    from huggingface_hub import errors

    httpx, hub, pulling = _client().httpx, target.endpoint, target.verb == "pull"
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
            if status == 401 and not _has_token(target):
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
        case httpx.TimeoutException():
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


def _has_token(target: _Target) -> bool:
    from huggingface_hub import get_token

    return bool(get_token() if target.token is None else target.token)
