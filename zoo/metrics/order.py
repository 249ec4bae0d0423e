"""An order of rows that does not depend on the order of batches and processes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def shuffled(*parts: Tensor, seed: int = 0) -> list[NDArray[Any]]:
    """Sort the rows of (N, D_1), (N, D_2), ... together, then shuffle them by the seed.

    Args:
        parts: Matrices with the same rows, on any device.
        seed: Seed of the shuffle; independent sets need different seeds.
    """
    arrays = [part.detach().cpu().numpy() for part in parts]
    order = np.lexsort([column for array in arrays for column in array.T])
    order = order[np.random.default_rng(seed).permutation(len(order))]
    return [array[order] for array in arrays]
