"""A linear Gaussian model, of which everything is known."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from zoo.distributions.factorised import gaussian


class LinearGaussian:
    r"""x = W z + b + s e: p(x) and p(z | x) are Gaussians (Bishop 2006, eq. 12.35 to 12.42).

    `posterior` is the exact one; or `mean_field`, the diagonal Gaussian that is nearest to it; or
    `poor`, an encoder that is off in mean and scale.
    """

    def __init__(self, q="exact", dim=3, pixels=6, noise=0.5):
        generator = torch.Generator().manual_seed(5)
        self.W = torch.randn(pixels, dim, generator=generator, dtype=torch.float64)
        self.b = torch.randn(pixels, generator=generator, dtype=torch.float64)
        self.noise, self.q = noise, q
        self.precision = torch.eye(dim).double() + self.W.mT @ self.W / noise**2
        covariance = self.W @ self.W.mT + noise**2 * torch.eye(pixels).double()
        self.marginal = MultivariateNormal(self.b, covariance)

    def prior(self):
        origin = self.W.new_zeros(self.W.shape[1])
        return gaussian(origin, torch.ones_like(origin), 1)

    def likelihood(self, z):
        mean = z @ self.W.mT + self.b
        return gaussian(mean, torch.full_like(mean, self.noise), 1)

    def exact(self, x):
        gain = torch.linalg.solve(self.precision, self.W.mT) / self.noise**2
        return MultivariateNormal((x - self.b) @ gain.mT, precision_matrix=self.precision)

    def mean_field(self, x):
        mean = self.exact(x).mean
        return gaussian(mean, self.precision.diagonal().rsqrt().expand_as(mean), 1)

    def poor(self, x):
        best = self.mean_field(x)
        return gaussian(best.mean + 0.6 * best.stddev, 1.5 * best.stddev, 1)

    def posterior(self, x):
        return getattr(self, self.q)(x)

    def log_prob(self, x):
        return self.marginal.log_prob(x)

    def simulate(self, n):
        """Draws of z and x."""
        z = self.prior().sample((n,))
        return z, self.likelihood(z).sample()

    def gap(self, q, x):
        """KL(q || p(z | x)) of a diagonal Gaussian: log p(x) minus the ELBO, (B,)."""
        wide = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
        return torch.distributions.kl_divergence(wide, self.exact(x))


@pytest.fixture
def linear():
    """Build one with a given kind of q."""
    return LinearGaussian
