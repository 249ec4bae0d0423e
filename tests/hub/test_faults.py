"""Whatever breaks on the way: the right checkpoint or one clear sentence, never another checkpoint.

Every fault meets an empty cache and one that holds an older commit, which must not stand in.
"""

import errno
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from huggingface_hub import constants, file_download

from tests.hub.conftest import (
    FILES,
    OTHER,
    REQUIRED,
    TOKEN,
    content,
    set_endpoint,
    set_timeouts,
    write_checkpoint,
)
from tests.hub.server import HubServer, flipped
from zoo.checkpoints.files import sha256
from zoo.hub import HubError, pull, push, upload

ALWAYS = None

# kind, route, times, value, what happens: None if the pull succeeds all the same
PULL_FAULTS = [
    pytest.param(*fault, id="-".join(map(str, fault[:3])))
    for fault in [
        ("status", "info", 1, 500, None),
        ("status", "info", 1, 503, None),
        ("status", "info", ALWAYS, 500, r"refuses org/vae \(50[03]"),
        ("status", "info", ALWAYS, 503, r"refuses org/vae \(50[03]"),
        ("status", "resolve", 1, 500, None),
        ("status", "resolve", ALWAYS, 503, r"refuses org/vae \(50[03]"),
        ("status", "head", 1, 503, None),
        ("status", "head", ALWAYS, 503, r"refuses org/vae \(50[03]"),
        ("status", "head", 1, (429, {"Retry-After": "0"}), None),
        ("status", "head", ALWAYS, (429, {"Retry-After": "86400"}), r"refuses org/vae \(429"),
        ("hang", "head", 1, None, None),
        ("reset", "head", 1, None, None),
        ("reset", "head", ALWAYS, None, "does not answer or breaks off"),
        ("status", "cdn", 1, 503, None),
        ("status", "cdn", ALWAYS, 500, r"refuses org/vae \(50[03]"),
        ("status", "info", 1, (429, {"Retry-After": "0"}), None),
        ("status", "cdn", 1, (429, {"Retry-After": "0"}), None),
        ("status", "info", ALWAYS, (429, {"Retry-After": "0"}), r"refuses org/vae \(429"),
        ("status", "resolve", ALWAYS, (429, {"Retry-After": "86400"}), r"refuses org/vae \(429"),
        ("hang", "info", 1, None, None),
        ("hang", "cdn", 1, None, None),
        ("hang", "info", ALWAYS, None, "does not answer"),
        ("hang", "resolve", ALWAYS, None, "does not answer"),
        ("reset", "info", 1, None, None),
        ("reset", "info", ALWAYS, None, "does not answer or breaks off"),
        ("reset", "cdn", 1, None, None),
        ("reset", "cdn", ALWAYS, None, "does not answer or breaks off"),
        ("cut", "cdn", 1, 70_000, None),
        ("cut", "cdn", 3, 70_000, None),
        ("cut", "cdn", ALWAYS, 0, "does not answer or breaks off"),
        ("cut", "resolve", 1, 10, None),
        ("cut", "info", ALWAYS, 10, "does not answer or breaks off"),
        ("short", "cdn", 1, 1000, None),
        ("short", "cdn", ALWAYS, 1000, "Consistency check failed"),
        ("short", "resolve", ALWAYS, 10, r"Consistency check failed|not what its commit states"),
        ("flip", "cdn", 1, 150_000, None),
        ("flip", "cdn", ALWAYS, 150_000, r"model\.safetensors .* not what its commit states"),
        ("flip", "resolve", 1, 20, None),
        ("flip", "resolve", ALWAYS, 20, r"\.(json|md) .* not what its commit states"),
        ("etag", "resolve", ALWAYS, '"' + "0" * 40 + '"', None),
        ("etag", "cdn", ALWAYS, '"../../escape"', None),
        ("etag", "head", ALWAYS, '"' + "0" * 40 + '"', "not what its commit states"),
        ("etag", "head", ALWAYS, '"../../../escape"', "not what its commit states"),
        ("garbage", "info", ALWAYS, [], "makes no sense"),
        ("garbage", "info", ALWAYS, {"id": "org/vae", "sha": "../../x"}, "makes no sense"),
        ("status", "cdn", ALWAYS, 403, "refuses org/vae"),
        ("status", "resolve", ALWAYS, 404, "refuses org/vae"),
    ]
]


@pytest.mark.parametrize(("kind", "route", "times", "value", "sentence"), PULL_FAULTS)
def test_pull(
    hub: HubServer,
    folder: Path,
    tmp_path: Path,
    kind: str,
    route: str,
    times: int | None,
    value: Any,
    sentence: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = push(folder, "org/vae", files=FILES, token=TOKEN)
    before, empty, older = content(folder), tmp_path / "empty", tmp_path / "older"
    pull("org/vae", files=FILES, cache_dir=older)
    write_checkpoint(folder, seed=1)
    (folder / "README.md").write_text("# Newer\n")
    push(folder, "org/vae", files=FILES, token=TOKEN, keep_readme=False)
    set_timeouts(monkeypatch, 0.1 if kind == "hang" else 2.0)
    for cache in (empty, older):
        fault = hub.fault(kind, route, times=times, value=value)
        begun = time.monotonic()
        if sentence is None:
            got = pull("org/vae", files=FILES, required=REQUIRED, cache_dir=cache)
            assert content(got) == content(folder)
            assert fault.times in (0, ALWAYS)
        else:
            with pytest.raises(HubError, match=sentence) as error:
                pull("org/vae", files=FILES, required=REQUIRED, cache_dir=cache)
            assert error.value.__cause__ is None
            assert "\n" not in str(error.value)
        assert time.monotonic() - begun < 3
        offline = partial(pull, "org/vae", files=FILES, cache_dir=cache, local_files_only=True)
        if sentence and cache == older:  # offline it is `main` still, and was not tampered with
            assert content(offline()) == content(offline(revision=old.commit)) == before
        elif sentence:
            with pytest.raises(HubError, match="not in the cache"):
                offline()
        fault.times = 0
        got = pull("org/vae", files=FILES, cache_dir=cache)
        assert content(got) == content(offline()) == content(folder)
        assert not list(cache.rglob("*.part"))


# kind, route, times, value, what happens: None if the push succeeds all the same
PUSH_FAULTS = [
    pytest.param(*fault, id="-".join(map(str, fault[:3])))
    for fault in [
        *(("status", route, 1, 500, None) for route in ("info", "preupload", "batch", "commit")),
        *(("status", route, 1, 503, None) for route in ("create", "lfs-put", "verify")),
        *(
            ("status", route, ALWAYS, 503, r"refuses org/vae \(50[03]")
            for route in ("info", "create", "preupload", "batch", "lfs-put", "commit")
        ),
        ("status", "verify", ALWAYS, 503, r"refuses org/vae \(503"),
        ("status", "yaml", 1, 503, "makes no sense"),
        ("status", "commit", 1, (429, {"Retry-After": "0"}), None),
        ("status", "lfs-put", 1, (429, {"Retry-After": "0"}), None),
        ("status", "preupload", ALWAYS, (429, {"Retry-After": "0"}), r"refuses org/vae \(429"),
        ("status", "batch", ALWAYS, (429, {"Retry-After": "86400"}), r"refuses org/vae \(429"),
        ("status", "commit", ALWAYS, (429, {"Retry-After": "86400"}), r"refuses org/vae \(429"),
        ("hang", "info", 1, None, None),
        *(("reset", route, 1, None, None) for route in ("create", "preupload", "lfs-put")),
        *(("reset", route, ALWAYS, None, "breaks off") for route in ("create", "commit")),
        ("cut", "preupload", 1, 10, None),
        ("cut", "commit", 1, 10, None),
        *(("lost", route, 1, None, None) for route in ("create", "lfs-put", "verify", "commit")),
        ("garbage", "preupload", ALWAYS, [], "makes no sense"),
        ("garbage", "batch", ALWAYS, {}, "makes no sense"),
        ("status", "lfs-put", ALWAYS, 403, "refuses org/vae"),
        ("status", "commit", ALWAYS, 403, "refuses org/vae"),
    ]
]


@pytest.mark.parametrize(("kind", "route", "times", "value", "sentence"), PUSH_FAULTS)
def test_push(
    hub: HubServer,
    folder: Path,
    cache: Path,
    kind: str,
    route: str,
    times: int | None,
    value: Any,
    sentence: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_timeouts(monkeypatch, 0.1 if kind == "hang" else 2.0)
    fault = hub.fault(kind, route, times=times, value=value)
    begun = time.monotonic()
    if sentence is None:
        result = push(folder, "org/vae", files=FILES, token=TOKEN)
        assert result.changed
        assert fault.times in (0, ALWAYS)
    else:
        with pytest.raises(HubError, match=sentence) as error:
            push(folder, "org/vae", files=FILES, token=TOKEN)
        assert error.value.__cause__ is None
        assert "\n" not in str(error.value)
        assert "org/vae" not in hub.repos or len(hub.history("org/vae")) == 1
        fault.times = 0
        result = push(folder, "org/vae", files=FILES, token=TOKEN)
    assert time.monotonic() - begun < 6
    assert hub.history("org/vae")[0] == result.commit
    assert len(hub.history("org/vae")) == 2
    assert not push(folder, "org/vae", files=FILES, token=TOKEN).changed
    assert content(pull("org/vae", files=FILES, cache_dir=cache)) == content(folder)


def test_a_pull_goes_on_where_it_broke_off(
    hub: HubServer, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the last of the client's chunks, of 10 MiB, that was complete."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    push(folder, "org/vae", files=FILES, token=TOKEN)
    hub.fault("cut", "cdn", times=2, value=100_000)
    with hub.watched() as seen:
        pull("org/vae", files=FILES, cache_dir=cache)
    ranges = [request.headers.get("range") for request in seen if request.route == "cdn"]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_a_push_that_meets_another_comes_after_it(
    hub: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    theirs = write_checkpoint(tmp_path / "theirs", seed=1)
    ours = write_checkpoint(tmp_path / "ours", seed=2)
    look, looked = upload.state, []

    def meanwhile(*args: Any) -> Any:
        found = look(*args)
        if not looked:  # between the look and the commit
            looked.append(True)
            repo = hub.repos["org/vae"]
            head = repo.commits[repo.branches["main"]]
            repo.branches["main"] = repo.commit(repo.branches["main"], "theirs", head.tree)
        return found

    monkeypatch.setattr(upload, "state", meanwhile)
    push(ours, "org/vae", files=FILES, token=TOKEN)
    assert theirs != ours
    history = hub.history("org/vae")
    assert [hub.repos["org/vae"].commits[sha].title for sha in history[:2]] == [
        "Upload checkpoint",
        "theirs",
    ]


def test_what_the_hub_stores_damaged_is_refused(hub: HubServer, folder: Path, cache: Path) -> None:
    hub.fault("flip", "lfs-put", value=1000)
    push(folder, "org/vae", files=FILES, token=TOKEN)
    with pytest.raises(HubError, match=r"model\.safetensors .* not what its commit states"):
        pull("org/vae", files=FILES, cache_dir=cache)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "empty"])
def test_a_damaged_cache_heals_online_and_is_refused_offline(
    hub: HubServer, folder: Path, cache: Path, name: str, how: str
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    blob = (pull("org/vae", files=FILES, cache_dir=cache) / name).resolve()
    damage: dict[str, Callable[[], Any]] = {
        "flip": lambda: blob.write_bytes(flipped(blob.read_bytes(), 30)),
        "truncate": lambda: blob.write_bytes(blob.read_bytes()[:20]),
        "delete": blob.unlink,
        "empty": lambda: blob.write_bytes(b""),
    }
    damage[how]()
    with pytest.raises(HubError, match=f"{name} .* is not what its commit states"):
        pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
    with hub.watched() as seen:
        got = pull("org/vae", files=FILES, cache_dir=cache)
    assert content(got) == content(folder)
    assert [request.route for request in seen] == [
        "info",
        "head",
        "cdn" if name == "model.safetensors" else "resolve",
    ]


def test_a_file_put_where_the_commit_has_none_is_not_handed_over(
    hub: HubServer, folder: Path, cache: Path
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    stray = pull("org/vae", files=FILES, cache_dir=cache) / "tokenizer.json"
    stray.write_text("{}")
    with pytest.raises(HubError, match=r"tokenizer\.json .* is not what its commit states"):
        pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
    pull("org/vae", files=FILES, cache_dir=cache)
    assert not stray.exists()


@pytest.mark.parametrize("record", ["", "[]", "{", '{"config.json": 3}'])
def test_a_damaged_record_is_no_record(
    hub: HubServer, folder: Path, cache: Path, record: str
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    got = pull("org/vae", files=FILES, cache_dir=cache)
    (got.parents[1] / "zoo" / f"{got.name}.json").write_text(record)
    with pytest.raises(HubError, match="not in the cache"):
        pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
    assert pull("org/vae", files=FILES, cache_dir=cache) == got
    assert pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True) == got


def test_a_pinned_file_must_be_just_that(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    digests = {name: sha256(folder / name) for name in REQUIRED}
    got = pull("org/vae", files=FILES, cache_dir=cache, pinned=digests)
    assert content(got) == content(folder)
    for name in REQUIRED:
        pins = {**digests, name: "0" * 64}
        with pytest.raises(HubError, match=rf"{name} of org/vae at main"):
            pull("org/vae", files=FILES, cache_dir=cache, pinned=pins)
        with pytest.raises(HubError, match=rf"{name} of org/vae at main"):
            pull("org/vae", files=FILES, cache_dir=cache, pinned=pins, local_files_only=True)
    with pytest.raises(HubError, match=r"has no file tokenizer\.json"):
        pull("org/vae", files=FILES, cache_dir=cache, pinned={"tokenizer.json": "0" * 64})


class TestSentences:
    """Each thing a user can get wrong has its own sentence, with what to do next."""

    def test_missing_repository(self, hub: HubServer, cache: Path) -> None:
        for token in (None, TOKEN):
            with pytest.raises(HubError, match=r"has no org/none.*check the name"):
                pull("org/none", files=FILES, cache_dir=cache, token=token)

    def test_gated(self, hub: HubServer, folder: Path, cache: Path) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        hub.repos["org/vae"].gated = True
        for token in (None, OTHER):
            with pytest.raises(HubError, match=r"is gated: accept its conditions at http"):
                pull("org/vae", files=FILES, cache_dir=cache, token=token)
        hub.repos["org/vae"].granted.add("stranger")
        got = pull("org/vae", files=FILES, cache_dir=cache, token=OTHER)
        assert content(got) == content(folder)

    def test_wrong_token(self, hub: HubServer, folder: Path, cache: Path) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        for call in (
            lambda: pull("org/vae", files=FILES, cache_dir=cache, token="hf_wr0ng"),
            lambda: push(folder, "org/vae", files=FILES, token="hf_wr0ng"),
        ):
            with pytest.raises(HubError, match=r"refuses org/vae \(.*401.*log in with token="):
                call()

    def test_missing_file(self, hub: HubServer, folder: Path, cache: Path) -> None:
        (folder / "model.safetensors").unlink()
        push(folder, "org/vae", files=FILES, token=TOKEN)
        with pytest.raises(HubError, match=r"has no file model\.safetensors"):
            pull("org/vae", files=FILES, required=REQUIRED, cache_dir=cache)

    def test_missing_revision(self, hub: HubServer, folder: Path, cache: Path) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        for revision in ("v9", "0" * 40, "refs/pr/7"):
            with pytest.raises(HubError, match=f"org/vae has no revision {revision}"):
                pull("org/vae", files=FILES, revision=revision, cache_dir=cache)

    def test_no_network(
        self,
        hub: HubServer,
        folder: Path,
        cache: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        got = pull("org/vae", files=FILES, cache_dir=cache)
        set_endpoint(monkeypatch, "http://127.0.0.1:9")
        with pytest.raises(HubError, match=r"does not answer.*local_files_only=True"):
            pull("org/vae", files=FILES, cache_dir=cache)
        with pytest.raises(HubError, match=r"does not answer.*try again later"):
            push(folder, "org/vae", files=FILES, token=TOKEN)
        assert pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True) == got

    def test_offline(
        self,
        hub: HubServer,
        folder: Path,
        cache: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        got = pull("org/vae", files=FILES, cache_dir=cache, revision="main")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with hub.watched() as seen:
            for revision in (None, "main", got.name):
                again = pull("org/vae", files=FILES, cache_dir=cache, revision=revision)
                assert content(again) == content(folder)
            for repo_id, revision in (("org/vae", "v2"), ("org/vae", "0" * 40), ("org/x", None)):
                with pytest.raises(HubError, match=r"not in the cache .*: pull it once"):
                    pull(repo_id, files=FILES, cache_dir=cache, revision=revision)
            with pytest.raises(HubError, match="Nothing is pushed with HF_HUB_OFFLINE"):
                push(folder, "org/vae", files=FILES, token=TOKEN)
            with pytest.raises(HubError, match="not in the cache"):  # of these it knows nothing
                pull("org/vae", files=[*FILES, "vocabulary.json"], cache_dir=cache)
        assert seen == []

    def test_the_environment_is_read_at_each_call(
        self, hub: HubServer, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A notebook sets it long after the client was imported."""
        push(folder, "org/vae", files=FILES, token=TOKEN)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert content(pull("org/vae", files=FILES, cache_dir=cache)) == content(folder)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with hub.watched() as seen:
            assert content(pull("org/vae", files=FILES, cache_dir=cache)) == content(folder)
            with pytest.raises(HubError, match="Nothing is pushed with HF_HUB_OFFLINE"):
                push(folder, "org/vae", files=FILES, token=TOKEN)
        assert seen == []

    def test_push_without_a_login(self, hub: HubServer, folder: Path) -> None:
        with pytest.raises(HubError, match=r"401.*log in with token="):
            push(folder, "org/vae", files=FILES)

    def test_push_without_the_right(self, hub: HubServer, folder: Path) -> None:
        with pytest.raises(HubError, match=r"refuses org/vae \(403.*namespace"):
            push(folder, "org/vae", files=FILES, token=OTHER)
        push(folder, "org/vae", files=FILES, token=TOKEN)
        write_checkpoint(folder, seed=1)
        with pytest.raises(HubError, match=r"refuses org/vae \(403.*write token"):
            push(folder, "org/vae", files=FILES, token=OTHER)

    def test_push_of_nothing(self, hub: HubServer, tmp_path: Path) -> None:
        with pytest.raises(HubError, match="has no file of a checkpoint"):
            push(tmp_path, "org/vae", files=FILES, token=TOKEN)
        assert not hub.requests

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    def test_full_disk(
        self,
        hub: HubServer,
        folder: Path,
        cache: Path,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        get = file_download.http_get
        weights = name == "model.safetensors"

        def full(url: str, file: BinaryIO, **how: Any) -> None:
            if ("/cdn/" in url) == weights:
                file.write(b"as much as fits")
                raise OSError(errno.ENOSPC, "No space left on device")
            get(url, file, **how)

        with monkeypatch.context() as patch:
            patch.setattr(file_download, "http_get", full)
            with pytest.raises(HubError, match=r"No space left.*cache_dir"):
                pull("org/vae", files=FILES, cache_dir=cache)
        assert not list(cache.rglob("*.part"))
        with pytest.raises(HubError, match="not in the cache"):
            pull("org/vae", files=FILES, cache_dir=cache, local_files_only=True)
        assert content(pull("org/vae", files=FILES, cache_dir=cache)) == content(folder)

    def test_no_folder_for_the_cache(self, hub: HubServer, folder: Path, tmp_path: Path) -> None:
        push(folder, "org/vae", files=FILES, token=TOKEN)
        (tmp_path / "file").touch()
        with pytest.raises(HubError, match=r"Not a directory.*set cache_dir"):
            pull("org/vae", files=FILES, cache_dir=tmp_path / "file")


@pytest.mark.parametrize("token", ["hf_with blank", "hf_line\n", "hf_\u00e4", "hf_\x00"])
def test_a_token_that_is_none_is_not_sent(
    hub: HubServer, folder: Path, cache: Path, token: str
) -> None:
    for call in (
        lambda: pull("org/vae", files=FILES, cache_dir=cache, token=token),
        lambda: push(folder, "org/vae", files=FILES, token=token),
    ):
        with pytest.raises(HubError, match="copy it again") as error:
            call()
        assert token.strip() not in str(error.value)
    assert not hub.requests


@pytest.mark.parametrize("route", ["info", "create", "preupload", "batch", "commit", "resolve"])
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_token_the_hub_repeats_goes_no_further(
    hub: HubServer,
    folder: Path,
    cache: Path,
    route: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    secret = "sesame-" + TOKEN
    hub.add_token(secret, "me", "org")
    caplog.set_level("INFO")
    if route == "resolve":
        push(folder, "org/vae", files=FILES, token=secret)
    echo = {"X-Error-Message": f"you sent Bearer {secret}", "X-Request-Id": f"{secret}"}
    hub.fault("status", route, times=ALWAYS, value=(status, echo))
    said = []
    for call in (
        lambda: pull("org/vae", files=FILES, cache_dir=cache, token=secret),
        lambda: push(folder, "org/vae", files=FILES, token=secret),
    ):
        try:
            call()
        except HubError as error:
            said.append(error)
    assert said
    out = capfd.readouterr()
    text = "".join("".join(traceback.format_exception(error)) for error in said)
    assert TOKEN not in text + caplog.text + out.out + out.err
    for path in cache.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
