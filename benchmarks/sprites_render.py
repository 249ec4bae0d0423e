"""Pictures per second of `Sprites` against the memory's limit and other ways to have the pictures.

All contestants turn the same random rows of the data set into a batch of float32 (B, 1, 64, 64):

- limit: fill a new tensor of the batch's size, 16,384 bytes a picture, with a constant; nothing
  that returns float pictures can be faster than writing them;
- Sprites: what the loader calls for every batch, from rows to factors and pictures;
- Sprites, source dsprites: the same from all pictures in memory with a bit for each pixel, 377 MB;
- packed table: only an index_select out of that table and the unpacking of its bits;
- numpy loop: each picture by itself, pixels inside the shape by its formula on a 64 x 64 grid;
- PIL loop: each picture by itself, a polygon drawn by Pillow.

`ColouredSprites` write three times as much, and stand beside a limit of their own. The contestants
run in turn, and each cell is the median of the repetitions. The loops draw without soft edges and
are given fewer pictures in a repetition, as they are slow. Target: Sprites at 20,000 pictures/s or
more at both batch sizes.

    python benchmarks/sprites_render.py --threads 2

On a machine that is busy otherwise, `--threads 1 --clock cpu` counts the process's CPU seconds in
place of the wall clock's.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from zoo.datamodules import ColouredSprites, Sprites
from zoo.datamodules.sprites.dsprites import unpack
from zoo.datamodules.sprites.render import SHAPES

TARGET = 20_000
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def outlines() -> list[np.ndarray]:
    """Corners of the three shapes with a radius of 1, (n, 2)."""
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    square = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * 0.5**0.5
    ellipse = np.stack([np.cos(t), np.sin(t) / 2], 1)
    rise = (math.pi / 8 + 1 / 6) / (1 + math.pi / 4)
    m, h = 1 / (1 + rise), 0.5**0.5 / (1 + rise)
    # down the right side: around the disc from the notch in the middle to the tip
    arc = np.linspace(-3 * np.pi / 4, np.pi / 4, 20)
    right = np.stack([m / 2 + h * np.cos(arc), -m / 2 + h * np.sin(arc)], 1)
    heart = np.concatenate([right, [[0, m]], right[::-1] * [-1, 1]])
    heart[:, 1] += 1 - m
    return [square, ellipse, heart]


OUTLINES = outlines()


def placed(factors: list[int]) -> tuple[float, float, float, float]:
    """Radius, angle, column and row of a sprite."""
    _, scale, orientation, x, y = factors
    return 12.5 * (0.5 + 0.1 * scale), 2 * math.pi * orientation / 39, 16.85 + x, 16.7 + y


def pil_loop(factors: Tensor) -> Tensor:
    pictures = []
    for row in factors.tolist():
        radius, angle, x, y = placed(row)
        c, s = radius * math.cos(angle), radius * math.sin(angle)
        corners = OUTLINES[row[0]] @ np.array([[c, s], [-s, c]]) + [x - 0.5, y - 0.5]
        image = Image.new("1", (64, 64))
        ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners.tolist()], fill=1)
        pictures.append(np.asarray(image, dtype=np.float32))
    return torch.from_numpy(np.stack(pictures)[:, None])


PIXEL = np.arange(64, dtype=np.float32) + 0.5


def numpy_loop(factors: Tensor) -> Tensor:
    pictures = np.empty((len(factors), 1, 64, 64), dtype=np.float32)
    rise = (math.pi / 8 + 1 / 6) / (1 + math.pi / 4)
    m, h = 1 / (1 + rise), 0.5**0.5 / (1 + rise)
    for picture, row in zip(pictures, factors.tolist(), strict=True):
        radius, angle, x, y = placed(row)
        right, down = (PIXEL[None] - x) / radius, (PIXEL[:, None] - y) / radius
        c, s = math.cos(angle), math.sin(angle)
        u, v = c * right + s * down, c * down - s * right
        if SHAPES[row[0]] == "square":
            inside = np.maximum(abs(u), abs(v)) <= 0.5**0.5
        elif SHAPES[row[0]] == "ellipse":
            inside = u * u + 4 * v * v <= 1
        else:
            v = v - (1 - m)
            disc = (abs(u) - m / 2) ** 2 + (v + m / 2) ** 2 <= h * h
            inside = (abs(u) + abs(v) <= m) | disc
        picture[0] = inside
    return torch.from_numpy(pictures)


def packed(data: Sprites) -> Tensor:
    """All pictures, a bit for each pixel, uint8 (N, 512)."""
    parts = []
    for row in torch.arange(data.n).split(8192):
        pixels = data.draw(data.factors_of(row)).flatten(1).to(torch.uint8)
        parts.append(torch.from_numpy(np.packbits(pixels.numpy(), axis=1)))
    return torch.cat(parts)


def check(data: Sprites, contestants: dict[str, Callable[[Tensor], Tensor]]) -> None:
    """Make sure that all contestants draw the same sprites."""
    row = torch.randint(data.n, (256,), generator=torch.Generator().manual_seed(1))
    expected = data.draw(data.factors_of(row))
    for name, contestant in contestants.items():
        found = contestant(row)
        # Pillow also draws all pixels that the outline touches, some 50 on a sprite of 170
        wrong = (found != expected).sum((1, 2, 3)).double().mean()
        print(f"{name}: {wrong:.1f} pixels of a picture differ from those of Sprites")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of drawing sprites.")
    parser.add_argument("--repetitions", type=int, default=15, help="of each contestant")
    parser.add_argument("--pictures", type=int, default=16_384, help="in a repetition")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    args = parser.parse_args()
    clock = CLOCKS[args.clock]
    torch.set_num_threads(args.threads)

    data, coloured = Sprites(), ColouredSprites()
    start = clock()
    data.setup()
    data.draw(data.sample_factors(1))
    print(f"setup and the first picture: {clock() - start:.2f} s")
    original = Sprites(source="dsprites")
    original.bits = bits = packed(data)

    def loaded(module: Sprites | ColouredSprites) -> Callable[[Tensor], Tensor]:
        finish = module.finish("train")
        return lambda row: finish({"row": row, "index": row})["image"]

    drawn: dict[str, Callable[[Tensor], Tensor]] = {
        "Sprites": loaded(data),
        "Sprites, source dsprites": loaded(original),
        "packed table": lambda row: unpack(bits, row),
        "numpy loop": lambda row: numpy_loop(data.factors_of(row)),
        "PIL loop": lambda row: pil_loop(data.factors_of(row)),
    }
    check(data, drawn)
    contestants = {
        "limit": lambda row: torch.full((len(row), 1, 64, 64), 1.0),
        **drawn,
        "limit, 3 channels": lambda row: torch.full((len(row), 3, 64, 64), 1.0),
        "ColouredSprites": loaded(coloured),
    }
    print(
        f"{args.clock} clock, {args.threads} threads, {args.repetitions} repetitions of "
        f"{args.pictures} pictures"
    )
    met = True
    generator = torch.Generator().manual_seed(0)
    for batch_size in (64, 512):
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for repetition in range(args.repetitions + 1):  # the first to warm up
            for name, contestant in contestants.items():
                n = args.pictures // 16 if "loop" in name else args.pictures
                rows = torch.randint(data.n, (n,), generator=generator).split(batch_size)
                start = clock()
                for row in rows:
                    contestant(row)
                if repetition:
                    speeds[name].append(n / (clock() - start))
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        print(f"\nbatches of {batch_size}")
        heads = ("pictures/s", "lowest", "highest", "of limit", "x Sprites")
        print(" " * 26 + "".join(f"{head:>12}" for head in heads))
        for name, values in speeds.items():
            limit = medians["limit, 3 channels" if name == "ColouredSprites" else "limit"]
            print(
                f"{name:26}{medians[name]:12,.0f}{min(values):12,.0f}{max(values):12,.0f}"
                f"{medians[name] / limit:12.3f}{medians[name] / medians['Sprites']:12.3f}"
            )
        met &= medians["Sprites"] >= TARGET
    print(f"\ntarget: Sprites at {TARGET:,} pictures/s or more: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
