"""A small MNIST, as the bytes of its files."""

import numpy as np
from numpy.typing import NDArray

PARTS = {"train": 40, "t10k": 10}


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    """An idx file as its format says: 0, 0, type, rank, big-endian sizes, values."""
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def made_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for part, n in PARTS.items():
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{part}-labels-idx1-ubyte"] = idx_bytes((np.arange(n) % 10).astype(np.uint8))
    return files
