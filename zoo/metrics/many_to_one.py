"""Many-to-one accuracy of induced classes (Johnson 2007)."""

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.metrics.checks import check_counted, check_places


class ManyToOne(Metric):
    """Share of correct items when each state stands for its most frequent tag.

    It cannot fall when states are split, so compare it only at equal numbers of states.

    Args:
        states: Number of states, K.
        tags: Number of tags.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, states: int, tags: int) -> None:
        super().__init__()
        zeros = torch.zeros(states, tags, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, states: Tensor, tags: Tensor) -> None:
        """Add the states and tags of items, both int64 (N,).

        Raises:
            ValueError: if the numbers of states and tags differ, or one is unknown.
        """
        if states.shape != tags.shape:
            raise ValueError(f"there are {len(states)} states, but {len(tags)} tags.")
        for name, index, n in zip(("state", "tag"), (states, tags), self.counts.shape, strict=True):
            check_places(name, index, n)
        pairs = states * self.counts.shape[1] + tags
        self.counts += torch.bincount(pairs, minlength=self.counts.numel()).view_as(self.counts)

    def compute(self) -> Tensor:
        """The accuracy, a scalar in [0, 1]."""
        check_counted("item", self.counts)
        return self.counts.amax(1).sum() / self.counts.sum()
