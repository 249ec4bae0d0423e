"""The repository's code and pages import the zoo by the one name that it is installed under."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED = {"datamodules", "recipes", "hub_cards"}  # folders at the top of a checkout as well


def source(path):
    """The Python of a module, or of a page's examples."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


def top_level_names(path):
    for node in ast.walk(ast.parse(source(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    "files",
    [
        *("README.md", "docs/*.md", "tests/**/*.py", "benchmarks/**/*.py"),
        *("zoo/**/*.py", "zoo/datamodules/**/*.py", "zoo/recipes/**/*.py"),
    ],
)
def test_linked_folders_are_imported_as_parts_of_the_zoo(files):
    paths = [*ROOT.glob(files)]
    assert paths
    for path in paths:
        assert not LINKED & {*top_level_names(path)}, path
