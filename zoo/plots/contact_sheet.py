"""A page of examples: each picture with its label, caption, factors or words below it."""

import math
import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zoo.datamodules.files.places import Example

PAGE = 1200  # pixels across, or one cell if that is wider
GAP = 10
SMALL, LARGE = 112, 256  # bounds of a picture's longer side, after magnifying or shrinking
FONT_SIZE, LINE = 13, 17
TEXT_WIDTH = 360  # of a cell without picture
LINES_BELOW, LINES_ALONE = 6, 14
MOST_CHARACTERS = 3000
DASHES = str.maketrans("\u2013\u2014", "--")
WHITE, PAPER, INK = (255, 255, 255), (240, 240, 240), (0, 0, 0)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def sheet(examples: Sequence[Example]) -> Image.Image:
    """Draw examples on a page, row by row.

    Small pictures are magnified by whole factors; a text that is too long for its cell ends in an
    ellipsis.

    Args:
        examples: The examples, at least one.

    Returns:
        The page, RGB.
    """
    font = ImageFont.load_default(FONT_SIZE)
    cells = [_cell(example, font) for example in examples]
    width = max(cell.width for cell in cells) + GAP
    columns = min(max(1, (PAGE - GAP) // width), len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + GAP for row in rows]
    page = Image.new("RGB", (columns * width + GAP, sum(heights) + GAP), WHITE)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for i, cell in enumerate(row):
            page.paste(cell, (GAP + i * width, top))
        top += height
    return page


def _cell(example: Example, font: Font) -> Image.Image:
    if example.image is None:
        lines = wrap(example.text, TEXT_WIDTH - 2 * GAP, LINES_ALONE, font)
        cell = Image.new("RGB", (TEXT_WIDTH, LINE * len(lines) + 2 * GAP), PAPER)
        _write(cell, lines, GAP, GAP, font)
        return cell
    picture = _picture(example.image)
    width = max(picture.width, SMALL)
    lines = wrap(example.text, width, LINES_BELOW, font)
    cell = Image.new("RGB", (width, picture.height + LINE * len(lines)), WHITE)
    cell.paste(picture, (0, 0))
    _write(cell, lines, 0, picture.height, font)
    return cell


def _picture(image: Tensor) -> Image.Image:
    """An image (C, H, W) as a picture of a readable size."""
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).cpu().numpy()).convert("RGB")
    longer = max(picture.size)
    if longer < SMALL:
        factor = math.ceil(SMALL / longer)
        size = (factor * picture.width, factor * picture.height)
        return picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    return picture


def _write(cell: Image.Image, lines: list[str], left: int, top: int, font: Font) -> None:
    draw = ImageDraw.Draw(cell)
    for i, line in enumerate(lines):
        draw.text((left, top + i * LINE), line, fill=INK, font=font)


def _plain(text: str) -> str:
    """The text without accents and long dashes, which the built-in font lacks."""
    letters = unicodedata.normalize("NFKD", text.translate(DASHES))
    return "".join(c for c in letters if not unicodedata.combining(c))


def wrap(text: str, width: int, most: int, font: Font) -> list[str]:
    """Break a text into lines, at spaces if possible, and leave out accents.

    Args:
        text: The text; its own line breaks are kept.
        width: Largest width of a line in pixels.
        most: Largest number of lines; an ellipsis replaces the rest of the text.
        font: The font.
    """
    lines: list[str] = []
    for paragraph in _plain(text[:MOST_CHARACTERS]).splitlines():
        lines.append("")
        for word in paragraph.split():
            joined = f"{lines[-1]} {word}".lstrip()
            if font.getlength(joined) <= width:
                lines[-1] = joined
                continue
            if lines[-1]:
                lines.append("")
            for character in word:
                if lines[-1] and font.getlength(lines[-1] + character) > width:
                    lines.append("")
                lines[-1] += character
    if len(lines) <= most and len(text) <= MOST_CHARACTERS:
        return lines
    lines = lines[:most]
    while lines[-1] and font.getlength(f"{lines[-1]} …") > width:
        lines[-1] = lines[-1][:-1]
    return [*lines[:-1], f"{lines[-1]} …".lstrip()]
