"""What need not write does not: a read-only home, a read-only disk, no home at all."""

import pwd
from pathlib import Path

import pytest

from zoo.cli.main import main
from zoo.datamodules.files.places import data_dir
from zoo.models import VAE


@pytest.fixture
def model(tmp_path):
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(6,))
    vae.data = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}}
    vae.save_pretrained(tmp_path / "vae")
    return str(tmp_path / "vae")


@pytest.fixture(params=["file", "read-only", "nobody's"])
def no_home(request, tmp_path, monkeypatch):
    """A home in which nothing can be written, even by root."""
    for name in ("XDG_CACHE_HOME", "ZOO_DATA"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "file":
        (tmp_path / "home").write_text("")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    elif request.param == "read-only":
        monkeypatch.setenv("HOME", "/proc")
    else:
        # as in a container whose user has no entry: ~ stands for nothing
        monkeypatch.delenv("HOME", raising=False)

        def nobody(uid):
            raise KeyError(uid)

        monkeypatch.setattr(pwd, "getpwuid", nobody)
        with pytest.raises(RuntimeError):
            Path("~").expanduser()


def test_measuring_needs_no_home(model, no_home, capsys):
    assert main(["evaluate", model, "--samples", "5", "--write"]) == 0
    assert main(["verify", model]) == 0
    assert main(["list"]) == 0
    assert main(["info", model]) == 0
    assert main(["data"]) == 0
    assert main(["reconstruct", model, "-n", "2"]) == 0
    assert capsys.readouterr().err == ""
    assert data_dir().name == "latent-zoo"


def test_comparing_needs_no_home(model, no_home):
    assert main(["compare", model]) == 0
