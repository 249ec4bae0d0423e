r"""VAE/GAN (Larsen, Sønderby, Larochelle & Winther 2016, https://arxiv.org/abs/1512.09300).

A VAE that compares images in the features of a discriminator D. With $d_l(x)$ the features after
its l-th stage, $\tilde x = f(z)$ a decoded code of x and $x_p = f(z_p)$ a decoded draw
$z_p \sim p(z)$, there are three terms (eq. 5, 7 and 8)

$$\mathcal L_{\text{prior}} = \mathrm{KL}(q(z \mid x) \,\|\, p(z)), \qquad
  \mathcal L_{\text{llike}} = -\mathbb E_{q(z \mid x)}
    [\log \mathcal N(d_l(x); d_l(\tilde x), s^2 I)],$$
$$\mathcal L_{\text{GAN}} = \log D(x) + \log (1 - D(\tilde x)) + \log (1 - D(x_p)),$$

and each network has its own loss (algorithm 1): the encoder minimises
$\mathcal L_{\text{prior}} + \mathcal L_{\text{llike}}$, the decoder
$\gamma \mathcal L_{\text{llike}} - \log D(\tilde x) - \log D(x_p)$ (the loss of Goodfellow et al.
2014 that does not saturate), the discriminator $-\mathcal L_{\text{GAN}}$.

Here all networks learn at each step, from one sum whose terms freeze the other networks. The
discriminator's layers are divided by their largest singular values (Miyato et al. 2018,
https://arxiv.org/abs/1802.05957), which bounds its features; so s is learned, not 1.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm

from zoo.batches import Batch
from zoo.checks import check_at_least, check_choice, check_image_shape, check_images, check_shape
from zoo.distributions.factorised import (
    at_least_float32,
    diagonal_gaussian,
    gaussian,
    standard_gaussian,
)
from zoo.models.gradient import GradientModel
from zoo.nn import ConvDecoder, ConvEncoder
from zoo.nn.frozen import frozen
from zoo.nn.mlp import Activation
from zoo.nn.precision import suited


class VAEGAN(GradientModel):
    """Variational autoencoder that compares images in the features of an adversary.

    Args:
        x_shape: Shape of an image, (C, H, W).
        latent_dim: Number of latent dimensions, D.
        hidden: Channels of the encoder's and the decoder's stages.
        discriminator: Channels of the discriminator's stages.
        layer: Number l of stages that give the features.
        activation: Non-linearity of encoder and decoder.
        gamma: Weight of the distortion for the decoder.
        lr: Peak learning rate of Adam.
        training: Arguments of `GradientModel`: `lr_schedule` and `lr_warmup_steps`.
    """

    about: ClassVar = (
        "A VAE/GAN (Larsen, Sønderby, Larochelle & Winther 2016, https://arxiv.org/abs/1512.09300)"
    )
    modality = "image"
    tags: ClassVar = (
        "variational-autoencoder",
        "generative-adversarial-network",
        "latent-variable-model",
        "generative-model",
    )
    limits: ClassVar = (
        "There is no likelihood of images. Reconstructions keep what the discriminator sees, such "
        "as textures, and need not agree pixel by pixel."
    )
    lacks: Mapping[str, str] = {
        "likelihood": "images are compared in a discriminator's features, which gives pixels no "
        "density; decode gives the image of a code.",
        "log_prob": "images are compared in a discriminator's features, which gives pixels no "
        "density; a VAE bounds it.",
    }

    betas: ClassVar = (0.5, 0.999)

    def __init__(
        self,
        x_shape: tuple[int, int, int] = (3, 64, 64),
        latent_dim: int = 64,
        hidden: tuple[int, ...] = (32, 64, 128, 256),
        discriminator: tuple[int, ...] = (32, 64, 128, 256),
        layer: int = 3,
        activation: Activation = "relu",
        gamma: float = 1e-2,
        lr: float = 2e-4,
        **training: Any,
    ) -> None:
        super().__init__(lr=lr, **training)
        check_image_shape(x_shape)
        check_at_least(1, latent_dim=latent_dim, layer=layer)
        check_at_least(1, **{f"hidden[{i}]": w for i, w in enumerate(hidden)})
        check_at_least(1, **{f"discriminator[{i}]": w for i, w in enumerate(discriminator)})
        check_at_least(0, gamma=gamma)
        check_choice(Activation, activation=activation)
        if layer > len(discriminator):
            raise ValueError(
                f"layer is {layer}, but the discriminator has {len(discriminator)} stages."
            )
        self.x_shape = tuple(x_shape)
        self.latent_shape = (latent_dim,)
        self.gamma = gamma
        self.encoder = ConvEncoder(x_shape, hidden, 2 * latent_dim, activation)
        self.decoder = nn.Sequential(
            ConvDecoder(latent_dim, hidden, x_shape, activation), nn.Sigmoid()
        )
        self.discriminator = Discriminator(x_shape, discriminator, layer)
        self.log_scale = nn.Parameter(torch.tensor(-1.5))  # log s; features are small at first, too
        self.origin: Tensor  # of the codes
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        check_shape("image", x, self.x_shape)
        return diagonal_gaussian(self.encoder(suited(x, self.encoder)))

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The image of a code: (B, D) to (B, C, H, W) in [0, 1]."""
        check_shape("z", z, self.latent_shape)
        return at_least_float32(self.decoder(suited(z, self.decoder)))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Decode n draws of the prior: (n, C, H, W) in [0, 1]."""
        return self.decode(self.prior().sample((n,)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of the three networks' losses, each in nats per image.

        `distortion` is minus the log-density of the features, `fooling` the decoder's adversarial
        loss, `discriminator_loss` minus the discriminator's objective.
        """
        x = self.inputs(batch)
        q = self.posterior(x)
        z = q.rsample()
        z_p = self.prior().sample((len(z),))
        rate = kl_divergence(q, self.prior())  # (B,)

        fake = self.decoder(torch.cat([z.detach(), z_p]))  # (2 B, C, H, W)
        features, logit = self.discriminator(x)
        _, logit_of_fake = self.discriminator(fake.detach())
        telling = softplus(-logit) + _both(softplus(logit_of_fake))  # (B,)

        # losses of the others: gradients pass through these frozen networks to their inputs
        discriminator, decoder = frozen(self.discriminator), frozen(self.decoder)
        target, scale = features.detach(), self.log_scale.exp()
        seen, _ = discriminator(decoder(z))
        distortion = _distortion(target, seen, scale)  # (B,)
        seen, logit = discriminator(fake)
        fooling = _both(softplus(-logit))  # (B,)
        of_decoder = self.gamma * _distortion(target, seen[: len(z)], scale.detach()) + fooling

        return {
            "loss": (rate + distortion + of_decoder + telling).mean(),
            "rate": rate.mean(),
            "distortion": distortion.mean(),
            "fooling": fooling.mean(),
            "discriminator_loss": telling.mean(),
        }


class Discriminator(nn.Module):
    """From images (B, C, H, W) to features (B, K, H / 2^l, W / 2^l) and logits (B,).

    Args:
        x_shape: Shape of an image, (C, H, W).
        channels: Channels of each stage; every stage halves height and width.
        layer: Number l of stages that give the features.
    """

    def __init__(
        self, x_shape: tuple[int, int, int], channels: tuple[int, ...], layer: int
    ) -> None:
        super().__init__()
        layers = [*ConvEncoder(x_shape, channels, 1, "leaky_relu")]
        for module in layers:
            if isinstance(module, nn.Conv2d | nn.Linear):
                spectral_norm(module)
        self.features = nn.Sequential(*layers[: 2 * layer])  # l convolutions and activations
        self.head = nn.Sequential(*layers[2 * layer :])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(2 * x - 1)
        return features, at_least_float32(self.head(features)).squeeze(-1)


def _both(losses: Tensor) -> Tensor:
    """The sum of the losses of decoded codes and of draws, (B,), from both in turn, (2 B,)."""
    return losses.view(2, -1).sum(0)


def _distortion(target: Tensor, seen: Tensor, scale: Tensor) -> Tensor:
    """-log N(target; seen, scale^2 I) of features (B, K, h, w), (B,)."""
    p = gaussian(seen, scale.expand_as(seen), event_dims=3)
    distortion: Tensor = -p.log_prob(at_least_float32(target))
    return distortion
