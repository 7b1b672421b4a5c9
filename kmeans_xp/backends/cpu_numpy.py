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
# From so many features rows go into the product as they are, if that will do (`_Folded`). Up to
# so many centroids of them BLAS is fastest on small pieces with the rows as its first factor: it
# multiplies without copying up to so many terms, and rows.
_FEW_CENTERS = 16
_MANY_FEATURES = 128
_SMALL_PRODUCT = 900_000
_SMALL_ROWS = 64
_LOWEST = np.finfo(np.float32).min
# Rows a block where scores lie row by row, at most.
_MOST_STRAIGHT = 2048
# Share of the rows whose best centroid may be another than guessed, where scores lie along them.
_MOST_OTHERS = 0.2
# Share of the rows that must be certain for rows to go into the product as they are, and how
# many of a call are tried first: one in so many, but no fewer than so many.
_MOST_CERTAIN = 0.92
_TRIED, _LEAST_TRIED = 16, 64


def nearest(
    x: np.ndarray,
    rows: slice | np.ndarray,
    norms: np.ndarray,
    frame: Frame,
    tile: Tile,
    bound: tuple[float, float, float],
    tight: bool,
    guess: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`Backend.nearest` for a NumPy array.

    Without `tight` the lead of a certified row may be given as twice the error of its score, which
    it exceeds: measuring it takes longer than the certificate.
    """
    count = len(norms)
    found = (
        np.zeros(count, dtype=np.int32),
        *np.zeros((2, count), dtype=np.float32),
        np.zeros(count, dtype=bool),
    )
    if guess is not None and count and not 0 <= guess.min() <= guess.max() < len(tile.bias):
        guess = None
    every = slice(rows.start, rows.start + count) if isinstance(rows, slice) else rows
    if not _foldable(x, frame):
        _fill(_Framing, x, every, norms, frame, tile, bound, tight, guess, found)
        return found
    _fill(_Folded, x, every, norms, frame, tile, bound, tight, guess, found)
    left = np.flatnonzero(~found[3])
    if left.size:
        some = left + every.start if isinstance(every, slice) else every[left]
        likely = None if guess is None else guess[left]
        again = tuple(part[left] for part in found)
        _fill(_Framing, x, some, norms[left], frame, tile, bound, tight, likely, again)
        for whole, part in zip(found, again, strict=True):
            whole[left] = part
    return found


def _foldable(x: np.ndarray, frame: Frame) -> bool:
    """Whether rows may go into the product as they are (`_Folded`)."""
    plain = x.dtype.kind == "f" and x.dtype.itemsize <= 8 and x.dtype.isnative
    plain = plain and x.flags.c_contiguous and frame.scale == 1
    return plain and x.shape[1] > _MANY_FEATURES


def _fill(
    view: type[_Framing | _Folded],
    x: np.ndarray,
    rows: slice | np.ndarray,
    norms: np.ndarray,
    frame: Frame,
    tile: Tile,
    bound: tuple[float, float, float],
    tight: bool,
    guess: np.ndarray | None,
    found: tuple[np.ndarray, ...],
) -> None:
    """Fill index, score, lead and certificate of rows in one view of them.

    A view that is of little use is given up: the rest is left uncertified then. Each call finds
    that out for itself, on its first rows; from others it would hear in no certain order.
    """
    slope, offset, limit = bound
    shift = view.shift(frame)
    size = norms + np.float32(2 * shift * (1 + 2.0**-22))
    # in float32: a few roundings, and underflows
    margin = (size * max(slope, 1e-30) + offset) * np.float32(1 + 2.0**-20) + np.float32(2.0**-120)
    few = len(tile.bias) <= (_COLUMNS_NARROW if x.shape[1] <= _NARROW else _COLUMNS)
    worker = (_Columns if few else _Rows)(view, x, frame, tile)
    lo, tried = 0, max(_LEAST_TRIED, len(norms) // _TRIED) if shift else worker.rows
    while lo < len(norms):
        part = slice(lo, min(lo + min(worker.rows, tried), len(norms)))
        lo, tried = part.stop, worker.rows
        some: slice | np.ndarray
        if isinstance(rows, slice):
            some = slice(rows.start + part.start, rows.start + part.stop)
        else:
            some = rows[part]
        out = tuple(array[part] for array in found)
        likely = None if guess is None else guess[part]
        worker.run(take(x, some), margin[part], tight, likely, out)
        out[3][size[part] >= limit] = False
        if shift:
            _, score, lead, certified = out
            # as far off as in the frame: the error of a lead is twice that of a score
            off = np.float32(slope * shift * (1 + 2.0**-20)) + np.abs(score) * np.float32(2.0**-22)
            score -= off
            lead -= 2 * off * np.float32(1 + 2.0**-20)
            if np.count_nonzero(certified) < _MOST_CERTAIN * len(certified):
                return


def _ahead(lead: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Which leads exceed their margin, and are finite."""
    return (lead > margin) & (lead < 3e38)


def take(x: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Rows of x; much faster than an index where they are short and x is contiguous."""
    if isinstance(rows, slice) or not x.flags.c_contiguous:
        return x[rows]
    return x.take(rows, axis=0)


class _Folded:
    """Rows as they are: what their centre does to a score is part of its bias.

    The error of x·c is then that of a row of norm |x| <= |x̂| + |centre|, and the bias is larger by
    at most |centre||c|: together the error is at most that of a framed row of norm |x̂| + 2|centre|.
    """

    def __init__(self, x: np.ndarray, frame: Frame, tile: Tile, rows: int) -> None:
        points = tile.centers.astype(np.float64)
        self.bias = (tile.bias - points @ frame.center.astype(np.float64)).astype(np.float32)

    @staticmethod
    def shift(frame: Frame) -> float:
        """Upper bound of |centre|."""
        return float(np.linalg.norm(frame.center.astype(np.float64))) * (1 + 1e-9)

    def rows(self, block: np.ndarray) -> np.ndarray:
        """Rows in the working dtype."""
        if block.dtype == np.float32:
            return block
        out = scratch("framed", block.shape)
        np.copyto(out, block, casting="same_kind")
        return out


class _Framing:
    """Rows scaled and centred, in memory of this thread."""

    def __init__(self, x: np.ndarray, frame: Frame, tile: Tile, rows: int) -> None:
        narrow = x.dtype.kind == "f" and x.dtype.itemsize <= 4
        self.work: type = np.float32 if narrow else np.float64
        self.scale = self.work(frame.scale)
        center = frame.center.astype(self.work)
        # short rows: an operation over whole blocks is faster than one that repeats the centre
        self.center = np.tile(center, (rows, 1)) if len(center) < 64 else center
        self.bias = tile.bias

    @staticmethod
    def shift(frame: Frame) -> float:
        """Nothing to pay for."""
        return 0.0

    def rows(self, block: np.ndarray) -> np.ndarray:
        """Framed rows in the working dtype; rounding to float32 is left to the caller."""
        out = scratch("framed", block.shape, self.work)
        center = self.center[: len(block)] if self.center.ndim == 2 else self.center
        if self.scale != 1:
            block = np.multiply(block, self.scale, out=out, dtype=self.work, casting="unsafe")
        return np.subtract(block, center, out=out, dtype=self.work, casting="unsafe")


class _Columns:
    """Scores as (strip, centroid, row)."""

    def __init__(
        self, view: type[_Framing | _Folded], x: np.ndarray, frame: Frame, tile: Tile
    ) -> None:
        n_clusters, n_features = tile.centers.shape
        rows = min(_MOST_ROWS, _SCORES // n_clusters // _STRIP * _STRIP)
        self.rows = min(rows, max(_STRIP, (_SCORES // n_features) // _STRIP * _STRIP))
        self.strip = self.rows if n_clusters <= _FEW_CENTERS else _STRIP
        self.small = n_clusters <= _FEW_CENTERS and n_features > _MANY_FEATURES
        self.view, self.centers = view(x, frame, tile, self.rows), tile.centers
        self.bias = self.view.bias[:, None]
        self.weights = np.concatenate([tile.centers, self.bias], axis=1)
        self.codes = np.arange(n_clusters, dtype=np.uint8)[:, None]

    def run(
        self,
        block: np.ndarray,
        margin: np.ndarray,
        tight: bool,
        guess: np.ndarray | None,
        out: tuple[np.ndarray, ...],
    ) -> None:
        """Fill index, score, lead and certificate of a block of at most `rows` rows."""
        if not tight or len(self.centers) <= _FEW_CENTERS:
            guess = None  # it does not pay
        whole = len(block) // self.strip * self.strip
        for part, strip in (
            (slice(0, whole), self.strip),
            (slice(whole, None), len(block) - whole),
        ):
            if len(block[part]):
                strips = len(block[part]) // strip
                scores = self._scores(self.view.rows(block[part]), strips, strip)
                views = [array[part] for array in (margin, *out)]
                likely = None if guess is None else guess[part]
                if likely is None or not self._confirm(scores, likely, *views):
                    views = [view.reshape(strips, strip) for view in views]
                    self._reduce(scores, tight, *views)

    def _scores(self, rows: np.ndarray, strips: int, strip: int) -> np.ndarray:
        n_clusters, n_features = self.centers.shape
        scores = scratch("scores", (strips, n_clusters, strip))
        if self.small:
            rows = rows.astype(np.float32, copy=False)
            products = scratch("products", (len(rows), n_clusters))
            step = min(_SMALL_ROWS, max(16, _SMALL_PRODUCT // (n_clusters * n_features)))
            whole = len(rows) // step * step
            for some, size in ((slice(0, whole), step), (slice(whole, None), len(rows) - whole)):
                if size and len(rows[some]):
                    pieces = rows[some].reshape(-1, size, n_features)
                    out = products[some].reshape(-1, size, n_clusters)
                    np.matmul(pieces, self.centers.T, out=out)
            products = products.reshape(strips, strip, n_clusters).transpose(0, 2, 1)
            return np.add(products, self.bias, out=scores)
        turned = rows.reshape(strips, strip, n_features).transpose(0, 2, 1)
        columns = scratch("columns", (strips, n_features + 1, strip))
        columns[:, n_features] = 1  # takes the bias along
        np.copyto(columns[:, :n_features], turned, casting="same_kind")
        return np.matmul(self.weights, columns, out=scores)

    def _confirm(
        self,
        scores: np.ndarray,
        guess: np.ndarray,
        margin: np.ndarray,
        best: np.ndarray,
        score: np.ndarray,
        lead: np.ndarray,
        certified: np.ndarray,
    ) -> bool:
        """Fill in rows whose best centroid is the guessed one, and a few others.

        False, with the scores as they were, if those are more than a few.
        """
        strips, n_clusters, strip = scores.shape
        flat = scores.reshape(-1)
        place = np.multiply(guess, strip, dtype=np.intp)
        first = np.arange(strips) * (n_clusters * strip)
        place.reshape(strips, strip)[...] += first[:, None] + np.arange(strip)
        np.take(flat, place, out=score, mode="clip")
        flat[place] = _LOWEST
        second = np.maximum.reduce(scores, axis=1).reshape(-1)
        np.subtract(score, second, out=lead)
        certified[...] = _ahead(lead, margin)
        others = np.flatnonzero(~certified)
        if len(others) > _MOST_OTHERS * len(guess):
            flat[place] = score
            return False
        best[...] = guess
        if others.size:
            where, row = np.divmod(others, strip)
            _find_others(scores[where, :, row], others, margin, best, score, lead, certified)
        return True

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
            certified[...] = alone & _ahead(lead, margin)
        else:
            lead[...] = margin
            certified[...] = alone


class _Rows:
    """Scores as (row, centroid)."""

    def __init__(
        self, view: type[_Framing | _Folded], x: np.ndarray, frame: Frame, tile: Tile
    ) -> None:
        n_clusters, n_features = tile.centers.shape
        wide = n_clusters if view is _Folded else max(n_clusters, n_features)
        self.rows = int(np.clip(2 * _SCORES // wide // 64 * 64, 64, _MOST_STRAIGHT))
        self.view, self.turned = view(x, frame, tile, self.rows), tile.centers.T
        self.every = np.arange(self.rows) * n_clusters

    def run(
        self,
        block: np.ndarray,
        margin: np.ndarray,
        tight: bool,
        guess: np.ndarray | None,
        out: tuple[np.ndarray, ...],
    ) -> None:
        """Fill index, score, lead and certificate of a block of at most `rows` rows."""
        best, score, lead, certified = out
        bias = self.view.bias
        scores = scratch("scores", (len(block), len(bias)))
        np.matmul(self.view.rows(block).astype(np.float32, copy=False), self.turned, out=scores)
        scores += bias
        flat, starts = scores.reshape(-1), self.every[: len(block)]
        best[...] = scores.argmax(axis=1) if guess is None else guess
        place = starts + best
        np.take(flat, place, out=score, mode="clip")
        flat[place] = _LOWEST
        second = flat.take(starts + scores.argmax(axis=1))
        np.subtract(score, second, out=lead)
        certified[...] = _ahead(lead, margin)
        if guess is not None:
            others = np.flatnonzero(~certified)
            if others.size:
                _find_others(scores[others], others, margin, best, score, lead, certified)


def _find_others(
    scores: np.ndarray,
    rows: np.ndarray,
    margin: np.ndarray,
    best: np.ndarray,
    score: np.ndarray,
    lead: np.ndarray,
    certified: np.ndarray,
) -> None:
    """Fill in some rows from their scores (row, centroid), which lack the one of the guess."""
    every, guessed = np.arange(len(rows)), score[rows]
    found = scores.argmax(axis=1)
    top = scores[every, found]
    scores[every, found] = _LOWEST
    second = np.maximum(guessed, scores.max(axis=1))
    taken = top > guessed
    best[rows] = np.where(taken, found, best[rows])
    score[rows] = np.maximum(top, guessed)
    lead[rows] = np.where(taken, top - second, guessed - top)
    certified[rows] = _ahead(lead[rows], margin[rows])
