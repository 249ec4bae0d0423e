"""Every command that measures or draws takes the user's own data, and says which in one way."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.cli.main import main
from zoo.models import HMM, VAE


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Sixty pictures in two sub-folders."""
    root = tmp_path_factory.mktemp("of somebody") / "photos"
    rng = np.random.default_rng(0)
    for i in range(60):
        path = root / ("cats", "Dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8)).save(path)
    return root


@pytest.fixture
def tuned(tmp_path):
    """A model of a folder of pictures, as `zoo fit` and `zoo export` leave it: without the root."""
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(6,)).eval()
    vae.data = {
        "class_path": "ImageFolder",
        "init_args": {"size": 8, "channels": 1, "binarization": "dynamic", "test_fraction": 0.5},
    }
    vae.save_pretrained(tmp_path / "vae-photos")
    return tmp_path / "vae-photos"


def test_a_model_of_ones_own_pictures_is_measured_verified_and_drawn(tuned, photos, capsys):
    own = ["--images", str(photos)]
    assert main(["evaluate", str(tuned), *own, "--samples", "5", "--write"]) == 0
    stated = json.loads((tuned / "metrics.json").read_text())["metrics"]
    assert {(m["dataset"], m["count"]) for m in stated if m["name"] == "nll"} == {
        ("ImageFolder", 30)  # half of them, as the model was trained: none that it has seen
    }
    root = ["--set", f"root={photos}"]
    for words in (own, root, ["--data", "imagefolder", *root]):
        assert main(["verify", str(tuned), *words]) == 0
    assert main(["verify", str(tuned), "--quick", *own]) == 0
    assert main(["card", str(tuned), "--draw", *own]) == 0
    assert main(["map", str(tuned), "--method", "pca", *own]) == 0
    assert main(["direction", str(tuned), "--attribute", "dogs", "--against", "CATS", *own]) == 0
    assert main(["compare", str(tuned), *root]) == 0
    for command in ("reconstruct", "interpolate", "traverse", "denoise"):
        assert main([command, str(tuned), "-n", "2", *own]) == 0
        assert main([command, str(tuned), "-n", "2", *root]) == 0
    assert "needs its argument" not in capsys.readouterr().out
    for file in tuned.iterdir():  # the name of the folder above it is nobody's business
        assert b"of somebody" not in file.read_bytes()


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("evaluate", []),
        ("reconstruct", []),
        ("map", []),
        ("direction", ["--attribute", "cats"]),
        ("card", ["--draw"]),
    ],
)
def test_what_is_lacking_is_said_with_the_flag_that_gives_it(tuned, capsys, command, flags):
    assert main([command, str(tuned), *flags]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "add --set root=VALUE or --images FOLDER" in err


def test_verify_says_what_is_lacking_beside_what_it_checked(tuned, photos, capsys):
    assert main(["evaluate", str(tuned), "--images", str(photos), "--samples=2", "--write"]) == 0
    capsys.readouterr()
    assert main(["verify", str(tuned)]) == 1
    out, _ = capsys.readouterr()
    assert out.count(" ok") == 5
    assert "add --set root=VALUE or --images FOLDER" in out


def test_arguments_of_the_data_are_stated_with_the_numbers(tmp_path, capsys):
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(6,)).eval()
    vae.data = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}}
    folder = tmp_path / "vae"
    vae.save_pretrained(folder)
    words = ["evaluate", str(folder), "--set", "seed=3", "--set", "n=48", "--write"]
    assert main([*words, "--samples", "5"]) == 0
    assert "FakeImages (seed 3, n 48) test" in (folder / "README.md").read_text()
    assert all(check.passed for check in zoo.verify(str(folder)))  # on the same data again
    failed = {c.what for c in zoo.verify(str(folder), settings={"seed": 4}) if not c.passed}
    assert {"nll", "elbo"} <= failed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "rot=x"], "ImageFolder has no argument 'rot'; did you mean root"),
        (["--set", "root"], "--set root is no KEY=VALUE"),
        (["--set", "size=big"], "size must be int, not 'big'"),
        (["--images", "nowhere"], "nowhere is not a folder"),
        (["--images", "x", "--data", "Digits"], "give either"),
        (["--data", "Dijits"], "no DataModule 'Dijits'; did you mean Digits"),
        (["--set", "root=x", "--set", "size=9"], "image has shape (1, 9, 9)"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "map"])
def test_words_that_do_not_fit(tuned, capsys, command, words, says):
    assert main([command, str(tuned), *words]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert says in err


def test_models_of_several_data_sets_need_the_name_of_one(tuned, photos, tmp_path, capsys):
    other = tmp_path / "vae-fake"
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(6,))
    vae.data = {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}}
    vae.save_pretrained(other)
    models = [str(tuned), str(other)]
    assert main(["compare", *models, "--set", f"root={photos}"]) == 1
    assert "say with --data which" in capsys.readouterr().err
    assert main(["compare", *models, "--images", str(photos)]) == 0
    assert "needs its argument" not in capsys.readouterr().out


def test_a_file_of_sequences_is_given_again(tmp_path, capsys):
    file = tmp_path / "of somebody" / "walks.csv"
    file.parent.mkdir()
    file.write_text("".join(f"{i % 3}\n" for i in range(40)))
    torch.manual_seed(0)
    hmm = HMM(states=2, symbols=3)
    given = {"kind": "category", "val_fraction": 0, "test_fraction": 0}
    hmm.data = {"class_path": "Sequences", "init_args": {"path": str(file), **given}}
    folder = tmp_path / "hmm"
    hmm.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["data"]["init_args"] == {
        "path": "walks.csv",
        **given,
    }
    assert main(["evaluate", str(folder)]) == 1
    assert "walks.csv" in capsys.readouterr().err
    moved = shutil.move(file, tmp_path / "moved.csv")
    assert main(["evaluate", str(folder), "--set", f"path={moved}", "--write"]) == 0
    assert main(["verify", str(folder), "--set", f"path={moved}"]) == 0
