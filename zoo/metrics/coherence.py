"""Coherence of topics: co-occurrence of their top terms in documents."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.metrics.checks import check_rows


class Coherence(NamedTuple):
    """UMass and NPMI coherence of each topic, both float64 (K,); larger is better."""

    umass: Tensor
    npmi: Tensor


class TopicCoherence(Metric):
    r"""Co-occurrence of the top terms of each topic in documents.

    Let $D(v)$ be the number of N documents with term $v$, $D(v, v')$ that with both, and
    $v_1, v_2, \dots$ a topic's terms, the most probable first. Averaged over the pairs $l < m$,

    $$\mathrm{UMass} = \log \frac{D(v_m, v_l) + 1}{D(v_l)}, \qquad
      \mathrm{NPMI} = \frac{\log \frac{N D(v_m, v_l)}{D(v_m) D(v_l)}}
        {-\log (D(v_m, v_l) / N)},$$

    UMass as in Mimno et al. 2011, "Optimizing Semantic Coherence in Topic Models", eq. 1, whose sum
    over pairs is here divided by their number; NPMI as in Bouma 2009, "Normalized (Pointwise)
    Mutual Information in Collocation Extraction", for topics as in Lau, Newman & Baldwin 2014, with
    documents instead of windows. NPMI is in [-1, 1]: -1 for terms that never occur together, 0 for
    independent terms, 1 for terms that occur only together, and 0 for terms that are in every
    document. A term without documents has a UMass of 0 with later terms, and an NPMI of -1.

    Args:
        top_terms: Positions of each topic's terms, the most probable first, int64 (K, n), n >= 2.
    """

    full_state_update = False
    count: Tensor
    together: Tensor

    def __init__(self, top_terms: Tensor) -> None:
        super().__init__()
        if top_terms.ndim != 2 or top_terms.shape[1] < 2:
            raise ValueError(
                f"top_terms has shape {tuple(top_terms.shape)}, but must be (K, n) with at least "
                "2 terms of each topic."
            )
        terms, place = torch.unique(top_terms, return_inverse=True)
        self.register_buffer("terms", terms, persistent=False)  # unique, (U,)
        self.register_buffer("place", place, persistent=False)  # indices into `terms`, (K, n)
        self.terms: Tensor
        self.place: Tensor
        zeros = torch.zeros(len(terms), len(terms), dtype=torch.float64)
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("together", zeros, dist_reduce_fx="sum")  # documents with both, (U, U)

    def update(self, x: Tensor) -> None:
        """Add documents, counts of shape (B, V).

        Raises:
            ValueError: if the counts are not finite, or V is too small for the terms.
        """
        check_rows("documents", x, 0)
        if (last := int(self.terms.max())) >= x.shape[1]:
            raise ValueError(f"top_terms has term {last}, but documents have {x.shape[1]} terms.")
        found = (x.index_select(1, self.terms) > 0).float()  # (B, U)
        self.count += len(x)
        self.together += found.T @ found  # whole numbers, exact in float32 below 2^24

    def compute(self) -> Coherence:
        """The coherence of each topic.

        Raises:
            ValueError: if there are no documents.
        """
        if not self.count:
            raise ValueError("there are no documents to find terms in; update with some first.")
        n = self.place.shape[1]
        earlier, later = torch.triu_indices(n, n, offset=1)
        first, second = self.place[:, earlier], self.place[:, later]  # (K, pairs)
        both = self.together[first, second]
        of_first, of_second = self.together[first, first], self.together[second, second]
        umass = torch.log((both + 1) / of_first.clamp(min=1))
        npmi = torch.log(self.count * both / (of_first * of_second)) / -torch.log(both / self.count)
        npmi = npmi.where(both > 0, -1.0).where(both < self.count, 0.0)
        return Coherence(umass.mean(1), npmi.mean(1))
