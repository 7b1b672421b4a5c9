"""The loops of `cpu_numba`, compiled on first use and cached on disk.

Scores are formed for blocks of rows that were transposed first, so that the compiler can vectorise
over rows. It may fuse multiplications and additions and lose the sign of zero; NaN and infinity
keep their meaning, and nothing is reordered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit, score_jit

__all__ = [
    "BLOCK",
    "LOWEST",
    "certify",
    "direct",
    "frame",
    "keep_products",
    "reduce",
    "score_block",
    "turn",
]

# Rows a transposed block; the state of a block is three or four rows of this length: the best
# score, the second best, the index of the best (exact in float32 below 2**24), and NaN where a
# score was not finite.
BLOCK = 256
# No score is below this; a score that may not be finite must not be trusted.
LOWEST = np.float32(-3.4e38)
_LARGEST = np.float32(3e38)


@score_jit
def _keep(s: Any, j: Any, best: Any, second: Any, index: Any) -> Any:
    """Take one more score into the best two; equal scores make the lead zero."""
    better = s > best
    lower = best if better else s
    return (
        s if better else best,
        lower if lower > second else second,
        j if better else index,
    )


@score_jit
def _keep_four(j: Any, s0: Any, s1: Any, s2: Any, s3: Any, state: Any, r: Any) -> None:
    """Take the scores of centroids j to j + 3 into the state of row r."""
    best, second, index = state[r], state[BLOCK + r], state[2 * BLOCK + r]
    best, second, index = _keep(s0, j, best, second, index)
    best, second, index = _keep(s1, j + np.float32(1), best, second, index)
    best, second, index = _keep(s2, j + np.float32(2), best, second, index)
    best, second, index = _keep(s3, j + np.float32(3), best, second, index)
    state[r], state[BLOCK + r], state[2 * BLOCK + r] = best, second, index


@score_jit
def _score_two(x: Any, c: Any, bias: Any, j: Any, state: Any) -> None:
    """Scores of four centroids that have two features."""
    c00, c10, c20, c30 = c[0, 0], c[1, 0], c[2, 0], c[3, 0]
    c01, c11, c21, c31 = c[0, 1], c[1, 1], c[2, 1], c[3, 1]
    h0, h1, h2, h3 = bias[0], bias[1], bias[2], bias[3]
    for r in range(BLOCK):
        v0, v1 = x[r], x[BLOCK + r]
        s0, s1 = h0 + v0 * c00 + v1 * c01, h1 + v0 * c10 + v1 * c11
        s2, s3 = h2 + v0 * c20 + v1 * c21, h3 + v0 * c30 + v1 * c31
        _keep_four(j, s0, s1, s2, s3, state, r)


@score_jit
def _add_four(x: Any, c: Any, sums: Any) -> None:
    """Add the products of four features to the scores of four centroids."""
    c00, c10, c20, c30 = c[0, 0], c[1, 0], c[2, 0], c[3, 0]
    c01, c11, c21, c31 = c[0, 1], c[1, 1], c[2, 1], c[3, 1]
    c02, c12, c22, c32 = c[0, 2], c[1, 2], c[2, 2], c[3, 2]
    c03, c13, c23, c33 = c[0, 3], c[1, 3], c[2, 3], c[3, 3]
    for r in range(BLOCK):
        v0, v1, v2, v3 = x[r], x[BLOCK + r], x[2 * BLOCK + r], x[3 * BLOCK + r]
        s0, s1 = sums[r], sums[BLOCK + r]
        s2, s3 = sums[2 * BLOCK + r], sums[3 * BLOCK + r]
        sums[r] = s0 + v0 * c00 + v1 * c01 + v2 * c02 + v3 * c03
        sums[BLOCK + r] = s1 + v0 * c10 + v1 * c11 + v2 * c12 + v3 * c13
        sums[2 * BLOCK + r] = s2 + v0 * c20 + v1 * c21 + v2 * c22 + v3 * c23
        sums[3 * BLOCK + r] = s3 + v0 * c30 + v1 * c31 + v2 * c32 + v3 * c33


@score_jit
def _score_four(x: Any, c: Any, sums: Any, j: Any, state: Any) -> None:
    """Add the last four features to the scores of four centroids and take them in."""
    c00, c10, c20, c30 = c[0, 0], c[1, 0], c[2, 0], c[3, 0]
    c01, c11, c21, c31 = c[0, 1], c[1, 1], c[2, 1], c[3, 1]
    c02, c12, c22, c32 = c[0, 2], c[1, 2], c[2, 2], c[3, 2]
    c03, c13, c23, c33 = c[0, 3], c[1, 3], c[2, 3], c[3, 3]
    for r in range(BLOCK):
        v0, v1, v2, v3 = x[r], x[BLOCK + r], x[2 * BLOCK + r], x[3 * BLOCK + r]
        s0 = sums[r] + v0 * c00 + v1 * c01 + v2 * c02 + v3 * c03
        s1 = sums[BLOCK + r] + v0 * c10 + v1 * c11 + v2 * c12 + v3 * c13
        s2 = sums[2 * BLOCK + r] + v0 * c20 + v1 * c21 + v2 * c22 + v3 * c23
        s3 = sums[3 * BLOCK + r] + v0 * c30 + v1 * c31 + v2 * c32 + v3 * c33
        _keep_four(j, s0, s1, s2, s3, state, r)


@score_jit
def _keep_sums(s0: Any, s1: Any, s2: Any, s3: Any, bias: Any, j: Any, state: Any) -> None:
    """Take scores that lack only their bias into the state, and note those that are not finite."""
    h0, h1, h2, h3 = bias[0], bias[1], bias[2], bias[3]
    zero = np.float32(0)
    for r in range(len(s0)):
        v0, v1, v2, v3 = s0[r] + h0, s1[r] + h1, s2[r] + h2, s3[r] + h3
        state[3 * BLOCK + r] += v0 * zero + v1 * zero + v2 * zero + v3 * zero
        _keep_four(j, v0, v1, v2, v3, state, r)


@score_jit
def score_block(x: Any, centers: Any, bias: Any, sums: Any, state: Any) -> None:
    """The two best scores of a transposed block."""
    width = centers.shape[1]
    for j in range(0, len(centers), 4):
        c, first = centers[j : j + 4], np.float32(j)
        if width == 2:
            _score_two(x, c, bias[j : j + 4], first, state)
            continue
        for i in range(4):
            sums[i * BLOCK : (i + 1) * BLOCK] = bias[j + i]
        for q in range(0, width - 4, 4):
            _add_four(x[q * BLOCK : (q + 4) * BLOCK], c[:, q : q + 4], sums)
        _score_four(x[(width - 4) * BLOCK :], c[:, width - 4 :], sums, first, state)


@score_jit
def keep_products(products: Any, bias: Any, state: Any) -> None:
    """The two best scores of a tile, given all but their bias; all of them must be finite."""
    for j in range(0, len(products), 4):
        p0, p1, p2, p3 = products[j], products[j + 1], products[j + 2], products[j + 3]
        h0, h1, h2, h3 = bias[j], bias[j + 1], bias[j + 2], bias[j + 3]
        first = np.float32(j)
        for r in range(len(p0)):
            _keep_four(first, p0[r] + h0, p1[r] + h1, p2[r] + h2, p3[r] + h3, state, r)


@score_jit
def _transpose(x: Any, scale: Any, center: Any, block: Any, size: Any) -> None:
    """Frame rows, bring them into a block, feature by feature, and sum up their magnitudes."""
    for r in range(len(x)):
        total = np.float32(0)
        for q in range(x.shape[1]):
            value = np.float32(x[r, q] * scale - center[q])
            block[q * BLOCK + r] = value
            total += abs(value)
        size[r] = total


@score_jit
def direct(
    x: Any,
    scale: Any,
    center: Any,
    centers: Any,
    bias: Any,
    reach: Any,
    best: Any,
    score: Any,
    lead: Any,
) -> None:
    """Frame rows of few features and find their best scores; `reach` bounds |c_kj| and |bias|."""
    block = np.zeros(centers.shape[1] * BLOCK, np.float32)
    sums, size = np.empty(4 * BLOCK, np.float32), np.empty(BLOCK, np.float32)
    state = np.empty(3 * BLOCK, np.float32)
    for lo in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - lo)
        _transpose(x[lo : lo + n], scale, center, block, size)
        state[: 2 * BLOCK] = LOWEST
        state[2 * BLOCK :] = np.float32(0)
        score_block(block, centers, bias, sums, state)
        for r in range(n):
            best[lo + r] = np.int32(state[2 * BLOCK + r])
            score[lo + r] = state[r]
            gap = state[r] - state[BLOCK + r]
            finite = size[r] * reach[0] + reach[1] < _LARGEST
            lead[lo + r] = gap if finite else np.float32(np.nan)


@score_jit
def reduce(products: Any, bias: Any, best: Any, score: Any, lead: Any) -> None:
    """The two best of scores that BLAS has formed, shape (K, n), but for their bias."""
    state = np.zeros(4 * BLOCK, np.float32)
    state[: 2 * BLOCK] = LOWEST
    for j in range(0, len(products), 4):
        s0, s1, s2, s3 = products[j], products[j + 1], products[j + 2], products[j + 3]
        _keep_sums(s0, s1, s2, s3, bias[j : j + 4], np.float32(j), state)
    for r in range(products.shape[1]):
        best[r] = np.int32(state[2 * BLOCK + r])
        score[r] = state[r]
        lead[r] = state[r] - state[BLOCK + r] + state[3 * BLOCK + r]


@score_jit
def turn(scores: Any, products: Any) -> None:
    """Transpose."""
    for r in range(len(scores)):
        for k in range(scores.shape[1]):
            products[k, r] = scores[r, k]


@jit
def certify(lead: Any, norms: Any, slope: Any, offset: Any, limit: Any, out: Any) -> None:
    """Which leads exceed twice the error of a score."""
    for i in range(len(lead)):
        size, ahead = np.float64(norms[i]), np.float64(lead[i])
        out[i] = (ahead > slope * size + offset) & (ahead < 3e38) & (size < limit)


@jit
def frame(x: Any, scale: Any, center: Any, out: Any) -> None:
    """Scale and centre in the dtype of x."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            out[i, j] = np.float32(x[i, j] * scale - center[j])
