"""Whatever a Hub answers: the checkpoint that it states, or one sentence; soon, and nowhere else.

The faults of test_faults.py are a Hub's bad days; these are the answers of one that means harm.
"""

import json
import re
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.hub.conftest import FILES, REQUIRED, TOKEN, content, write_checkpoint
from tests.hub.server import HubServer
from tests.watch import bounded, watched
from zoo.checkpoints.card import write_card
from zoo.hub import HubError, pull, push
from zoo.models import VAE

SECONDS = 3.0
ROOM = 2**28  # address space; a stack of the server's thread is 2**23
HEX = "0123456789abcdef" * 4
Rewrite = Callable[[dict[str, Any]], Any]


@pytest.fixture
def there(hub: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository `org/vae` that holds the folder; a first pull has imported all it needs."""
    push(folder, "org/vae", files=FILES, token=TOKEN)
    pull("org/vae", files=FILES, cache_dir=tmp_path / "first")
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


NONSENSE, TWICE = (
    "makes no sense",
    r"not what its commit states|Consistency check failed|makes no sense",
)
LISTS = {
    # what is said, and what comes of it: None if the checkpoint all the same
    "names that climb": (more("../../x", "../config.json", "a/../../x", "..", "."), None),
    "names from the root": (more("/etc/passwd", "/config.json", "//x", "C:\\x", "\\\\x"), None),
    "odd names": (more("", "\0", "a\nb", "\x1b[2J", "config.json\0", "x" * 10**5), None),
    "folders": (more("sub/config.json", "config.json/", "./config.json"), None),
    "10,000 files": (more(*(f"{i}.bin" for i in range(10_000))), None),
    "names that are none": (more(None, 1, 1.5), None),
    "a name that is a list": (more(["config.json"]), NONSENSE),
    "a name that is an object": (more({}), NONSENSE),
    "no files": (with_(siblings=[]), "has no file config.json"),
    "no list": (without("siblings"), "has no file config.json"),
    "no weights": (with_only("config.json", "README.md"), r"has no file model\.safetensors"),
    "without a hash": (lfs(sha256=...), NONSENSE),
    "without lfs": (file(lfs=...), TWICE),
    "lfs null": (file(lfs=None), TWICE),
    "lfs empty": (file(lfs={}), TWICE),
    "lfs a list": (file(lfs=[1]), NONSENSE),
    "neither": (file(lfs=..., blobId=..., size=...), "has no file"),
    "hash of another": (lfs(sha256=HEX), "not what its commit states|Consistency check failed"),
    "hash short": (lfs(sha256=HEX[:63]), TWICE),
    "hash in capitals": (lfs(sha256=HEX.upper()), TWICE),
    "hash that climbs": (lfs(sha256="../" * 20 + "etc/passwd"), TWICE),
    "hash a list": (lfs(sha256=[HEX]), TWICE),
    "commit that climbs": (with_(sha="../../x"), NONSENSE),
    "commit with a newline": (with_(sha=HEX[:40] + "\n"), NONSENSE),
    "commit short": (with_(sha=HEX[:39]), NONSENSE),
    "commit of a list": (with_(sha=[HEX[:40]]), NONSENSE),
    "no commit": (without("sha"), NONSENSE),
    "commit that there is not": (with_(sha=HEX[:40]), "refuses org|has no revision"),
    "another name": (with_(id="../../x", modelId="/etc/passwd", _id="\0"), None),
    "deep": (with_(cardData=json.loads("[" * 500 + "]" * 500)), None),
}


@pytest.mark.parametrize(("rewrite", "says"), [pytest.param(*c, id=n) for n, c in LISTS.items()])
def test_hostile_list(
    hub: HubServer, there: Path, tmp_path: Path, rewrite: Rewrite, says: str | None
) -> None:
    hub.fault("rewrite", "info", times=None, value=rewrite)
    sentence = attempt(there, tmp_path)
    assert re.search(says, sentence) if says else not sentence


# --- what comes in place of an answer ------------------------------------------------------------


def redirect(to: str, status: int = 302) -> tuple[int, dict[str, str]]:
    return status, {"Location": to}


JSON = {"Content-Type": "application/json"}
LATER = "does not answer or breaks off"
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
    "html for weights": (
        "body",
        "cdn",
        ({}, b"<html>log in"),
        "not what its commit states|Consistency check failed",
    ),
    "nothing at all": (
        "body",
        "cdn",
        ({}, b""),
        "not what its commit states|Consistency check failed",
    ),
    "no content": (
        "status",
        "cdn",
        (204, {"Content-Length": "0"}),
        "not what its commit states|Consistency check failed|breaks off",
    ),
    "not modified": (
        "status",
        "cdn",
        (304, {}),
        "not what its commit states|Consistency check failed|breaks off",
    ),
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
            if kind in ("status", "garbage", "rewrite"):
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
