"""Text files, plain or gzipped, read as a whole, with an error for each kind of damage."""

import gzip
import zlib
from pathlib import Path

from zoo.datamodules.files.places import DataError


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, unpacked if its name ends in .gz, without byte-order mark.

    Raises:
        DataError: if the file is not there, cannot be unpacked, or is no UTF-8.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise DataError(f"{path} is not there.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged ({error}): put a good copy of it there.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise bad_line(path, line, f"it is not UTF-8 ({error.reason})") from None


def read_lines(path: Path) -> list[str]:
    r"""Return the lines of a UTF-8 file without their ends, unpacked if its name ends in .gz.

    Lines end only in \n or \r\n, because a word may contain another separator of Unicode.

    Raises:
        DataError: if the file is not there, cannot be unpacked, or is no UTF-8.
    """
    text = read_text(path)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def bad_line(path: Path, line: int, why: str) -> DataError:
    """Return the error for a line that cannot be understood; `line` counts from 1."""
    return DataError(f"{path}, line {line}: {why}.")


def brief(text: str, most: int = 40) -> str:
    """Return a text in quotes for a message, cut if it is long."""
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def plain_or_packed(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match a pattern, with or without .gz, by name.

    If a file is there both plain and packed, only the plain one is returned. Hidden files are
    skipped.
    """
    plain = {path.name: path for path in folder.glob(pattern)}
    packed = {path.name.removesuffix(".gz"): path for path in folder.glob(f"{pattern}.gz")}
    found = packed | plain
    return [found[name] for name in sorted(found) if not name.startswith(".")]
