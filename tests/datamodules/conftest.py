import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from idx_files import made_files

from zoo.datamodules import Captions
from zoo.datamodules.faces.folder import FolderSource
from zoo.datamodules.faces.shards import ShardSource
from zoo.datamodules.images import mnist
from zoo.datamodules.sprites import dsprites


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a small MNIST or FashionMNIST, whose archives count as the published ones."""

    def write(name: str = "MNIST", packed: bool = True, unpacked: bool = True) -> Path:
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        md5 = {}
        for file, data in made_files().items():
            archive = gzip.compress(data, mtime=0)
            md5[file + ".gz"] = hashlib.md5(archive, usedforsecurity=False).hexdigest()
            if packed:
                (raw / f"{file}.gz").write_bytes(archive)
            if unpacked:
                (raw / file).write_bytes(data)
        monkeypatch.setitem(mnist.MD5, name, md5)
        return raw

    return write


@pytest.fixture(scope="session")
def real_root() -> str:
    root = os.environ.get("ZOO_DATA", "")
    if not root or mnist.missing_files("MNIST", Path(root) / "MNIST" / "raw"):
        pytest.skip("$ZOO_DATA holds no MNIST")
    return root


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """Return the folder of a real data set, or skip the test."""

    def folder(name: str) -> Path:
        root = os.environ.get("ZOO_DATA", "")
        if not root or not (Path(root) / name).is_dir():
            pytest.skip(f"$ZOO_DATA holds no {name}")
        return Path(root) / name

    return folder


@pytest.fixture
def real_captions(tmp_path: Path) -> Callable[[str], Path]:
    """Link a captioned set under $ZOO_DATA to a folder where a tokenizer may be kept beside it."""

    def link(source: str) -> Path:
        folder = Path(os.environ.get("ZOO_DATA", "")).absolute() / source
        if "ZOO_DATA" not in os.environ or Captions.inventory(str(folder.parent))[source].missing:
            pytest.skip(f"$ZOO_DATA holds no {source}")
        (tmp_path / source).symlink_to(folder, target_is_directory=True)
        return tmp_path

    return link


@pytest.fixture(scope="session")
def real_dsprites() -> str:
    root = os.environ.get("ZOO_DATA", "")
    if not root or not (Path(root) / "dsprites" / dsprites.FILE).exists():
        pytest.skip("$ZOO_DATA holds no dSprites")
    return root


@pytest.fixture(scope="session")
def real_celeba() -> Path:
    root = Path(os.environ.get("ZOO_DATA", ""))
    folder = FolderSource(root / "celeba", 64, 148)
    if not root.name or folder.missing() or ShardSource(root / "celeba64", 64, 148).missing():
        pytest.skip("$ZOO_DATA holds no CelebA in both forms")
    return root
