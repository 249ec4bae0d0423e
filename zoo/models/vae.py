r"""Variational autoencoder (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114).

A Gaussian code $z$ with $p(z) = \mathcal N(0, I)$ generates an image through
$p_\theta(x \mid z)$; an encoder gives the approximate posterior
$q_\phi(z \mid x) = \mathcal N(\mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x))$. Training
maximises the evidence lower bound (eq. 3)

$$\log p(x) \ge
  \underbrace{\mathbb E_{q(z \mid x)}[\log p(x \mid z)]}_{-\text{distortion}}
  - \underbrace{\mathrm{KL}(q(z \mid x) \,\|\, p(z))}_{\text{rate}}.$$

`beta` weighs the rate in the loss (beta-VAE, Higgins et al. 2017); the `elbo` that is logged is
never weighted. Terms are sums over pixels and latents, in nats, averaged once over the batch.
"""

from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from zoo.base import Batch, LatentVariableModel
from zoo.checks import (
    check_at_least,
    check_choice,
    check_image_shape,
    check_images,
    check_shape,
)
from zoo.distributions import at_least_float32, bernoulli, gaussian
from zoo.nn import ConvDecoder, ConvEncoder, mlp
from zoo.nn.mlp import Activation
from zoo.optim import Schedule, adam

Likelihood = Literal["bernoulli", "gaussian"]
Network = Literal["mlp", "conv"]


class VAE(LatentVariableModel):
    """Variational autoencoder with a diagonal Gaussian posterior.

    Args:
        x_shape: Shape of an image, (C, H, W).
        latent_dim: Number of latent dimensions, D.
        likelihood: p(x | z): `bernoulli` for pixels that are on or off, or `gaussian` with one
            learned standard deviation (sigma-VAE, Rybkin et al. 2021).
        network: `mlp`, or `conv` for strided convolutions.
        hidden: Widths of the hidden layers (`mlp`), or channels of the stages (`conv`).
        activation: Non-linearity between layers.
        residual_blocks: Residual blocks behind the hidden layers (`mlp` only).
        beta: Weight of the rate in the loss; 1 is the evidence lower bound.
        kl_warmup_steps: Optimiser steps over which the rate's weight rises linearly to `beta`
            (Bowman et al. 2016).
        lr: Peak learning rate of Adam.
        lr_schedule: `constant`, or `cosine` to zero at the end of the run.
        lr_warmup_steps: Optimiser steps over which the learning rate rises to `lr`.
    """

    about: ClassVar = (
        "A variational autoencoder (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114)"
    )
    tags: ClassVar = ("variational-autoencoder", "latent-variable-model", "generative-model")
    limits: ClassVar = (
        "Samples are drawn pixel by pixel given the code, so edges are rough; `decode` gives means."
    )
    lacks: ClassVar = {
        "log_prob": "log p(x) of a VAE is an integral over z that has no closed form; "
        "zoo.log_likelihood(model, x) gives a bound and its standard error."
    }

    def __init__(
        self,
        x_shape: tuple[int, int, int] = (1, 28, 28),
        latent_dim: int = 20,
        likelihood: Likelihood = "bernoulli",
        network: Network = "mlp",
        hidden: tuple[int, ...] = (400,),
        activation: Activation = "relu",
        residual_blocks: int = 0,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        lr: float = 1e-3,
        lr_schedule: Schedule = "constant",
        lr_warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_image_shape(x_shape)
        check_at_least(
            1, latent_dim=latent_dim, **{f"hidden[{i}]": w for i, w in enumerate(hidden)}
        )
        check_at_least(0, residual_blocks=residual_blocks, beta=beta, lr=lr)
        check_at_least(0, kl_warmup_steps=kl_warmup_steps, lr_warmup_steps=lr_warmup_steps)
        check_choice(Likelihood, likelihood=likelihood)
        check_choice(Network, network=network)
        check_choice(Activation, activation=activation)
        check_choice(Schedule, lr_schedule=lr_schedule)
        self.x_shape = tuple(x_shape)
        self.latent_shape = (latent_dim,)
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.lr, self.lr_schedule, self.lr_warmup_steps = lr, lr_schedule, lr_warmup_steps
        if network == "conv":
            self.encoder: nn.Module = ConvEncoder(x_shape, hidden, 2 * latent_dim, activation)
            self.decoder: nn.Module = ConvDecoder(latent_dim, hidden, x_shape, activation)
        else:
            pixels = x_shape[0] * x_shape[1] * x_shape[2]
            self.encoder = nn.Sequential(
                nn.Flatten(), mlp(pixels, hidden, 2 * latent_dim, activation, residual_blocks)
            )
            self.decoder = nn.Sequential(
                mlp(latent_dim, hidden[::-1], pixels, activation, residual_blocks),
                nn.Unflatten(-1, self.x_shape),
            )
        # The scale of a Gaussian p(x | z); a Bernoulli has none.
        self.log_scale = nn.Parameter(torch.zeros(())) if likelihood == "gaussian" else None
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        origin = self.get_buffer("origin")
        return gaussian(origin, torch.ones_like(origin), event_dims=1)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        check_shape("image", x, self.x_shape)
        mean, log_scale = at_least_float32(self.encoder(x)).chunk(2, dim=-1)  # (B, D) each
        return gaussian(mean, log_scale.exp(), event_dims=1)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for z of shape (B, D): batch shape (B,), event shape (C, H, W)."""
        check_shape("z", z, self.latent_shape)
        output = self.decoder(z)  # (B, C, H, W)
        if self.log_scale is None:
            return bernoulli(logits=output, event_dims=3)
        return gaussian(output, self.log_scale.exp().expand_as(output), event_dims=3)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative evidence lower bound with its rate weighted by beta, in nats per image."""
        x = batch["image"]
        q = self.posterior(x)
        distortion = -self.likelihood(q.rsample()).log_prob(x)  # (B,)
        rate = kl_divergence(q, self.prior())  # (B,)
        loss = distortion + self._rate_weight() * rate
        return {
            "loss": loss.mean(),
            "elbo": -(distortion + rate).mean(),
            "rate": rate.mean(),
            "distortion": distortion.mean(),
        }

    def _rate_weight(self) -> float:
        if not self.training or self.kl_warmup_steps == 0:
            return self.beta
        return self.beta * min(1.0, (self.global_step + 1) / self.kl_warmup_steps)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n images from p(x): z ~ p(z), x ~ p(x | z), clipped to [0, 1]; (n, C, H, W)."""
        return self.likelihood(self.prior().sample((n,))).sample().clamp(0, 1)

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | z), clipped to [0, 1]: (B, D) to (B, C, H, W)."""
        return self.likelihood(z).mean.clamp(0, 1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return adam(
            self.parameters(),
            self.lr,
            self.lr_schedule,
            self.lr_warmup_steps,
            self.trainer.estimated_stepping_batches,
        )
