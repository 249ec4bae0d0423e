"""What is built installs one name, `zoo`, which works beside whatever a user's folder holds."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (find_spec("build") and find_spec("hatchling")),
    reason="needs build and hatchling: pip install build hatchling",
)

RECIPE = """
seed_everything: 0
model:
  class_path: zoo.models.vae.VAE
  init_args: {x_shape: [1, 8, 8], latent_dim: 2, hidden: [8]}
data:
  class_path: datamodules.digits.Digits
  init_args: {size: 8, binarization: none}
trainer:
  max_epochs: 1
  accelerator: cpu
  callbacks:
    - class_path: zoo.callbacks.LogActiveUnits
  logger: false
"""

CONSUMER = """
import zoo
from zoo.datamodules import MNIST

reveal_type(zoo.from_pretrained("vae-mnist"))
reveal_type(MNIST())
reveal_type(zoo.from_pretrained("vae-mnist").sample(4))
"""


def python(*words, **options):
    options = {"check": True, "capture_output": True, "text": True, **options}
    return subprocess.run([sys.executable, *map(str, words)], **options)


def build(folder, *kinds):
    python("-m", "build", "--no-isolation", *kinds, "--outdir", folder, ROOT)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture
def beside(installed, monkeypatch):
    """The test's folder holds packages of the user's own, named as ours are in the repository."""
    for name in ("datamodules", "recipes", "hub_cards", "tests", "benchmarks"):
        Path(name).mkdir()
        Path(name, "__init__.py").write_text(f"raise ImportError('{name} of the user')\n")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    return installed


def test_one_name_and_the_files_behind_the_links(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len({*names})
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"zoo"}
    assert "zoo/py.typed" in names
    for folder in ("datamodules", "recipes", "hub_cards"):
        own = {
            f"zoo/{path.relative_to(ROOT / 'zoo')}"
            for path in (ROOT / "zoo" / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert own == {name for name in names if name.startswith(f"zoo/{folder}/")}
        assert own


def test_the_source_distribution_holds_everything_once_and_builds_the_same_wheel(
    built, wheel, tmp_path
):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        files = [member for member in archive if not member.isdir()]
    assert all(member.isreg() for member in files)
    names = [member.name.partition("/")[2] for member in files]
    assert len(names) == len({*names})
    top = {name.partition("/")[0] for name in names}
    assert {"zoo", "tests", "docs", "README.md", "LICENSE", "pyproject.toml"} <= top
    assert not {"datamodules", "recipes", "hub_cards"} & top
    build(tmp_path, "--wheel")
    assert digest(tmp_path / wheel.name) == digest(wheel)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_checkpoint_loads_beside_packages_of_the_users(beside):
    code = "import zoo; zoo.from_pretrained('vae-mnist'); print(zoo.__file__)"
    assert python("-c", code).stdout.strip() == str(beside / "zoo" / "__init__.py")


def test_the_command_line_works_beside_packages_of_the_users(beside):
    python("-m", "zoo.cli", "sample", "vae-mnist", "-n", "4", "-o", "samples.png")
    assert Path("samples.png").stat().st_size > 0


def test_a_recipe_trains_beside_packages_of_the_users(beside):
    Path("mine.yaml").write_text(RECIPE)
    run = python("-m", "zoo.cli", "fit", "mine.yaml", "--trainer.default_root_dir", "out")
    assert "zoo export" in run.stdout
    assert [*Path("out").rglob("*.ckpt")]


@pytest.mark.skipif(not find_spec("mypy"), reason="needs mypy: pip install mypy")
def test_a_type_checker_sees_the_types(beside):
    Path("consumer.py").write_text(CONSUMER)
    libraries = "[mypy-torch.*,torchvision.*,lightning.*]\nfollow_imports = skip\n"
    Path("mypy.ini").write_text(f"[mypy]\n{libraries}")  # quicker
    printed = python("-m", "mypy", "consumer.py", check=False).stdout
    revealed = [line.partition('"')[2].strip('"') for line in printed.splitlines()[:-1]]
    assert revealed[:2] == ["zoo.base.LatentVariableModel", "zoo.datamodules.images.mnist.MNIST"]
    assert len(revealed) == 3, printed
