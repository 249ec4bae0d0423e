r"""Gradient boosted trees (Friedman 2001, https://doi.org/10.1214/aos/1013203451), on histograms.

A tree for each class k fits the residuals $g_k = [y = k] - p_k(x)$. A node with n data and the sum
s of residuals is split where

$$\frac{s_l^2}{n_l} + \frac{s_r^2}{n_r} - \frac{s^2}{n}$$

is largest. This gain is the decrease of the squared error by the split, and a variable's
importance is the sum of the gains of its splits. A leaf gives
$\frac{K - 1}{K} \sum g / \sum p (1 - p)$. Splits lie between quantiles of each variable, and the
trees of all classes grow side by side, which makes 40 classes affordable.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Cells = NDArray[np.uint8]

TREES, DEPTH, RATE = 100, 3, 0.1  # the defaults of scikit-learn's GradientBoostingClassifier
BINS = 128


class Boosted(NamedTuple):
    """Result of a fit.

    Args:
        importance: Share of each variable in the gain of all splits, (D,).
        accuracy: Share of the test data whose most probable class is right.
    """

    importance: Floats
    accuracy: float


def boosted_trees(x: Floats, y: Ints, test_x: Floats, test_y: Ints) -> Boosted:
    """Fit 100 trees of depth 3 for each class, at a learning rate of 0.1.

    Args:
        x: Variables to fit on, (N, D).
        y: Classes to fit on, (N,).
        test_x: Variables to test on, (M, D).
        test_y: Classes to test on, (M,).
    """
    n, d = x.shape
    classes, y = np.unique(y, return_inverse=True)
    k = len(classes)
    edges = [_edges(column) for column in x.T]
    cells, test_cells = (
        np.stack([np.searchsorted(e, c) for e, c in zip(edges, columns.T, strict=True)], 1).astype(
            np.uint8
        )
        for columns in (x, test_x)
    )  # (N, D) and (M, D) in 0 to BINS - 1
    rows = (cells + BINS * np.arange(d)).ravel()
    columns = np.repeat(np.arange(n), d)
    histogram = csr_array((np.ones(n * d), (rows, columns)), shape=(d * BINS, n))
    wanted = np.eye(k)[y]  # (N, K)
    logits = np.tile(np.log(wanted.mean(0)), (n, 1))
    test_logits = np.tile(np.log(wanted.mean(0)), (len(test_x), 1))
    importance = np.zeros(d)
    for _ in range(TREES):
        p = softmax(logits, 1)
        residual = wanted - p
        tree = _grow(histogram, cells, residual, importance)
        leaf = _leaves(tree, cells)
        sums, curvature = (
            np.bincount(leaf.ravel(), v.ravel(), 2**DEPTH * k) for v in (residual, p * (1 - p))
        )
        step = np.divide(sums, curvature, out=np.zeros_like(sums), where=curvature > 1e-150)
        value = RATE * (k - 1) / k * step
        logits += value[leaf]
        test_logits += value[_leaves(tree, test_cells)]
    total = importance.sum()
    return Boosted(
        importance / total if total > 0 else np.full(d, 1 / d),
        float((classes[test_logits.argmax(1)] == test_y).mean()),
    )


def _edges(column: Floats) -> Floats:
    """Candidate splits of a variable: between its values, or between quantiles of many values."""
    values = np.unique(column)
    if len(values) > BINS:
        values = np.unique(np.quantile(column, np.linspace(0, 1, BINS)))
    return (values[1:] + values[:-1]) / 2


Split = tuple[Ints, Ints]


def _grow(histogram: csr_array, cells: Cells, residual: Floats, importance: Floats) -> list[Split]:
    """Grow a tree for each class, and add the gains of its splits to `importance`, (D,).

    Args:
        histogram: Sums over the data of each cell of each variable, (D * BINS, N).
        cells: The cell that each datum is in, (N, D).
        residual: Residuals that the trees fit, (N, K).
        importance: Importance of each variable, (D,).

    Returns:
        For each level of M nodes, the variable of each split and its last cell to the left, (M, K).
    """
    n, k = residual.shape
    d = cells.shape[1]

    def summed(values: Floats) -> Floats:  # (N, K) to the sums over cells up to each, (D, BINS, K)
        cumulative: Floats = (histogram @ values).reshape(d, BINS, k).cumsum(1)
        return cumulative

    node = np.zeros((n, k), dtype=np.uint8)
    sums, counts = [summed(residual)], [summed(np.ones((n, k)))]
    tree = []
    for level in range(DEPTH):
        variables, thresholds = [], []
        for s, c in zip(sums, counts, strict=True):
            gain = _gain(s, c).reshape(-1, k)  # (D * BINS, K)
            best = gain.argmax(0)
            importance += np.bincount(best // BINS, gain.max(0), d)
            variables.append(best // BINS)
            thresholds.append(best % BINS)
        tree.append((np.stack(variables), np.stack(thresholds)))
        if level == DEPTH - 1:
            break
        node = _descend(node, tree[-1], cells)
        right = [(node == 2 * m + 1).astype(np.float64) for m in range(2**level)]
        s_right, c_right = [summed(residual * r) for r in right], [summed(r) for r in right]
        sums = [part for s, r in zip(sums, s_right, strict=True) for part in (s - r, r)]
        counts = [part for c, r in zip(counts, c_right, strict=True) for part in (c - r, r)]
    return tree


def _gain(s: Floats, c: Floats) -> Floats:
    """Gain of a split after each cell, from the sums and counts up to it, all (D, BINS, K)."""
    total, size = s[:, -1:], c[:, -1:]
    inner = (c > 0.5) & (c < size - 0.5)  # counts are whole
    between = size * s - c * total
    return np.divide(between**2, c * (size - c) * size, out=np.zeros_like(s), where=inner)


def _descend(node: Cells, split: Split, cells: Cells) -> Cells:
    """Node of each datum in the next level, from its node in this level; (N, K)."""
    right = np.zeros(node.shape, dtype=bool)
    for m, (variable, threshold) in enumerate(zip(*split, strict=True)):
        right |= (node == m) & (cells.take(variable, 1) > threshold)
    return 2 * node + right


def _leaves(tree: list[Split], cells: Cells) -> Ints:
    """Leaf of each datum in each class's tree, as an index into a flat (2^DEPTH, K); (N, K)."""
    k = tree[0][0].shape[1]
    node = np.zeros((len(cells), k), dtype=np.uint8)
    for split in tree:
        node = _descend(node, split, cells)
    place: Ints = node.astype(np.int64) * k + np.arange(k)
    return place
