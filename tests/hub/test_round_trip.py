"""What is pushed is what is pulled, at every revision, and by those only who may."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, scan_cache_dir

from tests.hub.conftest import FILES, OTHER, REQUIRED, TOKEN, content, write_checkpoint
from tests.hub.server import HubServer
from tests.watch import watched
from zoo.hub import HubError, pull, push


def test_round_trip_is_bit_equal(hub: HubServer, folder: Path, cache: Path) -> None:
    result = push(folder, "org/vae", files=FILES, token=TOKEN)
    got = pull("org/vae", files=FILES, required=REQUIRED, cache_dir=cache)
    assert content(got) == content(folder)
    assert got.name == result.commit == hub.history("org/vae")[0]
    assert result.changed
    assert sorted(path.name for path in got.iterdir()) == sorted(content(folder))
    assert len(hub.history("org/vae")) == 2  # the Hub's own first commit, and one with all files
    assert "notes.txt" not in hub.files("org/vae")


def test_revisions_by_branch_tag_and_commit(hub: HubServer, folder: Path, cache: Path) -> None:
    first = push(folder, "org/vae", files=FILES, token=TOKEN)
    old = content(folder)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_tag("org/vae", tag="v1.0")
    second = push(write_checkpoint(folder, seed=1), "org/vae", files=FILES, token=TOKEN)
    side = push(
        write_checkpoint(folder, seed=2), "org/vae", files=FILES, token=TOKEN, revision="next"
    )
    wanted = {
        "v1.0": (first.commit, old),
        first.commit: (first.commit, old),
        "main": (second.commit, content(write_checkpoint(folder, seed=1))),
        "next": (side.commit, content(write_checkpoint(folder, seed=2))),
    }
    for revision, (commit, files) in wanted.items():
        got = pull("org/vae", files=FILES, revision=revision, cache_dir=cache)
        assert (got.name, content(got)) == (commit, files)
    for revision, (_, files) in wanted.items():
        got = pull(
            "org/vae", files=FILES, revision=revision, cache_dir=cache, local_files_only=True
        )
        assert content(got) == files


def test_a_moved_branch_is_followed(hub: HubServer, folder: Path, cache: Path) -> None:
    for seed in (0, 1):
        push(write_checkpoint(folder, seed), "org/vae", files=FILES, token=TOKEN)
        assert content(pull("org/vae", files=FILES, cache_dir=cache)) == content(folder)


def test_pushing_again_is_no_commit(hub: HubServer, folder: Path) -> None:
    first = push(folder, "org/vae", files=FILES, token=TOKEN)
    with hub.watched() as seen:
        again = push(folder, "org/vae", files=FILES, token=TOKEN)
    assert (again.commit, again.changed) == (first.commit, False)
    assert [request.route for request in seen] == ["info"]


def test_readme_of_the_hub_is_kept_unless_told_otherwise(hub: HubServer, folder: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    theirs = hub.files("org/vae")["README.md"]
    (folder / "README.md").write_text("# Another\n")
    assert not push(folder, "org/vae", files=FILES, token=TOKEN).changed
    assert hub.files("org/vae")["README.md"] == theirs
    assert push(folder, "org/vae", files=FILES, token=TOKEN, keep_readme=False).changed
    assert hub.files("org/vae")["README.md"] == b"# Another\n"


def test_a_file_of_an_older_checkpoint_does_not_stay(hub: HubServer, folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    push(folder, "org/vae", files=FILES, token=TOKEN)
    (folder / "tokenizer.json").unlink()
    push(folder, "org/vae", files=FILES, token=TOKEN)
    assert hub.files("org/vae").keys() == {".gitattributes", *content(folder)}


def test_pull_request_leaves_the_branch_alone(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    before = hub.history("org/vae")
    write_checkpoint(folder, seed=1)
    result = push(folder, "org/vae", files=FILES, token=TOKEN, create_pr=True)
    assert hub.history("org/vae") == before
    assert result.url.endswith("/org/vae/discussions/1")
    got = pull("org/vae", files=FILES, revision="refs/pr/1", cache_dir=cache)
    assert content(got) == content(folder)


def test_files_that_the_hub_leaves_out_are_reported(hub: HubServer, folder: Path) -> None:
    (folder / ".gitignore").write_text("model.safetensors")
    push(folder, "org/vae", files=[".gitignore"], token=TOKEN)
    with pytest.raises(HubError, match=r"has not taken model\.safetensors"):
        push(folder, "org/vae", files=FILES, token=TOKEN)


def test_private_repository(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN, private=True)
    got = pull("org/vae", files=FILES, cache_dir=cache, token=TOKEN)
    assert content(got) == content(folder)
    for token in (None, OTHER):
        with pytest.raises(HubError, match=r"has no org/vae, or it is private"):
            pull("org/vae", files=FILES, cache_dir=cache, token=token)


def test_private_is_not_granted_by_a_public_repository(hub: HubServer, folder: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    write_checkpoint(folder, seed=1)
    with pytest.raises(HubError, match="is public and private=True was asked for"):
        push(folder, "org/vae", files=FILES, token=TOKEN, private=True)
    assert len(hub.history("org/vae")) == 2


def test_logged_in_token_is_used(
    hub: HubServer, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push(folder, "org/vae", files=FILES, private=True)
    assert content(pull("org/vae", files=FILES, cache_dir=cache)) == content(folder)
    with pytest.raises(HubError, match="or it is private"):
        pull("org/vae", files=FILES, cache_dir=cache, token=False)


def test_without_a_token_nothing_like_one_is_sent(
    hub: HubServer, folder: Path, cache: Path
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    with hub.watched() as seen:
        pull("org/vae", files=FILES, cache_dir=cache)
    assert len(seen) > 3
    for request in seen:
        assert not {"authorization", "cookie", "proxy-authorization"} & request.headers.keys()
        assert "hf_" not in request.path + "".join(
            value for name, value in request.headers.items() if name != "user-agent"
        )


def test_the_token_does_not_follow_to_the_content_network(
    hub: HubServer, folder: Path, cache: Path
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    pull("org/vae", files=FILES, cache_dir=cache, token=TOKEN)
    elsewhere = [seen for seen in hub.requests if seen.route in ("cdn", "lfs-put")]
    assert {seen.route for seen in elsewhere} == {"cdn", "lfs-put"}
    assert not any("authorization" in seen.headers for seen in elsewhere)


def test_only_listed_names_are_fetched(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    tree = hub.repos["org/vae"].commits[hub.history("org/vae")[0]].tree
    for name in ("../../escape.json", "/etc/escape", "evil.pkl", "sub/config.json", "..", ""):
        tree[name] = tree["config.json"]
    with hub.watched() as seen:
        got = pull("org/vae", files=FILES, cache_dir=cache)
    assert content(got) == content(folder)
    assert sorted(path.name for path in got.iterdir()) == sorted(content(folder))
    assert len(seen) == 1 + 2 * 4  # what there is, and where each file is and what it holds


@pytest.mark.parametrize("name", ["../config.json", "a/b", "/etc/passwd", "..", ""])
def test_a_list_of_names_is_flat(name: str, folder: Path, cache: Path) -> None:
    with pytest.raises(HubError, match="plain file name"):
        pull("org/vae", files=[name], cache_dir=cache)
    with pytest.raises(HubError, match="plain file name"):
        push(folder, "org/vae", files=[name])


@pytest.mark.parametrize("revision", ["../main", "/etc", "a/../../b", "x y", "ref\n"])
def test_a_revision_is_no_path(revision: str, hub: HubServer, cache: Path) -> None:
    for offline in (False, True):
        with pytest.raises(HubError, match="is no revision"):
            pull(
                "org/vae",
                files=FILES,
                revision=revision,
                cache_dir=cache,
                local_files_only=offline,
            )
    assert not hub.requests


@pytest.mark.parametrize("name", ["../x", "a/b/c", "a b", "..", "-", ""])
def test_a_name_of_a_repository_is_no_path(name: str, hub: HubServer, cache: Path) -> None:
    with pytest.raises(HubError, match=r"not the name of a repository: write organisation/name"):
        pull(name, files=FILES, cache_dir=cache)


def test_a_pulled_folder_can_be_pushed(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    got = pull("org/vae", files=FILES, cache_dir=cache)
    push(got, "org/copy", files=FILES, token=TOKEN)
    assert content(pull("org/copy", files=FILES, cache_dir=cache)) == content(folder)


def test_the_cache_is_shared_with_the_client(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    huggingface_hub.hf_hub_download(
        "org/vae", "model.safetensors", cache_dir=cache, endpoint=hub.url
    )
    with hub.watched() as seen:
        got = pull("org/vae", files=FILES, cache_dir=cache)
    assert not any("model.safetensors" in request.path for request in seen)
    with hub.watched() as seen:
        path = huggingface_hub.hf_hub_download(
            "org/vae", "config.json", revision=got.name, cache_dir=cache, endpoint=hub.url
        )
    assert (Path(path), seen) == (got / "config.json", [])
    (repo,) = scan_cache_dir(cache).repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash) == ("org/vae", got.name)
    assert not scan_cache_dir(cache).warnings


def test_a_file_both_commits_have_is_fetched_once(
    hub: HubServer, folder: Path, cache: Path
) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    pull("org/vae", files=FILES, cache_dir=cache)
    (folder / "metrics.json").write_text("{}")
    push(folder, "org/vae", files=FILES, token=TOKEN)
    with hub.watched() as seen:
        got = pull("org/vae", files=FILES, cache_dir=cache)
    assert [request.path for request in seen if request.route in ("resolve", "cdn")] == [
        f"/org/vae/resolve/{got.name}/metrics.json"
    ]
    assert content(got) == content(folder)


def test_a_complete_cache_may_be_read_only(hub: HubServer, folder: Path, cache: Path) -> None:
    push(folder, "org/vae", files=FILES, token=TOKEN)
    pull("org/vae", files=FILES, cache_dir=cache)
    for offline in (False, True):
        with watched(cache / "elsewhere", connects=True) as seen:
            pull("org/vae", files=FILES, cache_dir=cache, local_files_only=offline)
        written = [event for event in seen if str(cache) in event and "write" in event]
        # A folder that is there may be made again on a read-only disk, and nothing else.
        assert not [event for event in written if not event.startswith("os.mkdir")]
