r"""Importance-weighted autoencoder (Burda et al. 2016, https://arxiv.org/abs/1509.00519).

The networks are a VAE's. Training maximises the importance-weighted bound (eq. 8): for
$z_1, \dots, z_k \sim q(z \mid x)$,

$$\mathcal L_k = \mathbb E \Big[\log \frac 1k \sum_{i=1}^k w_i \Big] \le \log p(x), \qquad
  w_i = \frac{p(x \mid z_i) \, p(z_i)}{q(z_i \mid x)}.$$

With $\tilde w_i = w_i / \sum_j w_j$ its gradient is (eq. 14)
$\mathbb E [\sum_i \tilde w_i \nabla \log w_i]$, whose signal-to-noise ratio for the
encoder falls as k grows. The doubly reparameterised gradient of the encoder (DReG; Tucker et al.
2019, eq. 8) has the same expectation and less noise:

$$\nabla_\phi \mathcal L_k = \mathbb E \Big[\sum_i \tilde w_i^2 \,
  \frac{\partial \log w_i}{\partial z_i} \frac{\partial z_i}{\partial \phi} \Big].$$
"""

import math
from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution

from zoo.batches import Batch
from zoo.checks import check_at_least, check_images
from zoo.distributions.factorised import diagonal_gaussian, standard_gaussian
from zoo.inference.bounds import log_joint
from zoo.models.autoencoders.base import Autoencoder


class IWAE(Autoencoder):
    """Importance-weighted autoencoder with a diagonal Gaussian proposal.

    Args:
        latent_dim: Number of latent dimensions, D.
        k: Importance samples per image in training; with 1 the loss is the negative ELBO.
        dreg: Train the encoder by the doubly reparameterised gradient.
        networks: Arguments of `Autoencoder`, such as `x_shape`, `hidden` and `lr`.
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
        *,
        latent_dim: int = 20,
        k: int = 50,
        dreg: bool = False,
        **networks: Any,
    ) -> None:
        super().__init__(**networks)
        self.build_networks(latent_dim, outputs=2 * latent_dim)
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
        """The negative k-sample bound, and the ELBO of the same draws, in nats per image."""
        x = self.inputs(batch)
        code = self.code(x)
        z = diagonal_gaussian(code).rsample((self.k,))  # (k, B, D)
        doubly = self.dreg and z.requires_grad
        # with DReG, log q(z | x) depends on the encoder only through z
        q = diagonal_gaussian(code.detach() if doubly else code)
        log_w = log_joint(self, x, z) - q.log_prob(z)  # (k, B)
        bound = log_w.logsumexp(0) - math.log(self.k)  # (B,)
        loss = -bound
        if doubly:
            weight = log_w.detach().softmax(0)  # (k, B)
            z.register_hook(lambda gradient: weight.unsqueeze(-1) * gradient)  # type: ignore[no-untyped-call]
            loss = -(weight * log_w).sum(0)  # with the bound's gradient for the decoder
        return {
            # the value of the bound, the gradient of the surrogate
            "loss": (loss - loss.detach() - bound.detach()).mean(),
            "bound": bound.mean(),
            "elbo": log_w.mean(),
        }
