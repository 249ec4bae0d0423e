r"""What a discrete state emits: a category, or a real vector from a mixture of Gaussians.

With the responsibilities $r_{nkm} = p(z_n = k, c_n = m | x)$, the M-step of component $m$ of state
$k$ is, for each dimension (Bishop 2006, eqs. 9.24-9.26),

$$\mu_{km} = \frac{\sum_n r_{nkm} x_n}{\sum_n r_{nkm}}, \qquad
  \sigma_{km}^2 = \frac{\sum_n r_{nkm} (x_n - \mu_{km})^2}{\sum_n r_{nkm}}, \qquad
  \pi_{km} \propto \sum_n r_{nkm}.$$
"""

import warnings
from abc import ABC, abstractmethod

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

    Args:
        states: K.
        dim: D.
        components: M of each state.
        alpha: Parameter of the Dirichlet prior of each state's weights of components.
        learning: How the parameters are learned; means and variances have no prior.
    """

    floor = 1e-6
    """No variance gets below this share of the data's, or a Gaussian could close in on a point."""

    def __init__(
        self, states: int, dim: int, components: int, alpha: float, learning: Learning
    ) -> None:
        super().__init__()
        self.weights = Categoricals(states, components, alpha, learning)
        self.mean = nn.Parameter(torch.zeros(states, components, dim))
        self.log_scale = nn.Parameter(torch.zeros(states, components, dim))
        self.origin: Tensor
        self.spread: Tensor
        self.register_buffer("origin", torch.zeros(dim))  # of the data that it was started with
        self.register_buffer("spread", torch.ones(dim))

    def log_p(self, x: Tensor) -> Tensor:
        """Log p(x | k) for x of shape (N, D): (N, K)."""
        return (self._log_density(x) + self.weights.log_p()).logsumexp(-1)

    def log_weight(self, x: Tensor) -> Tensor:
        """What the E-step weighs with, (N, K)."""
        return (self._log_density(x) + self.weights.log_weight()).logsumexp(-1)

    def _log_density(self, x: Tensor) -> Tensor:
        """Log p(x | k, m), (N, K, M); not all of (N, K, M, D) is there at once."""
        scale = self.log_scale.exp()
        densities = [
            gaussian(mean, s, event_dims=1).log_prob(x[:, None])
            for mean, s in zip(self.mean, scale, strict=True)
        ]
        return torch.stack(densities, 1)

    def statistics(self, x: Tensor, marginals: Tensor) -> Statistics:
        """Sums of r, r x and r x^2, with the origin of x near the middle of the data."""
        log_r = self._log_density(x) + self.weights.log_weight()  # (N, K, M)
        r = (marginals[..., None] * log_r.softmax(-1)).flatten(1).double()  # (N, K M)
        y = (x - self.origin).double()
        return {"component": r.sum(0), "sum": r.T @ y, "square": r.T @ y.square()}

    @torch.no_grad()
    def update(self, statistics: Statistics) -> None:
        shape = self.mean.shape
        count = statistics["component"][:, None]  # (K M, 1)
        mean = statistics["sum"] / count
        variance = statistics["square"] / count - mean.square()
        variance = variance.clamp(min=self.floor * self.spread.double().square())
        met = (count > 0).view(*shape[:2], 1)
        mean = (mean + self.origin).view(shape).to(self.mean)
        log_scale = variance.log().view(shape).to(self.mean) / 2
        self.mean.copy_(torch.where(met, mean, self.mean))
        self.log_scale.copy_(torch.where(met, log_scale, self.log_scale))
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

        states = len(self.mean)
        if len(x) < states:
            raise ValueError(f"{len(x)} observations are too few for {states} states.")
        seed = int(torch.randint(2**31, ()))
        data = x.double().cpu()
        self.origin.copy_(data.mean(0))
        self.spread.copy_(data.std(0, correction=0).clamp(min=torch.finfo(x.dtype).tiny ** 0.25))
        scaled = (x - self.origin) / self.spread
        with warnings.catch_warnings():  # of fewer different observations than states
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(states, n_init=1, random_state=seed).fit(scaled.double().cpu().numpy())
        centre = torch.as_tensor(found.cluster_centers_).to(self.mean)[:, None]  # (K, 1, D)
        within = max(found.inertia_ / scaled.numel(), 1e-2) ** 0.5
        parts = self.mean.shape[1]
        noise = within * torch.randn(self.mean.shape).to(self.mean) if parts > 1 else 0
        self.mean.copy_((centre + noise) * self.spread + self.origin)
        self.log_scale.copy_((within * self.spread).log().expand_as(self.mean))
        self.weights.start(torch.ones(self.mean.shape[:2], dtype=torch.float64))

    def given(self, z: Tensor) -> Distribution:
        return self._mixture(self.weights.log_p()[z], self.mean[z], self.log_scale[z])

    def mixed(self, p: Tensor) -> Distribution:
        weights = (p.log()[..., None] + self.weights.log_p()).flatten(-2)  # (B, K M)
        mean, log_scale = (q.flatten(0, 1) for q in (self.mean, self.log_scale))
        shape = (*weights.shape, mean.shape[-1])
        return self._mixture(weights, mean.expand(shape), log_scale.expand(shape))

    def typical(self) -> Tensor:
        return (self.weights.log_p().exp()[..., None] * self.mean).sum(1)

    @staticmethod
    def _mixture(log_p: Tensor, mean: Tensor, log_scale: Tensor) -> Distribution:
        parts = gaussian(mean, log_scale.exp(), event_dims=1)
        which = Categorical(logits=log_p, validate_args=False)
        return MixtureSameFamily(which, parts, validate_args=False)
