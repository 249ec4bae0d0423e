r"""VAE with an inverse autoregressive flow (Kingma et al. 2016, https://arxiv.org/abs/1606.04934).

To draw from the posterior, a Gaussian draw goes through T autoregressive steps, each affine in its
input and with the order of dimensions reversed (eq. 9, 10):

$$z_0 \sim \mathcal N(\mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x)), \qquad
  z_{t,i} = m_{t,i}(z_{t-1,<i}, h) + s_{t,i}(z_{t-1,<i}, h) \, z_{t-1,i}, $$

so that with $h = h_\phi(x)$, one pass of a masked network a step gives the draw and its density

$$\log q(z_T \mid x) = \log q(z_0 \mid x) - \sum_{t=1}^T \sum_i \log s_{t,i}.$$

The steps are zuko's. The density of any other z takes D passes a step.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from zuko.flows import MaskedAutoregressiveTransform

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.distributions.flow import PushForward
from zoo.inference import divergence
from zoo.models.autoencoders.base import Autoencoder, Likelihood, Network
from zoo.nn.mlp import ACTIVATIONS, Activation
from zoo.optim import Schedule


class FlowVAE(Autoencoder):
    """Variational autoencoder whose posterior is an inverse autoregressive flow.

    Args:
        x_shape: Shape of an image, (C, H, W).
        latent_dim: Number of latent dimensions, D.
        likelihood: p(x | z): `bernoulli` for pixels that are on or off, or `gaussian` with one
            learned standard deviation (sigma-VAE, Rybkin et al. 2021).
        network: `mlp`, `conv` for strided convolutions, or `patch` for these on squares of 4 x 4
            pixels, with a dense layer behind them.
        hidden: Widths of the hidden layers (`mlp`); channels of the stages (`conv`, `patch`), and
            last the width of the dense layer (`patch`).
        activation: Non-linearity between layers.
        residual_blocks: Residual blocks behind the hidden layers, or behind the stages.
        steps: Number of autoregressive steps, T.
        flow_hidden: Widths of the hidden layers of each step's masked network.
        context: Numbers of h, which the encoder gives besides mu and sigma.
        kl_warmup_steps: Optimiser steps over which the rate's weight rises linearly to 1.
        lr: Peak learning rate of Adam.
        lr_schedule: `constant`, or `cosine` to zero at the end of the run.
        lr_warmup_steps: Optimiser steps over which the learning rate rises to `lr`.
    """

    about: ClassVar = (
        "A variational autoencoder with an inverse autoregressive flow posterior (Kingma et al. "
        "2016, https://arxiv.org/abs/1606.04934)"
    )

    def __init__(
        self,
        x_shape: tuple[int, int, int] = (1, 28, 28),
        latent_dim: int = 20,
        likelihood: Likelihood = "bernoulli",
        network: Network = "mlp",
        hidden: tuple[int, ...] = (400,),
        activation: Activation = "relu",
        residual_blocks: int = 0,
        steps: int = 4,
        flow_hidden: tuple[int, ...] = (320,),
        context: int = 64,
        kl_warmup_steps: int = 0,
        lr: float = 1e-3,
        lr_schedule: Schedule = "constant",
        lr_warmup_steps: int = 0,
    ) -> None:
        super().__init__(
            x_shape,
            latent_dim,
            2 * latent_dim + context,
            likelihood,
            network,
            hidden,
            activation,
            residual_blocks,
            lr,
            lr_schedule,
            lr_warmup_steps,
        )
        self.save_hyperparameters()
        check_at_least(
            1, steps=steps, **{f"flow_hidden[{i}]": w for i, w in enumerate(flow_hidden)}
        )
        check_at_least(0, context=context, kl_warmup_steps=kl_warmup_steps)
        self.kl_warmup_steps = kl_warmup_steps
        order = torch.arange(latent_dim)
        self.flow = nn.ModuleList(
            MaskedAutoregressiveTransform(
                latent_dim,
                context,
                order=order if step % 2 == 0 else order.flip(0),
                hidden_features=flow_hidden,
                activation=ACTIVATIONS[activation],
            )
            for step in range(steps)
        )

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> PushForward:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        code, size = self.code(x), 2 * self.latent_shape[0]
        return PushForward(
            diagonal_gaussian(code[:, :size]), [step(code[:, size:]) for step in self.flow]
        )

    def encode(self, x: Tensor) -> Tensor:
        """Where the flow takes mu (the mean of q has no closed form): (B, C, H, W) to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).centre

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative evidence lower bound in nats per image; its rate is weighted in warm-up."""
        x = self.inputs(batch)
        q = self.posterior(x)
        z = q.rsample()
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        rate = divergence(q, self.prior(), z)  # (B,)
        loss = distortion + self.annealed(1.0, self.kl_warmup_steps) * rate
        return self.terms(loss, distortion, rate)
