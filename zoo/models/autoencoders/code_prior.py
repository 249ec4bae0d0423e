r"""A prior that is fitted to given codes (Ghosh et al. 2020, section 4).

$$p(z) = \sum_{k=1}^K \pi_k \, \mathcal N(z; \mu_k, \Sigma_k),$$

by EM on the codes of the training data: it turns any encoder and decoder into a sampler. The other
kind is similar to a VampPrior (Tomczak & Welling 2018, eq. 9): its means are the codes of K
training images, its weights are equal, and its covariance is $h^2$ times the covariance of all
codes, where h maximises the likelihood of the other codes.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from zoo.inference import mixtures
from zoo.nn.precision import AtLeastFloat32

Kind = Literal["gmm", "vamp"]

LLOYD_STEPS, EM_STEPS = 10, 30
FLOOR = 1e-4
"""Share of the mean variance of the codes that is added to the variances."""
HELD_OUT = 5000  # largest number of codes that determine h


class CodePrior(AtLeastFloat32):
    """Mixture of Gaussians with full covariances; N(0, I) until it is fitted.

    Args:
        dim: Size of a code, D.
        components: Number of Gaussians, K.
        kind: `gmm`, fitted by EM; or `vamp`, centred at codes of training images.
    """

    def __init__(self, dim: int, components: int, kind: Kind = "gmm") -> None:
        super().__init__()
        self.kind = kind
        identity = torch.eye(dim).expand(components if kind == "gmm" else 1, dim, dim)
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
        """Fit the prior to codes (N, D), with N above the number of components.

        Raises:
            ValueError: if there are too few codes.
        """
        k = len(self.means)
        if len(codes) <= k:
            raise ValueError(
                f"a prior of {k} components needs more codes than that, but there are {len(codes)}."
            )
        codes = codes.double()
        centre = codes.mean(0)
        z = codes - centre  # densities are most exact for centred codes
        floor = FLOOR * z.var(0, correction=0).mean().clamp(min=1e-12).item()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fit = _mixture if self.kind == "gmm" else _about_codes
            weights, means, covariances = fit(z, k, floor)
        self.logits.copy_(weights.log())
        self.means.copy_(means + centre)
        self.roots.copy_(torch.linalg.cholesky(covariances))


def _mixture(z: Tensor, k: int, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, D) and covariances (K, D, D) of centred codes (N, D), by EM."""
    means, nearest = mixtures.lloyd(z, z[mixtures.kmeans_plus_plus(z, k)], LLOYD_STEPS)
    spread = floor * torch.eye(z.shape[1]).to(z).expand(k, -1, -1)
    sums = mixtures.moments(z, nn.functional.one_hot(nearest, k).double(), "full")
    for step in range(EM_STEPS + 1):
        weights, means, spread = mixtures.maximization(sums, means, spread, "full", floor)
        if step < EM_STEPS:
            factors = mixtures.precision_factors(spread, "full")
            sums = mixtures.statistics(z, weights.log(), means, factors, "full")
    return weights, means, spread


def _about_codes(z: Tensor, k: int, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means: K of the centred codes (N, D), and covariance (1, D, D), h by EM."""
    order = torch.randperm(len(z)).to(z.device)
    covariance = z.mT @ z / len(z) + floor * torch.eye(z.shape[1]).to(z)
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, z.mT, upper=False).mT
    means, others = white[order[:k]], white[order[k : k + HELD_OUT]]
    squares = torch.cdist(others, means).square()  # (M, K)
    h2 = squares.new_ones(())
    for _ in range(EM_STEPS):
        share = (-0.5 * squares / h2).softmax(1)
        h2 = (share * squares).sum(1).mean() / z.shape[1]
        h2 = h2.clamp(min=FLOOR)
    return z.new_full((k,), 1 / k), z[order[:k]], h2 * covariance[None]
