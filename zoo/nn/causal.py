r"""A causal transformer over sequences of categories: $p(s) = \prod_t p(s_t \mid s_{<t})$.

Blocks are pre-normalised (Vaswani et al. 2017; Xiong et al. 2020), and position embeddings are
learned.
"""

import math

import torch
from torch import Tensor, nn

from zoo.distributions.factorised import at_least_float32


class Past:
    """Keys and values of all earlier places, (B, heads, t, D) each: empty at the start."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, ...] = ()

    def extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Append keys and values of the next places, and return all."""
        new: tuple[Tensor, ...] = (k, v)
        if self._kept:
            new = tuple(torch.cat(pair, 2) for pair in zip(self._kept, new, strict=True))
        self._kept = new
        return new


class CausalBlock(nn.Module):
    """Self-attention to the past, then a multilayer perceptron, each with a residual connection.

    Args:
        width: Features per place, a multiple of `heads`; input and output are (B, T, width).
        heads: Attention heads.

    With a `Past`, the input has only the places after it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, past: Past | None = None) -> Tensor:
        qkv = self.qkv(self.norm(h)).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, heads, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, D) each
        if past is not None:
            k, v = past.extended(k, v)
        # not torch's attention, whose gradient takes six times as long in bfloat16 on a CPU
        new, seen = q.shape[2], k.shape[2]
        future = torch.ones(new, seen, dtype=torch.bool, device=h.device).triu(seen - new + 1)
        scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(future, -math.inf)
        read = scores.softmax(-1) @ v
        h = h + self.out(read.transpose(1, 2).flatten(2))
        update: Tensor = self.mlp(h)
        return h + update


class CausalTransformer(nn.Module):
    """Gives the logits of each category of a sequence, given the earlier ones.

    Args:
        categories: K.
        length: Places of a sequence, T.
        width: Features per place in the blocks.
        depth: Number of blocks.
        heads: Attention heads.
    """

    def __init__(self, categories: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width is {width}, but must be a multiple of heads, {heads}.")
        self.length = length
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.embedding = nn.Embedding(categories, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(CausalBlock(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, categories))

    def forward(self, s: Tensor) -> Tensor:
        """Logits of s_1 to s_t, (B, t, K), given s (B, t) int64 or its first t - 1, t <= T."""
        past = self.embedding(s)
        start = self.start.expand(len(s), 1, -1)
        h = torch.cat([start, past], 1)[:, : self.length]
        logits: Tensor = self.head(self.blocks(h + self.position[: h.shape[1]]))
        return logits

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n sequences, (n, T) int64, place by place; blocks keep earlier keys and values."""
        pasts = [Past() for _ in self.blocks]
        s = torch.empty(n, 0, dtype=torch.int64, device=self.start.device)
        h = self.start.expand(n, 1, -1)
        for place in self.position:
            h = h + place
            for block, past in zip(self.blocks, pasts, strict=True):
                h = block(h, past)
            p = at_least_float32(self.head(h)[:, 0]).softmax(-1)  # (n, K)
            s = torch.cat([s, torch.multinomial(p, 1)], 1)
            h = self.embedding(s[:, -1:])
        return s
