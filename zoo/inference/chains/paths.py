"""The distribution of a path of hidden states, as torch's distributions are used."""

from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from zoo.inference.chains import recursions
from zoo.inference.chains.layout import Layout

SHOWN = 5  # places of impossible sequences that an error names at the most


def check_possible(log_p: Tensor, places: Tensor | None = None) -> None:
    """Raise ValueError that names the sequences whose probability is zero: they have no states.

    Args:
        log_p: Log p(x) of each, (B,).
        places: What they are called, (B,); by default 0, 1, ...
    """
    found = log_p.detach().isneginf()
    if not found.any():
        return
    called = torch.arange(len(log_p), device=found.device) if places is None else places
    names = [str(i) for i in called[found].sort().values.tolist()]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    one = len(names) == 1
    raise ValueError(
        f"{'sequence' if one else 'sequences'} {', '.join(names[:SHOWN])}{more} of the batch "
        f"{'is' if one else 'are'} impossible under this model (log_prob is -inf), by a symbol or "
        f"a step that was never met in training; leave {'it' if one else 'them'} out, or train "
        "with emission_prior and transition_prior above 1."
    )


class Paths(Distribution):
    """p(z | x): the paths of a hidden Markov model, given what was observed at each step.

    What it is asked for raises ValueError if a sequence is impossible.

    Batch shape (B,), event shape (T,) int64; behind its end a sequence has zeros.

    Args:
        chain: The weights of the paths, of K states.
        log_emission: log b, packed (N, K).
        layout: How it is packed.
        length: T, at least the length of the longest sequence.
        scan: How to compute it.
        batch_shape: (B,), or () for the paths of a single sequence.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        chain: recursions.Chain,
        log_emission: Tensor,
        layout: Layout,
        length: int,
        scan: recursions.Scan,
        batch_shape: Size,
    ) -> None:
        super().__init__(batch_shape, Size([length]), validate_args=False)
        self._chain, self._log_emission, self._layout = chain, log_emission, layout
        self._scan = scan

    @property
    def marginals(self) -> Tensor:
        """p(z_t = k | x), (B, T, K), zeros behind a sequence's end."""
        found = recursions.smooth(self._chain, self._log_emission, self._layout, self._scan)
        check_possible(found.log_likelihood)
        return self._unpacked(found.marginals)

    @property
    def mode(self) -> Tensor:
        """The most probable path, (B, T)."""
        path, log_p = recursions.viterbi(self._chain, self._log_emission, self._layout, self._scan)
        check_possible(log_p)
        return self._unpacked(path)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw paths, (*sample_shape, B, T)."""
        n = Size(sample_shape).numel()
        given = recursions.filter_states(self._chain, self._log_emission, self._layout, self._scan)
        check_possible(given.log_likelihood)
        paths = recursions.sample_paths(self._chain, given.log_state, self._layout, n)  # (n, N)
        padded = self._layout.unpack(paths.T, self.event_shape[0])  # (B, T, n)
        return padded.movedim(-1, 0).reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(z | x) of paths (..., B, T): (..., B) float64, in nats."""
        outer = value.shape[: value.ndim - 1 - len(self.batch_shape)]
        layout = self._layout
        rows = layout.order[layout.rank] * value.shape[-1] + layout.step
        path = value.reshape(*outer, -1)[..., rows]  # (..., N)
        log_joint = recursions.log_joint(self._chain, self._log_emission, path, layout)
        log_evidence = recursions.log_likelihood(
            self._chain, self._log_emission, layout, self._scan
        )
        check_possible(log_evidence)
        return (log_joint - log_evidence).reshape((*outer, *self.batch_shape))

    def _unpacked(self, rows: Tensor) -> Tensor:
        padded = self._layout.unpack(rows, self.event_shape[0])
        return padded.reshape(*self.batch_shape, *padded.shape[1:])
