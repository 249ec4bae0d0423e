r"""Importance-weighted autoencoder (Burda et al. 2016, https://arxiv.org/abs/1509.00519).

The networks are a VAE's. Training maximises the importance-weighted bound (eq. 8): for
$z_1, \dots, z_k \sim q(z \mid x)$,

$$\mathcal L_k = \mathbb E \Big[\log \frac 1k \sum_{i=1}^k w_i \Big] \le \log p(x), \qquad
  w_i = \frac{p(x \mid z_i) \, p(z_i)}{q(z_i \mid x)}.$$

With $\tilde w_i = w_i / \sum_j w_j$ its gradient is (eq. 14)
$\mathbb E [\sum_i \tilde w_i \nabla \log w_i]$, of which the encoder's part drowns in noise as k
grows. The doubly reparameterised gradient of the encoder (DReG; Tucker et al. 2019, eq. 8) has the
same expectation and does not:

$$\nabla_\phi \mathcal L_k = \mathbb E \Big[\sum_i \tilde w_i^2 \,
  \frac{\partial \log w_i}{\partial z_i} \frac{\partial z_i}{\partial \phi} \Big].$$
"""

import math
from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.inference.bounds import log_joint
from zoo.models.autoencoders.base import Autoencoder, Likelihood, Network
from zoo.nn.mlp import Activation
from zoo.optim import Schedule


class IWAE(Autoencoder):
    """Importance-weighted autoencoder with a diagonal Gaussian proposal.

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
        k: Importance samples per image in training; with 1 the loss is the negative ELBO.
        dreg: Train the encoder by the doubly reparameterised gradient.
        lr: Peak learning rate of Adam.
        lr_schedule: `constant`, or `cosine` to zero at the end of the run.
        lr_warmup_steps: Optimiser steps over which the learning rate rises to `lr`.
    """

    about: ClassVar = (
        "An importance-weighted autoencoder (Burda et al. 2016, https://arxiv.org/abs/1509.00519)"
    )
    limits: ClassVar = (
        "Samples are drawn pixel by pixel given the code, so edges are rough; `decode` gives means."
        " q(z | x) is a proposal and wider than the best single Gaussian: a VAE's ELBO is better."
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
        k: int = 50,
        dreg: bool = False,
        lr: float = 1e-3,
        lr_schedule: Schedule = "constant",
        lr_warmup_steps: int = 0,
    ) -> None:
        super().__init__(
            x_shape,
            latent_dim,
            2 * latent_dim,
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
        check_at_least(1, k=k)
        self.k, self.dreg = k, dreg

    def prior(self) -> Distribution:
        """p(z) = N(0, I): batch shape (), event shape (D,)."""
        return standard_gaussian(self.origin)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for x of shape (B, C, H, W): batch shape (B,), event shape (D,)."""
        return diagonal_gaussian(self.code(x))

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean: (B, C, H, W) in [0, 1] to (B, D)."""
        check_images(x, self.x_shape)
        return self.posterior(x).mean

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative k-sample bound, in nats per image; the ELBO of the same draws beside it."""
        x = self.inputs(batch)
        code = self.code(x)
        z = diagonal_gaussian(code).rsample((self.k,))  # (k, B, D)
        doubly = self.dreg and z.requires_grad
        # with DReG, log q(z | x) depends on the encoder through z alone
        q = diagonal_gaussian(code.detach() if doubly else code)
        log_w = log_joint(self, x, z) - q.log_prob(z)  # (k, B)
        bound = log_w.logsumexp(0) - math.log(self.k)  # (B,)
        loss = -bound
        if doubly:
            weight = log_w.detach().softmax(0)  # (k, B)
            z.register_hook(lambda gradient: weight.unsqueeze(-1) * gradient)  # type: ignore[no-untyped-call]
            loss = -(weight * log_w).sum(0)  # its gradient by the decoder is the bound's
        return {
            # the value of the bound, the gradient of the surrogate
            "loss": (loss - loss.detach() - bound.detach()).mean(),
            "bound": bound.mean(),
            "elbo": log_w.mean(),
        }
