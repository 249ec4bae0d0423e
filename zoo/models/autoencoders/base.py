r"""Base class of families of images with an encoder and a decoder network.

The code z is a vector of D numbers. The decoder gives the parameters of

$$p(x \mid z) = \prod_i \mathrm{Bernoulli}(x_i; \sigma(f_i(z))) \quad \text{or} \quad
  p(x \mid z) = \prod_i \mathcal N(x_i; f_i(z), s^2),$$

with one learned s (sigma-VAE, Rybkin et al. 2021). A family adds p(z), the code of x and the loss.
"""

import math
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from zoo.checks import check_at_least, check_choice, check_image_shape, check_shape
from zoo.distributions.factorised import at_least_float32, image_likelihood
from zoo.models.gradient import GradientModel
from zoo.nn import ConvDecoder, ConvEncoder, mlp
from zoo.nn.mlp import Activation
from zoo.nn.precision import suited

Likelihood = Literal["bernoulli", "gaussian"]
Network = Literal["mlp", "conv", "patch"]
PATCH = 4  # side in pixels of the squares of `patch`


class Autoencoder(GradientModel, ABC):
    """A model of images with an encoder and a decoder network.

    A family's constructor takes the arguments below as `**networks`, passes them on, and then
    calls `build_networks`.

    Args:
        x_shape: Shape of an image, (C, H, W).
        likelihood: p(x | z): `bernoulli` for pixels that are on or off, or `gaussian` with one
            learned standard deviation (sigma-VAE, Rybkin et al. 2021).
        network: `mlp`, `conv` for strided convolutions, or `patch` for convolutions on squares of
            4 x 4 pixels, followed by a dense layer.
        hidden: Widths of the hidden layers (`mlp`); channels of the stages (`conv`, `patch`), then
            the width of the dense layer (`patch`).
        activation: Non-linearity between layers.
        residual_blocks: Residual blocks after the hidden layers, or after the stages.
        training: Arguments of `GradientModel`: `lr`, `lr_schedule`, `lr_warmup_steps`.
    """

    modality = "image"
    tags: ClassVar[tuple[str, ...]] = (
        "variational-autoencoder",
        "latent-variable-model",
        "generative-model",
    )
    limits: ClassVar[str] = (
        "Samples are drawn pixel by pixel given the code, so edges are rough; `decode` gives means."
    )
    lacks: Mapping[str, str] = {
        "log_prob": "log p(x) is an integral over z that has no closed form; "
        "zoo.log_likelihood(model, x) gives a bound and its standard error."
    }

    noiseless: ClassVar[bool] = False
    """Whether an image is a function of its code, so that `sample` gives means of p(x | z)."""

    def __init__(
        self,
        *,
        x_shape: tuple[int, int, int] = (1, 28, 28),
        likelihood: Likelihood = "bernoulli",
        network: Network = "mlp",
        hidden: tuple[int, ...] = (400,),
        activation: Activation = "relu",
        residual_blocks: int = 0,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_image_shape(x_shape)
        check_at_least(1, **{f"hidden[{i}]": w for i, w in enumerate(hidden)})
        check_at_least(0, residual_blocks=residual_blocks)
        check_choice(Likelihood, likelihood=likelihood)
        check_choice(Network, network=network)
        check_choice(Activation, activation=activation)
        if network == "patch" and len(hidden) < 2:
            raise ValueError(
                f"hidden is {tuple(hidden)}, but network=patch needs at least two widths: "
                "channels of a stage, and last that of the dense layer."
            )
        self.x_shape = tuple(x_shape)
        self.network, self.hidden = network, tuple(hidden)
        self.activation, self.residual_blocks = activation, residual_blocks
        # The scale of a Gaussian p(x | z); a Bernoulli has none.
        self.log_scale = nn.Parameter(torch.zeros(())) if likelihood == "gaussian" else None

    def build_networks(self, latent_dim: int, outputs: int, inputs: int | None = None) -> None:
        """Build the encoder and the decoder.

        Args:
            latent_dim: Number of latent dimensions, D.
            outputs: Size of the encoder's output.
            inputs: Size of the decoder's input; by default D.
        """
        check_at_least(1, latent_dim=latent_dim)
        self.latent_shape = (latent_dim,)
        self.origin: Tensor  # of the codes
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)
        inputs = latent_dim if inputs is None else inputs
        hidden, layers = self.hidden, (self.activation, self.residual_blocks)
        if self.network == "mlp":
            pixels = math.prod(self.x_shape)
            self.encoder: nn.Module = nn.Sequential(
                nn.Flatten(), mlp(pixels, hidden, outputs, *layers)
            )
            self.decoder: nn.Module = nn.Sequential(
                mlp(inputs, hidden[::-1], pixels, *layers), nn.Unflatten(-1, self.x_shape)
            )
            return
        patch, dense = 0, hidden[:0]
        if self.network == "patch":
            patch, hidden, dense = PATCH, hidden[:-1], hidden[-1:]
        self.encoder = ConvEncoder(self.x_shape, hidden, outputs, *layers, patch, dense)
        self.decoder = ConvDecoder(inputs, hidden, self.x_shape, *layers, patch, dense)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for z of shape (B, D): batch shape (B,), event shape (C, H, W)."""
        check_shape("z", z, self.latent_shape)
        return image_likelihood(self.decoder(suited(z, self.decoder)), self.log_scale)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n images: z ~ p(z), and x ~ p(x | z) or its mean, in [0, 1]; (n, C, H, W)."""
        if "sample" in self.lacks:
            self._lacks("sample")
        model = self
        if self.conditions:  # each is as likely as the others
            model = self.given(torch.randint(len(self.conditions), (n,), device=self.device))
        p = model.likelihood(model.prior().sample((n,)))
        return (p.mean if self.noiseless else p.sample()).clamp(0, 1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | z), clipped to [0, 1]: (B, D) to (B, C, H, W)."""
        return self.likelihood(z).mean.clamp(0, 1)

    def code(self, x: Tensor) -> Tensor:
        """The encoder's output for images (B, C, H, W), in float32 or better."""
        check_shape("image", x, self.x_shape)
        return at_least_float32(self.encoder(suited(x, self.encoder)))

    def annealed(self, weight: float, steps: int, start: float = 0.0) -> float:
        """The weight of a loss term, which moves from `start` to `weight` over the first steps.

        It rises linearly from below `weight`, or falls geometrically from above.
        """
        if not self.training or steps == 0:
            return weight
        share = min(1.0, (self.global_step + 1) / steps)
        if start > weight > 0:
            return math.exp((1 - share) * math.log(start) + share * math.log(weight))
        return (1 - share) * start + share * weight

    def terms(self, loss: Tensor, distortion: Tensor, rate: Tensor) -> dict[str, Tensor]:
        """The means over a batch of the loss and of the bound's terms, (B,) each."""
        return {
            "loss": loss.mean(),
            "elbo": -(distortion + rate).mean(),
            "rate": rate.mean(),
            "distortion": distortion.mean(),
        }
