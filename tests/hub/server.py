"""A Hub on 127.0.0.1 for the real client to talk to, with faults that a test can switch on.

It keeps repositories in memory the way git does: content under its hash, commits with a parent,
branches and tags that name commits. Large files live behind a second port, as they do on a content
network, so that a token that should not go there can be seen going there. What it answers, and with
which error codes, follows the Hub's HTTP API.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".npz")
WHEN = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Entry:
    """One file of a commit: git's hash of what it stores, and sha256 of what lies elsewhere."""

    oid: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Commit:
    """A state of all files, and the commit it came after."""

    parent: str | None
    title: str
    tree: dict[str, Entry]


@dataclass
class Repo:
    """A repository: commits, and the branches, tags and pull requests that name them."""

    name: str
    owner: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        """The commit behind a branch, tag, pull request or commit id."""
        for names in (self.branches, self.tags, self.pulls):
            if revision in names:
                return names[revision]
        return revision if revision in self.commits else None

    def commit(self, parent: str | None, title: str, tree: dict[str, Entry]) -> str:
        """Add a commit; its id depends on its content and its history, as git's does."""
        listing = sorted((name, entry.oid) for name, entry in tree.items())
        sha = hashlib.sha1(json.dumps([self.name, parent, title, listing]).encode()).hexdigest()
        self.commits[sha] = Commit(parent, title, tree)
        return sha


@dataclass
class Fault:
    """Something that goes wrong on a route, `times` times or always."""

    kind: str
    route: str
    times: int | None
    match: str
    value: Any

    def applies(self, route: str, path: str) -> bool:
        return self.times != 0 and route == self.route and self.match in path


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    route: str
    method: str
    path: str
    headers: dict[str, str]


class AnsweredError(Exception):
    """Raised to answer at once with an error."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status)
        self.status, self.code, self.message = status, code, message


class HubServer:
    """Starts on entering the context; `url` is its address, `requests` what has arrived."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}  # what git holds, by git's hash
        self.large: dict[str, bytes] = {}  # what it does not, by the sha256 it was announced with
        self.tokens: dict[
            str, tuple[str, ...]
        ] = {}  # token: (user, organisations it may write to ...)
        self.requests: list[Seen] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.closing = threading.Event()

    def __enter__(self) -> "HubServer":
        self._servers = [_Server(self), _Server(self)]
        self.url, self.cdn = (
            f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers
        )
        self._threads = [
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
            )
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def add_token(self, token: str, user: str, *organisations: str) -> str:
        """Let a token act as a user who may write under its own name and these organisations."""
        self.tokens[token] = (user, *organisations)
        return token

    def fault(
        self, kind: str, route: str, *, times: int | None = 1, match: str = "", value: Any = None
    ) -> Fault:
        """Break a route.

        Kinds: `status` (value: code, or (code, headers)), `hang`, `reset` (before an answer), `cut`
        (value: bytes sent of the body before the connection closes), `short` (the same, but with a
        length that says so), `flip` (value: index of the byte; on lfs-put in what arrives), `etag`
        (value: the header), `garbage` (value: the JSON answered), `rewrite` (value: a function that
        makes the JSON answered out of the right one), `body` (value: headers and content),
        `lost` (done, but not answered).
        """
        fault = Fault(kind, route, times, match, value)
        self.faults.append(fault)
        return fault

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[Seen]]:
        """Requests that arrive inside the context."""
        begin, seen = len(self.requests), []
        yield seen
        seen.extend(self.requests[begin:])

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Content of all files of a revision, as a look into the server's own store."""
        repo = self.repos[repo_id]
        tree = repo.commits[repo.resolve(revision)].tree
        return {name: self.content(entry) for name, entry in tree.items()}

    def content(self, entry: Entry) -> bytes:
        """What a file holds."""
        return self.large[entry.sha256] if entry.sha256 else self.blobs[entry.oid]

    def history(self, repo_id: str, branch: str = "main") -> list[str]:
        """Commit ids of a branch, newest first."""
        repo = self.repos[repo_id]
        sha, seen = repo.branches[branch], []
        while sha is not None:
            seen.append(sha)
            sha = repo.commits[sha].parent
        return seen


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, hub: HubServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, *_: object) -> None:
        """Stay silent about clients that have gone."""


REPO = r"(?P<repo>[\w.-]+/[\w.-]+?|[\w.-]+)"
ROUTES: list[tuple[str, str, re.Pattern[str]]] = [
    (name, method, re.compile(pattern))
    for name, method, pattern in [
        ("whoami", "GET", r"/api/whoami-v2"),
        ("yaml", "POST", r"/api/validate-yaml"),
        ("create", "POST", r"/api/repos/create"),
        ("info", "GET", rf"/api/models/{REPO}/revision/(?P<revision>[^/]+)"),
        ("tree", "GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?"),
        ("refs", "GET", rf"/api/models/{REPO}/refs"),
        ("tag", "POST", rf"/api/models/{REPO}/tag/(?P<revision>[^/]+)"),
        ("branch", "POST", rf"/api/models/{REPO}/branch/(?P<revision>[^/]+)"),
        ("preupload", "POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)"),
        ("commit", "POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)"),
        ("info", "GET", rf"/api/models/{REPO}"),
        ("batch", "POST", rf"/{REPO}\.git/info/lfs/objects/batch"),
        ("verify", "POST", rf"/{REPO}\.git/info/lfs/verify"),
        ("lfs-put", "PUT", r"/lfs/(?P<sha256>[0-9a-f]{64})"),
        ("cdn", "GET", r"/cdn/(?P<sha256>[0-9a-f]{64})/(?P<file>.*)"),
        ("resolve", "GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)"),
        ("head", "HEAD", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)"),
        ("cdn", "HEAD", r"/cdn/(?P<sha256>[0-9a-f]{64})/(?P<file>.*)"),
    ]
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for the headers
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            return super().handle_one_request()
        self.close_connection = True
        return None

    def do_GET(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.fault: Fault | None = None
        route, arguments = "unknown", {}
        for name, method, pattern in ROUTES:
            if method == self.command and (found := pattern.fullmatch(url.path)):
                route, arguments = (
                    name,
                    {key: unquote(value or "") for key, value in found.groupdict().items()},
                )
                break
        headers = {key.lower(): value for key, value in self.headers.items()}
        with hub.lock:
            hub.requests.append(Seen(route, self.command, self.path, headers))
            for fault in hub.faults:
                if fault.applies(route, url.path):
                    fault.times = None if fault.times is None else fault.times - 1
                    self.fault = fault
                    break
        self.body = self.read_body()
        if self.fault is not None and self.before(self.fault):
            return
        try:
            if route == "unknown":
                raise AnsweredError(404, message="Not Found")
            act: Callable[..., None] = getattr(self, "on_" + route.replace("-", "_"))
            act(**arguments)
        except AnsweredError as error:
            self.refuse(error)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def before(self, fault: Fault) -> bool:
        """Do what a fault asks for instead of answering; True if there is nothing left to do."""
        if fault.kind == "status":
            status, headers = fault.value if isinstance(fault.value, tuple) else (fault.value, {})
            self.send(
                status, b"<html>out of order</html>", {"Content-Type": "text/html", **headers}
            )
        elif fault.kind == "hang":
            self.server.hub.closing.wait(30)
            self.close_connection = True
        elif fault.kind == "reset":
            self.drop()
        elif fault.kind == "garbage":
            self.json(fault.value)
        elif fault.kind == "body":
            headers, body = fault.value
            self.send(200, body, headers)
        else:
            return False
        return True

    def drop(self) -> None:
        """Close so that the client sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionError("the client has gone in the middle of its request")
        return body

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        fault = self.fault
        if fault is not None and fault.kind == "lost":
            self.drop()
            return
        if fault is not None and fault.kind == "flip" and self.command == "GET":
            body = flipped(body, fault.value)
        if fault is not None and fault.kind == "short":
            body = body[: fault.value]
        if fault is not None and fault.kind == "etag":
            headers = {**headers, "ETag": fault.value, "X-Linked-Etag": fault.value}
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.kind == "cut":
            self.wfile.write(body[: fault.value])
            self.wfile.flush()
            self.close_connection = True
            return
        for begin in range(0, len(body), 1 << 20):
            self.wfile.write(body[begin : begin + (1 << 20)])

    def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.fault is not None and self.fault.kind == "rewrite":
            value = self.fault.value(value)
        self.send(
            status,
            json.dumps(value).encode(),
            {"Content-Type": "application/json", **(headers or {})},
        )

    def refuse(self, error: AnsweredError) -> None:
        headers = {"X-Error-Message": error.message}
        if error.code:
            headers["X-Error-Code"] = error.code
        self.json({"error": error.message}, error.status, headers)

    def user(self) -> tuple[str, ...] | None:
        """Who asks: a user with its organisations, or None without a token."""
        header = self.headers.get("Authorization")
        if header is None:
            return None
        user = self.server.hub.tokens.get(header.removeprefix("Bearer "))
        if user is None:
            raise AnsweredError(401, message="Invalid credentials in Authorization header")
        return user

    def repo(self, name: str, write: bool = False) -> Repo:
        user, repo = self.user(), self.server.hub.repos.get(name)
        if repo is None or (repo.private and repo.owner not in (user or ())):
            if user is None:
                raise AnsweredError(401, "RepoNotFound", "Invalid username or password.")
            raise AnsweredError(404, "RepoNotFound", "Repository not found")
        if write and user is None:
            raise AnsweredError(401, "RepoNotFound", "Invalid username or password.")
        if write and repo.owner not in user:
            raise AnsweredError(403, message="Forbidden: you must use a write token")
        return repo

    def at(self, repo: Repo, revision: str) -> str:
        sha = repo.resolve(revision)
        if sha is None:
            raise AnsweredError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def on_whoami(self) -> None:
        user = self.user()
        if user is None:
            raise AnsweredError(401, message="Invalid username or password.")
        self.json({"type": "user", "name": user[0], "orgs": [{"name": name} for name in user[1:]]})

    def on_yaml(self) -> None:
        self.json({"errors": [], "warnings": []})

    def on_create(self) -> None:
        user, asked, hub = self.user(), json.loads(self.body), self.server.hub
        if user is None:
            raise AnsweredError(401, message="Invalid username or password.")
        owner = asked.get("organization") or user[0]
        if owner not in user:
            raise AnsweredError(403, message=f"You may not create a model in namespace {owner!r}")
        name = f"{owner}/{asked['name']}"
        with hub.lock:
            exists = name in hub.repos
            if not exists:
                private = asked.get("visibility") == "private" or bool(asked.get("private"))
                repo = hub.repos[name] = Repo(name, owner, private)
                attributes = b"".join(b"*%s filter=lfs\n" % suffix.encode() for suffix in LARGE)
                oid = git_hash(attributes)
                hub.blobs[oid] = attributes
                entry = Entry(oid, len(attributes))
                repo.branches["main"] = repo.commit(
                    None, "initial commit", {".gitattributes": entry}
                )
        message = {"error": "You already created this model repo"} if exists else {}
        self.json({"url": f"{hub.url}/{name}", "name": name, **message}, 409 if exists else 200)

    def on_info(self, repo: str, revision: str = "main") -> None:
        found = self.repo(repo)
        sha = self.at(found, revision)
        siblings = []
        for name, entry in sorted(found.commits[sha].tree.items()):
            sibling: dict[str, Any] = {"rfilename": name}
            if "blobs" in self.query:
                sibling |= {"size": entry.size, "blobId": entry.oid}
                if entry.sha256:
                    sibling["lfs"] = {
                        "sha256": entry.sha256,
                        "size": entry.size,
                        "pointerSize": 134,
                    }
            siblings.append(sibling)
        self.json(
            {
                "_id": found.name,
                "id": found.name,
                "modelId": found.name,
                "author": found.owner,
                "sha": sha,
                "private": found.private,
                "gated": "auto" if found.gated else False,
                "disabled": False,
                "lastModified": WHEN,
                "createdAt": WHEN,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
            }
        )

    def on_tree(self, repo: str, revision: str, folder: str = "") -> None:
        found = self.repo(repo)
        names = sorted(found.commits[self.at(found, revision)].tree.items())
        begin, size = int(self.query.get("cursor", ["0"])[0]), 2
        page = [
            {"type": "file", "path": name, "oid": entry.oid, "size": entry.size}
            | (
                {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}}
                if entry.sha256
                else {}
            )
            for name, entry in names[begin : begin + size]
        ]
        path = (
            f"{self.server.hub.url}{urlsplit(self.path).path}?recursive=True&cursor={begin + size}"
        )
        self.json(
            page, headers={"Link": f'<{path}>; rel="next"'} if begin + size < len(names) else {}
        )

    def on_refs(self, repo: str) -> None:
        found = self.repo(repo)

        def listed(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": kind + name, "targetCommit": sha}
                for name, sha in sorted(refs.items())
            ]

        self.json(
            {
                "branches": listed("refs/heads/", found.branches),
                "tags": listed("refs/tags/", found.tags),
                "pullRequests": listed("", found.pulls),
                "converts": [],
            }
        )

    def on_tag(self, repo: str, revision: str) -> None:
        found, tag = self.repo(repo, write=True), json.loads(self.body)["tag"]
        sha = self.at(found, revision)
        if found.tags.setdefault(tag, sha) != sha:
            raise AnsweredError(409, message=f"Tag {tag} already exists")
        self.json({})

    def on_branch(self, repo: str, revision: str) -> None:
        found = self.repo(repo, write=True)
        if revision.startswith("refs/"):
            raise AnsweredError(400, message=f"Invalid branch name: {revision}")
        if revision in found.branches:
            raise AnsweredError(409, message=f"Reference already exists: {revision}")
        found.branches[revision] = self.at(
            found, json.loads(self.body).get("startingPoint", "main")
        )
        self.json({})

    def on_preupload(self, repo: str, revision: str) -> None:
        found = self.repo(repo, write=True)
        tree = found.commits[self.at(found, revision)].tree
        ignored = (
            self.server.hub.blobs[tree[".gitignore"].oid].decode().split()
            if ".gitignore" in tree
            else []
        )
        answer = []
        for file in json.loads(self.body)["files"]:
            path, entry = file["path"], tree.get(file["path"])
            mode = "lfs" if path.endswith(LARGE) or file["size"] > 10_000_000 else "regular"
            answer.append(
                {
                    "path": path,
                    "uploadMode": mode,
                    "shouldIgnore": path in ignored,
                    "oid": (entry.sha256 or entry.oid) if entry else None,
                }
            )
        self.json({"files": answer})

    def on_batch(self, repo: str) -> None:
        self.repo(repo, write=True)
        hub, objects = self.server.hub, []
        for item in json.loads(self.body)["objects"]:
            if item["oid"] not in hub.large:
                verify = f"{hub.url}/{repo}.git/info/lfs/verify"
                item["actions"] = {
                    "upload": {"href": f"{hub.cdn}/lfs/{item['oid']}?signature=1"},
                    "verify": {"href": verify},
                }
            objects.append(item)
        self.json({"transfer": "basic", "objects": objects})

    def on_lfs_put(self, sha256: str) -> None:
        fault = self.fault
        damaged = fault is not None and fault.kind == "flip"
        self.server.hub.large[sha256] = flipped(self.body, fault.value) if damaged else self.body
        self.send(200, b"", {"ETag": f'"{sha256}"'})

    def on_verify(self, repo: str) -> None:
        self.repo(repo, write=True)
        asked = json.loads(self.body)
        if len(self.server.hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise AnsweredError(422, message="Object size does not match")
        self.json({})

    def on_commit(self, repo: str, revision: str) -> None:
        found, hub = self.repo(repo, write=True), self.server.hub
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        with hub.lock:
            if revision not in found.branches and revision not in found.pulls:
                raise AnsweredError(404, "RevisionNotFound", f"{revision} is not a branch")
            head = self.at(found, revision)
            if header.get("parentCommit", head) != head:
                raise AnsweredError(
                    412, message="A commit has happened since. Please refresh and try again."
                )
            tree = dict(found.commits[head].tree)
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file":
                    content = base64.b64decode(value["content"])
                    oid = git_hash(content)
                    hub.blobs[oid] = content
                    tree[value["path"]] = Entry(oid, len(content))
                elif line["key"] == "lfsFile":
                    if value["oid"] not in hub.large:
                        raise AnsweredError(
                            400, message=f"LFS pointer to a missing file: {value['path']}"
                        )
                    sha256, size = value["oid"], value["size"]
                    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\n"
                    oid = git_hash(f"{pointer}size {size}\n".encode())
                    tree[value["path"]] = Entry(oid, size, sha256)
                elif line["key"] == "deletedFile":
                    del tree[value["path"]]
            sha = found.commit(head, header["summary"], tree)
            answer = {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"{hub.url}/{repo}/commit/{sha}",
            }
            if "create_pr" in self.query:
                number = len(found.pulls) + 1
                found.pulls[f"refs/pr/{number}"] = sha
                answer["pullRequestUrl"] = f"{hub.url}/{repo}/discussions/{number}"
            elif revision in found.pulls:
                found.pulls[revision] = sha
            else:
                found.branches[revision] = sha
        self.json(answer)

    def on_resolve(self, repo: str, revision: str, file: str) -> None:
        found, hub = self.repo(repo), self.server.hub
        sha = self.at(found, revision)
        user = self.user()
        if found.gated and not ({found.owner, *found.granted} & {*(user or ())}):
            raise AnsweredError(
                401 if user is None else 403, "GatedRepo", f"Access to model {repo} is restricted."
            )
        entry = found.commits[sha].tree.get(file)
        if entry is None:
            self.json(
                {"error": "Entry not found"},
                404,
                {
                    "X-Error-Code": "EntryNotFound",
                    "X-Error-Message": "Entry not found",
                    "X-Repo-Commit": sha,
                },
            )
            return
        etag = entry.sha256 or entry.oid
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if entry.sha256:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(entry.size)}
            self.send(
                302,
                b"",
                {**headers, "Location": f"{hub.cdn}/cdn/{entry.sha256}/{file}?signature=1"},
            )
        else:
            self.send_range(hub.blobs[entry.oid], headers)

    on_head = on_resolve

    def on_cdn(self, sha256: str, file: str) -> None:
        self.send_range(
            self.server.hub.large[sha256], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        )

    def send_range(self, content: bytes, headers: dict[str, str]) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            self.send(200, content, {"Content-Type": "application/octet-stream", **headers})
            return
        begin, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
        if begin >= len(content):
            raise AnsweredError(416, message="Range not satisfiable")
        part = {"Content-Range": f"bytes {begin}-{end}/{len(content)}"}
        self.send(206, content[begin : end + 1], {**headers, **part})


def git_hash(content: bytes) -> str:
    """The id git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def flipped(content: bytes, index: int) -> bytes:
    """The content with one bit of one byte changed."""
    if not content:
        return content
    index %= len(content)
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def main() -> None:
    """Serve until interrupted, for a look with the client by hand."""
    with HubServer() as hub:
        hub.add_token("hf_" + "a" * 34, "me")
        print(f"HF_ENDPOINT={hub.url} HF_TOKEN={'hf_' + 'a' * 34} HF_HUB_DISABLE_XET=1")
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
