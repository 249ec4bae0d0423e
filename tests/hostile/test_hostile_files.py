"""Something else than a plain file in the place of each."""

import os
from pathlib import Path

import pytest

from tests.hostile.attacks import SECRET, load, use
from zoo.checkpoints.files import FILES


def placed(kind: str, path: Path) -> None:
    """Put something where a file should be."""
    path.unlink(missing_ok=True)
    other = path.parents[1] / "other.txt"
    other.write_text(SECRET)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to nothing":
            path.symlink_to("nothing")
        case "link to itself":
            path.symlink_to(path.name)
        case "link to a file":
            path.symlink_to(other)
        case _:
            path.symlink_to(kind)


KINDS = (
    "folder",
    "pipe",
    "link to nothing",
    "link to itself",
    "link to a file",
    "/etc/passwd",
    "/dev/zero",
    "/dev/null",
    "/dev/stdin",
    "/proc/self/environ",
    "/",
)


READERS = {  # and README.md, written by `card` aside and then into its place
    "config.json": ("load", "info", "card"),
    "model.safetensors": ("load", "info", "card"),
    "golden.safetensors": ("golden", "info"),
    "metrics.json": ("info", "card"),
}


@pytest.mark.parametrize("name", [*FILES, ".README.md.{process}.part"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_plain_file(folder: Path, name: str, kind: str) -> None:
    placed(kind, folder / name.format(process=os.getpid()))
    passwd = Path("/etc/passwd").read_bytes()
    refused = use(folder, *READERS.get(name, ("card",)))
    assert (name in ("config.json", "model.safetensors")) == ("load" in refused)
    assert (name == "golden.safetensors") == ("golden" in refused)
    assert (folder.parent / "other.txt").read_text() == SECRET
    assert Path("/etc/passwd").read_bytes() == passwd


def test_a_checkpoint_of_links_loads(folder: Path, tmp_path: Path) -> None:
    """As the Hub's cache has it: each file is a link to a blob elsewhere."""
    links = tmp_path / "links"
    links.mkdir()
    for file in folder.iterdir():
        (links / file.name).symlink_to(file)
    load(links)
