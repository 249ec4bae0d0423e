r"""Directions of attributes in latent space, and codes moved along them.

The direction of an attribute (Larsen et al. 2016, https://arxiv.org/abs/1512.09300; White 2016,
https://arxiv.org/abs/1609.04468) is

$$d = \bar z_{\text{with}} - \bar z_{\text{without}},$$

the mean code of data with the attribute minus that of data without it. Arithmetic on codes is
$z + t d$: t = 1 turns the average datum without the attribute into the average datum with it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.base import LatentVariableModel
from zoo.batches import Batch, on_device
from zoo.checks import check_shape
from zoo.datamodules.base import DataModule
from zoo.tasks.paths import check_real, datum
from zoo.verbs import tensor


@torch.no_grad()
def direction(
    model: LatentVariableModel,
    data: DataModule,
    attribute: str,
    against: str | None = None,
    balance: Sequence[str] = (),
    limit: int | None = None,
) -> Tensor:
    """Find the direction of an attribute: the mean difference of codes of training data.

    Attributes are correlated in data: people with glasses are more often men, and the difference of
    means shows that, too. With `balance`, only data with the same other attributes are compared
    (White 2016): see `mean_difference`.

    Args:
        model: A model with `encode` whose codes are real numbers.
        data: Source of the training data; this function sets it up.
        attribute: Name of an attribute, such as `Smiling`, or of a label, such as `3`.
        against: Name of another attribute, whose data count as those without: `3` against `8`, for
            example. Data with both or neither are left out. By default, all data without the
            attribute count.
        balance: Names of attributes that should not change with it.
        limit: Largest number of training data; the first ones are used.

    Returns:
        The direction, shape `latent_shape`.

    Raises:
        ValueError: if a name is unknown, or there are no data to compare.
    """
    data.prepare_data()
    data.setup("fit")
    names = [attribute, *([] if against is None else [against]), *balance]

    def marks(batch: Batch) -> Tensor:
        known = batch.get("labelled", torch.ones(len(batch["index"]), dtype=torch.bool))
        return torch.stack([known, *(data.attribute(batch, name) > 0 for name in names)], 1)

    batches = data.loader("train", shuffle=False, rank=0, world_size=1)
    z, marked = encoded(model, batches, marks, limit)
    check_real(model, z, "a direction leads from code to code")
    known, has, others = marked[:, 0], marked[:, 1], marked[:, len(names) + 1 - len(balance) :]
    lacks = ~has if against is None else marked[:, 2]
    groups = (others * 2 ** torch.arange(len(balance))).sum(1)
    try:
        found = mean_difference(z, known & has & ~lacks, known & lacks & ~has, groups)
    except ValueError:
        other = f"one without {attribute}" if against is None else f"one with {against}"
        alike = f" and like {', '.join(balance)}" if balance else ""
        raise ValueError(
            f"of {len(z):,} training data none with {attribute} can be compared with {other}"
            f"{alike}; use more data or other names."
        ) from None
    return found.to(model.device)


@torch.no_grad()
def encoded(
    model: LatentVariableModel,
    batches: Iterable[Batch],
    mark: Callable[[Batch], Tensor],
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode data and compute marks of them, both on the CPU.

    Args:
        model: A model with `encode`.
        batches: Batches of data.
        mark: Function from a batch to the marks of its data, (B, ...).
        limit: Largest number of data; the first ones are used.

    Returns:
        Codes (N, *latent_shape), and marks (N, ...).
    """
    codes, marks, n = [], [], 0
    for batch in batches:
        marks.append(mark(batch).cpu())
        here = on_device(batch, model.device)
        codes.append(model.conditioned(here).encode(model.inputs(here)).cpu())
        n += len(codes[-1])
        if limit is not None and n >= limit:
            break
    return torch.cat(codes)[:limit], torch.cat(marks)[:limit]


def mean_difference(z: Tensor, first: Tensor, second: Tensor, groups: Tensor) -> Tensor:
    r"""Mean difference of codes of two kinds of data within groups, (*latent_shape).

    The difference of the means in each group g, with $n_g$ data of the first kind and $m_g$ of the
    second, is averaged over groups with weights $n_g m_g / (n_g + m_g)$, which are proportional to
    the inverse variances. The result is the coefficient of the kind in a least-squares fit of the
    codes to the kind and the groups.

    Args:
        z: Codes, (N, *latent_shape).
        first: True for data of the first kind, (N,) bool.
        second: True for data of the second kind, (N,) bool.
        groups: Numbers of the groups, (N,); data of different groups are not compared.

    Raises:
        ValueError: if no group has both kinds.
    """
    total, weight = torch.zeros(z.shape[1:], dtype=torch.float64, device=z.device), 0.0
    for g in torch.unique(groups):
        a, b = (z[kind & (groups == g)].double() for kind in (first, second))
        if len(a) and len(b):
            w = len(a) * len(b) / (len(a) + len(b))
            total += w * (a.mean(0) - b.mean(0))
            weight += w
    if not weight:
        raise ValueError("no group has data of both kinds; give more data, or larger groups.")
    return (total / weight).to(z.dtype)


@torch.no_grad()
def move(model: LatentVariableModel, x: Any, direction: Any, strengths: Sequence[float]) -> Tensor:
    """Decode the code of x, moved along a direction: z + t d for each strength t.

    Args:
        model: A model with `encode` and `decode` whose codes are real numbers.
        x: One datum, shape `x_shape`.
        direction: d, shape `latent_shape`, as from `direction`.
        strengths: Values of t; 0 gives the reconstruction of x.

    Returns:
        Data of shape (len(strengths), *x_shape).
    """
    direction = tensor("direction", direction, model.device)
    check_shape("direction", direction[None], model.latent_shape)
    z = model.encode(datum(model, "x", x))  # (1, *latent_shape)
    check_real(model, z, "move goes along a direction in steps")
    t = torch.tensor(strengths, device=z.device, dtype=z.dtype)
    return model.decode(z + t.reshape(-1, *[1] * direction.ndim) * direction)
