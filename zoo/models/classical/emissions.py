r"""What a discrete state emits: a category, or a real vector from a mixture of Gaussians.

With the responsibilities $r_{nkm} = p(z_n = k, c_n = m | x)$, the M-step of component $m$ of state
$k$ is, for each dimension (Bishop 2006, eqs. 9.24-9.26),

$$\mu_{km} = \frac{\sum_n r_{nkm} x_n}{\sum_n r_{nkm}}, \qquad
  \sigma_{km}^2 = \frac{\sum_n r_{nkm} (x_n - \mu_{km})^2}{\sum_n r_{nkm}}, \qquad
  \pi_{km} \propto \sum_n r_{nkm}.$$
"""

import warnings
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    MixtureSameFamily,
)

from zoo.distributions.factorised import gaussian
from zoo.models.classical.tables import Categoricals, Learning

Statistics = dict[str, Tensor]


class Emission(nn.Module, ABC):
    """p(x_t | z_t) of K states, of observations x of shape (N, ...)."""

    @abstractmethod
    def log_p(self, x: Tensor) -> Tensor:
        """Log p(x | k), (N, K)."""

    @abstractmethod
    def log_weight(self, x: Tensor) -> Tensor:
        """What the E-step weighs with, (N, K): log p(x | k), or its expectation."""

    @abstractmethod
    def statistics(self, x: Tensor, marginals: Tensor) -> Statistics:
        """The sums that the M-step needs, float64, of p(z = k | x), (N, K)."""

    @abstractmethod
    def update(self, statistics: Statistics) -> None:
        """The M-step; what was not met stays as it is."""

    @abstractmethod
    def log_prior(self) -> Tensor:
        """What EM raises besides the log-likelihood, float64."""

    @abstractmethod
    def start(self, x: Tensor) -> None:
        """Set the parameters that the first E-step has, from observations."""

    @abstractmethod
    def given(self, z: Tensor) -> Distribution:
        """p(x | z) of states of any shape, which is the batch shape."""

    @abstractmethod
    def mixed(self, p: Tensor) -> Distribution:
        """p(x) where state k has probability p_k, (B, K): batch shape (B,)."""

    @abstractmethod
    def typical(self) -> Tensor:
        """One x for each state, (K, ...): its mean, or its most probable category."""


class Categories(Emission):
    """Categories 0, ..., V - 1, of type int64.

    Args:
        states: K.
        symbols: V.
        alpha: Parameter of the Dirichlet prior of each state's distribution.
        learning: How the probabilities are learned.
    """

    def __init__(self, states: int, symbols: int, alpha: float, learning: Learning) -> None:
        super().__init__()
        self.table = Categoricals(states, symbols, alpha, learning)

    def log_p(self, x: Tensor) -> Tensor:
        """Log p(x | k) for x of shape (N,): (N, K)."""
        return self.table.log_p().T.contiguous().index_select(0, x)

    def log_weight(self, x: Tensor) -> Tensor:
        """What the E-step weighs with, (N, K)."""
        return self.table.log_weight().T.contiguous().index_select(0, x)

    def statistics(self, x: Tensor, marginals: Tensor) -> Statistics:
        """How often each state emits each symbol, (K, V)."""
        counts = marginals.new_zeros(self.table.logits.T.shape).index_add_(0, x, marginals)
        return {"emission": counts.T.double()}

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        self.table.update(statistics["emission"])

    def log_prior(self) -> Tensor:
        return self.table.log_prior()

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Every state emits about as the data do, up to noise that tells the states apart."""
        counts = torch.bincount(x, minlength=self.table.logits.shape[1]).double()
        noise = torch.randn(self.table.logits.shape, dtype=torch.float64).to(counts.device)
        self.table.start((counts + 1e-3) * noise.exp())

    def given(self, z: Tensor) -> Distribution:
        return Categorical(logits=self.table.log_p()[z], validate_args=False)

    def mixed(self, p: Tensor) -> Distribution:
        # in float64, which autocast leaves alone
        probs = p.double() @ self.table.log_p().double().exp()
        return Categorical(probs=probs.to(p), validate_args=False)

    def typical(self) -> Tensor:
        return self.table.logits.detach().argmax(1)


class GaussianMixtures(Emission):
    """Real vectors (D,) from M Gaussians with diagonal covariances.

    Means are held about an origin amid the data, and densities are computed in float64, so that no
    digits are lost of data far from zero, such as time stamps, or where a feature is far from all
    means.

    Args:
        states: K.
        dim: D.
        components: M of each state.
        alpha: Parameter of the Dirichlet prior of each state's weights of components.
        learning: How the parameters are learned; means and variances have no prior.
    """

    floor = 1e-6
    """No variance gets below this share of its feature's in the data, or of the features' mean
    where it is constant: a Gaussian could close in on a point."""

    def __init__(
        self, states: int, dim: int, components: int, alpha: float, learning: Learning
    ) -> None:
        super().__init__()
        self.weights = Categoricals(states, components, alpha, learning)
        self.offset = nn.Parameter(torch.zeros(states, components, dim))  # of means from origin
        self.log_scale = nn.Parameter(torch.zeros(states, components, dim))
        self.origin: Tensor
        self.spread: Tensor
        self.register_buffer("origin", torch.zeros(dim))  # of the data that it was started with
        self.register_buffer("spread", torch.ones(dim))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # Checkpoints of old hold the means themselves.
        if (mean := state.pop(f"{prefix}mean", None)) is not None:
            state[f"{prefix}offset"] = mean - state[f"{prefix}origin"]
        super()._load_from_state_dict(state, prefix, *args)

    @property
    def mean(self) -> Tensor:
        """The means, (K, M, D) float64."""
        return self.origin.double() + self.offset.double()

    @property
    def scale(self) -> Tensor:
        """The standard deviations, (K, M, D) float64."""
        return self.log_scale.double().exp().clamp(min=self.floor**0.5 * self.spread.double())

    def log_p(self, x: Tensor) -> Tensor:
        """Log p(x | k) for x of shape (N, D): (N, K)."""
        return (self._log_density(x) + self.weights.log_p()).logsumexp(-1)

    def log_weight(self, x: Tensor) -> Tensor:
        """What the E-step weighs with, (N, K)."""
        return (self._log_density(x) + self.weights.log_weight()).logsumexp(-1)

    def _log_density(self, x: Tensor) -> Tensor:
        """Log p(x | k, m), (N, K, M) float64; not all of (N, K, M, D) is there at once."""
        y = self._centred(x)[:, None]
        densities = [
            gaussian(offset, scale, event_dims=1).log_prob(y)
            for offset, scale in zip(self.offset.double(), self.scale, strict=True)
        ]
        return torch.stack(densities, 1)

    def statistics(self, x: Tensor, marginals: Tensor) -> Statistics:
        """Sums of r, r x and r x^2, with the origin of x near the middle of the data."""
        log_r = self._log_density(x) + self.weights.log_weight()  # (N, K, M)
        r = (marginals[..., None] * log_r.softmax(-1)).flatten(1)  # (N, K M)
        y = self._centred(x)
        return {"component": r.sum(0), "sum": r.T @ y, "square": r.T @ y.square()}

    def _centred(self, x: Tensor) -> Tensor:
        return x.double() - self.origin.double()

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        shape = self.offset.shape
        count = statistics["component"][:, None]  # (K M, 1)
        mean = statistics["sum"] / count
        variance = statistics["square"] / count - mean.square()
        variance = variance.clamp(min=self.floor * self.spread.double().square())
        met = (count > 0).view(*shape[:2], 1)
        for p, found in ((self.offset, mean), (self.log_scale, variance.log() / 2)):
            p.copy_(torch.where(met, found.view(shape).to(p), p))
        self.weights.update(statistics["component"].view(shape[:2]))

    def log_prior(self) -> Tensor:
        return self.weights.log_prior()

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """K-means finds the states; the means of a state's components are drawn around its centre.

        Raises:
            ValueError: if there are fewer observations than states.
        """
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        states, parts, _ = self.offset.shape
        if len(x) < states:
            raise ValueError(f"{len(x)} observations are too few for {states} states.")
        seed = int(torch.randint(2**31, ()))
        mean, spread = x.double().mean(0), x.double().std(0, correction=0)
        varies = spread > max(torch.finfo(x.dtype).eps, 1e-14) * mean.abs()  # more than rounding
        usual = spread.square().mean().sqrt() if varies.any() else torch.ones_like(spread)
        self.origin.copy_(mean)
        self.spread.copy_(torch.where(varies, spread, usual))
        scaled = self._centred(x) / self.spread
        with warnings.catch_warnings():  # of fewer different observations than states
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(states, n_init=1, random_state=seed).fit(scaled.cpu().numpy())
        centre = torch.as_tensor(found.cluster_centers_).to(self.offset)[:, None]  # (K, 1, D)
        within = max(found.inertia_ / scaled.numel(), 1e-2) ** 0.5
        noise = within * torch.randn(self.offset.shape).to(self.offset) if parts > 1 else 0
        self.offset.copy_((centre + noise) * self.spread)
        self.log_scale.copy_((within * self.spread).log().expand_as(self.offset))
        self.weights.start(torch.ones(states, parts, dtype=torch.float64))

    def given(self, z: Tensor) -> Distribution:
        return self._mixture(self.weights.log_p()[z], self.mean[z], self.scale[z])

    def mixed(self, p: Tensor) -> Distribution:
        weights = (p.log()[..., None] + self.weights.log_p()).flatten(-2)  # (B, K M)
        mean, scale = (q.flatten(0, 1) for q in (self.mean, self.scale))
        shape = (*weights.shape, mean.shape[-1])
        return self._mixture(weights, mean.expand(shape), scale.expand(shape))

    def typical(self) -> Tensor:
        weights = self.weights.log_p().double().softmax(-1)  # whose sum is 1 to the last digit
        return (weights[..., None] * self.mean).sum(1).to(self.offset)

    @staticmethod
    def _mixture(log_p: Tensor, mean: Tensor, scale: Tensor) -> Distribution:
        parts = gaussian(mean, scale, event_dims=1)
        which = Categorical(logits=log_p.double(), validate_args=False)
        return MixtureSameFamily(which, parts, validate_args=False)
