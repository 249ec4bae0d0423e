r"""Debiasing variational autoencoder (Amini et al. 2019, https://doi.org/10.1145/3306618.3314243).

The encoder gives the code of an image and the logit $a(x)$ of an attribute, y = 1 if the image has
it. Training minimises

$$c_1 \, \big( -\log p(y \mid x) \big)
  - \mathbb E_{q(z \mid x)}[\log p(x \mid z)] + \mathrm{KL}(q(z \mid x) \,\|\, p(z)),
  \qquad p(y = 1 \mid x) = \operatorname{sigmoid} a(x).$$

Before each epoch the images with y = 1 are encoded by the means of q. The epoch draws these images
with a probability in proportion to

$$W(z) = \prod_i \frac 1 {\hat Q_i(z_i) + \alpha},$$

where $\hat Q_i$ is the histogram of the i-th latent variable, so that images with rare codes are
drawn more often. No label marks rare groups. Images with y = 0 are drawn uniformly.

In the paper, images with y = 0 are not faces, and its loss does not reconstruct them. Here they are
of the same kind as the others, so the bound is on all images.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from zoo.batches import Batch
from zoo.checks import check_at_least, check_batch, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.errors import ZooError
from zoo.inference.resampling import resampling_weights
from zoo.models.autoencoders.base import Autoencoder, Likelihood, Network
from zoo.plots.grids import grid

COLUMNS = 12  # largest number of images of each kind to show


class DBVAE(Autoencoder):
    """Classifier of an attribute, whose VAE finds rare images.

    Args:
        x_shape: Shape of an image, (C, H, W).
        attributes: Names of a batch's attributes. The model learns the first; its recall is
            measured on images with and without each of the others.
        latent_dim: Number of latent dimensions, D.
        likelihood: p(x | z): `bernoulli` for pixels that are on or off, or `gaussian` with one
            learned standard deviation (sigma-VAE, Rybkin et al. 2021).
        network: `mlp`, `conv` for strided convolutions, or `patch` for convolutions on squares of
            4 x 4 pixels, followed by a dense layer.
        hidden: Widths of the hidden layers (`mlp`); channels of the stages (`conv`, `patch`), then
            the width of the dense layer (`patch`).
        c1: Weight of the classification in the loss.
        debias: Whether training draws rare images more often; if not, each image once per epoch.
        alpha: Smoothing of the histograms; a smaller alpha debiases more.
        bins: Bins of each histogram, an odd number.
        networks: Arguments of `Autoencoder`, such as `activation` and `lr`.
    """

    about: ClassVar = (
        "A debiasing variational autoencoder (Amini et al. 2019, "
        "https://doi.org/10.1145/3306618.3314243)"
    )
    tags: ClassVar = ("variational-autoencoder", "image-classification", "debiasing")
    task: ClassVar = "image-classification"
    limits: ClassVar = (
        "It evens out what its codes can see. Groups that look alike to it, and labels that are "
        "wrong more often for some, it leaves as they are. Samples are of the data as it was "
        "drawn, where rare images are more frequent than they are."
    )

    shows: ClassVar = {
        "examples.png": "Of the first test images that have the attribute, above those that "
        "training would draw most often, by their own histograms, and below the least often."
    }

    def __init__(
        self,
        *,
        x_shape: tuple[int, int, int] = (3, 64, 64),
        attributes: tuple[str, ...] = ("Smiling",),
        latent_dim: int = 32,
        likelihood: Likelihood = "gaussian",
        network: Network = "conv",
        hidden: tuple[int, ...] = (32, 64, 128),
        c1: float = 1.0,
        debias: bool = True,
        alpha: float = 1.0,
        bins: int = 11,
        **networks: Any,
    ) -> None:
        super().__init__(
            x_shape=x_shape, likelihood=likelihood, network=network, hidden=hidden, **networks
        )
        self.build_networks(latent_dim, outputs=2 * latent_dim + 1)
        check_at_least(0, c1=c1)
        check_at_least(1, bins=bins)
        if not attributes or len(set(attributes)) < len(attributes):
            raise ValueError(
                f"attributes is {tuple(attributes)}, but must be different names, at least 1."
            )
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha}, but must be above 0, or no histogram may be 0.")
        if bins % 2 == 0:
            raise ValueError(f"bins is {bins}, but must be odd, so that there is a middle.")
        self.attributes = tuple(attributes)
        self.labels = (f"not {attributes[0]}", attributes[0])
        self.c1, self.debias, self.alpha, self.bins = c1, debias, alpha, bins
        if self.log_scale is not None:
            # Near the final scale of residuals: from 1 it takes thousands of steps to get there,
            # and until then codes do not distinguish images.
            nn.init.constant_(self.log_scale, -2.0)

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        return self._heads(x)[0]

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def classify(self, x: Tensor) -> Tensor:
        """p(y | x) of each of `labels`, y = 0 and y = 1: (B, C, H, W) in [0, 1] to (B, 2)."""
        check_images(x, self.x_shape)
        p = self._heads(x)[1].sigmoid()
        return torch.stack([1 - p, p], 1)

    def _heads(self, x: Tensor) -> tuple[Distribution, Tensor]:
        """q(z | x), and the logit a(x), (B,)."""
        output = self.code(x)  # (B, 2 D + 1)
        return diagonal_gaussian(output[:, :-1]), output[:, -1]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted -log p(y | x) plus the negative evidence lower bound, in nats per image."""
        x, y = self.inputs(batch), self._attributes(batch)[:, 0]
        q, logit = self._heads(x)
        surprise = binary_cross_entropy_with_logits(logit, y.to(logit), reduction="none")  # (B,)
        distortion = -self.likelihood(q.rsample()).log_prob(x)  # (B,)
        rate = kl_divergence(q, self.prior())  # (B,)
        return {
            "loss": (self.c1 * surprise + distortion + rate).mean(),
            "classification": surprise.mean(),
            "accuracy": ((logit > 0) == (y > 0)).float().mean(),
            "elbo": -(distortion + rate).mean(),
            "rate": rate.mean(),
            "distortion": distortion.mean(),
        }

    @torch.no_grad()
    def scores(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """The labels' accuracy and precision, and the recall of y = 1 and of its groups.

        Returns:
            By name, the numbers of correct and of counted labels for each image, (B,) each. The
            group of `recall_A` has the attribute A, that of `recall_no_A` does not.
        """
        if "attributes" not in batch:
            return {}
        rest = self._attributes(batch) > 0
        there, found = rest[:, 0], self._heads(batch["image"])[1] > 0
        scores = {
            "accuracy": (there == found, torch.ones_like(there)),
            "label_precision": (there & found, found),
            "label_recall": (there & found, there),
        }
        for name, group in zip(self.attributes[1:], rest[:, 1:].T, strict=True):
            for prefix, members in (("", there & group), ("no_", there & ~group)):
                scores[f"recall_{prefix}{name}"] = (members & found, members)
        return scores

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The images with y = 1 and the rarest codes, above those with the most common codes."""
        x = batch["image"][self._attributes(batch)[:, 0] > 0]
        columns = min(COLUMNS, len(x) // 2)
        if not columns:
            return {}
        order = resampling_weights(self.encode(x), self.alpha, self.bins).argsort(descending=True)
        return {
            "examples.png": grid(x[torch.cat([order[:columns], order[-columns:]])], columns)[None]
        }

    def _attributes(self, batch: Batch) -> Tensor:
        """The attributes of this model, int64 (B, A)."""
        check_batch(batch, "attributes")
        found: Tensor = batch["attributes"]
        if found.shape[1] != len(self.attributes):
            raise ValueError(
                f"a batch has {found.shape[1]} attributes, but this model knows "
                f"{len(self.attributes)}; give `attributes` of the data and of the model the same "
                "names."
            )
        return found

    # --- sampling weights ------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        if self.debias:
            weights = self.sampling_weights()
            loader: Any = self.trainer.train_dataloader
            loader.weigh(weights)

    @torch.no_grad()
    def sampling_weights(self) -> Tensor:
        """Weight of each training image in the draws of an epoch, (N,) float64.

        Images with y = 0 have weight 1, and the others have a mean weight of 1. Each process
        encodes its share, and all processes get the same weights.
        """
        trainer = self.trainer
        loader_of = getattr(getattr(trainer, "datamodule", None), "loader", None)
        if loader_of is None:
            raise ZooError("DBVAE draws images by their codes, so it trains by a DataModule only.")
        rank, world_size = trainer.global_rank, trainer.world_size
        loader = loader_of("train", shuffle=False, rank=rank, world_size=world_size)
        table = torch.zeros(loader.n, 1 + self.latent_shape[0], device=self.device)  # y and z
        for batch in loader:
            y = self._attributes(batch)[:, :1].to(table)
            with trainer.precision_plugin.forward_context():
                z = self.posterior(batch["image"].to(self.device)).mean
            table[batch["index"].to(self.device)] = torch.cat([y, z.to(table)], 1)
        table = trainer.strategy.reduce(table, reduce_op="sum")  # each row is one process's
        there = table[:, 0] > 0
        weights = torch.ones(len(table), dtype=torch.float64, device=self.device)
        weights[there] = resampling_weights(table[there, 1:], self.alpha, self.bins)
        return weights.cpu()
