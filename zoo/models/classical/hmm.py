r"""Hidden Markov model (Baum et al. 1970; Rabiner 1989, https://doi.org/10.1109/5.18626).

A path of states $z_1, \dots, z_T$ generates a sequence:

$$p(x, z) = \pi_{z_1} \, p(x_1 | z_1) \prod_{t=2}^T A_{z_{t-1} z_t} \, p(x_t | z_t).$$

Where the states are seen, learning is counting. Where they are hidden, EM (the algorithm of Baum
and Welch) counts what is expected under the posterior:

$$\pi_k \propto \sum_n p(z_{n1} = k | x_n), \qquad
  A_{ik} \propto \sum_n \sum_{t \ge 2} p(z_{n,t-1} = i, z_{nt} = k | x_n), \qquad
  p(v | k) \propto \sum_n \sum_{t: x_{nt} = v} p(z_{nt} = k | x_n).$$

Variational Bayes (MacKay 1997) keeps a Dirichlet distribution over each row of these tables: small
priors make them sparse, which suits parts of speech (Johnson 2007).
"""

import json
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Size, Tensor
from torch.distributions import Distribution, Independent

from zoo.batches import Batch
from zoo.checks import check_at_least, check_batch, check_choice, check_symbols
from zoo.inference.chains import recursions
from zoo.inference.chains.layout import Layout, blocks
from zoo.inference.chains.paths import Paths, check_possible
from zoo.models.classical.em import EMModel, Statistics
from zoo.models.classical.emissions import Categories, Emission, GaussianMixtures
from zoo.models.classical.sequences import Packed, Reader, Sequences
from zoo.models.classical.tables import Categoricals, Learning
from zoo.optim import adam
from zoo.plots.charts import heatmap

Emitted = Literal["categorical", "gaussian", "mixture"]
BLOCK = 2**17  # steps of the E-step at a time, which bounds its memory


class HMM(EMModel):
    """Hidden Markov model of sequences of categories or of real vectors.

    The verbs take what `fit` does: sequences of equal length as a tensor or array, (B, T) whole
    numbers or (B, T, D); any as a list; or a batch with `tokens` (B, T) or `values` (B, T, D), and
    `lengths` (B,). Padding has no effect, and what they return is zero there.

    Densities of vectors are computed in float64, about the middle of the training data; `sample`
    and `decode` round vectors to the model's type. What has to do with the states of a sequence
    raises ValueError where the sequence is impossible; its `log_prob` is minus infinity.

    Args:
        states: Number of states, K.
        emission: p(x_t | z_t): `categorical`, `gaussian` with a diagonal covariance, or `mixture`
            of such Gaussians.
        symbols: Number of categories, V (`categorical` only).
        dim: Dimension of the vectors, D (`gaussian` and `mixture` only).
        components: Gaussians of a state (`mixture` only).
        learning: `em`; `vb`, variational Bayes, with which the verbs use the mean tables; or
            `gradient`, Adam on the log-likelihood.
        supervised: The batches have the states as `tags` (B, T), and learning is counting.
        transition_prior: Parameter alpha of the Dirichlet prior of initial and next states; `em`
            and `gradient` add alpha - 1 to each count, and need at least 1; `vb` takes any
            positive one.
        emission_prior: The same of a state's categories, or of its weights of components.
        stay: Share of the initial transition probabilities that is put on staying in a state.
        scan: `sequential`, or `parallel` for few long sequences and few states: its memory grows
            with B T K^2.
        length: Steps in a sequence that `sample` draws, T.
        kappa: Exponent of stepwise EM, above 0.5 and up to 1, which needs priors above 1, as a
            batch need not have all symbols; by default full batches.
        t0: Delay of stepwise EM.
        lr: Learning rate of Adam.
    """

    about: ClassVar = (
        "A hidden Markov model (Baum et al. 1970; Rabiner 1989, https://doi.org/10.1109/5.18626)"
    )
    tags: ClassVar = ("hidden-markov-model", "latent-variable-model", "sequence-labeling")
    task: ClassVar = "token-classification"
    modality = "sequence"
    discrete: ClassVar = True
    assets: Mapping[str, str] = {}
    limits: ClassVar = (
        "A state knows the past only through the state before it. The states of a model that was "
        "trained without tags have numbers, not names."
    )

    shows: ClassVar = {
        "parameters.png": "Probabilities of the next state, a column each, given the state.",
        "parameters.txt": "The states' most probable symbols, in descending order.",
        "examples.txt": "Test data with the most probable state behind each symbol.",
    }

    def __init__(
        self,
        states: int = 16,
        emission: Emitted = "categorical",
        symbols: int | None = None,
        dim: int | None = None,
        components: int = 2,
        learning: Learning = "em",
        supervised: bool = False,
        transition_prior: float = 1.0,
        emission_prior: float = 1.0,
        stay: float = 0.0,
        scan: recursions.Scan = "sequential",
        length: int = 20,
        kappa: float | None = None,
        t0: float = 2.0,
        lr: float = 1e-2,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_choice(Emitted, emission=emission)
        check_choice(Learning, learning=learning)
        check_choice(recursions.Scan, scan=scan)
        check_at_least(1, states=states, components=components, length=length)
        check_at_least(0, t0=t0, lr=lr)
        for name, alpha in (
            ("transition_prior", transition_prior),
            ("emission_prior", emission_prior),
        ):
            if not (alpha >= 1 or (alpha > 0 and learning == "vb")):
                raise ValueError(
                    f"{name} is {alpha}, but must be at least 1, or above 0 with learning=vb."
                )
        if not 0 <= stay < 1:
            raise ValueError(f"stay is {stay}, but must be at least 0 and below 1.")
        if kappa is not None and not 0.5 < kappa <= 1:
            raise ValueError(f"kappa is {kappa}, but must be above 0.5 and at most 1.")
        if supervised and learning == "gradient":
            raise ValueError("supervised learning is counting; leave out learning=gradient.")
        size, other = ("symbols", dim) if emission == "categorical" else ("dim", symbols)
        number = symbols if emission == "categorical" else dim
        if number is None or number < 1 or other is not None:
            raise ValueError(f"emission={emission} takes {size}, at least 1, and no other size.")
        self.supervised, self.stay, self.scan = supervised, stay, scan
        self.kappa, self.t0, self.lr = kappa, t0, lr
        self.automatic_optimization = learning == "gradient"
        self.x_shape = (length,) if emission == "categorical" else (length, number)
        self.latent_shape = (length,)
        self.initial = Categoricals(1, states, transition_prior, learning)
        self.transition = Categoricals(states, states, transition_prior, learning)
        if emission == "categorical":
            self.emission: Emission = Categories(states, number, emission_prior, learning)
        else:
            parts = components if emission == "mixture" else 1
            self.emission = GaussianMixtures(states, number, parts, emission_prior, learning)
        self.symbols = symbols
        self.reader = Reader(symbols, self.x_shape[1:])

    # --- verbs -----------------------------------------------------------------------------------

    def log_prob(self, x: Sequences) -> Tensor:
        """Log p(x) in nats, exactly: (B,) float64."""
        packed = self._read(x)
        log_emission = self.emission.log_p(packed.x)
        return recursions.log_likelihood(self._chain(), log_emission, packed.layout, self.scan)

    def prior(self) -> Distribution:
        """p(z): batch shape (), event shape (T,)."""
        (steps,) = self.latent_shape
        nothing = self.transition.logits.new_zeros(steps, len(self.transition.logits))
        layout = Layout.of(torch.tensor([steps], device=nothing.device))
        return Paths(self._chain(), nothing, layout, steps, self.scan, Size())

    def posterior(self, x: Sequences) -> Paths:
        """p(z | x), exactly: batch shape (B,), event shape (T,); it has `marginals`, (B, T, K)."""
        packed = self._read(x)
        log_emission = self.emission.log_p(packed.x)
        batch = Size([len(packed.layout.order)])
        return Paths(self._chain(), log_emission, packed.layout, packed.length, self.scan, batch)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z) for z of shape (B, T): batch shape (B,), event shape (T,) or (T, D)."""
        return Independent(self.emission.given(self._states(z)), 1, False)

    @torch.no_grad()
    def encode(self, x: Sequences) -> Tensor:
        """The most probable path (Viterbi 1967): (B, T) int64."""
        return self.posterior(x).mode

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """What each state emits: its most probable category (B, T), or its mean (B, T, D)."""
        return self.emission.typical()[self._states(z)]

    @torch.no_grad()
    def sample(self, n: int, length: int | None = None) -> Tensor:
        """Draw n sequences from p(x): (n, T) int64 or (n, T, D).

        Args:
            n: How many.
            length: T; by default that of the constructor.
        """
        length = self.latent_shape[0] if length is None else length
        check_at_least(1, length=length)
        x = self.likelihood(recursions.sample_chain(self._chain(), n, length)).sample()
        return x.to(self.transition.logits) if x.is_floating_point() else x

    @torch.no_grad()
    def predict(self, x: Sequences) -> Distribution:
        """p(x_{T+1} | x), of what would come next: batch shape (B,), event shape () or (D,)."""
        packed, chain = self._read(x), self._chain()
        filtered = recursions.filter_states(
            chain, self.emission.log_p(packed.x), packed.layout, self.scan
        )
        check_possible(filtered.log_likelihood)
        last = torch.empty_like(filtered.log_state[: len(packed.layout.order)])
        last[packed.layout.order] = filtered.log_state[packed.layout.last]
        return self.emission.mixed(recursions.predict(chain, last))

    def texts(self, n: int) -> list[str]:
        """At least one line and at most n that show what the model generates."""
        if not self.vocabulary:
            return super().texts(n)
        words = self.vocabulary
        return [" ".join(words[i] for i in x) for x in self.sample(n).tolist()]

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """The table of transitions, what each state emits, and the most probable states of data."""
        names = self.state_names
        shown: dict[str, Tensor | list[str]] = {
            "parameters.png": heatmap(
                self.transition.log_p().exp(), names, names, "p(next state | state)"
            )[None]
        }
        if self.symbols is None:
            return shown
        log_p = self.emission.log_p(torch.arange(self.symbols, device=self.device))  # (V, K)
        top = log_p.topk(min(12, self.symbols), 0).indices.T.tolist()
        words = self.vocabulary or [*map(str, range(self.symbols))]
        shown["parameters.txt"] = [
            f"{name}: " + " ".join(words[i] for i in most)
            for name, most in zip(names, top, strict=True)
        ]
        x = {key: value[:8] for key, value in self.inputs(batch).items()}
        rows = zip(
            x["tokens"].tolist(), self.encode(x).tolist(), x["lengths"].tolist(), strict=True
        )
        shown["examples.txt"] = [
            " ".join(f"{words[i]}/{names[k]}" for i, k in zip(ids[:n], path[:n], strict=True))
            for ids, path, n in rows
        ]
        return shown

    # --- training --------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The negative log-likelihood in nats per sequence; of words and tags, when supervised.

        The other terms are log p(x) and, of a supervised model in validation, the accuracy of the
        most probable paths.
        """
        batch = self.as_batch(batch)
        packed = self._read(batch)
        chain, log_emission = self._chain(), self.emission.log_p(packed.x)
        value = recursions.log_likelihood(chain, log_emission, packed.layout, self.scan).mean()
        terms = {"loss": -value, "log_likelihood": value}
        if self.supervised:
            path = self._path(packed, self._tags(batch))
            terms["loss"] = -recursions.log_joint(chain, log_emission, path, packed.layout).mean()
            if not self.training:
                best, _ = recursions.viterbi(chain, log_emission, packed.layout, self.scan)
                terms["accuracy"] = (best == path).float().mean()
        elif self.training:
            terms["loss"] = -value - self.log_prior() / (self._data_size or 1)
        return terms

    def scores(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """The accuracy of the most probable states, where the states are tags that the batch has.

        Returns:
            Under `accuracy`, the steps of each sequence that are right, and all, (B,) each.
        """
        if not self.supervised or "tags" not in batch:
            return {}
        right = (self.encode(self.inputs(batch)) == batch["tags"]) & batch["mask"]
        return {"accuracy": (right.sum(1), batch["lengths"])}

    def inputs(self, batch: Batch) -> Mapping[str, Tensor]:
        """What the verbs take as x, out of a batch of a DataModule."""
        check_batch(batch, self.reader.key)
        return {key: batch[key] for key in ("tokens", "values", "lengths") if key in batch}

    def as_input(self, x: Sequences) -> Sequences:
        """Sequences as they are: `as_batch` reads them."""
        return x

    def expectation(self, batch: Batch) -> Statistics:
        """Expected counts of states, transitions and emissions."""
        total: Statistics = {}
        chain = recursions.Chain(self.initial.log_weight()[0], self.transition.log_weight())
        batch = self.as_batch(batch)
        values, tags = batch[self.reader.key], self._tags(batch) if self.supervised else None
        for index, some in blocks(batch["lengths"], BLOCK):
            steps = int(some[0])
            packed = self.reader.pack(values[index, :steps], some)
            path = None if tags is None else self._path(packed, tags[index, :steps])
            for name, s in self._counts(chain, packed, path, index).items():
                total[name] = total[name] + s if name in total else s
        return total

    def _counts(
        self, chain: recursions.Chain, packed: Packed, path: Tensor | None, index: Tensor
    ) -> Statistics:
        """Sums over sequences whose states are hidden, or seen, (N,); `index` has their places."""
        log_weight, first = self.emission.log_weight(packed.x), len(packed.layout.order)
        if path is not None:
            states = len(chain.log_initial)
            value = recursions.log_joint(chain, log_weight, path, packed.layout)
            marginals = torch.nn.functional.one_hot(path, states).to(log_weight)
            moves = path[packed.layout.previous] * states + path[first:]
            transitions = torch.bincount(moves, minlength=states**2).view(states, states)
        else:
            found = recursions.smooth(chain, log_weight, packed.layout, self.scan)
            marginals, transitions, value = found
            check_possible(value, index)
        return {
            "count": value.new_tensor(first),
            "log_likelihood": value.sum(),
            "initial": marginals[:first].double().sum(0, keepdim=True),
            "transition": transitions.double(),
            **self.emission.statistics(packed.x, marginals),
        }

    def maximization(self, statistics: Statistics) -> None:
        """Set the tables in proportion to the counts; a row without counts stays."""
        self.initial.update(statistics["initial"])
        self.transition.update(statistics["transition"])
        self.emission.update(statistics)

    def log_prior(self) -> Tensor:
        """Log p of the parameters up to a constant, or minus KL(q || p) of variational Bayes."""
        return self.initial.log_prior() + self.transition.log_prior() + self.emission.log_prior()

    def start(self, batches: Iterable[Batch]) -> None:
        """Draw transitions near uniform ones, but for `stay`, and emissions near the data's."""
        self.emission.start(torch.cat([self._read(batch).x for batch in batches]))
        for table, stay in ((self.initial, 0.0), (self.transition, self.stay)):
            p = 1 + torch.rand(table.logits.shape, dtype=torch.float64)
            p = (1 - stay) * p / p.sum(1, keepdim=True) + stay * torch.eye(*p.shape)
            table.start(p.to(table.logits.device))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        if not self.automatic_optimization:
            return super().configure_optimizers()
        return adam(self.parameters(), self.lr, "constant", 0, float("inf"))

    # --- data ------------------------------------------------------------------------------------

    def as_batch(self, data: Sequences) -> Batch:
        """Sequences of different lengths as a padded batch.

        Args:
            data: A list of sequences, each a list, array or tensor of T symbols or (T, D) values; a
                tensor or array of sequences of equal length; or a dict of these under `tokens` or
                `values`, and `tags` for a supervised model.

        Raises:
            ValueError: if a sequence is empty or does not fit the model.
        """
        return self.reader.batch(data, self.device)

    def _read(self, x: Sequences) -> Packed:
        """Pack sequences for inference; raise ValueError if they do not fit the model."""
        batch = self.reader.batch(x, self.device)
        return self.reader.pack(batch[self.reader.key], batch["lengths"])

    def _states(self, z: Tensor) -> Tensor:
        """Paths, (B, T) int64; raise ValueError if they are not of this model's states."""
        check_symbols("z", z, len(self.transition.logits))
        return z

    def _tags(self, batch: Batch) -> Tensor:
        """The states that were seen, (B, T)."""
        if "tags" not in batch:
            raise ValueError("the batch has no tags, which supervised learning counts.")
        tags: Tensor = batch["tags"]
        return tags

    def _path(self, packed: Packed, tags: Tensor) -> Tensor:
        """The states that were seen, packed (N,)."""
        path = packed.layout.pack(tags)
        check_symbols("tags", path, len(self.transition.logits))
        return path.long()

    # --- words -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse data with another number of words than this model has."""
        words = len(getattr(getattr(self.trainer, "datamodule", None), "vocabulary", []))
        if words and words != self.symbols:
            raise ValueError(f"the data have {words} symbols, but symbols is {self.symbols}.")

    @property
    def vocabulary(self) -> list[str]:
        """The words of the data that the model was trained on, if any."""
        return self._names("vocabulary")

    @property
    def state_names(self) -> list[str]:
        """The tags, or numbers where the model was trained without tags."""
        seen = self._names("tags") if self.supervised else []
        return seen or [*map(str, range(len(self.transition.logits)))]

    def _names(self, what: str) -> list[str]:
        found: list[str] = json.loads(self.assets.get("vocabulary.json", "{}")).get(what, [])
        return found

    def _chain(self) -> recursions.Chain:
        return recursions.Chain(self.initial.log_p()[0], self.transition.log_p())
