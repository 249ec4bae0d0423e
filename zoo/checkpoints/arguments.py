"""Constructor arguments from JSON, checked before the constructor is called."""

import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from zoo.errors import ZooError, brief, nearest, shown


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
    from inspect import signature

    from jsonargparse import ArgumentParser

    known = signature(cls).parameters
    hints = get_type_hints(cls.__init__)
    given = {**stored, **overrides}
    for where, arguments in ((f"{place}: init_args", stored), (cls.__name__, overrides)):
        for name in arguments:
            if name not in known:
                raise ZooError(f"{where} has no argument {shown(name)}; {nearest(name, known)}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise ZooError(f"{place}: init_args lacks {name!r}, which {cls.__name__} needs.")
    parser = ArgumentParser(exit_on_error=False)
    for name in given:
        parser.add_argument(f"--{name}", type=hints[name])
    for name, value in given.items():
        try:
            if value is None and NoneType not in get_args(hints[name]):  # the parser lets it pass
                raise ValueError(f"{hints[name]} is wanted")
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
