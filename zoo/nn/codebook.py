r"""A codebook with online k-means updates (van den Oord et al. 2017, appendix A.1).

A vector $z_e$ is replaced by the nearest of K codes $e_k$. Let $n_k$ be the number of vectors of a
batch that are nearest to $e_k$, and $m_k$ their sum. Running averages move the codes:

$$N_k \leftarrow \gamma N_k + (1 - \gamma) n_k, \qquad
  M_k \leftarrow \gamma M_k + (1 - \gamma) m_k, \qquad e_k = M_k / N_k.$$

The gradient passes unchanged from the code to the vector (straight-through). A rarely used code
restarts at one of the batch's vectors (Dhariwal et al. 2020). Sums are over all processes, and
restarts come from the first process, so that all processes have the same codebook.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.distributions.factorised import at_least_float32
from zoo.nn.precision import AtLeastFloat32

DEAD = 0.03
"""A code restarts when its running average of vectors falls below this share of the mean."""


class Codebook(AtLeastFloat32):
    """K codes of D numbers, moved by exponential moving averages.

    Args:
        codes: K.
        dim: D.
        decay: gamma.
    """

    def __init__(self, codes: int, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.codes: Tensor
        self.register_buffer("codes", torch.randn(codes, dim))
        self.count: Tensor  # N_k; zeros before the first batch
        self.register_buffer("count", torch.zeros(codes))
        self.total: Tensor  # M_k
        self.register_buffer("total", torch.zeros(codes, dim))

    def nearest(self, z: Tensor) -> Tensor:
        """Positions of the nearest codes, (*,) int64, of vectors z (*, D)."""
        with torch.autocast(z.device.type, enabled=False):
            z = at_least_float32(z)
            codes = self.codes.to(z)
            # |z - e|^2 without |z|^2, which is the same for all codes
            return (codes.square().sum(-1) - 2 * z @ codes.mT).argmin(-1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise vectors z (*, D): the codes (*, D), with z's gradient, and positions (*,)."""
        index = self.nearest(z)
        if self.training:
            self._move(z.detach().flatten(0, -2).to(self.codes), index.flatten())
        return z + (self.codes[index] - z).detach(), index

    @torch.no_grad()
    def _move(self, z: Tensor, index: Tensor) -> None:
        if not self.count.any():  # the first batch: codes start at vectors
            self._restart(z, torch.ones_like(self.count, dtype=torch.bool))
            index = self.nearest(z)
        count = torch.bincount(index, minlength=len(self.codes)).to(z)
        total = torch.zeros_like(self.total).index_add_(0, index, z)
        if dist.is_initialized():
            dist.all_reduce(count)
            dist.all_reduce(total)
        self.count.lerp_(count, 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        self._restart(z, self.count < DEAD * self.count.mean())
        self.codes.copy_(self.total / self.count[:, None])

    def _restart(self, z: Tensor, dead: Tensor) -> None:
        """Restart codes at vectors of the batch, with the mean weight of a code."""
        n = int(dead.sum())
        if n == 0:
            return
        start = z[torch.randint(len(z), (n,), device=z.device)]
        if dist.is_initialized():
            dist.broadcast(start, 0)
        mean = self.count.mean().clamp(min=1.0)
        self.count[dead] = mean
        self.total[dead] = mean * start
        self.codes[dead] = start
