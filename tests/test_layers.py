"""Imports point down only, and what a room must not know it does not import.

python -m tests.test_layers     # writes the table of CONTRIBUTING.md anew
"""

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = [  # from the ground up: a room imports lower floors, and its own files
    {
        "errors": "errors that users can mend",
        "version": "the version",
        "batches": "batches of data",
        "optim": "optimisers and schedules",
        "metrics": "streaming metrics",
        "distributions": "distributions that torch lacks",
        "hub": "folders to and from the Hub, verified",
        "datamodules": "data sets, one file each; a folder at the top of the repository",
        "recipes": "trainings as YAML; likewise",
    },
    {
        "checks": "checks of arguments",
        "verbs": "what every verb takes, and when what it gives has gradients",
        "steps": "what a Trainer asks of every family",
        "nn": "networks from plain arguments",
        "checkpoints": "the folder that a checkpoint is: files, card, catalog, and the model in it",
    },
    {
        "base": "the abstract class with the verbs",
        "inference": "bounds, samplers, recursions: pure functions",
        "plots": "pictures",
    },
    {
        "models": "one family, one paper, one file; a package of families shares its `base`",
        "tasks": "what users do with a model, built from its verbs",
    },
    {"pretrained": "models by name, from training checkpoints; what cards show"},
    {
        "training": "recipes, fit, callbacks",
        "evaluation": "the protocol, one file a job, suites, comparison",
    },
    {
        "callbacks": "the callbacks' public names",
        "verification": "measured again, trained again",
        "demo": "`make demo`",
    },
    {"cli": "the command line, one file a group of commands"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOP = ("datamodules", "recipes")  # links in zoo/ lead to these folders
FAMILIES = ("autoencoders", "classical")
COMMON = "zoo.models.gradient"  # what families of several packages share
HEAVY = {"torch", "lightning", "safetensors"}


@cache
def modules():
    """Every module of the package, by its name."""
    found = {}
    for folder in ("zoo", *TOP):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[0] == "zoo" and parts[1] in TOP:
                continue
            parts = parts if parts[0] == "zoo" else ("zoo", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source, package):
    """Every module that a source imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in modules() else base)
    return found


@cache
def imports(name):
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports_of(path.read_text(encoding="utf-8"), package)


def room(module):
    """`zoo.nn.mlp` is in `nn`; the package's face, `zoo`, in none."""
    parts = module.split(".")
    return parts[1] if parts[0] == "zoo" and len(parts) > 1 else None


def table():
    """CONTRIBUTING's table of rooms, from the top floor down."""
    rows = ["| floor | room | what |", "|---|---|---|"]
    for floor, rooms in reversed([*enumerate(FLOORS, 1)]):
        for name, what in rooms.items():
            kind = "/" if name in TOP or (ROOT / "zoo" / name).is_dir() else ".py"
            where = f"{name}/" if name in TOP else f"zoo/{name}{kind}"
            rows.append(f"| {floor} | `{where}` | {what} |")
    return "\n".join(rows)


def written(text, table):
    head, _, rest = text.partition("<!-- rooms -->\n")
    return f"{head}<!-- rooms -->\n{table}\n<!-- /rooms -->{rest.partition('<!-- /rooms -->')[2]}"


def test_the_reader_sees_every_kind_of_import():
    source = "import a.b as c\nfrom zoo import base\nfrom zoo.errors import ZooError\n"
    source += "def f():\n    from . import batches\n    from .nn.mlp import mlp\n"
    found = {"a.b", "zoo.base", "zoo.errors", "zoo.batches", "zoo.nn.mlp"}
    assert imports_of(source, "zoo") == found


def test_every_module_has_one_floor():
    assert len(FLOOR) == sum(map(len, FLOORS))
    assert {room(name) for name in modules()} - {None} == {*FLOOR}


@pytest.mark.parametrize("name", sorted({*modules()} - {"zoo"}))  # that imports by name, when asked
def test_imports_point_down(name):
    own = room(name)
    for other in imports(name) & {*modules()}:
        theirs = room(other)
        assert theirs is not None, f"{name} imports the package's face"
        assert theirs == own or FLOOR[theirs] < FLOOR[own], f"{name} imports {other}"


def test_no_circle_in_a_room():
    done, path = set(), []

    def visit(name):
        assert name not in path, " imports ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(imports(name) & {*modules()} - {name}):
                if room(other) == room(name):
                    visit(other)
            done.add(path.pop())

    for name in {*modules()} - {"zoo"}:
        visit(name)


def test_the_circle_finder_finds_one(monkeypatch):
    circle = {"zoo.nn.a": {"zoo.nn.b"}, "zoo.nn.b": {"zoo.nn.c"}, "zoo.nn.c": {"zoo.nn.a"}}
    monkeypatch.setitem(globals(), "modules", lambda: circle)
    monkeypatch.setitem(globals(), "imports", circle.get)
    with pytest.raises(AssertionError, match=r"imports zoo\.nn"):
        test_no_circle_in_a_room()


def test_rooms_have_few_loose_files_and_no_long_one():
    assert len(FLOORS) <= 9
    assert len([*(ROOT / "zoo").glob("*.py")]) <= 12
    assert len([*(ROOT / "datamodules").glob("*.py")]) <= 8
    for path in modules().values():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 420, f"{path} has {lines} lines"


def test_families_know_no_other_family():
    for name in modules():
        if not name.startswith("zoo.models."):
            continue
        package = ".".join(name.split(".")[:3])
        others = {o for o in imports(name) if o.startswith("zoo.models.") and o in modules()}
        shared = {o for o in others if not is_family(o) and o.startswith((package, COMMON))}
        assert others <= shared, f"{name} imports {others - shared}"


def is_family(name):
    from zoo import models

    return name in {getattr(models, family).__module__ for family in models.FAMILIES}


def test_every_family_file_is_registered():
    from zoo import models

    for package in FAMILIES:
        for path in sorted((ROOT / "zoo" / "models" / package).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            classes = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
            about = {n.name for n in tree.body if isinstance(n, ast.ClassDef) if says_about(n)}
            assert about <= {*models.FAMILIES} & classes, path


def says_about(node):
    """Whether a class says what it is on cards, as every family does."""
    return any(isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "about" for n in node.body)


@pytest.mark.parametrize("name", [n for n in modules() if room(n) in TOP])
def test_data_does_not_know_the_zoo(name):
    assert {room(other) for other in imports(name) & {*modules()}} <= {*TOP}


def test_families_know_no_data_set():
    for name in modules():
        if room(name) == "models":
            assert not {o for o in imports(name) if room(o) == "datamodules"}, name


def test_wandb_is_named_in_yaml_alone():
    for name in modules():
        assert not {m for m in imports(name) if m.split(".")[0] == "wandb"}, name


@pytest.mark.parametrize(
    "name",
    ["errors", "version", "checkpoints.catalog", "checkpoints.config", "checkpoints.files"]
    + [name.removeprefix("zoo.") for name in modules() if room(name) == "cli"],
)
def test_listing_modules_import_no_torch_at_the_top(name):
    seen, waiting = set(), {f"zoo.{name}"}
    while waiting:
        path = modules()[one := waiting.pop()]
        seen.add(one)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            # What stands in a function or under TYPE_CHECKING is imported later.
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = imports_of(ast.unparse(node), one.rpartition(".")[0])
                assert not {n for n in names if n.split(".")[0] in HEAVY}, f"{name} through {one}"
                waiting |= names & {*modules()} - seen


def test_contributing_has_the_table_of_rooms():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert text == written(text, table()), "run python -m tests.test_layers"


if __name__ == "__main__":
    page = ROOT / "CONTRIBUTING.md"
    page.write_text(written(page.read_text(encoding="utf-8"), table()), encoding="utf-8")
