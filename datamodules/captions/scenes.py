r"""Drawn scenes with captions: one flat shape, described in a small language with a parser.

After CdSprites+ (Sejnova et al., 2023, https://arxiv.org/abs/2209.03048), in five levels: a scene
of level $l$ has the first $l$ of the `FACTORS` shape, size, colour, position and background. The
other factors are fixed: large, white, in the middle, on dark. Position and size vary a little
within a factor's value; captions do not mention this play (see `draw`).

The language, with ``[]`` around optional parts and ``|`` between alternatives:

    caption    = [ ground ] [ opening ] thing [ place ] [ ground ]    with at most one ground
    opening    = "there is" | "we see" | "a picture of"
    thing      = [ "a" | "an" ] [ size ] [ colour ] shape
    size       = "small" | "little" | "large" | "big"
    colour     = "red" | "green" | "blue" | "yellow" | "pink"
    shape      = "square" | "box" | "ellipse" | "oval" | "heart"
    place      = ( "at" | "in" ) "the" vertical horizontal [ "corner" ]
    vertical   = "top" | "upper" | "bottom" | "lower"
    horizontal = "left" | "right"
    ground     = "on" [ "a" ] ( "dark" | "light" ) [ "background" ]

Capitals, commas and a full stop at the end have no meaning. A caption names all factors of its
level, and a factor only together with those before it in `FACTORS`.
"""

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from zoo.datamodules.base import SHAPES as STREAM
from zoo.datamodules.base import check_at_least
from zoo.datamodules.loader import seeded
from zoo.datamodules.sprites.factors import check_factors, factors_of
from zoo.datamodules.sprites.render import AREAS, SHAPES, coverage, stamp

SIDE = 64
FACTORS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "size": ("small", "large"),
    "colour": ("red", "green", "blue", "yellow", "pink"),
    "position": ("top left", "top right", "bottom left", "bottom right"),
    "background": ("dark", "light"),
}
"""Names of the factors and of their values; a scene of level l has the first l of them."""

# Radius in pixels, RGB values and centre in pixels, by the value of a factor.
RADII = (7.0, 13.0)
COLOURS = ((230, 40, 40), (40, 170, 70), (50, 90, 240), (250, 215, 30), (255, 125, 195))
WHITE = (255, 255, 255)
CENTRES = ((16.0, 16.0), (48.0, 16.0), (16.0, 48.0), (48.0, 48.0))
MIDDLE = (32.0, 32.0)
BACKGROUNDS = ((20, 20, 25), (235, 235, 230))
# Largest play of a scene: pixels in each direction, and share of the radius.
SHIFT, STRETCH = 1.5, 0.1
# Side of a square that holds the largest shape, wherever the centre is between two pixels.
WINDOW = 32
SAMPLES = 4
# Limits of a shape in `classify`: least pixels of ink (a scene has 62 or more), and largest mean
# squared error of the drawing per pixel of ink (a scene has below 0.01, another shape above 0.1).
LEAST_INK, MOST_MISFIT = 20, 0.25
CHUNK = 256

OPENINGS = ("there is", "we see", "a picture of")
WORDS: dict[str, dict[str, int]] = {
    "a shape": {"square": 0, "box": 0, "ellipse": 1, "oval": 1, "heart": 2},
    "a size": {"small": 0, "little": 0, "large": 1, "big": 1},
    "a colour": {name: value for value, name in enumerate(FACTORS["colour"])},
    "top or bottom": {"top": 0, "upper": 0, "bottom": 1, "lower": 1},
    "left or right": {"left": 0, "right": 1},
    "dark or light": {"dark": 0, "light": 1},
}
"""Words for each place of a caption, and the value of each word."""


def scenes(n: int, level: int, seed: int) -> tuple[Tensor, list[list[str]], Tensor]:
    """Draw scenes whose factors and play are independent and uniform, by the seed only.

    Args:
        n: Number of scenes, at least 1.
        level: Number of factors, 1 to 5.
        seed: Seed of all draws.

    Returns:
        The pictures, uint8 (n, 3, 64, 64); the captions of each, the canonical one first; the
        factors, int64 (n, level).
    """
    check_at_least(1, n=n)
    check_at_least(0, seed=seed)
    generator = seeded(seed, STREAM)
    columns = [torch.randint(k, (n,), generator=generator) for k in factor_sizes(level).values()]
    factors = torch.stack(columns, 1)
    play = 2 * torch.rand(n, 3, generator=generator) - 1
    return draw(factors, play), [list(sentences(tuple(row))) for row in factors.tolist()], factors


def factor_sizes(level: int) -> dict[str, int]:
    """Return the number of values of each factor that scenes of a level have, by its name."""
    if level not in range(1, len(FACTORS) + 1):
        raise ValueError(f"level is {level}, but must be 1 to {len(FACTORS)}.")
    return {name: len(values) for name, values in list(FACTORS.items())[:level]}


def all_factors(level: int) -> Tensor:
    """Return all combinations of factors, int64 (3, 6, 30, 120 or 240 by the level, level)."""
    sizes = list(factor_sizes(level).values())
    return factors_of(torch.arange(prod(sizes)), sizes)


def draw(factors: Tensor, play: Tensor | None = None) -> Tensor:
    """Draw the scenes that have the given factors.

    Args:
        factors: Values of the first l of `FACTORS`, int64 (B, l).
        play: Shift to the right, shift down and increase in size, each in [-1, 1] as a share of its
            maximum (1.5 pixels, 1.5 pixels, a tenth of the radius), float32 (B, 3); 0 when None.

    Returns:
        Tensor, uint8 (B, 3, 64, 64), on the device of `factors`.

    Raises:
        ValueError: if a factor or the play is out of range.
    """
    check_factors(factors, factor_sizes(factors.shape[-1]))
    if play is None:
        play = torch.zeros(len(factors), 3, device=factors.device)
    if not bool((play.abs() <= 1).all()):
        raise ValueError("play must be within [-1, 1], so that a scene keeps its factors.")
    image = factors.new_empty(len(factors), 3, SIDE, SIDE, dtype=torch.uint8)
    for start in range(0, len(factors), CHUNK):  # bounds the memory that drawing takes
        chunk = slice(start, start + CHUNK)
        image[chunk] = _draw(factors[chunk], play[chunk])
    return image


def _draw(factors: Tensor, play: Tensor) -> Tensor:
    level = factors.shape[1]

    def look(table: Sequence[Sequence[float]], column: int, default: Sequence[float]) -> Tensor:
        """Return a row of the table for each scene, or the default if the level lacks it."""
        if column >= level:
            return play.new_tensor([default])  # (1, k)
        return play.new_tensor(table).index_select(0, factors[:, column])  # (B, k)

    radius = look([[r] for r in RADII], 1, RADII[1:])[:, 0] * (1 + STRETCH * play[:, 2])
    centre = look(CENTRES, 3, MIDDLE) + SHIFT * play[:, :2]
    colour = look(COLOURS, 2, WHITE)[:, :, None, None]
    ground = look(BACKGROUNDS, 4, BACKGROUNDS[0])[:, :, None, None]
    ink = mask(factors[:, 0], radius, centre[:, 0], centre[:, 1])[:, None]  # (B, 1, 64, 64)
    return (ground + ink * (colour - ground)).round_().to(torch.uint8)


def mask(shape: Tensor, radius: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the share of each pixel that an upright shape covers, (B, 64, 64).

    Args:
        shape: Index in `render.SHAPES`, int64 (B,).
        radius: Distance of its farthest point from its centroid in pixels, below 15.5, (B,).
        x: Column of its centroid in pixels, (B,).
        y: Row of its centroid in pixels, (B,).
    """
    # only a window around the shape is computed
    left, top = ((t - WINDOW / 2).round().clamp(0, SIDE - WINDOW) for t in (x, y))
    crop = coverage(shape, radius, torch.zeros_like(radius), x - left, y - top, WINDOW, SAMPLES)
    return stamp(crop, top.long(), left.long(), SIDE)


def classify(image: Tensor, level: int) -> Tensor:
    """Read the factors of scenes off their pictures.

    The background is the median of the border. The colour is the one whose mixtures with the
    background fit the picture best, and the ink of a pixel is the colour's share in the mixture.
    The shape is the one whose drawing, at the place of the ink and with its area, fits the ink
    best. A second shape far away or of another colour may be overlooked.

    Args:
        image: Pictures, uint8, or floating point in [0, 1], (B, 3, 64, 64).
        level: Number of factors to read, 1 to 5; the others must be as in scenes of that level.

    Returns:
        Tensor, int64 (B, level); a row of -1 for a picture with hardly any ink, or with ink that
        fits no shape.

    Raises:
        ValueError: if the level is not 1 to 5, or the pictures have another shape.
    """
    factor_sizes(level)
    if image.shape[1:] != (3, SIDE, SIDE):
        raise ValueError(f"image is {tuple(image.shape)}, but must be (B, 3, {SIDE}, {SIDE}).")
    factors = torch.empty(len(image), level, dtype=torch.int64, device=image.device)
    for start in range(0, len(image), CHUNK):
        chunk = slice(start, start + CHUNK)
        pixels = image[chunk].float() * (1 if image.dtype == torch.uint8 else 255)
        factors[chunk] = _classify(pixels, level)
    return factors


def _classify(pixels: Tensor, level: int) -> Tensor:
    edges = [pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]]
    ground = torch.cat(edges, 2).median(2).values  # (B, 3)
    background = torch.cdist(ground, pixels.new_tensor(BACKGROUNDS)).argmin(1)
    colour, ink, core = inks(pixels, ground, COLOURS if level > 2 else (WHITE,))

    # ink that is faint or far from the shape is noise
    ink = ((ink - 0.1) / 0.8).clamp(0, 1) * max_pool2d(core[:, None], 7, 1, 3)[:, 0]
    area = ink.sum((1, 2))
    middle = torch.arange(SIDE, device=ink.device) + 0.5
    x, y = (ink.sum(d) @ middle / area.clamp(min=1) for d in (1, 2))
    radius = (area[:, None] / ink.new_tensor(AREAS)).sqrt()  # (B, 3), as each of the shapes
    drawn = [
        mask(torch.full_like(colour, kind), r.clamp(1, WINDOW / 2 - 0.5), x, y)
        for kind, r in enumerate(radius.unbind(1))
    ]
    misfit = (torch.stack(drawn, 1) - ink[:, None]).square().sum((2, 3))  # (B, 3)
    misfit, shape = (misfit / area.clamp(min=1)[:, None]).min(1)
    size = (radius.gather(1, shape[:, None])[:, 0] > sum(RADII) / 2).long()
    position = 2 * (y > SIDE / 2) + (x > SIDE / 2).long()
    factors = torch.stack([shape, size, colour, position, background], 1)[:, :level]
    readable = (area > LEAST_INK) & (misfit < MOST_MISFIT)
    return factors.where(readable[:, None], -1)


def inks(
    pixels: Tensor, ground: Tensor, colours: Sequence[Sequence[float]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Explain pictures as mixtures of their background with one of the colours.

    Args:
        pixels: Pictures, 0 to 255, (B, 3, H, W).
        ground: Background of each, (B, 3).
        colours: Candidate colours.

    Returns:
        Index of the colour that fits best, int64 (B,), by squared error of the means over 3 x 3
        pixels, which are mixtures with less noise; the colour's share in each pixel, (B, H, W); 1
        where its share in the mean is above a half, 0 elsewhere, (B, H, W).
    """
    towards = pixels.new_tensor(colours) - ground[:, None]  # (B, K, 3)
    length = towards.square().sum(2)[:, :, None, None]  # (B, K, 1, 1)

    def along(image: Tensor) -> Tensor:
        """Return how far each pixel lies towards each colour, (B, K, H, W)."""
        return torch.einsum("bchw,bkc->bkhw", image - ground[:, :, None, None], towards) / length

    mean = along(avg_pool2d(pixels, 3, 1, 1, count_include_pad=False))
    share = mean.clamp(0, 1)
    # a pixel d that lies p along t is |d - a t|^2 = |d|^2 + (a^2 - 2 a p) |t|^2 off the mixture a t
    error = ((share.square() - 2 * share * mean) * length).sum((2, 3))  # (B, K)
    best = error.argmin(1)
    rows = torch.arange(len(best), device=best.device)
    return best, along(pixels)[rows, best].clamp(0, 1), (share[rows, best] > 0.5).float()


def captions(factors: Tensor) -> list[str]:
    """Return five different captions of a scene, the canonical one first.

    The canonical caption has no synonym, such as "large yellow heart at the top left on dark".

    Args:
        factors: Values of the first l of `FACTORS`, int64 (l,).
    """
    check_factors(factors[None], factor_sizes(len(factors)))
    return list(sentences(tuple(factors.tolist())))


@lru_cache(maxsize=1024)
def sentences(factors: tuple[int, ...]) -> tuple[str, ...]:
    """Return the captions of a scene with valid factors."""
    names = [values[i] for values, i in zip(FACTORS.values(), factors, strict=False)]
    shape, size, colour, position, ground = names + [""] * (len(FACTORS) - len(names))
    other = {"square": "box", "ellipse": "oval", "small": "little", "large": "big"}
    plain = join(size, colour, shape)
    varied = join(other.get(size, ""), colour, other.get(shape, shape))
    at = position and f"at the {position}"
    corner = position and f"in the {position} corner"
    upper = position.replace("top", "upper").replace("bottom", "lower")
    upper = upper and f"in the {upper} corner"
    on = ground and f"on {ground}"
    on_a = ground and f"on a {ground} background"
    return (
        join(plain, at, on),
        join(article(varied), varied, upper, on_a),
        join("there is", article(plain), plain, at, on),
        join(on_a and f"{on_a},", "we see", article(varied), varied, corner),
        join("a picture of", article(plain), plain, upper, on_a),
    )


def join(*parts: str) -> str:
    """Return the parts that are not empty, with a space between them."""
    return " ".join(part for part in parts if part)


def article(noun: str) -> str:
    """Return the indefinite article that goes before a noun."""
    return "an" if noun[0] in "aeiou" else "a"


def parse(caption: str) -> Tensor:
    """Return the factors that a caption names, int64 (l,) for a caption of level l.

    Raises:
        ValueError: if the caption is not in the language; the message has the unexpected word or
            the missing factor.
    """
    words = Words(caption)
    ground = words.ground()
    words.skip(*OPENINGS)
    words.skip("an", "a")
    size, colour = words.take("a size"), words.take("a colour")
    shape = words.need("a shape")
    position = None
    if words.skip("at the", "in the"):
        position = 2 * words.need("top or bottom") + words.need("left or right")
        words.skip("corner")
    if ground is None:
        ground = words.ground()
    words.end()
    said = dict(zip(FACTORS, (shape, size, colour, position, ground), strict=True))
    values = [value for value in said.values() if value is not None]
    names = [name for name, value in said.items() if value is not None]
    for before, name in zip(FACTORS, names, strict=False):
        if before != name:
            raise ValueError(f"The caption {caption!r} says the {name}, but not the {before}.")
    return torch.tensor(values)


class Words:
    """The unread words of a caption, and the kinds of word that may come next.

    Args:
        caption: The caption.
    """

    def __init__(self, caption: str) -> None:
        self.caption = caption
        self.words = re.findall(r"[^\s,]+", caption.lower().strip().removesuffix("."))
        self.wanted: list[str] = []

    def skip(self, *phrases: str) -> bool:
        """Read one of the phrases, if it is next; return whether it is."""
        for phrase in phrases:
            length = len(phrase.split())
            if self.words[:length] == phrase.split():
                self.words = self.words[length:]
                self.wanted = []
                return True
        return False

    def take(self, what: str) -> int | None:
        """Read a word of this kind and return its value, or None if another word is next."""
        if self.words and (value := WORDS[what].get(self.words[0])) is not None:
            self.words = self.words[1:]
            self.wanted = []
            return value
        self.wanted.append(what)
        return None

    def need(self, what: str) -> int:
        """Read a word of this kind and return its value; raise a ValueError if another is next."""
        value = self.take(what)
        if value is None:
            raise self.error()
        return value

    def ground(self) -> int | None:
        """Read a ground, if it is next."""
        if not self.skip("on a", "on"):
            return None
        value = self.need("dark or light")
        self.skip("background")
        return value

    def end(self) -> None:
        """Raise a ValueError if words are left."""
        if self.words:
            raise self.error()

    def error(self) -> ValueError:
        """Return the error about the next word."""
        wanted = " or ".join(self.wanted) or "nothing more"
        if not self.words:
            return ValueError(f"The caption {self.caption!r} ends where there should be {wanted}.")
        word = self.words[0]
        near = difflib.get_close_matches(word, [w for k in self.wanted for w in WORDS[k]], 1, 0.7)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return ValueError(
            f"In the caption {self.caption!r}, {word!r} stands where there should be {wanted}{hint}"
        )
