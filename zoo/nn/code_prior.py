r"""A prior of codes that is fitted after the codes (Ghosh et al. 2020, section 4).

$$p(z) = \sum_{k=1}^K \pi_k \, \mathcal N(z; \mu_k, \Sigma_k),$$

by EM on the codes of the training data: it makes a sampler of any encoder and decoder.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from zoo.inference import mixtures

LLOYD_STEPS, EM_STEPS = 10, 30
FLOOR = 1e-4
"""Added to the variances, as a share of the mean variance of the codes."""


class CodePrior(nn.Module):
    """Mixture of Gaussians with full covariances; N(0, I) until it is fitted.

    Args:
        dim: Numbers of a code, D.
        components: Number of Gaussians, K.
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        identity = torch.eye(dim).expand(components, dim, dim)
        self.logits = nn.Parameter(torch.zeros(components), requires_grad=False)
        self.means = nn.Parameter(torch.zeros(components, dim), requires_grad=False)
        self.roots = nn.Parameter(identity.clone(), requires_grad=False)  # of the covariances

    def forward(self) -> Distribution:
        """p(z): batch shape (), event shape (D,)."""
        gaussians = MultivariateNormal(self.means, scale_tril=self.roots, validate_args=False)
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, gaussians, validate_args=False)

    @torch.no_grad()
    def fit(self, codes: Tensor, seed: int = 0) -> None:
        """Fit to codes (N, D), at least as many as components.

        Raises:
            ValueError: if there are fewer.
        """
        k = len(self.means)
        if len(codes) < k:
            raise ValueError(
                f"a prior of {k} components needs as many codes, but there are {len(codes)}."
            )
        codes = codes.double()
        centre = codes.mean(0)
        z = codes - centre  # which the densities are most exact for
        floor = FLOOR * z.var(0, correction=0).mean().clamp(min=1e-12).item()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            start = z[mixtures.kmeans_plus_plus(z, k)]
        means, nearest = mixtures.lloyd(z, start, LLOYD_STEPS)
        spread = floor * torch.eye(z.shape[1]).to(z).expand(k, -1, -1)
        sums = mixtures.moments(z, nn.functional.one_hot(nearest, k).double(), "full")
        for step in range(EM_STEPS + 1):
            weights, means, spread = mixtures.maximization(sums, means, spread, "full", floor)
            if step < EM_STEPS:
                factors = mixtures.precision_factors(spread, "full")
                sums = mixtures.statistics(z, weights.log(), means, factors, "full")
        self.logits.copy_(weights.log())
        self.means.copy_(means + centre)
        self.roots.copy_(torch.linalg.cholesky(spread))
