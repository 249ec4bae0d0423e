"""Tables as Markdown has them."""

from collections.abc import Iterable, Sequence


def markdown_row(cells: Iterable[object]) -> str:
    """A line of a table; a bar, which would end its cell, is escaped."""
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table: its head, and its rows."""
    return "\n".join([markdown_row(head), "|" + "---|" * len(head), *map(markdown_row, rows)])
