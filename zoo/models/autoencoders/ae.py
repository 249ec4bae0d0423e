r"""Autoencoder (Hinton & Salakhutdinov 2006), also denoising (Vincent et al. 2008) or sparse.

The code is a point, $z = f_\phi(x)$, and training minimises the distortion

$$-\log p_\theta(x \mid f_\phi(\tilde x)) + \lambda \, \lVert f_\phi(\tilde x) \rVert_1,$$

where $\tilde x$ is x with a share of its pixels set to zero (Vincent et al. 2008, section 2.3,
https://doi.org/10.1145/1390156.1390294) or, without noise, x itself.

Codes have no prior, so the model has no samples, unless a density is fitted to the codes of the
training data afterwards: an ex-post prior (Ghosh et al. 2020,
https://arxiv.org/abs/1903.12436), here a mixture of one or more Gaussians.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_at_least, check_choice, check_images
from zoo.models.autoencoders.base import Autoencoder
from zoo.models.autoencoders.code_prior import CodePrior, Kind
from zoo.nn.noise import masked
from zoo.plots.grids import grid

_WITHOUT = (
    "nothing says where its codes lie; train it with components above 0, which fits a prior to "
    "them, or take a VAE."
)
_PRIORS = {"sample": _WITHOUT, "prior": _WITHOUT}


class AE(Autoencoder):
    """Autoencoder with deterministic codes.

    A prior, if there is one, is fitted to the codes of the training data before each validation.

    Args:
        latent_dim: Number of latent dimensions, D.
        noise: Share of the encoder's input pixels that training sets to zero.
        sparsity: Weight lambda of a code's L1 norm, in nats.
        components: Number of Gaussians in the prior; 0 means no prior and no samples.
        code_prior: `gmm`, a mixture fitted by EM; or `vamp`, Gaussians centred at codes of training
            images.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "An autoencoder (Hinton & Salakhutdinov 2006, https://doi.org/10.1126/science.1127647)"
    )
    tags: ClassVar = ("autoencoder", "latent-variable-model", "representation-learning")
    limits: ClassVar = "There is no likelihood of images, and codes that no image has mean little."
    shows: ClassVar = {
        "examples.png": "Test images with the noise of the training, what the model makes of them, "
        "and the images as they are."
    }
    noiseless = True
    lacks: Mapping[str, str] = {
        **_PRIORS,
        "posterior": "the code of an image is a point; encode gives it.",
        "log_prob": "an image that no code gives has no density; a VAE bounds it.",
    }

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        noise: float = 0.0,
        sparsity: float = 0.0,
        components: int = 0,
        code_prior: Kind = "gmm",
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=latent_dim)
        check_at_least(0, sparsity=sparsity, components=components)
        check_choice(Kind, code_prior=code_prior)
        if not 0 <= noise < 1:
            raise ValueError(f"noise is {noise}, but must be a share of pixels from 0 to below 1.")
        self.noise, self.sparsity = noise, sparsity
        self.code_prior = None
        if components:
            self.code_prior = CodePrior(latent_dim, components, code_prior)
            self.lacks = {verb: why for verb, why in self.lacks.items() if verb not in _PRIORS}

    def prior(self) -> Distribution:
        """p(z), fitted to the codes of the training data: batch shape (), event shape (D,)."""
        if self.code_prior is None:
            self._lacks("prior")
        fitted: Distribution = self.code_prior()
        return fitted

    def encode(self, x: Tensor) -> Tensor:
        """The code: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.code(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The distortion plus the sparsity penalty, in nats per image."""
        x = self.inputs(batch)
        seen = x
        if self.noise and self.training:
            seen = masked(x, self.noise)
        z = self.code(seen)
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        penalty = z.abs().sum(-1)  # (B,)
        return {
            "loss": (distortion + self.sparsity * penalty).mean(),
            "distortion": distortion.mean(),
            "code_size": penalty.mean(),
        }

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """Noisy, denoised and original images, if the model was trained with noise."""
        if not self.noise:
            return {}
        x: Tensor = self.inputs(batch)[:12]
        noisy = masked(x, self.noise)
        rows = torch.cat([noisy, self.reconstruct(noisy), x])
        return {"examples.png": grid(rows, len(x))[None]}

    def on_validation_start(self) -> None:
        """Fit the prior to the codes of the training data of all processes."""
        loader = self.trainer.train_dataloader
        if self.code_prior is None or loader is None or self.trainer.sanity_checking:
            return
        to_device = self.trainer.strategy.batch_to_device
        codes = torch.cat([self.code(to_device(batch)["image"]) for batch in loader])
        gathered = torch.as_tensor(self.all_gather(codes))
        self.code_prior.fit(gathered.reshape(-1, codes.shape[1]))
