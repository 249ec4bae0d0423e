"""What values of a JSON file have to be, and the sentence that says so."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import ZooError, nearest, shown


class _Kind(NamedTuple):
    """What a value has to be, in words and as a test."""

    words: str
    test: Callable[[Any], bool]


# A text that may be shown: one line, without the control sequences of a terminal.
_LINE = _Kind(
    "a short line of text", lambda v: isinstance(v, str) and v.isprintable() and len(v) < 200
)

_TEXT = _Kind("a paragraph", lambda v: isinstance(v, str) and v.isprintable() and len(v) < 2000)

_COUNT = _Kind("a whole number", lambda v: type(v) is int and 0 <= v < 2**63)

_SOME = _Kind("a whole number above 0", lambda v: _COUNT.test(v) and v > 0)

_SAMPLES = _Kind("1 to 100,000", lambda v: type(v) is int and 1 <= v <= 100_000)  # or it never ends

_NUMBER = _Kind("a number", lambda v: type(v) in (int, float))

_OBJECT = _Kind("an object", lambda v: isinstance(v, dict))


def _many(kind: _Kind) -> _Kind:
    words = f"a list, each entry {kind.words}"
    return _Kind(words, lambda v: type(v) is list and all(map(kind.test, v)))


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.words} or null", lambda v: v is None or kind.test(v))


_NUMBERS = _Kind(
    "an object of numbers", lambda v: _OBJECT.test(v) and all(map(_NUMBER.test, v.values()))
)


def _check(place: str, raw: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> None:
    """Raise ZooError that names the first value which is not of its kind."""
    for key, kind in kinds.items():
        if key in raw and not kind.test(raw[key]):
            raise ZooError(
                f"{place}{key!r} must be {kind.words}, not {shown(raw[key])}; "
                "export or download the checkpoint again."
            )


def _require(place: str, raw: Mapping[str, Any], keys: Iterable[str]) -> None:
    for key in keys:
        if key not in raw:
            raise ZooError(f"{place} has no {key!r}; export or download the checkpoint again.")


def _forbid_others(problem: str, raw: Mapping[str, Any], known: Collection[str]) -> None:
    for key in raw:
        if key not in known:
            raise ZooError(f"{problem} {shown(key)}; {nearest(key, known)}")


def _format(raw: dict[str, Any], path: Path, known: Collection[int]) -> int:
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
