r"""Semi-amortised inference (Kim et al. 2018, https://arxiv.org/abs/1802.02550).

The variational parameters of each datum start at the encoder's Gaussian, and gradient ascent
maximises that datum's bound:

$$q^*(z) = \mathcal N(\mu, \operatorname{diag} \sigma^2), \qquad (\mu, \sigma) = \arg \max
  \mathbb E_{q} [\log p(x, z) - \log q(z)], \qquad (\mu_0, \sigma_0) = \text{encoder}(x).$$

The gradient passes only through $z = \mu + \sigma \epsilon$, not through the parameters of
$\log q$, whose contribution has mean zero and only adds noise (Roeder, Wu & Duvenaud 2017,
https://arxiv.org/abs/1703.09194).
"""

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from zoo.distributions.factorised import gaussian
from zoo.inference.bounds import Inferable, log_joint


def refine(
    model: Inferable, x: Tensor, steps: int = 500, samples: int = 16, lr: float = 0.05
) -> Distribution:
    """Fit a Gaussian with a diagonal covariance to the posterior of each datum.

    Adam moves the mean, in units of the start's standard deviation, and the logarithm of the scale.
    Its learning rate falls to zero along a cosine, which averages out the noise of the draws. Draws
    come in pairs of opposite signs.

    Args:
        model: Model with `prior`, `posterior` and `likelihood`.
        x: Data of shape (B, ...).
        steps: Steps of Adam.
        samples: Draws per datum and step; even.
        lr: Learning rate at the start.

    Returns:
        q*, batch shape (B,), event shape `latent_shape`.

    Raises:
        ValueError: if the counts are not positive, or `samples` is odd.
    """
    if steps < 1 or samples < 2 or samples % 2:
        raise ValueError(
            f"steps is {steps} and samples {samples}, but refinement takes at least 1 step and "
            "draws in pairs."
        )
    with torch.no_grad():
        start = model.posterior(x)
        mean, scale = start.mean, start.stddev  # (B, *latent_shape)
    shift = torch.zeros_like(mean, requires_grad=True)
    log_ratio = torch.zeros_like(mean, requires_grad=True)

    optimizer = Adam([shift, log_ratio], lr=lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        half = torch.randn(samples // 2, *mean.shape, dtype=mean.dtype, device=mean.device)
        noise = torch.cat([half, -half])  # (samples, B, *latent_shape)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            mu, sigma = mean + scale * shift, scale * log_ratio.exp()
            z = mu + sigma * noise
            q = gaussian(mu.detach(), sigma.detach(), len(start.event_shape))
            bound = (log_joint(model, x, z).double() - q.log_prob(z).double()).mean(0)  # (B,)
            # Each datum has its own parameters, so the sum over data solves B problems at once.
            gradients = torch.autograd.grad(-bound.sum(), [shift, log_ratio])
        shift.grad, log_ratio.grad = gradients
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return gaussian(mean + scale * shift, scale * log_ratio.exp(), len(start.event_shape))
