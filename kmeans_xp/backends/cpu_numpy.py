"""The fast pass in NumPy alone: tiles that stay in cache, memory that is used again.

A few centroids: scores lie with the rows along the contiguous axis, where maxima and comparisons
are vectorised over rows. Many: they lie row by row, where `argmax` is fast.
"""

from __future__ import annotations

import numpy as np

from kmeans_xp.backends.records import Frame, Tile
from kmeans_xp.exact.scratch import scratch

__all__ = ["nearest", "take"]

# Scores worked on at a time: with what is made of them they stay in the second-level cache.
_SCORES = 1 << 18
_MOST_ROWS = 8192
# Rows a product where scores lie along the rows: BLAS copes badly with longer ones.
_STRIP = 512
# Up to this many centroids scores lie along the rows; one byte holds the index of any of them.
_COLUMNS = 128
_COLUMNS_NARROW = 256
_NARROW = 32
# Up to this many centroids of so many features BLAS is fastest on small pieces with the rows as its
# first factor: it multiplies without copying up to so many terms, and rows.
_FEW_CENTERS = 16
_MANY_FEATURES = 128
_SMALL_PRODUCT = 900_000
_SMALL_ROWS = 96
_LOWEST = np.finfo(np.float32).min


def nearest(
    x: np.ndarray,
    rows: slice | np.ndarray,
    norms: np.ndarray,
    frame: Frame,
    tile: Tile,
    bound: tuple[float, float, float],
    tight: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`Backend.nearest` for a NumPy array.

    Without `tight` the lead of a certified row may be given as twice the error of its score, which
    it exceeds: measuring it takes longer than the certificate.
    """
    slope, offset, limit = bound
    count = len(norms)
    best = np.empty(count, dtype=np.int32)
    score, lead = np.empty((2, count), dtype=np.float32)
    certified = np.empty(count, dtype=bool)
    # in float32: a few roundings, and underflows
    margin = (norms * max(slope, 1e-30) + offset) * np.float32(1 + 2.0**-20) + np.float32(2.0**-120)
    few = len(tile.bias) <= (_COLUMNS_NARROW if x.shape[1] <= _NARROW else _COLUMNS)
    kind = _Columns if few else _Rows
    worker = kind(x, frame, tile)
    begin = rows.start if isinstance(rows, slice) else 0
    for lo in range(0, count, worker.rows):
        part = slice(lo, min(lo + worker.rows, count))
        some = (
            slice(begin + part.start, begin + part.stop) if isinstance(rows, slice) else rows[part]
        )
        out = best[part], score[part], lead[part], certified[part]
        worker.run(take(x, some), margin[part], tight, out)
    certified &= norms < limit
    return best, score, lead, certified


def take(x: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Rows of x; much faster than an index where they are short and x is contiguous."""
    if isinstance(rows, slice) or not x.flags.c_contiguous:
        return x[rows]
    return x.take(rows, axis=0)


class _Framing:
    """Rows to scaled and centred ones, in memory of this thread."""

    def __init__(self, x: np.ndarray, frame: Frame, rows: int) -> None:
        narrow = x.dtype.kind == "f" and x.dtype.itemsize <= 4
        self.work: type = np.float32 if narrow else np.float64
        self.scale = self.work(frame.scale)
        center = frame.center.astype(self.work)
        # short rows: an operation over whole blocks is faster than one that repeats the centre
        self.center = np.tile(center, (rows, 1)) if len(center) < 64 else center

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Framed rows in the working dtype; rounding to float32 is left to the caller."""
        out = scratch("framed", block.shape, self.work)
        center = self.center[: len(block)] if self.center.ndim == 2 else self.center
        if self.scale != 1:
            block = np.multiply(block, self.scale, out=out, dtype=self.work, casting="unsafe")
        return np.subtract(block, center, out=out, dtype=self.work, casting="unsafe")


class _Columns:
    """Scores as (strip, centroid, row)."""

    def __init__(self, x: np.ndarray, frame: Frame, tile: Tile) -> None:
        n_clusters, n_features = tile.centers.shape
        self.tile = tile
        rows = min(_MOST_ROWS, _SCORES // n_clusters // _STRIP * _STRIP)
        self.rows = min(rows, max(_STRIP, (_SCORES // n_features) // _STRIP * _STRIP))
        self.strip = self.rows if n_clusters <= _FEW_CENTERS else _STRIP
        self.small = n_clusters <= _FEW_CENTERS and n_features > _MANY_FEATURES
        self.framed = _Framing(x, frame, self.rows)
        self.weights = np.concatenate([tile.centers, tile.bias[:, None]], axis=1)
        self.codes = np.arange(n_clusters, dtype=np.uint8)[:, None]

    def run(
        self, block: np.ndarray, margin: np.ndarray, tight: bool, out: tuple[np.ndarray, ...]
    ) -> None:
        """Fill index, score, lead and certificate of a block of at most `rows` rows."""
        whole = len(block) // self.strip * self.strip
        for part, strip in (
            (slice(0, whole), self.strip),
            (slice(whole, None), len(block) - whole),
        ):
            if len(block[part]):
                strips = len(block[part]) // strip
                scores = self._scores(self.framed(block[part]), strips, strip)
                shape = (strips, strip)
                views = [array[part].reshape(shape) for array in (margin, *out)]
                self._reduce(scores, tight, *views)

    def _scores(self, framed: np.ndarray, strips: int, strip: int) -> np.ndarray:
        n_clusters, n_features = self.tile.centers.shape
        scores = scratch("scores", (strips, n_clusters, strip))
        if self.small:
            rows = framed.astype(np.float32, copy=False)
            products = scratch("products", (len(rows), n_clusters))
            step = min(_SMALL_ROWS, max(16, _SMALL_PRODUCT // (n_clusters * n_features)))
            turned = self.tile.centers.T
            for lo in range(0, len(rows), step):
                np.matmul(rows[lo : lo + step], turned, out=products[lo : lo + step])
            products = products.reshape(strips, strip, n_clusters).transpose(0, 2, 1)
            return np.add(products, self.tile.bias[:, None], out=scores)
        columns = scratch("columns", (strips, n_features + 1, strip))
        columns[:, n_features] = 1  # takes the bias along
        turned = framed.reshape(strips, strip, n_features).transpose(0, 2, 1)
        np.copyto(columns[:, :n_features], turned, casting="same_kind")
        return np.matmul(self.weights, columns, out=scores)

    def _reduce(
        self,
        scores: np.ndarray,
        tight: bool,
        margin: np.ndarray,
        best: np.ndarray,
        score: np.ndarray,
        lead: np.ndarray,
        certified: np.ndarray,
    ) -> None:
        np.maximum.reduce(scores, axis=1, out=score)
        above = scratch("above", scores.shape, bool)
        if tight:
            np.equal(scores, score[:, None], out=above)
        else:
            limit = score - margin
            limit -= np.abs(limit) * np.float32(2.0**-22)
            np.greater(scores, limit[:, None], out=above)
        # where exactly one score is above, the sum of the indices of those above is its index
        codes = scratch("codes", scores.shape, np.uint8)
        np.multiply(above.view(np.uint8), self.codes, out=codes)
        best[...] = np.add.reduce(codes, axis=1, dtype=np.uint8)
        alone = np.add.reduce(above.view(np.uint8), axis=1, dtype=np.uint8) == 1
        if tight:
            np.copyto(scores, _LOWEST, where=above)
            np.subtract(score, np.maximum.reduce(scores, axis=1), out=lead)
            certified[...] = alone & (lead > margin) & (lead < 3e38)
        else:
            lead[...] = margin
            certified[...] = alone


class _Rows:
    """Scores as (row, centroid)."""

    def __init__(self, x: np.ndarray, frame: Frame, tile: Tile) -> None:
        n_clusters, n_features = tile.centers.shape
        self.rows = int(np.clip(2 * _SCORES // max(n_clusters, n_features) // 64 * 64, 64, 2048))
        self.framed = _Framing(x, frame, self.rows)
        self.turned = np.ascontiguousarray(tile.centers.T)
        self.bias = tile.bias
        self.every = np.arange(self.rows) * n_clusters

    def run(
        self, block: np.ndarray, margin: np.ndarray, tight: bool, out: tuple[np.ndarray, ...]
    ) -> None:
        """Fill index, score, lead and certificate of a block of at most `rows` rows."""
        best, score, lead, certified = out
        framed = self.framed(block).astype(np.float32, copy=False)
        scores = scratch("scores", (len(block), len(self.bias)))
        np.matmul(framed, self.turned, out=scores)
        scores += self.bias
        flat, starts = scores.reshape(-1), self.every[: len(block)]
        best[...] = scores.argmax(axis=1)
        place = starts + best
        np.take(flat, place, out=score, mode="clip")
        flat[place] = _LOWEST
        np.subtract(score, flat.take(starts + scores.argmax(axis=1)), out=lead)
        certified[...] = (lead > margin) & (lead < 3e38)
