r"""Convolutional classifier (LeCun et al. 1998, https://doi.org/10.1109/5.726791).

A network $h$ gives features of an image, and a linear map of the features gives the logits of
labels, $a(x) = W h(x) + b$. An image has one of $K$ classes, or any of $K$ binary attributes:

$$p(y = k \mid x) = \operatorname{softmax}_k a(x)
  \qquad\text{or}\qquad p(y_k = 1 \mid x) = \operatorname{sigmoid} a_k(x).$$

It is not a generative model. The zoo uses its features to compare sets of images, `encode` gives
$h(x)$, and `classify` to label generated images.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.batches import Batch
from zoo.checks import check_at_least, check_batch, check_choice, check_image_shape, check_images
from zoo.distributions.factorised import at_least_float32
from zoo.models.gradient import GradientModel
from zoo.nn.precision import suited

Target = Literal["label", "attributes"]


class Classifier(GradientModel):
    """Convolutional network that names what an image shows.

    Args:
        x_shape: Shape of an image, (C, H, W).
        labels: Names of the classes or attributes.
        target: Key of the labels in a batch: `label`, one of the classes, or `attributes`, each 1
            or 0.
        channels: Channels of the convolutions; max-pooling after each halves height and width.
        kernel: Height and width of the convolutions, an odd number.
        features: Number of features, D.
        dropout: Share of the features that training sets to 0 (Srivastava et al. 2014).
        training: Arguments of `GradientModel`: `lr`, `lr_schedule`, `lr_warmup_steps`.
    """

    about: ClassVar = (
        "A convolutional classifier (LeCun et al. 1998, https://doi.org/10.1109/5.726791)"
    )
    modality = "image"
    tags: ClassVar = ("image-classification", "image-feature-extraction")
    task: ClassVar = "image-classification"
    limits: ClassVar = (
        "Distances between sets of images in its features are comparable only where they name "
        "these features; they are no Inception scores."
    )
    lacks: Mapping[str, str] = {
        verb: "a classifier has p(y | x) and no p(x); "
        f'`zoo.list_models(verb="{verb}")` names the models that have it.'
        for verb in ("sample", "prior", "posterior", "likelihood", "decode", "log_prob")
    }

    def __init__(
        self,
        x_shape: tuple[int, int, int] = (1, 28, 28),
        labels: tuple[str, ...] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        target: Target = "label",
        channels: tuple[int, ...] = (32, 64),
        kernel: int = 5,
        features: int = 128,
        dropout: float = 0.5,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_image_shape(x_shape)
        check_at_least(1, features=features, kernel=kernel)
        check_at_least(1, **{f"channels[{i}]": w for i, w in enumerate(channels)})
        check_at_least(0, dropout=dropout)
        check_choice(Target, target=target)
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"labels is {tuple(labels)}, but must be different names, at least 1.")
        if dropout >= 1:
            raise ValueError(f"dropout is {dropout}, but must be below 1, so that features remain.")
        self.x_shape = tuple(x_shape)
        self.latent_shape = (features,)
        self.labels = tuple(labels)
        self.target = target
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}, but must be odd, so that it has a middle.")
        shrunk = [side // 2 ** len(channels) for side in x_shape[1:]]
        if min(shrunk) < 1:
            raise ValueError(
                f"channels={tuple(channels)} halves the image {len(channels)} times, but it has "
                f"{x_shape[1]}x{x_shape[2]} pixels; give fewer channels."
            )
        widths = (x_shape[0], *channels)
        stages = [
            layer
            for width, wider in pairwise(widths)
            for layer in (
                nn.Conv2d(width, wider, kernel, padding=kernel // 2),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
        ]
        flat = widths[-1] * shrunk[0] * shrunk[1]
        self.features = nn.Sequential(*stages, nn.Flatten(), nn.Linear(flat, features), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, len(labels)))

    def encode(self, x: Tensor) -> Tensor:
        """The features h(x): (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return at_least_float32(self.features(suited(x, self.features)))

    def logits(self, x: Tensor) -> Tensor:
        """a(x): (B, C, H, W) to (B, K)."""
        return at_least_float32(self.head(self.features(suited(x, self.features))))

    def classify(self, x: Tensor) -> Tensor:
        """p(y = k | x), or p(y_k = 1 | x) of attributes: (B, C, H, W) in [0, 1] to (B, K)."""
        check_images(x, self.x_shape)
        logits = self.logits(x)
        return logits.softmax(-1) if self.target == "label" else logits.sigmoid()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """-log p(y | x) in nats per image, summed over attributes; and the share that is right."""
        logits, y = self.logits(self.inputs(batch)), self._target(batch)
        if self.target == "label":
            loss = nn.functional.cross_entropy(logits, y)
        else:
            terms = nn.functional.binary_cross_entropy_with_logits(
                logits, y.to(logits.dtype), reduction="none"
            )
            loss = terms.sum(-1).mean()
        right = self._right(logits, y)
        return {"loss": loss, "accuracy": right.to(logits.dtype).mean()}

    @torch.no_grad()
    def scores(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """The accuracy and, for attributes, the recall and the specificity.

        Returns:
            By name, `accuracy`, `recall` and `specificity`, the numbers of correct labels of each
            image and of all labels that count, (B,) each.
        """
        if self.target not in batch:
            return {}
        y = self._target(batch)
        right = self._right(self.logits(batch["image"]), y)  # (B, 1) or (B, K)
        found = {"accuracy": torch.ones_like(right)}
        if self.target == "attributes":
            found |= {"recall": y > 0, "specificity": y == 0}
        return {name: ((right & of).sum(1), of.sum(1)) for name, of in found.items()}

    def _target(self, batch: Batch) -> Tensor:
        """The labels of the batch, int64 (B,), or its attributes, int64 (B, K)."""
        check_batch(batch, self.target)
        y: Tensor = batch[self.target]
        if self.target == "attributes" and y.shape[1] != len(self.labels):
            raise ValueError(
                f"a batch has {y.shape[1]} attributes, but this model names {len(self.labels)}; "
                "give `attributes` of the data and `labels` of the model the same names."
            )
        return y

    def _right(self, logits: Tensor, y: Tensor) -> Tensor:
        """Whether the most probable label is correct, (B, 1), or that of each attribute, (B, K)."""
        if self.target == "label":
            return (logits.argmax(-1) == y)[:, None]
        return (logits > 0) == (y > 0)
