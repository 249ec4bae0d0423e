"""Recipes: found by name, read, and their runs resumed."""

from pathlib import Path
from typing import Any

from zoo import recipes
from zoo.errors import ZooError, in_any_case, nearest
from zoo.pretrained.class_paths import short_names

_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe, and check what the parser would report in a riddle.

    Raises:
        ZooError: if it is no YAML, no mapping, or describes a class by other keys than
            `class_path`, `init_args` and `dict_kwargs`.
    """
    import yaml

    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, RecursionError) as error:
        raise ZooError(f"{path} cannot be read ({error}); give a YAML file.") from None
    except yaml.YAMLError as error:
        detail = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ZooError(f"{path} is broken YAML ({detail}); mend it there.") from None
    if not isinstance(recipe, dict):
        raise ZooError(
            f"{path} is no recipe, a mapping with seed_everything, model, data and trainer; "
            "`zoo recipes copy` hands one over to edit."
        )
    for key in ("model", "data"):
        value = recipe.get(key)
        if isinstance(value, dict) and not {"class_path", "help"} & {*value}:
            raise ZooError(
                f"{path}: {key} has no class_path, which names its class; "
                f"`zoo recipes copy` hands over a recipe to compare with."
            )
    _check_class_keys(recipe, "", path)
    return recipe


def _check_class_keys(node: object, place: str, path: Path) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if "class_path" in node and key not in _CLASS_KEYS:
                where = f"{path}: {place.removeprefix('.')}"
                raise ZooError(f"{where} has an unknown key {key!r}; {nearest(key, _CLASS_KEYS)}")
            _check_class_keys(value, f"{place}.{key}", path)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            _check_class_keys(value, f"{place}[{i}]", path)


def recipe_path(name: str) -> Path:
    """Find a recipe by name or path.

    Raises:
        ZooError: if there is none; the message offers the nearest names.
    """
    if Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        return Path(name)
    known = {n.rpartition("/")[2]: n for n in reversed(recipes.names())}
    known |= {n: n for n in recipes.names()}
    found = known.get(in_any_case(name, known))
    if found is not None:
        return recipes.path(found)
    raise ZooError(f"there is no recipe {name!r}; {nearest(name, recipes.names())}")


def parsable(recipe: Path) -> str:
    """What the parser takes for a recipe: its path, or its text if that names old class paths."""
    text = recipe.read_text(encoding="utf-8")
    short = short_names(text)
    return str(recipe) if short == text else short
