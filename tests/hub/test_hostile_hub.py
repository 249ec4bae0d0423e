"""Whatever a Hub answers: the checkpoint that it states, or one sentence; soon, and nowhere else.

The faults of test_faults.py are a Hub's bad days; these are the answers of one that means harm.
"""

import gzip
import json
import re
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import zoo
from tests.hub.conftest import FILES, REQUIRED, TOKEN, content, write_checkpoint
from tests.hub.server import HubServer
from tests.watch import bounded, watched
from zoo.checkpoints.card import write_card
from zoo.checkpoints.files import sha256
from zoo.hub import HubError, client, limits, pull, push
from zoo.models import VAE

SECONDS = 3.0
ROOM = 2**28  # address space; a stack of the server's thread is 2**23
HEX = "0123456789abcdef" * 4
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "\0",
    "x" * 10**5,
    [],
    [[]],
    {},
    {"a": {}},
)
Rewrite = Callable[[dict[str, Any]], Any]


@pytest.fixture
def there(hub: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository `org/vae` that holds the folder; a first pull has imported all it needs."""
    push(folder, "org/vae", files=FILES, token=TOKEN)
    pull("org/vae", files=FILES, cache_dir=tmp_path / "first")
    monkeypatch.setattr(limits, "PATIENCE", 0.6)
    hub.requests.clear()
    return folder


def attempt(folder: Path, tmp_path: Path, name: str = "cache", token: str | None = None) -> str:
    """Pull what a hostile Hub offers; the sentence that it ends with, none if it is whole."""
    cache = tmp_path / name

    def elsewhere() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if cache not in path.parents}

    before, sentence = elsewhere() | {cache}, ""
    with watched(tmp_path, connects=True) as seen, bounded(SECONDS, ROOM):
        try:
            got = pull("org/vae", files=FILES, required=REQUIRED, cache_dir=cache, token=token)
        except HubError as error:
            sentence = str(error)
    assert elsewhere() <= before
    assert not seen
    assert not list(cache.rglob("*.part"))
    if sentence:
        assert sentence.isprintable()
        assert len(sentence) < 500
        with pytest.raises(HubError, match="not in the cache"):  # half a checkpoint is none
            pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
    else:
        assert content(got) == content(folder)
        assert got.parent == cache / "models--org--vae" / "snapshots"
    return sentence


# --- the list of files ---------------------------------------------------------------------------


def file(**changes: Any) -> Rewrite:
    """The weights described in another way; `...` leaves a key out."""

    def rewrite(info: dict[str, Any]) -> Any:
        for sibling in info["siblings"]:
            if sibling["rfilename"] == "model.safetensors":
                sibling |= changes
                for key in [key for key, value in sibling.items() if value is ...]:
                    del sibling[key]
        return info

    return rewrite


def lfs(**changes: Any) -> Rewrite:
    """The same, for what is said of its content."""

    def rewrite(info: dict[str, Any]) -> Any:
        for sibling in info["siblings"]:
            if "lfs" in sibling:
                sibling["lfs"] |= changes
                for key in [key for key, value in sibling["lfs"].items() if value is ...]:
                    del sibling["lfs"][key]
        return info

    return rewrite


def more(*names: Any) -> Rewrite:
    """Further files, each said to be the configuration."""

    def rewrite(info: dict[str, Any]) -> Any:
        (config,) = (s for s in info["siblings"] if s["rfilename"] == "config.json")
        info["siblings"] += [{**config, "rfilename": name} for name in names]
        return info

    return rewrite


def with_(**changes: Any) -> Rewrite:
    return lambda info: info | changes


def with_only(*names: str) -> Rewrite:
    return lambda info: {
        **info,
        "siblings": [s for s in info["siblings"] if s["rfilename"] in names],
    }


def without(key: str) -> Rewrite:
    return lambda info: {k: v for k, v in info.items() if k != key}


NONSENSE, TWICE = "makes no sense", r"arrived twice|makes no sense"
LISTS = {
    # what is said, and what comes of it: None if the checkpoint all the same
    "names that climb": (more("../../x", "../config.json", "a/../../x", "..", "."), None),
    "names from the root": (more("/etc/passwd", "/config.json", "//x", "C:\\x", "\\\\x"), None),
    "odd names": (more("", "\0", "a\nb", "\x1b[2J", "config.json\0", "x" * 10**5), None),
    "folders": (more("sub/config.json", "config.json/", "./config.json"), None),
    "10,000 files": (more(*(f"{i}.bin" for i in range(10_000))), None),
    "a file twice": (more("config.json"), NONSENSE),
    "the weights twice, once wrong": (more("model.safetensors"), NONSENSE),
    "names that are none": (more(None, 1, 1.5), None),
    "a name that is a list": (more(["config.json"]), NONSENSE),
    "a name that is an object": (more({}), NONSENSE),
    "no files": (with_(siblings=[]), "has no file config.json"),
    "no list": (without("siblings"), "has no file config.json"),
    "no weights": (with_only("config.json", "README.md"), r"has no file model\.safetensors"),
    "smaller": (lfs(size=1000), None),
    "larger": (lfs(size=10**6), None),
    "empty": (lfs(size=0), None),
    "larger than the disk": (lfs(size=10**18), None),
    "of negative size": (lfs(size=-1), NONSENSE),
    "of size 10**400": (lfs(size=10**400), None),
    "of size 1.5": (lfs(size=1.5), NONSENSE),
    "of size '9'": (lfs(size="9"), NONSENSE),
    "of size null": (lfs(size=None), NONSENSE),
    "of size true": (lfs(size=True), NONSENSE),
    "without a size": (lfs(size=...), NONSENSE),
    "without a hash": (lfs(sha256=...), NONSENSE),
    "without lfs": (file(lfs=...), TWICE),
    "lfs null": (file(lfs=None), TWICE),
    "lfs empty": (file(lfs={}), TWICE),
    "lfs a list": (file(lfs=[1]), NONSENSE),
    "neither": (file(lfs=..., blobId=..., size=...), NONSENSE),
    "hash of another": (lfs(sha256=HEX), "arrived twice"),
    "hash short": (lfs(sha256=HEX[:63]), NONSENSE),
    "hash in capitals": (lfs(sha256=HEX.upper()), NONSENSE),
    "hash that climbs": (lfs(sha256="../" * 20 + "etc/passwd"), NONSENSE),
    "hash from the root": (lfs(sha256="/etc/passwd"), NONSENSE),
    "hash of 64 dots": (lfs(sha256="." * 64), NONSENSE),
    "hash with a newline": (lfs(sha256=HEX[:63] + "\n"), NONSENSE),
    "hash and newline": (lfs(sha256=HEX + "\n"), NONSENSE),
    "hash in other digits": (lfs(sha256="\u0661" * 64), NONSENSE),
    "hash a list": (lfs(sha256=[HEX]), NONSENSE),
    "commit that climbs": (with_(sha="../../x"), NONSENSE),
    "commit from the root": (with_(sha="/tmp/x"), NONSENSE),
    "commit of 40 dots": (with_(sha="." * 40), NONSENSE),
    "commit with a newline": (with_(sha=HEX[:40] + "\n"), NONSENSE),
    "commit in capitals": (with_(sha=HEX[:40].upper()), NONSENSE),
    "commit short": (with_(sha=HEX[:39]), NONSENSE),
    "commit of a list": (with_(sha=[HEX[:40]]), NONSENSE),
    "no commit": (without("sha"), NONSENSE),
    "commit that there is not": (with_(sha=HEX[:40]), "refuses to pull|has no revision"),
    "another name": (with_(id="../../x", modelId="/etc/passwd", _id="\0"), None),
    "deep": (with_(cardData=json.loads("[" * 500 + "]" * 500)), None),
    "keyword": (with_(self=1, cls=2, kwargs={}), NONSENSE),
}


@pytest.mark.parametrize(("rewrite", "says"), [pytest.param(*c, id=n) for n, c in LISTS.items()])
def test_hostile_list(
    hub: HubServer, there: Path, tmp_path: Path, rewrite: Rewrite, says: str | None
) -> None:
    hub.fault("rewrite", "info", times=None, value=rewrite)
    sentence = attempt(there, tmp_path)
    assert re.search(says, sentence) if says else not sentence


OTHERS = [
    *("_id", "id", "modelId", "author", "gated", "disabled", "lastModified", "createdAt"),
    *("downloads", "likes", "tags", "cardData", "model-index", "config", "transformersInfo"),
    *("safetensors", "securityStatus", "inferenceProviderMapping", "spaces"),
]


@pytest.mark.parametrize("fields", [["sha"], ["siblings"], ["private"], OTHERS], ids=lambda f: f[0])
def test_fields_of_another_type(
    hub: HubServer, there: Path, tmp_path: Path, fields: list[str]
) -> None:
    """What is looked at, by the client too, has to make sense."""
    for number, value in enumerate(ODD):
        changes = dict.fromkeys(fields, value)
        fault = hub.fault("rewrite", "info", times=None, value=with_(**changes))
        sentence = attempt(there, tmp_path, f"{number}")
        fault.times = 0
        if fields[0] in ("sha", "siblings"):
            assert re.search(r"makes no sense|has no file", sentence)
        elif fields[0] == "private":
            assert not sentence
        else:
            assert not sentence or "makes no sense" in sentence


# --- what comes in place of an answer ------------------------------------------------------------

MEGABYTE = bytes(2**20)
GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
DEFLATE = {"Content-Type": "application/json", "Content-Encoding": "deflate"}


def bomb(size: int) -> bytes:
    """Zeros, packed a thousandfold, inside a JSON text."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b'{"sha": "')]
    parts += [packer.compress(MEGABYTE.replace(b"\0", b"0")) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(b'"}'), packer.flush()])


def redirect(to: str, status: int = 302) -> tuple[int, dict[str, str]]:
    return status, {"Location": to}


JSON = {"Content-Type": "application/json"}
LATER = "does not answer|cannot be reached"
ELSEWHERE = {"X-Repo-Commit": "../../x", "X-Linked-ETag": '"/tmp/x"', "ETag": '"../../../x"'}
ANSWERS: dict[str, tuple[str, str, Any, str]] = {
    "html": ("body", "info", ({"Content-Type": "text/html"}, b"<html>hello"), NONSENSE),
    "nothing": ("body", "info", (JSON, b""), NONSENSE),
    "not utf-8": ("body", "info", (JSON, b'{"sha": "\xff"}'), NONSENSE),
    "python": ("body", "info", (JSON, b"__import__('os').system('true')"), NONSENSE),
    "a number": ("garbage", "info", 1, NONSENSE),
    "a text": ("garbage", "info", "x", NONSENSE),
    "null": ("garbage", "info", None, NONSENSE),
    "a list": ("garbage", "info", [{"sha": HEX[:40], "siblings": []}], NONSENSE),
    "brackets": ("body", "info", (JSON, b"[" * 10**5), NONSENSE),
    "objects": ("body", "info", (JSON, b'{"siblings":' * 10**5), NONSENSE),
    "5,000 digits": ("body", "info", (JSON, b'{"sha": ' + b"1" * 5000 + b"}"), NONSENSE),
    "100 MB": ("body", "info", (JSON, b'{"sha": "' + bytes(10**8) + b'"}'), NONSENSE),
    "without end": ("endless", "info", (200, JSON, b" " * 65536), NONSENSE),
    "gzip bomb": ("body", "info", (GZIP, bomb(2**29)), NONSENSE),
    "no gzip": ("body", "info", (GZIP, b"{}"), NONSENSE),
    "gzip without end": ("endless", "info", (200, GZIP, gzip.compress(MEGABYTE)), NONSENSE),
    "deflate bomb": ("body", "info", (DEFLATE, zlib.compress(bytes(2**28), 9)), NONSENSE),
    "brotli": ("body", "info", ({**JSON, "Content-Encoding": "br, zstd"}, b"{}"), NONSENSE),
    "drip": ("drip", "info", 0.05, LATER),
    "error without end": ("endless", "info", (404, JSON, b" " * 65536), NONSENSE),
    "error of odd JSON": ("endless", "info", (403, GZIP, bomb(2**20)), NONSENSE),
    "outage without end": ("endless", "info", (503, JSON, b" " * 65536), NONSENSE),
    "header without end": ("status", "info", (200, {"X-Long": "x" * 10**6}), LATER),
    "file without end": ("endless", "resolve", (200, {}, bytes(65536)), "arrived twice"),
    "weights without end": ("endless", "cdn", (200, {}, bytes(65536)), "arrived twice"),
    "error of a file without end": ("endless", "cdn", (403, {}, b" " * 65536), "arrived twice"),
    "part without end": ("endless", "cdn", (206, {}, bytes(65536)), "arrived twice"),
    "packed weights": ("body", "cdn", (GZIP, bomb(2**29)), "arrived twice"),
    "packed file": ("body", "resolve", (GZIP, bomb(2**29)), "arrived twice"),
    "html for weights": ("body", "cdn", ({}, b"<html>log in"), "arrived twice"),
    "weights that drip": ("drip", "cdn", 0.05, LATER),
    "file that drips": ("drip", "resolve", 0.05, LATER),
    "a byte at a time": ("cut", "cdn", 1, LATER),
    "nothing at all": ("body", "cdn", ({}, b""), "arrived twice"),
    "no content": ("status", "cdn", (204, {"Content-Length": "0"}), "arrived twice|breaks off"),
    "not modified": ("status", "cdn", (304, {}), "arrived twice|breaks off"),
    "a place elsewhere": ("status", "head", (200, ELSEWHERE), "arrived twice"),
    "a place without end": ("status", "head", (200, {"X-Long": "x" * 10**6}), LATER),
    "wrong length": ("body", "cdn", ({"Content-Length": "-1"}, b"x"), LATER),
    "two lengths": ("body", "cdn", ({"Content-Length": "1, 2"}, b"xy"), LATER),
}


@pytest.mark.parametrize(
    ("kind", "route", "value", "says"), [pytest.param(*a, id=n) for n, a in ANSWERS.items()]
)
def test_hostile_answer(
    hub: HubServer, there: Path, tmp_path: Path, kind: str, route: str, value: Any, says: str
) -> None:
    hub.fault(kind, route, times=None, value=value)
    begun = time.monotonic()
    assert re.search(says, attempt(there, tmp_path))
    assert time.monotonic() - begun < SECONDS
    assert hub.sent < 2**26  # what is read of an answer without an end is little


# --- to where a request is sent, and what with ----------------------------------------------------

REDIRECTS = (
    "{hub}{path}",  # to itself, for ever
    "{cdn}/steal",
    "{other}/steal",
    "//{netloc}/steal",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "data:application/json,{{}}",
    "javascript:alert(1)",
    "gopher://127.0.0.1:9/x",
    "http://",
    "http://[::1",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:9/steal",
    "http://user:password@{netloc}/steal",
    "",
    "\\\\evil\\x",
    "x" * 10**4,
)


@pytest.mark.parametrize("to", REDIRECTS, ids=lambda to: to[:30])
@pytest.mark.parametrize("route", ["info", "head", "resolve", "cdn"])
def test_the_token_follows_no_redirect(
    hub: HubServer, there: Path, tmp_path: Path, route: str, to: str
) -> None:
    path = "/api/models/org/vae" if route == "info" else "/org/vae/resolve/main/config.json"
    netloc = hub.cdn.removeprefix("http://")
    other = hub.url.replace("127.0.0.1", "localhost")
    to = to.format(hub=hub.url, path=path, cdn=hub.cdn, netloc=netloc, other=other)
    hub.fault("status", route, times=None, value=redirect(to))
    with hub.watched() as seen:
        sentence = attempt(there, tmp_path, token=TOKEN)
    assert sentence
    assert "password" not in sentence
    own = hub.url.removeprefix("http://")
    assert any("authorization" in request.headers for request in seen)
    for request in seen:
        if request.headers["host"] != own or request.route == "cdn":
            assert TOKEN not in str(request)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_does_not_come_back(
    hub: HubServer, there: Path, tmp_path: Path, status: int
) -> None:
    """Sent elsewhere and from there back here, a request still carries none."""
    back = f"{hub.url}/org/vae/resolve/main/config.json"
    hub.fault("status", "info", times=None, value=redirect(f"{hub.cdn}/cdn/{HEX}/x", status))
    hub.fault("status", "cdn", times=None, value=redirect(back, status))
    with hub.watched() as seen:
        assert attempt(there, tmp_path, token=TOKEN)
    assert [TOKEN in str(request) for request in seen[:3]] == [True, False, False]


def test_a_place_is_asked_for_once(
    hub: HubServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would ask again, and once it cannot connect in a session without limits."""
    monkeypatch.setattr(limits, "RETRIES", 0)
    hub.fault("hang", "head", times=None)
    with hub.watched() as seen:
        assert "cannot be reached" in attempt(there, tmp_path)
    assert [request.route for request in seen] == ["info", "head"]


def test_the_session_is_as_it_was(hub: HubServer, there: Path, tmp_path: Path) -> None:
    """Also after a pull and a push that fail."""
    session = huggingface_hub.get_session()
    before = session.event_hooks, session.timeout
    hub.fault("status", "cdn", times=None, value=500)
    hub.fault("status", "commit", times=None, value=500)
    assert attempt(there, tmp_path)
    with pytest.raises(HubError):
        push(write_checkpoint(there, seed=1), "org/vae", files=FILES, token=TOKEN)
    assert (session.event_hooks, session.timeout) == before


def test_what_others_ask_meanwhile_is_not_limited(
    hub: HubServer, there: Path, tmp_path: Path
) -> None:
    """A pull's limits are for its own thread."""
    files = []

    def download() -> None:
        name, cache = "model.safetensors", tmp_path / "theirs"
        files.append(
            huggingface_hub.hf_hub_download("org/vae", name, cache_dir=cache, endpoint=hub.url)
        )

    hub.fault("status", "cdn", value=429)  # which the client meets by itself
    with client.limited(1000, "0" * 40, "1" * 64):
        thread = threading.Thread(target=download)
        thread.start()
        thread.join()
    assert Path(files[0]).read_bytes() == content(there)["model.safetensors"]
    assert Path(files[0]).resolve().name == sha256(there / "model.safetensors")


def test_without_a_token_none_is_sent(
    hub: HubServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where one is asked for, and with False not the one that is logged in."""
    asked = (401, {"WWW-Authenticate": 'Basic realm="x"'})
    hub.fault("status", "info", match="org/other", times=None, value=asked)
    with hub.watched() as seen:
        attempt(there, tmp_path)
        with pytest.raises(HubError):
            pull("org/other", files=FILES, cache_dir=tmp_path / "other")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        pull("org/vae", files=FILES, cache_dir=tmp_path / "false", token=False)
    assert len(seen) > 6
    assert not [r for r in seen if {"authorization", "cookie"} & r.headers.keys()]


def test_a_token_is_told_to_nobody(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in a log, an error, a warning, a card, nor any file, however a pull or push ends."""
    caplog.set_level("DEBUG")
    monkeypatch.setattr(limits, "PATIENCE", 0.3)
    folder = tmp_path / "vae-tiny"
    VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(5,)).save_pretrained(folder)
    write_card(folder)
    said: list[BaseException] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        push(folder, "org/vae-tiny", files=FILES, token=TOKEN)
        model = zoo.from_pretrained(
            "org/vae-tiny", revision="main", token=TOKEN, cache_dir=str(tmp_path / "cache")
        )
        model.save_pretrained(tmp_path / "copy")
        write_card(tmp_path / "copy", handle="org/vae-tiny")
        model.push_to_hub("org/vae-other", token=TOKEN)
        write_checkpoint(folder, seed=1)
        for number, (kind, route, value, _) in enumerate(ANSWERS.values()):
            if kind in ("status", "garbage", "rewrite") or "without end" in str(value):
                fault = hub.fault(kind, route, times=None, value=value)
                here = tmp_path / f"cache{number}"
                for call in (
                    partial(pull, "org/vae-tiny", files=FILES, cache_dir=here, token=TOKEN),
                    partial(push, folder, "org/vae-tiny", files=FILES, token=TOKEN),
                ):
                    try:
                        call()
                    except HubError as error:
                        said.append(error)
                fault.times = 0
    assert len(said) > 5
    out = capfd.readouterr()
    texts = ["".join(traceback.format_exception(error)) for error in said]
    texts += [str(warning.message) for warning in warned]
    texts += [record.getMessage() for record in caplog.records]
    texts += [caplog.text, out.out, out.err]
    assert len(caplog.records) > 20
    assert not [text for text in texts if TOKEN in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_warnings_of_the_hub_are_not_passed_on(
    hub: HubServer, there: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client logs what a Hub says in a header, which may be anything, such as the token."""
    caplog.set_level("INFO")
    for route in ("info", "resolve", "cdn", "preupload", "commit"):
        echo = {"X-HF-Warning": f"{route}; you sent Bearer {TOKEN} \x1b[2J"}
        hub.fault("status", route, value=(503, echo))
    assert not attempt(there, tmp_path, token=TOKEN)
    push(write_checkpoint(there, seed=1), "org/vae", files=FILES, token=TOKEN)
    assert not [fault for fault in hub.faults if fault.times]
    assert TOKEN not in caplog.text
    assert "\x1b" not in caplog.text
