r"""Prefix products of any associative operation, in a number of steps that grows with log T.

The all-prefix sums of Blelloch, "Prefix Sums and Their Applications" (1990): neighbours are
combined, the half as many results are scanned in the same way, and what lies between them is
filled in. That takes fewer than $2 T$ combinations in $2 \lceil \log_2 T \rceil$ rounds.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Elements = tuple[Tensor, ...]
"""T elements, each spread over several tensors, all of whose first dimension is T."""


def associative_scan(
    combine: Callable[[Elements, Elements], Elements], elements: Elements, reverse: bool = False
) -> Elements:
    r"""Return $a_1, \; a_1 \circ a_2, \; \dots, \; a_1 \circ \dots \circ a_T$.

    Args:
        combine: The operation, on any number of elements at once: the earlier, then the later.
        elements: What to combine.
        reverse: Return $a_1 \circ \dots \circ a_T, \; \dots, \; a_T$ instead.
    """
    if reverse:
        flipped = associative_scan(
            lambda later, earlier: combine(earlier, later), tuple(e.flip(0) for e in elements)
        )
        return tuple(e.flip(0) for e in flipped)
    n = len(elements[0])
    if n == 1:
        return elements
    left, right = (tuple(e[i : n - n % 2 : 2] for e in elements) for i in (0, 1))
    second = associative_scan(combine, combine(left, right))  # the 2nd, 4th, ... results
    if n == 2:
        first = tuple(e[:1] for e in elements)
    else:
        before = tuple(e[: (n - 1) // 2] for e in second)
        between = combine(before, tuple(e[2::2] for e in elements))  # the 3rd, 5th, ...
        first = tuple(torch.cat([e[:1], b]) for e, b in zip(elements, between, strict=True))
    return tuple(_interleave(a, b) for a, b in zip(first, second, strict=True))


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    whole = first.new_empty(len(first) + len(second), *first.shape[1:])
    whole[0::2] = first
    whole[1::2] = second
    return whole
