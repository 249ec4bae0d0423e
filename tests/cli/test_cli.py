"""The command line in process: what it writes, and one sentence for every mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import zoo
from zoo import recipes
from zoo.cli.main import main
from zoo.datamodules import FakeImages
from zoo.models import GMM, VAE
from zoo.plots.grids import grid

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.fast_dev_run=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small checkpoint folder for 8x8 images."""
    folder = tmp_path_factory.mktemp("cli") / "vae-tiny"
    torch.manual_seed(0)
    vae = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(6,))
    vae.data = {
        "class_path": "FakeImages",
        "init_args": {"x_shape": [1, 8, 8], "n": 64, "batch_size": 8},
    }
    vae.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def refused(capsys):
    """Run a command that must fail; return its sentence."""

    def run(*words, code=1):
        assert main([str(word) for word in words]) == code
        out, err = capsys.readouterr()
        assert out == ""
        lines = [line for line in err.splitlines() if not line.startswith("Seed set to")]
        assert len(lines) == 1, err
        assert lines[0].startswith("zoo")
        assert "Traceback" not in err
        assert len(lines[0]) < 500
        for riddle in ("Union subtypes", "Namespace(", "<class", "NestedArg", "Parser key"):
            assert riddle not in err
        return lines[0]

    return run


def size_of(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.size


def magnified(columns, rows, side=8, gap=2):
    """Size of a grid's picture, by the rule that small ones are magnified to about 448 wide."""
    width, height = columns * (side + gap) + gap, rows * (side + gap) + gap
    scale = -(-448 // width)
    return width * scale, height * scale


def pictures(folder, n, size=12):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.full((size, size), 20 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


# --- names and flags -----------------------------------------------------------------------------


def test_unknown_command(refused):
    assert "no command 'smaple'; did you mean sample" in refused("smaple", code=2)


def test_no_command(refused):
    assert "required: command" in refused(code=2)


@pytest.mark.parametrize("command", ["sample", "info", "reconstruct", "evaluate"])
def test_unknown_model(refused, command, monkeypatch):
    from zoo.checkpoints import catalog

    monkeypatch.setattr(catalog, "list_models", lambda *args: ["vae-celeba", "vae-mnist"])
    sentence = refused(command, "vae-mnits")
    assert "no checkpoint is called 'vae-mnits'" in sentence
    assert "did you mean vae-mnist" in sentence


def test_unknown_flag_of_a_command(refused, model):
    assert "unknown flag --sed; did you mean --seed" in refused("sample", model, "--sed", 3, code=2)
    assert "unknown flag --stepz; did you mean --steps" in refused(
        "interpolate", model, "--stepz=3", code=2
    )


def test_flags_are_not_abbreviated(refused, model):
    assert "--output" in refused("sample", model, "--outp", "x.png", code=2)


def test_wrong_type_of_a_flag(refused, model):
    assert "argument -n: invalid int value: 'many'" in refused(
        "sample", model, "-n", "many", code=2
    )
    assert "there is no --path 'sphere'; did you mean spherical" in refused(
        "interpolate", model, "--path", "sphere", code=2
    )


@pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate", "traverse"])
@pytest.mark.parametrize("n", ["0", "-3"])
def test_at_least_one(refused, model, command, n):
    assert f"-n is {n}, but at least 1 is needed" in refused(command, model, f"-n{n}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["interpolate", "--steps", "1"], "steps is 1"),
        (["traverse", "--steps", "0"], "steps is 0"),
        (["direction", "--attribute", "0", "--steps", "0"], "steps is 0"),
        (["direction", "--attribute", "77"], "there is no label '77'; did you mean"),
        (["denoise", "--noise", "2"], "noise is 2.0, but must be a share"),
        (["traverse", "--dims", "0", "7"], "no latent dimension 7; they are 0 to 2"),
        (["reconstruct", "-n", "999"], "999 images are needed, but there are only 16"),
        (["evaluate", "--limit", "0"], "limit is 0, but at least 1 example is needed"),
        (["reconstruct", "--data", "Digit"], "no DataModule 'Digit'; did you mean Digits?"),
        (["reconstruct", "--data", "Digits"], "image has shape"),
    ],
)
def test_values_that_do_not_fit(refused, model, words, says):
    assert says in refused(words[0], model, *words[1:])


def test_lacking_a_verb_is_a_sentence(refused, model, monkeypatch):
    from zoo.base import LatentVariableModel

    monkeypatch.setattr(VAE, "encode", LatentVariableModel.encode)
    assert "VAE has no encode" in refused("reconstruct", model)


# --- recipes -------------------------------------------------------------------------------------


def test_recipes_lists_all_with_a_summary(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert all(
        recipes.summary(name) in line for name, line in zip(recipes.names(), lines, strict=True)
    )


def test_recipes_copy_hands_over_the_file(capsys):
    assert main(["recipes", "copy", "vae-mnist", "mine/vae.yaml"]) == 0
    assert "zoo fit mine/vae.yaml" in capsys.readouterr().out
    assert Path("mine/vae.yaml").read_bytes() == recipes.path("vae-mnist").read_bytes()


def test_recipes_copy_overwrites_nothing(refused):
    Path("mine.yaml").write_text("precious")
    assert "mine.yaml exists already" in refused("recipes", "copy", "vae-mnist", "mine.yaml")
    assert Path("mine.yaml").read_text() == "precious"


def test_recipes_copy_of_an_unknown_name(refused):
    assert "did you mean vae-mnist" in refused("recipes", "copy", "vae-mnst", "mine.yaml")
    assert not Path("mine.yaml").exists()


def test_recipes_copy_to_an_unwritable_place(refused):
    Path("file").write_text("mine")
    assert "cannot write file/r.yaml" in refused("recipes", "copy", "vae-mnist", "file/r.yaml")


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_unknown_recipe(refused, command):
    assert "no recipe 'vae-mnst'; did you mean vae-mnist" in refused(command, "vae-mnst")
    assert "no recipe 'gone.yaml'" in refused(command, "gone.yaml")


def test_fit_without_a_recipe(refused):
    assert "required: recipe" in refused("fit", code=2)
    assert "needs a recipe before --trainer.max_epochs" in refused(
        "fit", "--trainer.max_epochs", "3"
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--model.latent_dmi", "3"], "VAE has no argument 'latent_dmi'; did you mean latent_dim"),
        (["--model.init_args.latent_dmi=3"], "VAE has no argument 'latent_dmi'"),
        (["--model.latent_dim", "abc"], "VAE: latent_dim must be int, not 'abc'"),
        (["--model.latent_dim", "-3"], "latent_dim is -3, but must be at least 1"),
        (["--model.x_shape", "[1, 28]"], "x_shape must be tuple with 3 elements, not '[1, 28]'"),
        (["--model.likelihood", "bernouli"], "cannot be 'bernouli'; did you mean bernoulli"),
        (["--model", "VEA"], "model: there is no class 'VEA'; did you mean VAE"),
        (["--model", "no_such.Model"], "no_such.Model cannot be used: No module named"),
        (["--data", "Digit"], "data: there is no class 'Digit'; did you mean Digits"),
        (["--data", "ImageFolder"], "ImageFolder needs its argument 'root'"),
        (["--data.batch_sise", "3"], "MNIST has no argument 'batch_sise'; did you mean batch_size"),
        (["--data.batch_size", "0"], "batch_size is 0, but must be at least 1"),
        (["--trainer.max_epoh", "3"], "--trainer.max_epoh; did you mean --trainer.max_epochs"),
        (["--trainer.max_epoch", "3"], "--trainer.max_epoch; did you mean --trainer.max_epochs"),
        (["--trainer.max_epoch=3"], "--trainer.max_epoch; did you mean --trainer.max_epochs"),
        (["--trainer.max_epochs", "abc"], "trainer.max_epochs must be int or None, not 'abc'"),
        (["--trainer.max_epochs"], "--trainer.max_epochs: expected one argument"),
        (["--trainer.callbacks+=SampleGird"], "no class 'SampleGird'; did you mean SampleGrid"),
        (["--trainer.logger", "CSVLoger"], "no class 'CSVLoger'; did you mean CSVLogger"),
        (["--seed_everythin", "3"], "--seed_everythin; did you mean --seed_everything"),
        (["--nonsense", "3"], "no flag --nonsense; `zoo fit RECIPE --help` lists"),
        (["stray"], "'stray' is no flag"),
        (["--ckpt_path", "last"], "no run under runs/vae-mnist has a last.ckpt"),
    ],
)
def test_bad_flags_on_fit(refused, flags, says):
    assert says in refused("fit", "vae-mnist", *flags)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(modle=3), "unknown key 'modle'; did you mean model"),
        (lambda r: r.pop("model"), "has no model"),
        (lambda r: r["trainer"].update(max_epoh=3), "'trainer.max_epoh'; did you mean"),
        (
            lambda r: r["model"].update(init_arg={}),
            "unknown key 'init_arg'; did you mean init_args",
        ),
        (lambda r: r["model"].pop("class_path"), "model has no class_path"),
        (lambda r: r["model"].update(class_path="VEA"), "no class 'VEA'; did you mean VAE"),
        (lambda r: r["model"]["init_args"].update(latent_dmi=3), "did you mean latent_dim"),
        (lambda r: r["model"]["init_args"].update(latent_dim="abc"), "latent_dim must be int"),
        (lambda r: r["model"]["init_args"].update(latent_dim=-3), "latent_dim is -3"),
        (lambda r: r["data"]["init_args"].update(batch_sise=3), "did you mean batch_size"),
        (
            lambda r: r["trainer"]["callbacks"][0]["init_args"].update(decai=1),
            "EMAWeightAveraging has no argument 'decai'; did you mean decay",
        ),
        (
            lambda r: r["trainer"]["callbacks"][0].update(class_path="EMAWeightAveragin"),
            "no class 'EMAWeightAveragin'; did you mean EMAWeightAveraging",
        ),
        (
            lambda r: r["trainer"]["callbacks"][1].update(init_arg=1),
            "trainer.callbacks[1] has an unknown key 'init_arg'; did you mean init_args",
        ),
        (
            lambda r: r["trainer"]["logger"]["init_args"].update(nam="x"),
            "CSVLogger has no argument 'nam'; did you mean name",
        ),
    ],
)
def test_bad_keys_in_a_recipe(refused, change, says):
    recipe = yaml.safe_load(recipes.path("vae-mnist").read_text())
    change(recipe)
    Path("mine.yaml").write_text(yaml.safe_dump(recipe))
    assert says in refused("fit", "mine.yaml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"model: [1, 2\ndata: {", "mine.yaml is broken YAML"),
        (b"a: b: c", "mine.yaml is broken YAML"),
        (b"\xff\xfe\x00", "mine.yaml cannot be read"),
        (b"- 1\n- 2\n", "mine.yaml is no recipe"),
        (b"", "mine.yaml is no recipe"),
        (b"just words", "mine.yaml is no recipe"),
    ],
)
def test_a_recipe_that_is_none(refused, content, says):
    Path("mine.yaml").write_bytes(content)
    assert says in refused("fit", "mine.yaml")


def test_fine_tuning_flags_reach_the_checkpoint(refused, model):
    name = f"--model.name={model}"
    assert "VAE has no argument 'lrr'; did you mean lr" in refused(
        "fit", "finetune/vae-digits", name, "--model.dict_kwargs.lrr", "3"
    )
    assert "from_pretrained has no argument 'nam'; did you mean name" in refused(
        "fit", "finetune/vae-digits", "--model.nam", "x"
    )
    assert "no checkpoint is called 'nowhere'" in refused(
        "fit", "finetune/vae-digits", "--model.name", "nowhere"
    )


def test_fine_tuning_on_an_empty_folder(capsys, model):
    Path("empty").mkdir()
    words = ["fit", "finetune/vae-folder", f"--model.name={model}", "--data.root=empty", *QUICK]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "zoo: empty holds no pictures" in err
    assert "Traceback" not in err


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_images_of_another_shape_than_the_models(capsys, model):
    words = ["fit", "finetune/vae-digits", f"--model.name={model}", *QUICK]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.count("(64, 1, 28, 28), but this model was built for (B, 1, 8, 8)") == 1
    assert "Traceback" not in err


def test_fit_shows_a_page_of_its_flags(capsys):
    assert main(["fit", "--help"]) == 0
    assert "zoo fit RECIPE --help" in capsys.readouterr().out
    assert main(["fit", "vae-mnist", "--model.latent_dim", "7", "--help"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 50
    for words in (
        "VAE on MNIST with dynamic binarisation",
        "--model.latent_dim      7            Number of latent dimensions, D.",
        "--model.x_shape         [1, 28, 28]  Shape of an image",
        "--data.batch_size   256 ",
        "--trainer.max_epochs              140 ",
        "zoo fit vae-mnist --help-all",
    ):
        assert words in out
    assert out.count("--trainer.") == 10


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_has_such_a_page(capsys, name):
    assert main(["fit", name, "-h"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 60
    assert recipes.summary(name) in out
    parsed = yaml.safe_load(recipes.path(name).read_text())
    for part in ("model", "data"):
        for key in parsed[part].get("init_args", {}):
            assert re.search(rf"--{part}.{key} +\S", out), key


def test_all_flags_are_listed_on_demand(capsys):
    assert main(["test", "gmm-mnist", "--help-all"]) == 0
    assert "--trainer.reload_dataloaders_every_n_epochs" in capsys.readouterr().out


SPAWN = ["--trainer.strategy=ddp_spawn", "--trainer.devices=2"]


@pytest.mark.parametrize(
    ("recipe", "flags", "says"),
    [
        ("VAE", ["--trainer.devices=0"], "devices cannot be '0' here; give a number from 1"),
        ("VAE", ["--trainer.devices=x"], "devices cannot be 'x' here; give a number from 1"),
        ("VAE", ["--trainer.log_every_n_steps=0"], "log_every_n_steps is 0, but must be at least"),
        ("VAE", ["--trainer.accelerator=tpu"], "torch_xla is not installed"),
        (
            "VAE",
            ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/elb"],
            "EarlyStopping watches 'val/elb', which is not logged; did you mean val/elbo",
        ),
        (
            "VAE",
            ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val/los"],
            "ModelCheckpoint watches 'val/los', which is not logged; did you mean val/loss",
        ),
        (
            "VAE",
            [
                "--trainer.callbacks+=EarlyStopping",
                "--trainer.callbacks.monitor=val/elbo",
                "--trainer.callbacks.mode=up",
            ],
            "mode cannot be 'up'; known are max, min",
        ),
        ("VAE", ["--trainer.max_epochs=-2"], "`max_epochs` must be a non-negative integer or -1"),
        (
            "VAE",
            [*SPAWN, "--trainer.callbacks+=EMAWeightAveraging"],
            "EMAWeightAveraging cannot be handed to processes that are spawned; give "
            "--trainer.strategy ddp",
        ),
        (
            "VAE",
            [*SPAWN, "--trainer.callbacks+=PushToHub", "--trainer.callbacks.repo_id=me/x"],
            "PushToHub cannot be handed to processes that are spawned",
        ),
        ("GMM", ["--trainer.gradient_clip_val=1"], "GMM takes its steps itself; leave out trainer"),
        ("GMM", ["--trainer.accumulate_grad_batches=2"], "GMM takes its steps itself; leave out"),
        ("GMM", ["--trainer.callbacks+=LogActiveUnits"], "codes of a GMM have none"),
    ],
)
def test_what_the_trainer_refuses(capsys, recipe, flags, says):
    own = {"VAE": {"hidden": [6], "latent_dim": 3}, "GMM": {"components": 2}}[recipe]
    Path("tiny.yaml").write_text(
        yaml.safe_dump(
            {
                "model": {"class_path": recipe, "init_args": {"x_shape": [1, 8, 8], **own}},
                "data": {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}},
                "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
            }
        )
    )
    assert main(["fit", "tiny.yaml", "--trainer.log_every_n_steps=1", *flags]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert says in err.splitlines()[-1]


BROKEN = """
from zoo.datamodules import FakeImages

class Broken(FakeImages):
    def setup(self, stage=None):
        return {}["colour"]
"""


@pytest.mark.parametrize("way", ["", "flag", "environment"])
def test_an_unforeseen_error_is_a_sentence_and_the_rest_on_demand(
    capsys, monkeypatch, tmp_path, way
):
    (tmp_path / "broken_data.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ZOO_DEBUG", "1" if way == "environment" else "0")
    words = ["fit", "vae-mnist", "--data", "broken_data.Broken", *QUICK]
    assert main([*words, *(["--debug"] if way == "flag" else [])]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "zoo: KeyError: 'colour'; --debug shows where it comes from."
    assert ("Traceback" in err) == bool(way)
    assert ("broken_data.py" in err) == bool(way)


def test_a_device_without_numbers_is_none(refused, model):
    assert "no device 'meta' here; try --device cpu" in refused("evaluate", model, "--device=meta")


# --- list and info -------------------------------------------------------------------------------


@pytest.fixture
def shelf(model, tmp_path, monkeypatch):
    """Two shipped checkpoints, one of which cannot encode."""
    from zoo.checkpoints import catalog
    from zoo.checkpoints.files import write_json

    monkeypatch.setattr(catalog, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(catalog, "PINS", tmp_path / "cards" / "sha256.json")
    config = json.loads(Path(model, "config.json").read_text())
    for name, verbs in (("gan-faces", ["sample"]), ("vae-tiny", ["sample", "encode"])):
        summary = {**config["summary"], "verbs": verbs}
        folder = tmp_path / "cards" / name
        write_json(folder / "config.json", {**config, "summary": summary})
    catalog.write_pins()


@pytest.mark.usefixtures("shelf")
def test_list(capsys):
    assert main(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "family", "data", "latent", "parameters", "verbs"]
    assert [row.split()[0] for row in rows] == ["gan-faces", "vae-tiny"]
    parameters = zoo.describe("vae-tiny").parameters
    assert rows[1].split() == f"vae-tiny VAE FakeImages 3 {parameters} sample encode".split()
    assert main(["list", "*-tiny"]) == 0
    assert "gan-faces" not in capsys.readouterr().out


@pytest.mark.usefixtures("shelf")
def test_list_by_verb(capsys, refused):
    assert main(["list", "--verb", "encode"]) == 0
    out = capsys.readouterr().out
    assert "vae-tiny" in out
    assert "gan-faces" not in out
    assert "no model has the verb 'encod'; did you mean encode" in refused(
        "list", "--verb", "encod"
    )


@pytest.mark.usefixtures("shelf")
def test_list_of_nothing(refused):
    assert "no model matches '*-nothing'" in refused("list", "*-nothing")


@pytest.mark.usefixtures("shelf")
def test_a_shipped_file_that_differs_from_its_pin(refused, tmp_path):
    path = tmp_path / "cards" / "vae-tiny" / "config.json"
    path.write_text(path.read_text() + " ")
    assert "install latent-zoo again" in refused("info", "vae-tiny")


def test_info(capsys, model):
    assert main(["info", model]) == 0
    out = capsys.readouterr().out
    parameters = sum(p.numel() for p in zoo.from_pretrained(model).parameters())
    assert f"{model}: VAE trained on FakeImages" in out
    assert f"{parameters:,} (" in out
    assert "apache-2.0" in out
    assert "encode" in out


def test_info_on_a_folder_that_is_no_checkpoint(refused):
    Path("empty").mkdir()
    assert "has no config.json" in refused("info", "empty")


def test_listing_imports_no_torch(model):
    """The one fresh process here: what is imported can be seen in no other way."""
    code = (
        "import sys\nfrom zoo.cli.main import main\n"
        f"main(['list']); main(['recipes']); main(['info', {model!r}])\n"
        "heavy = {'torch', 'lightning', 'torchvision', 'numpy', 'sklearn'} & {*sys.modules}\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["sample", "-n", "6"], magnified(3, 2)),
        (["sample", "-n", "6", "--mean"], magnified(3, 2)),
        (["reconstruct", "-n", "4"], magnified(4, 2)),
        (["interpolate", "-n", "2", "--steps", "5"], magnified(5, 2)),
        (["interpolate", "-n", "2", "--steps", "5", "--path", "spherical"], magnified(5, 2)),
        (["traverse", "--steps", "4"], magnified(4, 3)),
        (["traverse", "-n", "2", "--steps", "4", "--dims", "2", "0"], magnified(4, 4)),
        (["direction", "-n", "2", "--steps", "3", "--attribute", "0"], magnified(3, 2)),
    ],
)
def test_pictures_of_the_right_layout(capsys, model, words, size):
    assert main([words[0], model, *words[1:], "-o", "out/grid.png"]) == 0
    assert capsys.readouterr().out == f"{Path('out/grid.png')}\n"
    assert size_of("out/grid.png") == size


def test_a_direction_is_shown_from_minus_to_plus(model):
    words = ["direction", model, "-n1", "--steps=3", "--span=1.5", "--attribute=1"]
    assert main([*words, "--against=0", "--balance", "2", "--limit=40"]) == 0
    vae = zoo.from_pretrained(model)
    data = FakeImages(**vae.data["init_args"])
    torch.manual_seed(0)
    found = zoo.direction(vae, data, "1", "0", ["2"], limit=40)
    assert found.norm() > 0
    z = vae.encode(next(iter(data.test_dataloader()))["image"][:1])
    expected = grid(vae.decode(torch.cat([z - 1.5 * found, z, z + 1.5 * found])).detach(), 3)[0]
    with Image.open("direction.png") as picture:
        pixels = torch.from_numpy(np.array(picture))
    scale = pixels.shape[0] // expected.shape[0]
    assert (pixels[::scale, ::scale] / 255 - expected).abs().max() <= 1 / 255


@pytest.mark.parametrize("end", ["gif", "apng"])
@pytest.mark.parametrize(
    "words", [["interpolate", "-n3"], ["traverse"], ["direction", "-n3", "--attribute=1"]]
)
def test_paths_move_if_the_name_says_so(model, capsys, words, end):
    output = f"out/a.{end}"
    assert main([words[0], model, *words[1:], "--steps=4", "-o", output]) == 0
    assert capsys.readouterr().out == f"{Path(output)}\n"
    with Image.open(output) as picture:
        assert (picture.n_frames, picture.size) == (6, magnified(2, 2))


def test_one_picture_does_not_move(refused, model):
    assert "zoo sample draws one picture; let a.gif end in .png" in refused(
        "sample", model, "-o", "a.gif"
    )
    assert not Path("a.gif").exists()


def test_denoise_prints_both_errors_and_draws_them(model, capsys):
    assert main(["denoise", model, "-n4", "--noise=0.25"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "denoise.png"
    assert size_of("denoise.png") == magnified(4, 3)
    vae = zoo.from_pretrained(model)
    data = FakeImages(**vae.data["init_args"])
    data.setup()
    torch.manual_seed(0)
    result = zoo.denoise(vae, next(iter(data.test_dataloader()))["image"][:4], 0.25)
    before, after = result.before.mean(), result.after.mean()
    assert printed[0] == f"mean squared error a pixel: {before:.5f} before, {after:.5f} after"


@pytest.mark.parametrize("words", [["--method=pca"], ["-n8", "--attribute=1"]])
def test_map(model, capsys, words):
    assert main(["map", model, *words]) == 0
    assert capsys.readouterr().out == "map.png\n"
    assert size_of("map.png")


def test_maps_that_are_none(refused, model, tmp_path):
    assert "there is no label '77'" in refused("map", model, "--attribute", "77")
    GMM(x_shape=(1, 8, 8), components=3).save_pretrained(tmp_path / "gmm")
    assert "a map is of codes that are vectors" in refused("map", tmp_path / "gmm")
    VAE(x_shape=(3, 16, 16), latent_dim=2, hidden=(4,)).save_pretrained(tmp_path / "faces")
    words = ["map", str(tmp_path / "faces"), "--data", "FakeFaces"]
    assert "FakeFaces has no labels; colour by --attribute NAME" in refused(*words)


@pytest.mark.parametrize("command", ["reconstruct", "interpolate", "traverse"])
def test_other_data_by_name(tmp_path, capsys, command):
    torch.manual_seed(0)
    VAE(latent_dim=2, hidden=(4,)).save_pretrained(tmp_path / "m")
    for data in ("Digits", "FakeImages"):
        assert main([command, str(tmp_path / "m"), "-n2", "--data", data]) == 0
        assert size_of(f"{command}.png")


def test_a_model_that_knows_no_data(refused, tmp_path):
    VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(4,)).save_pretrained(tmp_path / "m")
    assert "name a DataModule" in refused("reconstruct", tmp_path / "m")


def test_the_seed_governs_samples(model, capsys):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["sample", model, "-n4", "--seed", seed, "-o", f"{name}.png"]) == 0
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_reconstruct_shows_the_images_above_their_reconstructions(capsys, model, tmp_path):
    folder = pictures(tmp_path / "mine", 4)
    assert main(["reconstruct", model, "-n4", "--images", str(folder)]) == 0
    with Image.open("reconstruct.png") as picture:
        pixels = np.asarray(picture)
    scale = pixels.shape[1] // 42
    row = pixels[::scale, ::scale][2 + 4, [2 + 4 + 10 * i for i in range(4)]]
    assert row.tolist() == [0, 20, 40, 60]
    x = torch.tensor(row / 255).float().reshape(4, 1, 1, 1).expand(4, 1, 8, 8)
    wanted = zoo.from_pretrained(model).reconstruct(x)[:, 0, 4, 4]
    second = pixels[::scale, ::scale][12 + 4, [2 + 4 + 10 * i for i in range(4)]]
    assert second.tolist() == (wanted * 255).round().int().tolist()


@pytest.mark.parametrize(
    ("command", "needed"), [("reconstruct", 3), ("interpolate", 6), ("traverse", 3)]
)
def test_your_own_pictures(capsys, model, tmp_path, command, needed):
    folder = pictures(tmp_path / "mine", needed)
    assert main([command, model, "-n3", "--images", str(folder)]) == 0
    assert size_of(f"{command}.png")
    (folder / "0.png").unlink()
    assert main([command, model, "-n3", "--images", str(folder)]) == 1
    assert f"{needed} images are needed, but there are only {needed - 1}" in capsys.readouterr().err


def test_your_own_bad_pictures_are_named_and_passed_over(capsys, model, tmp_path):
    folder = pictures(tmp_path / "mine", 3)
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"Passed over 1 of 3 files .*1\.png"):
        assert main(["reconstruct", model, "-n2", "--images", str(folder)]) == 0
    assert size_of("reconstruct.png") == magnified(2, 2)


def test_your_own_colour_pictures_turn_grey(capsys, model, tmp_path):
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (30, 20), "white").save(tmp_path / "mine" / "white.png")
    assert main(["traverse", model, "--images", str(tmp_path / "mine"), "--steps", "2"]) == 0


def test_empty_and_missing_picture_folders(refused, model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    assert "holds no pictures" in refused("reconstruct", model, "--images", tmp_path / "empty")
    assert "is not a folder" in refused("reconstruct", model, "--images", tmp_path / "gone")


def test_a_folder_of_bad_pictures_only(refused, model, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"x\.png"):
        assert "no picture that can be read" in refused(
            "reconstruct", model, "--images", tmp_path / "bad"
        )


def test_pictures_are_squares(refused, tmp_path):
    VAE(x_shape=(1, 4, 8), latent_dim=2, hidden=(4,)).save_pretrained(tmp_path / "m")
    folder = pictures(tmp_path / "mine", 1)
    assert "use --data instead" in refused("reconstruct", tmp_path / "m", "--images", folder)


def test_unwritable_output(refused, model):
    Path("file").write_text("mine")
    assert "cannot write file/x.png" in refused("sample", model, "-n1", "-o", "file/x.png")
    assert Path("file").read_text() == "mine"
    Path("folder.png").mkdir()
    assert "cannot write folder.png" in refused("sample", model, "-n1", "-o", "folder.png")
    assert not [*Path("folder.png").iterdir()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(refused, model):
    Path("locked").mkdir(mode=0o500)
    assert "cannot write locked/x.png" in refused("sample", model, "-n1", "-o", "locked/x.png")


# --- export and evaluate -------------------------------------------------------------------------


def test_evaluate_measures_and_writes(capsys, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = shutil.copytree(model, tmp_path / "vae-tiny")
    words = ["evaluate", str(folder), "--samples", "3", "--limit", "10", "--write"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    metrics = {m.name: m for m in zoo.describe(str(folder)).metrics}
    bounds = {"elbo", "nll", "rate", "distortion", "active_units"}
    codes = {"linear_probe", "knn_probe", "code_distortion", "mean_squared_error"}
    assert metrics.keys() == bounds | codes
    for name, metric in metrics.items():
        assert re.search(rf"^{name} +{metric.value} ", printed, re.MULTILINE)
        assert (metric.count, metric.dataset, metric.split) == (10, "FakeImages", "test")
    assert (folder / "README.md").is_file()


def test_export_makes_a_loadable_folder(capsys, tmp_path):
    from lightning.pytorch import Trainer

    vae = VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(4,))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(vae)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert main(["export", str(tmp_path / "last.ckpt"), str(tmp_path / "out")]) == 0
    assert "zoo.from_pretrained" in capsys.readouterr().out
    loaded = zoo.from_pretrained(str(tmp_path / "out")).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in vae.state_dict().items())
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"README.md", "samples.png"}


def test_export_of_what_is_no_checkpoint(refused, tmp_path):
    assert "there is no file" in refused("export", tmp_path / "gone.ckpt", tmp_path / "out")
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    assert "no whole training checkpoint" in refused(
        "export", tmp_path / "bad.ckpt", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_card_of_what_is_no_checkpoint(refused):
    Path("empty").mkdir()
    assert "has no config.json" in refused("card", "empty")


@pytest.mark.parametrize("command", ["reconstruct", "interpolate", "traverse"])
def test_models_of_text_are_not_drawn(capsys, command):
    assert main([command, "hmm-ewt"]) == 1
    assert "model of sequences, which cannot be drawn" in capsys.readouterr().err


def test_models_of_vectors_print_samples_and_are_not_drawn(capsys, tmp_path):
    GMM(x_shape=(2,), components=3).save_pretrained(tmp_path / "gmm")
    assert main(["sample", str(tmp_path / "gmm"), "-n", "3"]) == 0
    draws = capsys.readouterr().out.splitlines()
    assert [len([*map(float, line.split())]) for line in draws] == [2, 2, 2]
    assert main(["reconstruct", str(tmp_path / "gmm")]) == 1
    assert "model of vectors, which cannot be drawn" in capsys.readouterr().err


def test_models_of_text_print_samples(capsys):
    assert main(["sample", "hmm-ewt", "-n", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
