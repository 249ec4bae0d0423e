r"""VAE with an inverse autoregressive flow (Kingma et al. 2016, https://arxiv.org/abs/1606.04934).

A draw of the posterior is a Gaussian draw after T autoregressive steps. Each step is affine in its
input and reverses the order of dimensions (eq. 9, 10):

$$z_0 \sim \mathcal N(\mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x)), \qquad
  z_{t,i} = m_{t,i}(z_{t-1,<i}, h) + s_{t,i}(z_{t-1,<i}, h) \, z_{t-1,i}, $$

where $h = h_\phi(x)$, so that one pass of a masked network per step gives the draw and its density

$$\log q(z_T \mid x) = \log q(z_0 \mid x) - \sum_{t=1}^T \sum_i \log s_{t,i}.$$

The steps are zuko's. The density of any other z takes D passes per step.
"""

from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.distributions.flow import PushForward
from zoo.inference import divergence
from zoo.models.autoencoders.base import Autoencoder
from zoo.nn.flow import AutoregressiveFlow


class FlowVAE(Autoencoder):
    """Variational autoencoder whose posterior is an inverse autoregressive flow.

    Args:
        latent_dim: Number of latent dimensions, D.
        steps: Number of autoregressive steps, T.
        flow_hidden: Widths of the hidden layers of each step's masked network.
        context: Size of the context h, which the encoder gives beside mu and sigma.
        kl_warmup_steps: Optimiser steps over which the rate's weight rises linearly to 1.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
    """

    about: ClassVar = (
        "A variational autoencoder with an inverse autoregressive flow posterior (Kingma et al. "
        "2016, https://arxiv.org/abs/1606.04934)"
    )

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        steps: int = 4,
        flow_hidden: tuple[int, ...] = (320,),
        context: int = 64,
        kl_warmup_steps: int = 0,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim + context)
        check_at_least(
            1, steps=steps, **{f"flow_hidden[{i}]": w for i, w in enumerate(flow_hidden)}
        )
        check_at_least(0, context=context, kl_warmup_steps=kl_warmup_steps)
        self.kl_warmup_steps = kl_warmup_steps
        self.flow = AutoregressiveFlow(latent_dim, steps, context, flow_hidden, self.activation)

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> PushForward:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        code, size = self.code(x), 2 * self.latent_shape[0]
        return PushForward(diagonal_gaussian(code[:, :size]), self.flow.given(code[:, size:]))

    def encode(self, x: Tensor) -> Tensor:
        """The flow of mu, because the mean of q has no closed form: (B, C, H, W) to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).centre

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative evidence lower bound in nats per image; warm-up weights the rate."""
        x = self.inputs(batch)
        q = self.posterior(x)
        z = q.rsample()
        distortion = -self.likelihood(z).log_prob(x)  # (B,)
        rate = divergence(q, self.prior(), z)  # (B,)
        loss = distortion + self.annealed(1.0, self.kl_warmup_steps) * rate
        return self.terms(loss, distortion, rate)
