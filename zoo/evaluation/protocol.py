"""How a number of a card is measured: on which data, how much of it, with which seed.

A metric of metrics.json states its protocol beside its value: dataset, split, number of examples,
seed and samples. Most have a `quick` value, too, of a protocol that takes seconds.
"""

from typing import NamedTuple

from zoo.checkpoints.metrics import Metric


class Protocol(NamedTuple):
    """What has to be equal for two numbers to be comparable.

    Args:
        samples: Importance samples per datum for the NLL.
        limit: At most so many examples, the first of the test set; by default all.
        seed: Seed of all draws.
    """

    samples: int = 5000
    limit: int | None = None
    seed: int = 0


QUICK = Protocol(samples=200, limit=1000)
"""What `--quick` measures of a card with the full number of importance samples."""


def quick_of(samples: int) -> Protocol:
    """The quick protocol beside a card's: a 25th of its importance samples, 200 at the most."""
    return QUICK._replace(samples=max(1, min(QUICK.samples, samples // 25)))


def with_quick_values(metrics: list[Metric], quick: list[Metric]) -> list[Metric]:
    """Put beside each metric its value under the quick protocol."""
    values = {m.name: m for m in quick}
    return [m.with_quick(values[m.name]) if m.name in values else m for m in metrics]
