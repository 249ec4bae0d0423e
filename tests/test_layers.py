"""Imports point down only, and what a layer must not know it does not import."""

import ast
import importlib.util
import itertools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = [  # from low to high; a module may import its own layer and those above it in this list
    {"errors", "hub"},
    {
        "checkpoint",
        "checks",
        "distributions",
        "explain",
        "optim",
        "nn",
        "inference",
        "metrics",
        "catalog",
        "plots",
        "cards",
    },
    {"base"},
    {"em", "autoencoder"},
    {"linear"},
    {"sheet", "models", "evaluation"},
    {"anomaly", "gallery", "latent"},
    {"pretrained", "protocol"},
    {"suites"},
    {"callbacks", "verification", "comparison", "data"},
    {"fit"},
    {"reproduction"},
    {"cli", "demo"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name):
    return (ROOT / Path(*name.split("."))).with_suffix(".py").is_file() or (
        ROOT / Path(*name.split("."), "__init__.py")
    ).is_file()


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
                found.add(whole if is_module(whole) else base)
    return found


def imports(path):
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports_of(path.read_text(encoding="utf-8"), package)


def layer(module):
    """`zoo.nn.mlp` belongs to `nn`; the package's own face, `zoo`, to none."""
    parts = module.split(".")
    return parts[1] if parts[0] == "zoo" and len(parts) > 1 else None


def test_the_reader_sees_every_kind_of_import():
    source = "import a.b as c\nfrom zoo import fit\nfrom zoo.errors import ZooError\n"
    source += "def f():\n    from . import base\n    from .nn.mlp import mlp\n"
    found = {"a.b", "zoo.fit", "zoo.errors", "zoo.base", "zoo.nn.mlp"}
    assert imports_of(source, "zoo") == found


def test_every_module_has_one_layer():
    assert len(RANK) == sum(map(len, LAYERS))
    modules = {layer(module_name(path)) for path in sources("zoo")} - {None}
    assert modules == set(RANK)


@pytest.mark.parametrize("path", sources("zoo"), ids=module_name)
def test_imports_point_down(path):
    own = layer(module_name(path))
    if own is None:  # zoo/__init__.py imports by name, when a name is asked for
        return
    for other in imports(path):
        if (theirs := layer(other)) is not None:
            assert RANK[theirs] <= RANK[own], f"{module_name(path)} imports {other}"


def test_no_two_modules_import_each_other():
    graph = {}
    for path in sources("zoo"):
        own = layer(module_name(path))
        others = {layer(other) for other in imports(path)} - {None, own}
        graph.setdefault(own, set()).update(others)
    del graph[None]
    for a, b in itertools.combinations(graph, 2):
        assert not (b in graph[a] and a in graph[b]), f"{a} and {b} import each other"


def test_families_do_not_know_each_other():
    for path in sources("zoo/models"):
        if path.name == "__init__.py":
            continue
        families = {other for other in imports(path) if other.startswith("zoo.models")}
        assert not families, f"{path.name} imports {families}"


def test_every_family_file_is_registered():
    from zoo import models

    files = {path.stem for path in sources("zoo/models")} - {"__init__"}
    assert {getattr(models, name).__module__ for name in models.FAMILIES} == {
        f"zoo.models.{name}" for name in files
    }


@pytest.mark.parametrize("package", ["datamodules", "recipes"])
def test_data_does_not_know_the_zoo(package):
    for path in sources(package):
        assert not {m for m in imports(path) if m.split(".")[0] == "zoo"}, path


def test_wandb_is_named_in_yaml_alone():
    for path in [*sources("zoo"), *sources("datamodules"), *sources("recipes")]:
        assert not {m for m in imports(path) if m.split(".")[0] == "wandb"}, path


@pytest.mark.parametrize("module", ["errors", "catalog", "checkpoint", "cli"])
def test_listing_modules_import_no_torch_at_the_top(module):
    tree = ast.parse((ROOT / "zoo" / f"{module}.py").read_text(encoding="utf-8"))
    for node in tree.body:  # what stands in a function or under TYPE_CHECKING is imported later
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = imports_of(ast.unparse(node), "zoo")
            heavy = {"torch", "lightning", "datamodules", "safetensors"}
            assert not {n for n in names if n.split(".")[0] in heavy}
