r"""Conditional variational autoencoder (Sohn, Lee & Yan 2015, https://papers.nips.cc/paper/5775).

A label $y$, one of $K$, and a code $z$ that is independent of it generate an image together:

$$p(x \mid y) = \int p_\theta(x \mid z, y) \, p(z) \, dz, \qquad p(z) = \mathcal N(0, I),$$

and the encoder sees both, $q_\phi(z \mid x, y)$. Training maximises the bound (the paper swaps x
and y, and its prior of z may depend on the condition)

$$\log p(x \mid y) \ge \mathbb E_{q(z \mid x, y)}[\log p(x \mid z, y)]
  - \mathrm{KL}(q(z \mid x, y) \,\|\, p(z)).$$

The code z holds the style, which is independent of the label, and can be decoded with another
label.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images, check_shape, check_symbols
from zoo.distributions.factorised import diagonal_gaussian, image_likelihood, standard_gaussian
from zoo.errors import in_any_case, nearest
from zoo.models.autoencoders.base import Autoencoder
from zoo.nn.precision import suited
from zoo.plots.grids import grid

ROWS = 12  # largest number of images whose style is transferred to other labels


class ConditionalVAE(Autoencoder):
    """Variational autoencoder of images given their label.

    `sample(n)` draws labels uniformly if none is fixed. The verbs that take images or codes need a
    fixed label, `given(y)`.

    Args:
        labels: Names of the classes, K.
        latent_dim: Number of latent dimensions, D.
        kl_warmup_steps: Optimiser steps over which the rate's weight rises linearly to 1.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "A conditional variational autoencoder (Sohn, Lee & Yan 2015, "
        "https://papers.nips.cc/paper/5775)"
    )
    limits: ClassVar = (
        "Likelihoods are of images given their labels, so they say more for a model than those of "
        "images alone. Samples are drawn pixel by pixel given the code, so edges are rough; "
        "`decode` gives means."
    )
    condition: ClassVar = "label"
    lacks: Mapping[str, str] = {
        "log_prob": "log p(x | y) is an integral over z that has no closed form; "
        "zoo.log_likelihood(model.given(y), x) gives a bound and its standard error."
    }
    shows: ClassVar = {
        "examples.png": "The first images of the test set, and beside each its style as every "
        "label: its code given its own label, decoded given the others."
    }

    y: Tensor | None = None
    """Positions of the fixed labels, (B,)."""

    def __init__(
        self,
        *,
        labels: tuple[str, ...] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        latent_dim: int = 20,
        kl_warmup_steps: int = 0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim, inputs=latent_dim + len(labels))
        check_at_least(0, kl_warmup_steps=kl_warmup_steps)
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"labels is {tuple(labels)}, but must be different names, at least 1.")
        self.labels = self.conditions = tuple(labels)
        self.kl_warmup_steps = kl_warmup_steps
        # Each label has a picture, which is added to the encoder's input. For the first linear map
        # this is equivalent to more inputs, since h(x + e_y) = W x + (W e_y + b).
        self.pictures = nn.Parameter(torch.zeros(len(labels), *self.x_shape))

    def given(self, y: int | str | Tensor) -> Self:
        """This model with its label fixed: p(x | y), q(z | x, y), p(x | z, y), on shared weights.

        Args:
            y: One label for all data, by name or position; or positions (B,), one for each datum,
                in the data's order, which are repeated C times for C B codes.

        Raises:
            ValueError: if there is no such label.
        """
        if isinstance(y, str):
            y = in_any_case(y, self.labels)
            if y not in self.labels:
                raise ValueError(f"there is no label {y!r}; {nearest(y, self.labels)}")
            y = self.labels.index(y)
        positions = torch.as_tensor(y).reshape(-1) if isinstance(y, int) else y
        check_shape("y", positions, ())
        check_symbols("y", positions, len(self.labels))
        model = copy(self)
        model.conditions = ()
        model.y = positions.to(self.device)
        return model

    def prior(self) -> Distribution:
        """p(z) = N(0, I), whatever the label: batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x, y) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        check_shape("image", x, self.x_shape)
        return diagonal_gaussian(self.code(x + self.pictures[self._labels_of(x, "images")]))

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z, y) for z of shape (B, D): batch shape (B,), event shape (C, H, W)."""
        check_shape("z", z, self.latent_shape)
        one_hot = nn.functional.one_hot(self._labels_of(z, "codes"), len(self.labels))
        code = torch.cat([z, one_hot.to(z)], 1)  # (B, D + K)
        return image_likelihood(self.decoder(suited(code, self.decoder)), self.log_scale)

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative bound on log p(x | y) in nats per image; warm-up weights the rate."""
        x, model = self.inputs(batch), self.conditioned(batch)
        q = model.posterior(x)
        distortion = -model.likelihood(q.rsample()).log_prob(x)  # (B,)
        rate = kl_divergence(q, self.prior())  # (B,)
        loss = distortion + self.annealed(1.0, self.kl_warmup_steps) * rate
        return self.terms(loss, distortion, rate)

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """Style transfer: a row has an image, then its code decoded given every label."""
        x, y, k = batch["image"][:ROWS], batch["label"][:ROWS], len(self.labels)
        z = self.given(y).encode(x)  # (n, D)
        every = torch.arange(k).repeat(len(z))
        restyled = self.given(every).decode(z.repeat_interleave(k, 0))  # (n K, C, H, W)
        rows = torch.cat([x[:, None], restyled.reshape(len(z), k, *self.x_shape)], 1)
        return {"examples.png": grid(rows.flatten(0, 1), 1 + k)[None]}

    def _labels_of(self, data: Tensor, what: str) -> Tensor:
        """The fixed labels, one for each row of images or codes, (N,)."""
        if self.y is None:
            raise ValueError(
                f"{type(self).__name__} takes {what} given their label: fix it by "
                f"model.given(y), where y is one of {', '.join(self.labels)}."
            )
        rounds, rest = divmod(len(data), len(self.y))
        if rest:
            raise ValueError(
                f"there are {len(data)} {what} but {len(self.y)} labels were given; give one "
                "label for all, or one each."
            )
        return self.y.repeat(rounds)
