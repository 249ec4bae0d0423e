"""Recipes: complete YAML files, by name. `vae-mnist` is vae-mnist.yaml in this folder."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """Names of all recipes, such as `vae-mnist` and `finetune/vae-digits`."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.yaml"))


def path(name: str) -> Path:
    """The file of a recipe.

    Raises:
        KeyError: if there is no recipe of this name.
    """
    if name not in names():
        raise KeyError(name)
    return FOLDER / f"{name}.yaml"


def summary(name: str) -> str:
    """The first line of a recipe's header."""
    return path(name).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
