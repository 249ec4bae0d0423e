r"""Mixture of Gaussians fitted by EM (Dempster, Laird & Rubin 1977; Bishop 2006, section 9.2).

A component $z \in \{1, \dots, K\}$ with $p(z = k) = \pi_k$ generates a datum through
$p(x \mid z = k) = \mathcal N(x; \mu_k, \Sigma_k)$, so that both of

$$\log p(x) = \log \sum_k \pi_k \, \mathcal N(x; \mu_k, \Sigma_k), \qquad
  p(z = k \mid x) = \frac{\pi_k \, \mathcal N(x; \mu_k, \Sigma_k)}{p(x)}$$

are exact. With `pca` the mixture is one of the d leading principal components
$y = U^\top (x - b)$, and the other D - d directions are white noise of variance $s^2$, the mean of
their eigenvalues as in probabilistic PCA (Tipping & Bishop 1999, eq. 8):

$$p(x) = \sum_k \pi_k \, \mathcal N\big(x; \; b + U \mu_k, \;
         U \Sigma_k U^\top + s^2 (I - U U^\top)\big),$$

a density of pixels like the other, of which U, b and s are found once, before EM.

EM starts where k-means does. One pass over the data finds their mean, their principal components
if need be, and a uniform sample of them; greedy k-means++ (Arthur & Vassilvitskii 2007) and a few
Lloyd steps on the sample give the first responsibilities. With `restarts`, each of several starts
is followed by a short run of EM on the sample, and the one with the highest likelihood goes on
(Biernacki, Celeux & Govaert 2003), so that only one mixture is ever fitted to all of the data.
"""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from zoo.batches import Batch
from zoo.checks import (
    check_at_least,
    check_choice,
    check_finite,
    check_images,
    check_shape,
    check_symbols,
)
from zoo.distributions.subspace import Subspace, SubspaceGaussian
from zoo.inference import mixtures, streams
from zoo.inference.mixtures import Covariance
from zoo.inference.streams import UniformSample
from zoo.models.classical.em import EMModel, Statistics, array_batch, check_rows, modality_of

SAMPLE = 2**14
"""Data that a start is found on, at the most; fewer where they have over a thousand numbers."""

LLOYD_STEPS = 10

SHORT_RUN = 10
"""EM iterations on the sample after which the starts are compared."""

_PART = 2**19  # numbers of the data that are converted and projected at a time


class GMM(EMModel):
    """Mixture of Gaussians over images or vectors, fitted by EM.

    Args:
        x_shape: Shape of a datum. (C, H, W) is an image with values in [0, 1], in batches under
            "image"; any other shape is a vector of any values, in batches under "x".
        components: Number of Gaussians, K.
        covariance: `full`, `diag`, `tied` (one full matrix for all components), or `spherical`
            (one variance a component).
        floor: Added to every variance at each M-step, in squared units of the data. What is
            constant in a component has this variance.
        pca: Number of principal components that the mixture is over, less than the numbers in a
            datum; by default it is over the data themselves.
        restarts: Number of starts, of which the one that leads to the highest likelihood is kept.
        kappa: Exponent of the step size of stepwise EM, in (0.5, 1]; by default, full batches.
    """

    about: ClassVar = (
        "A mixture of Gaussians fitted by expectation-maximisation (Dempster, Laird & Rubin 1977, "
        "https://doi.org/10.1111/j.2517-6161.1977.tb01600.x)"
    )
    tags: ClassVar = (
        "gaussian-mixture",
        "expectation-maximization",
        "clustering",
        "latent-variable-model",
        "generative-model",
    )
    limits: ClassVar = (
        "log p(x) is a density of real values, which grows without bound where values repeat: it "
        "compares models of the same floor on the same data, and with no likelihood of binary "
        "pixels. Samples show the noise of a Gaussian; those of images are clipped to [0, 1]."
    )

    discrete: ClassVar = True
    log_probabilities = ("logits",)  # a checkpoint may hold -inf there

    shows: ClassVar = {
        "parameters.png": "The means of the components, at most 100, the most frequent first."
    }

    def __init__(
        self,
        x_shape: tuple[int, ...] = (1, 28, 28),
        components: int = 10,
        covariance: Covariance = "full",
        floor: float = 1e-6,
        pca: int | None = None,
        restarts: int = 1,
        kappa: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(x_shape) == 0 or min(x_shape) < 1:
            raise ValueError(f"x_shape is {tuple(x_shape)}, but must be positive numbers.")
        size = math.prod(x_shape)
        check_at_least(1, components=components, restarts=restarts)
        check_at_least(0, floor=floor)
        check_choice(Covariance, covariance=covariance)
        if pca is not None and not 1 <= pca < size:
            raise ValueError(f"pca is {pca}, but a datum has {size} numbers; give 1 to {size - 1}.")
        if kappa is not None and not 0.5 < kappa <= 1:
            raise ValueError(f"kappa is {kappa}, but stepwise EM converges for 0.5 < kappa <= 1.")
        self.modality, self.x_shape = modality_of(x_shape), tuple(x_shape)
        self.latent_shape = ()
        self.components, self.covariance, self.floor = components, covariance, floor
        self.pca, self.restarts, self.kappa = pca, restarts, kappa
        dim = size if pca is None else pca
        shape = {
            "full": (components, dim, dim),
            "tied": (dim, dim),
            "diag": (components, dim),
            "spherical": (components,),
        }[covariance]
        # Until it is fitted, every component is the standard Gaussian.
        factors = torch.eye(dim).expand(shape) if covariance in ("full", "tied") else None
        self.logits = nn.Parameter(torch.full((components,), -math.log(components)))
        # Means of y. With the offset they have the digits of data far from 0 or from each other.
        self.centres = nn.Parameter(torch.zeros(components, dim, dtype=torch.float64))
        self.factors = nn.Parameter(torch.ones(shape) if factors is None else factors.clone())
        # Found once from the data, so no gradient is theirs.
        self.offset = nn.Parameter(torch.zeros(size, dtype=torch.float64), requires_grad=False)
        self.basis = self.noise = None
        if pca is not None:
            self.basis = nn.Parameter(torch.eye(size)[:, :pca].clone(), requires_grad=False)
            self.noise = nn.Parameter(torch.ones(()), requires_grad=False)
        self._given: tuple[Tensor, Tensor, Tensor] | None = None  # by `set_components`

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        if f"{prefix}means" in state:  # as the first files call them
            state[f"{prefix}centres"] = state.pop(f"{prefix}means")
        super()._load_from_state_dict(state, prefix, *others)

    # --- verbs -----------------------------------------------------------------------------------

    def prior(self) -> Distribution:
        """p(z): batch shape (), event shape (), values 0 to K - 1."""
        return Categorical(logits=self.logits, validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """p(z | x), exactly, for x of shape (B, *x_shape): batch shape (B,), event shape ()."""
        log_p = self._log_joint(x)[0].log_softmax(1)
        return Categorical(logits=log_p.to(self.logits), validate_args=False)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for z of shape (B,) int64: batch shape (B,), event shape x_shape."""
        self._check_codes(z)
        if self.covariance == "tied":
            factors = self.factors.expand(len(z), -1, -1)
        elif self.covariance == "spherical":
            factors = self.factors[z, None].expand(-1, self.centres.shape[1])
        else:
            factors = self.factors[z]
        centres = self.centres[z].to(factors)
        return SubspaceGaussian(centres, factors, self._subspace, self.x_shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats, exactly: (B, *x_shape) to (B,)."""
        joint, rest = self._log_joint(x)
        return (joint.logsumexp(1) + rest).to(self.logits)

    def encode(self, x: Tensor) -> Tensor:
        """The most probable component: (B, *x_shape) to (B,) int64."""
        if self.modality == "image":
            check_images(x, self.x_shape)
        return self._log_joint(x)[0].argmax(1)

    def decode(self, z: Tensor) -> Tensor:
        """The means of components, images clipped to [0, 1]: (B,) int64 to (B, *x_shape)."""
        self._check_codes(z)
        means = self._subspace.to(torch.float64).embed(self.centres[z].double()).to(self.factors)
        return self._clipped(means.reshape(-1, *self.x_shape))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n data from p(x): z ~ p(z), x ~ p(x | z), images clipped to [0, 1]."""
        z = self.prior().sample((n,))
        rows = max(1, _PART // self.centres.shape[1] ** 2)  # each copies its component's factor
        parts = [self.likelihood(part).sample() for part in torch.split(z, rows)]
        return self._clipped(torch.cat(parts))

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The means of the components, where they are images."""
        if self.modality != "image":
            return {}
        heaviest = self.logits.argsort(descending=True)[:100]
        return {"parameters.png": self.decode(heaviest)}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The mean negative log-likelihood, in nats per datum."""
        log_likelihood = self.log_prob(self.inputs(batch)).mean()
        return {"loss": -log_likelihood, "log_likelihood": log_likelihood}

    @property
    def _subspace(self) -> Subspace:
        return Subspace(self.offset, self.basis, self.noise)

    def _clipped(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1) if self.modality == "image" else x

    def _log_joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x, z) of the coordinates, (B, K), and what the other directions add to it, (B,).

        Float64, in which the densities of far data neither overflow nor cancel.
        """
        check_shape(self._key, x, self.x_shape)
        check_finite(self._key, x)
        centres, factors = self.centres.double(), self.factors.double()
        with torch.autocast(x.device.type, enabled=False):
            y, rest = self._subspace.to(torch.float64).coordinates(x.flatten(1), centres)
            densities = mixtures.log_densities(y, centres, factors, self.covariance)
        return self.logits.double().log_softmax(0) + densities, rest

    def _check_codes(self, z: Tensor) -> None:
        check_shape("z", z, ())
        check_symbols("z", z, self.components)

    # --- parameters ------------------------------------------------------------------------------

    @property
    def weights(self) -> Tensor:
        """The mixture's weights, (K,); they sum to 1. Float64, as the means and the covariances."""
        return self.logits.detach().double().softmax(0)

    @property
    def means(self) -> Tensor:
        """The means of the components, as data are: (K, *x_shape)."""
        means = self._subspace.to(torch.float64).embed(self.centres.detach().double())
        return means.reshape(-1, *self.x_shape)

    @property
    def covariances(self) -> Tensor:
        """Covariances: (K, D, D), (D, D), (K, D) or (K,) by kind; with `pca`, of the coordinates.

        In squared units of the data.
        """
        return mixtures.covariances(self.factors.detach().double(), self.covariance)

    @property
    def free_parameters(self) -> int:
        """Numbers that the density depends on; with `pca` also those of the subspace."""
        k, dim = self.centres.shape
        size = self.offset.numel()
        triangle = dim * (dim + 1) // 2
        sizes = {"full": k * triangle, "tied": triangle, "diag": k * dim, "spherical": k}
        free = k - 1 + k * dim + sizes[self.covariance]
        if self.pca is None:
            return free
        # The other directions' mean, their variance, and the subspace; of diagonal covariances, in
        # which its axes matter, also how these are turned.
        turns = dim * (dim - 1) // 2 if self.covariance == "diag" else 0
        return free + (size - dim) * (dim + 1) + 1 + turns

    @torch.no_grad()
    def set_components(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        """Set the mixture, from which EM then starts, and each `fit` again.

        Args:
            weights: (K,), positive; they are divided by their sum.
            means: (K, *x_shape).
            covariances: Shaped as the property of this name.

        Raises:
            ValueError: if a shape is wrong, or a covariance is not positive definite.
        """
        k = self.components
        shapes = {
            "weights": (k,),
            "means": (k, *self.x_shape),
            "covariances": tuple(self.factors.shape),
        }
        for name, value in (("weights", weights), ("means", means), ("covariances", covariances)):
            if tuple(value.shape) != shapes[name]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {shapes[name]}.")
        given = tuple(v.detach().to(self.device).double() for v in (weights, means, covariances))
        weights, means, covariances = given
        weights, centres = weights / weights.sum(), means.flatten(1)
        if self.pca is None:
            self.offset.copy_(weights @ centres)
        centres = centres - self.offset
        if self.basis is not None:
            centres = centres @ self.basis.double()
        self._set(weights, centres, covariances)
        self._given = weights, means, covariances
        self.started.fill_(True)

    def _set(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        """Set the mixture of coordinates."""
        self.factors.copy_(mixtures.precision_factors(covariances, self.covariance))
        self.logits.copy_(weights.log())
        self.centres.copy_(means)

    # --- EM --------------------------------------------------------------------------------------

    def expectation(self, batch: Batch) -> Statistics:
        """The E-step: `mixtures.statistics` of the coordinates, over the batch."""
        total: Statistics = {}
        x = self.inputs(batch)
        check_rows(self._key, x, self.x_shape)
        with torch.autocast(x.device.type, enabled=False):
            for part in self._parts(x.flatten(1)):
                sums = self._statistics_of(*self._coordinates(part))
                total = {name: total[name] + s if total else s for name, s in sums.items()}
        return total

    def _coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates of data, in their type or the model's, whichever has more digits."""
        wider = torch.promote_types(x.dtype, self.factors.dtype)
        return self._subspace.to(wider).coordinates(x, self.factors.new_empty(0, dtype=wider))

    def _statistics_of(self, y: Tensor, rest: Tensor) -> Statistics:
        log_weights = self.logits.log_softmax(0)
        centres, factors = self.centres.to(y), self.factors.to(y)
        sums = mixtures.statistics(y, log_weights.to(y), centres, factors, self.covariance)
        sums["log_likelihood"] += rest.sum(dtype=torch.float64)
        return sums

    def maximization(self, statistics: Statistics) -> None:
        """The M-step; a component without data stays where it is, with hardly any weight."""
        covariances = mixtures.covariances(self.factors.double(), self.covariance)
        self._set(
            *mixtures.maximization(
                statistics, self.centres, covariances, self.covariance, self.floor
            )
        )

    def start(self, batches: Iterable[Batch]) -> None:
        """Set the offset, the subspace, and the components, where they were given or by k-means.

        Raises:
            ValueError: if there are fewer data than components, or a datum is not finite.
        """
        if self._given is not None:
            self.set_components(*self._given)
            return
        sample = self._first_pass(batches)
        y, rest = self._coordinates(sample)
        best, kept = -math.inf, None
        for _ in range(self.restarts):
            self._start_at_kmeans(y)
            if self.restarts == 1:
                return
            for _ in range(SHORT_RUN):
                self.maximization(self._statistics_of(y, rest))
            log_likelihood = float(self._statistics_of(y, rest)["log_likelihood"])
            if kept is None or log_likelihood > best:
                best, kept = log_likelihood, [p.clone() for p in self.parameters()]
        assert kept is not None
        for parameter, value in zip(self.parameters(), kept, strict=True):
            parameter.copy_(value)

    def _start_at_kmeans(self, y: Tensor) -> None:
        """One M-step from the hard assignment that k-means makes of the sample."""
        chosen = mixtures.kmeans_plus_plus(y, self.components)
        centres, nearest = mixtures.lloyd(y, y[chosen], LLOYD_STEPS)
        members = nn.functional.one_hot(nearest, self.components)
        sums: Statistics = {}
        for part, r in zip(torch.split(y, 1024), torch.split(members, 1024), strict=True):
            new = mixtures.moments(part, r, self.covariance)
            sums = {name: sums[name] + s if sums else s for name, s in new.items()}
        # What a centre without data keeps.
        spread = torch.ones_like(self.factors, dtype=torch.float64)
        if self.covariance in ("full", "tied"):
            spread = torch.eye(y.shape[1]).to(spread).expand_as(spread)
        self._set(*mixtures.maximization(sums, centres, spread, self.covariance, self.floor))

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split data so that what is made of a part takes a few megabytes."""
        return torch.split(x, max(1, _PART // self.offset.numel()))

    def _first_pass(self, batches: Iterable[Batch]) -> Tensor:
        """Set the offset and the subspace; return a uniform sample of the data, (n, D)."""
        sums: Statistics = {}
        count = 0
        sample = UniformSample(max(self.components, min(SAMPLE, 2**24 // self.offset.numel())))
        for batch in batches:
            x = self.inputs(batch)
            check_rows(self._key, x, self.x_shape)
            for part in self._parts(x.flatten(1)):
                if not sums:
                    self.offset.copy_(part.double().mean(0))
                new = streams.sums(part, self.offset, products=self.pca is not None)
                sums = {name: sums[name] + s if sums else s for name, s in new.items()}
                count += len(part)
                sample.update(part.to(self.offset.device))
        if count < self.components:
            raise ValueError(
                f"components is {self.components}, but there are {count} data to start from; "
                "give more data, or ask for fewer components."
            )
        self.offset.copy_(streams.mean(sums, self.offset))
        if self.pca is not None:
            assert self.basis is not None
            assert self.noise is not None
            basis, _, noise = streams.principal_components(streams.covariance(sums), self.pca)
            self.basis.copy_(basis)
            self.noise.copy_(noise + self.floor)
        return sample.data()

    def as_batch(self, data: Any) -> Batch:
        """Images or vectors (N, *x_shape), of NumPy or torch."""
        return array_batch(data, self._key, self.x_shape)
