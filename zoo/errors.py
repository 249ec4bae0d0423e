"""Errors that users cause and can mend: one sentence each, with the way out."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches


class ZooError(ValueError):
    """A problem that the user can mend; the message is one sentence that says how."""


class ConvergenceWarning(UserWarning):
    """A fit that was ended before the model had stopped to change."""


def brief(said: object) -> str:
    """What an error of a library says, as a part of a sentence: one line, printable, not long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(str(said).split()))
    return line if len(line) <= 300 else f"{line[:297]}..."


def sentence(error: Exception) -> str:
    """What an error that ends a command says: its own sentence, or how to learn more."""
    if isinstance(error, ZooError):
        return " ".join(str(error).split())
    said = brief(error)
    if isinstance(error, MemoryError) or "out of memory" in said:
        return f"the memory is full ({said}); take fewer or smaller data at a time."
    if isinstance(error, ImportError) and error.name:
        return f"{said}; pip install {error.name.partition('.')[0]}"
    if isinstance(error, (ValueError, NotImplementedError, OSError)) and said:
        return said
    return (
        f"{type(error).__name__}: {said or 'no reason given'}; --debug shows where it comes from."
    )


def shown(value: object) -> str:
    """A value from a file as a part of a sentence: its repr, whose size is anybody's guess, cut."""
    return brief(reprlib.repr(value))


def in_any_case(name: str, known: Iterable[str]) -> str:
    """The one known name that differs by its case at the most; without one, the name as it is."""
    names = {*known}
    alike = [other for other in names if other.casefold() == name.casefold()]
    return alike[0] if name not in names and len(alike) == 1 else name


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"did you mean ...?"` for a misspelt name, or known names, the first 20 of them."""
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    close = get_close_matches(name[:100].casefold(), folded, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(folded[key] for key in close)}?"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"known are {', '.join(names[:20])}{more}." if names else "there are none."
