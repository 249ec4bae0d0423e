"""What values of a JSON file have to be, and the sentence that says so."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import ZooError, nearest, shown


class Kind(NamedTuple):
    """What a value has to be, in words and as a test."""

    words: str
    test: Callable[[Any], bool]


# A text that may be shown: one line, without the control sequences of a terminal.
LINE = Kind(
    "a short line of text", lambda v: isinstance(v, str) and v.isprintable() and len(v) < 200
)

TEXT = Kind("a paragraph", lambda v: isinstance(v, str) and v.isprintable() and len(v) < 2000)

COUNT = Kind("a whole number", lambda v: type(v) is int and 0 <= v < 2**63)

SOME = Kind("a whole number above 0", lambda v: COUNT.test(v) and v > 0)

SAMPLES = Kind("1 to 100,000", lambda v: type(v) is int and 1 <= v <= 100_000)  # or it never ends

NUMBER = Kind("a number", lambda v: type(v) in (int, float))

OBJECT = Kind("an object", lambda v: isinstance(v, dict))


def many(kind: Kind) -> Kind:
    """A list of such values."""
    words = f"a list, each entry {kind.words}"
    return Kind(words, lambda v: type(v) is list and all(map(kind.test, v)))


def or_null(kind: Kind) -> Kind:
    """Such a value, or null."""
    return Kind(f"{kind.words} or null", lambda v: v is None or kind.test(v))


NUMBERS = Kind(
    "an object of numbers", lambda v: OBJECT.test(v) and all(map(NUMBER.test, v.values()))
)


def check(place: str, raw: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raise ZooError that names the first value which is not of its kind."""
    for key, kind in kinds.items():
        if key in raw and not kind.test(raw[key]):
            raise ZooError(
                f"{place}{key!r} must be {kind.words}, not {shown(raw[key])}; "
                "export or download the checkpoint again."
            )


def require(place: str, raw: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raise ZooError that names the first key which is absent."""
    for key in keys:
        if key not in raw:
            raise ZooError(f"{place} has no {key!r}; export or download the checkpoint again.")


def forbid_others(problem: str, raw: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ZooError that names the first key which is not known, and the nearest that is."""
    for key in raw:
        if key not in known:
            raise ZooError(f"{problem} {shown(key)}; {nearest(key, known)}")


def take_format(raw: dict[str, Any], path: Path, known: Collection[int]) -> int:
    """Take the number of the format out of what was read."""
    number = raw.pop("format", None)
    if type(number) is not int:
        raise ZooError(f"{path} has no 'format' number; export or download the checkpoint again.")
    if number not in known:
        raise ZooError(
            f"{path} is of format {shown(number)}, and this version reads "
            f"{', '.join(map(str, sorted(known)))}; upgrade latent-zoo."
        )
    return number
