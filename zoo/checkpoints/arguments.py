"""Constructor arguments: which there are, and their check before the constructor is called."""

import json
from collections.abc import Callable, Mapping
from inspect import Parameter, currentframe, getargvalues, signature
from types import NoneType
from typing import Any, get_args

from zoo.errors import ZooError, brief, nearest, shown


def arguments(call: Callable[..., Any]) -> dict[str, Parameter]:
    """The arguments of a class or function by name, those that a class passes to its base too.

    A constructor passes on what it takes as `**keywords`.
    """
    found: dict[str, Parameter] = {}
    classes = call.__mro__ if isinstance(call, type) else ()
    makers = [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)] or [call]
    for maker in makers:
        parameters = dict(signature(maker).parameters)
        found = parameters | found
        if Parameter.VAR_KEYWORD not in {p.kind for p in parameters.values()}:
            break
    starred = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return {name: p for name, p in found.items() if p.kind not in starred and name != "self"}


def given_to(made: object) -> dict[str, Any]:
    """The arguments of those constructors of an object that are running, the outermost's count."""
    found: dict[str, Any] = {}
    frame = currentframe()
    while frame is not None:
        names, _, keywords, values = getargvalues(frame)
        if frame.f_code.co_name == "__init__" and values.get("self") is made:
            found |= {name: values[name] for name in names if name != "self"}
            found |= values.get(keywords or "", {})
        frame = frame.f_back
    return found


def refuse_unknown(cls: type[Any], keywords: Mapping[str, object]) -> None:
    """Raise a TypeError for the first of the keywords, with the nearest argument of the class.

    Args:
        cls: The class whose constructor was called.
        keywords: Keywords that no constructor took.
    """
    if keywords:
        name = next(iter(keywords))
        raise TypeError(f"{cls.__name__} has no argument {name!r}; {nearest(name, arguments(cls))}")


def checked_arguments(
    cls: type[Any], place: str, stored: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Check constructor arguments against the signature, as a recipe's are, before calling it.

    Args:
        cls: The class whose constructor is meant.
        place: The file that the stored arguments are from.
        stored: Arguments from there.
        overrides: Arguments that replace them.

    Raises:
        ZooError: naming the argument that is unknown, missing or of the wrong type.
    """
    from jsonargparse import ArgumentParser

    known = arguments(cls)
    given = {**stored, **overrides}
    for where, names in ((f"{place}: init_args", stored), (cls.__name__, overrides)):
        for name in names:
            if name not in known:
                raise ZooError(f"{where} has no argument {shown(name)}; {nearest(name, known)}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise ZooError(f"{place}: init_args lacks {name!r}, which {cls.__name__} needs.")
    parser = ArgumentParser(exit_on_error=False)
    for name in given:
        parser.add_argument(f"--{name}", type=known[name].annotation)
    for name, value in given.items():
        wanted = known[name].annotation
        try:
            if value is None and NoneType not in get_args(wanted):  # the parser lets it pass
                raise ValueError(f"{wanted} is wanted")
            parsed = parser.parse_object({name: value}, defaults=False)[name]
            if _plain(parsed) != _plain(value):  # the parser takes "2" for 2, the class does not
                raise ValueError(f"{shown(parsed)} is wanted")
        except Exception as error:
            where = cls.__name__ if name in overrides else place
            raise ZooError(
                f"{where}: argument {name!r} cannot be {shown(value)}: {brief(error)}"
            ) from None
    return given


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))
