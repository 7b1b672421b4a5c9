"""Many problems in one call against a loop over scikit-learn; product quantisation against faiss.

The loop starts from the same centroids and makes one start a problem. faiss trains on the rows that
it samples by default; kmeans_xp samples as many. The error is the mean squared distance of all rows
to what their codes stand for.
"""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import finish, interleaved, median_ms, print_table, row
from kmeans_xp import kmeans
from kmeans_xp.pq import ProductQuantizer

__all__ = ["main"]

OURS = "kmeans_xp numba"
# (problems, rows, features, clusters)
SHAPES = ((10_000, 256, 8, 8), (10_000, 256, 16, 8), (2_000, 1_024, 3, 16), (64, 16_384, 32, 64))
# (rows, features, parts)
QUANTISED = ((200_000, 128, 16),)


def main(argv: list[str]) -> int:
    """Print both tables; ``--write`` keeps them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks batch", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the result file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the problems, to try out")
    given = parser.parse_args(argv)
    rows = _problems(given.repeats, 10 if given.quick else 1)
    rows += _quantisers(given.repeats, 10 if given.quick else 1)
    finish("batch", argv, rows, given.write)
    return 0


def blobs(shape: tuple[int, int, int], k: int, seed: int) -> np.ndarray:
    """Rows around k centres of each problem."""
    rng = np.random.default_rng(seed)
    n_problems, n_rows, n_features = shape
    centers = 1.5 * rng.standard_normal((n_problems, k, n_features), dtype=np.float32)
    which = rng.integers(0, k, size=(n_problems, n_rows, 1))
    return np.asarray(
        np.take_along_axis(centers, which, axis=1) + rng.standard_normal(shape, dtype=np.float32)
    )


def _problems(repeats: int, fraction: int) -> list[dict[str, Any]]:
    from sklearn.cluster import KMeans

    rows, lines = [], []
    for n_problems, n, d, k in SHAPES:
        count = max(1, n_problems // fraction)
        x = blobs((count, n, d), k, seed=0)
        init = np.ascontiguousarray(x[:, :k])
        kept: dict[str, list[Any]] = {}

        def ours(x: np.ndarray = x, init: np.ndarray = init, k: int = k, kept: Any = kept) -> None:
            kept[OURS] = list(zip(*_ours(x, init, k), strict=True))

        def loop(x: np.ndarray = x, init: np.ndarray = init, k: int = k, kept: Any = kept) -> None:
            fits = [KMeans(k, init=c, n_init=1).fit(part) for part, c in zip(x, init, strict=True)]
            kept["scikit-learn loop"] = [(f.inertia_, f.labels_) for f in fits]

        runs: dict[str, Callable[[], object]] = {OURS: ours, "scikit-learn loop": loop}
        seconds = interleaved(runs, repeats)
        pairs = list(zip(kept[OURS], kept["scikit-learn loop"], strict=True))
        off = max(abs(a[0] - b[0]) / b[0] for a, b in pairs)
        checks: dict[str, Any] = {
            "problems": count,
            "largest_inertia_difference": float(off),
            "problems_with_equal_labels": int(sum(np.array_equal(a[1], b[1]) for a, b in pairs)),
        }
        ms = {name: median_ms(times) for name, times in seconds.items()}
        for name, value in ms.items():
            rows.append(row("batch", (n, d, k), "float32", name, ms=value, **checks))
        ratio = ms["scikit-learn loop"] / ms[OURS]
        same = checks["problems_with_equal_labels"]
        lines.append([count, n, d, k, *(f"{v:.0f}" for v in ms.values()), f"{ratio:.1f}", same])
    print_table(["B", "N", "D", "K", "ours ms", "loop ms", "ratio", "equal labels"], lines)
    return rows


def _ours(x: np.ndarray, init: np.ndarray, k: int) -> tuple[Any, Any]:
    result = kmeans(x, k, init=init)
    return result.inertia, result.labels


def _quantisers(repeats: int, fraction: int) -> list[dict[str, Any]]:
    faiss: Any = importlib.import_module("faiss")  # its stubs know little

    rows, lines = [], []
    for n_rows, d, parts in QUANTISED:
        x = blobs((1, n_rows // fraction, d), 1000, seed=1)[0]
        peer = faiss.ProductQuantizer(d, parts, 8)
        mine = ProductQuantizer(parts, 256, random_state=0)
        runs: dict[str, Callable[[], object]] = {
            OURS: functools.partial(mine.fit, x),
            "faiss": functools.partial(peer.train, x),
        }
        seconds = interleaved(runs, repeats)
        decoded = {
            OURS: mine.decode(mine.encode(x)),
            "faiss": peer.decode(peer.compute_codes(x)),
        }
        error = {
            name: float(np.square(x - y, dtype=np.float64).sum(axis=1).mean())
            for name, y in decoded.items()
        }
        ms = {name: median_ms(times) for name, times in seconds.items()}
        for name in ms:
            more: dict[str, Any] = {"subvectors": parts, "mean_squared_error": error[name]}
            rows.append(row("pq", (len(x), d, 256), "float32", name, ms=ms[name], **more))
        ratios = f"{ms['faiss'] / ms[OURS]:.2f}", f"{error[OURS] / error['faiss']:.4f}"
        lines.append([len(x), d, parts, *(f"{v:.0f}" for v in ms.values()), *ratios])
    print()
    print_table(["N", "D", "M", "ours ms", "faiss ms", "ratio", "error ratio"], lines)
    return rows
