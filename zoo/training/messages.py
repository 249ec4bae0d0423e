"""One sentence for what the parser of recipes and flags says in many."""

import ast
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from zoo.checkpoints.arguments import arguments
from zoo.errors import brief, nearest


def explain(message: str, flags: Iterable[str], classes: Mapping[str, Iterable[str]]) -> str:
    """Say in one sentence which key or flag is wrong, and which is right.

    Args:
        message: What jsonargparse says.
        flags: Every flag of the command, such as `--trainer.max_epochs`.
        classes: Names of the classes that a key such as `model` takes.
    """
    text = " ".join(message.split())
    if found := re.match(r"unrecognized arguments: (\S+)", text):
        flag = found[1].partition("=")[0]
        if not flag.startswith("-"):
            return f"{flag!r} is no flag; flags look like --trainer.max_epochs 10."
        return f"there is no flag {flag}; {_near(flag, flags)}"
    if found := re.search(r"does not accept option '(.+?)'", text):
        known = [flag.removeprefix("--") for flag in flags]
        return f"the recipe has an unknown key {found[1]!r}; {_near(found[1], known)}"
    if found := re.search(r"class_path '([\w.]+)': Option '(.+?)' is not accepted", text):
        module, _, name = found[1].rpartition(".")
        known = [*arguments(getattr(import_module(module), name))]
        return f"{name} has no argument {found[2]!r}; {nearest(found[2], known)}"
    if found := re.search(r"class_path '([\w.]+)': Parser key \"(.+?)\": (.+)", text):
        return f"{found[1].rpartition('.')[2]}: {_wrong_value(found[2], found[3])}"
    if found := re.search(r"class_path '([\w.]+)': .*arguments are required: (.+?)(?: - |$)", text):
        return f"{found[1].rpartition('.')[2]} needs its argument {found[2]!r}; set it."
    if found := re.search(r"class_path '([\w.]+)': (.+?)(?: - |$)", text):
        return f"{found[1]} cannot be used: {found[2]}."
    if found := re.search(r"Parser key \"(.+?)\":.*? import path string: (\S+)", text):
        known = [*classes.get(found[1], ())]
        return f"{found[1]}: there is no class {found[2]!r}; {nearest(found[2], known)}"
    if found := re.match(r"Parser key \"(.+?)\": (.+)", text):
        return _wrong_value(found[1], found[2])
    if found := re.search(r"arguments are required: (.+)", text):
        names = found[1].replace("fit.", "").replace("validate.", "").replace("test.", "")
        return f"the recipe has no {names}; `zoo recipes copy` hands over a complete one."
    return _first_clause(text)


def explain_trainer(message: str, trainer: Mapping[str, Any], family: str) -> str | None:
    """Say in one sentence what Lightning refuses, and which flag mends it; None if it is unknown.

    Args:
        message: Name of the error, and what Lightning says.
        trainer: The trainer's arguments.
        family: Name of the model's class.
    """
    text = " ".join(message.split())
    if re.search(r"can ?not run on your system|No supported gpu backend", text):
        asked = trainer["accelerator"]
        return f"this machine has no {asked}; leave out --trainer.accelerator, or give cpu."
    if re.search(r"devices=.* is not a valid input|`devices` selected with", text):
        given = trainer["devices"]
        return f"trainer.devices cannot be {given!r} here; give a number from 1, or auto."
    if found := re.search(
        r"(Early stopping|ModelCheckpoint).*?[`'](\S+?)[`'].*?(?:following|metrics): (.+)", text
    ):
        name = {"Early stopping": "EarlyStopping"}.get(found[1], found[1])
        listed = found[3].partition("HINT")[0]
        known = [word for word in re.findall(r"[\w./-]+", listed) if "/" in word]
        return f"{name} watches {found[2]!r}, which is not logged; {nearest(found[2], known)}"
    if found := re.search(r"Automatic gradient .*Remove `Trainer\((\w+)=", text):
        return f"{family} takes its steps itself; leave out trainer.{found[1]}."
    if found := re.search(r"(?:No module named|Requirement) '([\w-]+)", text):
        return f"the package {found[1]} is not installed; pip install {found[1]}"
    if "wandb" in text.lower() and re.search("api_key|login", text):
        return (
            "Weights & Biases knows no login; run `wandb login`, or give "
            "--trainer.logger.offline true."
        )
    if found := re.search(r"can be (\w+(?:, \w+)*), got (\S+)", text):
        return (
            f"a callback's mode cannot be {found[2]!r}; {nearest(found[2], found[1].split(', '))}"
        )
    if found := re.match(r"MisconfigurationException: (.+)", text):  # is written for users
        return brief(found[1].replace(". ", "; "))
    return None


def _near(name: str, known: Iterable[str]) -> str:
    offer = nearest(name, known)
    return offer if offer.startswith("did") else "`zoo fit RECIPE --help` lists what there is."


def _wrong_value(key: str, text: str) -> str:
    given = re.search(r"(?:Got|Given) value: (.+?)(?= - |$)", text)
    wanted = re.search(r"Subtypes: \[(.+?)\] Errors", text) or re.search(
        r"Expected an? (.+?)(?:\. Got| - | Given|$)", text
    )
    if given is None or wanted is None:
        return f"{key}: {_first_clause(text)}"
    if choices := re.search(r"Literal(\[.+?\])", wanted[1]):
        names = [str(choice) for choice in ast.literal_eval(choices[1])]
        return f"{key} cannot be {given[1]!r}; {nearest(given[1], names)}"
    types = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", wanted[1]).replace("NoneType", "None")
    types = re.sub(r"\b(?:typing|collections\.abc)\.", "", types).replace(", None", " or None")
    return f"{key} must be {types}, not {given[1]!r}."


def _first_clause(text: str) -> str:
    text = re.sub(r"Does not validate against any .+? Errors: - ", "", text)
    return re.split(r" - | Given value type", text)[0][:300]
