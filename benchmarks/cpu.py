"""One Lloyd iteration against scikit-learn's: ``python -m benchmarks cpu``.

Both start from the same centroids, in one process, in turn. An iteration is the difference between
a long and a short fit over the iterations between them, so that what a fit does once (checks,
norms, the last assignment) is in neither. Every row checks that both did all their iterations and
agree on the inertia.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import finish, interleaved, print_table, row
from kmeans_xp import kmeans

# They choose older, slower kernels of OpenBLAS.
SPOILERS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
SHAPES = (
    (1_000_000, 2, 10, "float32"),
    (1_000_000, 2, 100, "float32"),
    (1_000_000, 16, 64, "float32"),
    (1_000_000, 16, 64, "float64"),
    (200_000, 64, 256, "float32"),
    (100_000, 128, 1_024, "float32"),
    (60_000, 784, 10, "float32"),
    (50_000, 784, 256, "float32"),
)
QUICK = ((100_000, 2, 10, "float32"), (50_000, 16, 64, "float32"))
AGREE = 1e-5

# centroids, iterations -> inertia, iterations done
Fit = Callable[[np.ndarray, np.ndarray, int], tuple[float, int]]


def ours(X: np.ndarray, init: np.ndarray, max_iter: int) -> tuple[float, int]:
    """Fit with `kmeans`."""
    result = kmeans(X, len(init), init=init, n_init=1, max_iter=max_iter, tol=0, algorithm="lloyd")
    return float(result.inertia), result.n_iter


def sklearn(X: np.ndarray, init: np.ndarray, max_iter: int) -> tuple[float, int]:
    """Fit with scikit-learn's KMeans."""
    from sklearn.cluster import KMeans

    estimator = KMeans(
        len(init), init=init, n_init=1, max_iter=max_iter, tol=0, algorithm="lloyd", copy_x=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X)
    return float(estimator.inertia_), int(estimator.n_iter_)


PEERS: dict[str, Fit] = {"kmeans_xp": ours, "scikit-learn lloyd": sklearn}


def make_data(n: int, d: int, dtype: str) -> np.ndarray:
    """Uniform points: no fit of a few iterations ends early on them."""
    words = np.random.PCG64(n + d).random_raw(n * d).reshape(n, d)
    return ((words >> np.uint64(40)) * 2.0**-24).astype(dtype)


def compare(
    shape: tuple[int, int, int], dtype: str, iterations: int, repeats: int
) -> list[dict[str, Any]]:
    """One row for each peer."""
    n, d, k = shape
    X = make_data(n, d, dtype)
    init = X[np.arange(k) * (n // k)].copy()
    done: dict[str, tuple[float, int]] = {}

    def timed(name: str, count: int) -> Callable[[], None]:
        def fit() -> None:
            done[name] = PEERS[name](X, init, count)

        return fit

    runs = {}
    for name in PEERS:
        runs[f"{name} short"] = timed(name, 1)
        runs[f"{name} long"] = timed(name, 1 + iterations)
    seconds = interleaved(runs, repeats)
    rows = []
    for name in PEERS:
        pairs = zip(seconds[f"{name} long"], seconds[f"{name} short"], strict=True)
        ms = 1e3 * statistics.median(a - b for a, b in pairs) / iterations
        inertia, n_iter = done[name]
        other = done["scikit-learn lloyd"][0]
        rows.append(
            row(
                "one iteration",
                shape,
                dtype,
                name,
                ms=ms,
                inertia=inertia,
                inertia_agrees=abs(inertia - other) <= AGREE * other,
                all_iterations_done=n_iter == 1 + iterations,
            )
        )
    return rows


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks cpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small shapes")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument(
        "--iterations", type=int, default=4, help="iterations between the fits (default 4)"
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/cpu.json")
    options = parser.parse_args(argv)
    spoilers = [name for name in SPOILERS if name in os.environ]
    if spoilers:
        print(
            f"{' and '.join(spoilers)} would slow the matrix product down; measure with\n"
            f"  env {' '.join(f'-u {name}' for name in SPOILERS)} python -m benchmarks cpu",
            file=sys.stderr,
        )
        return 2
    rows, lines = [], []
    for n, d, k, dtype in QUICK if options.quick else SHAPES:
        pair = compare((n, d, k), dtype, options.iterations, options.repeats)
        rows += pair
        mine, theirs = (entry["ms"] for entry in pair)
        sound = all(e["checks"][c] for e in pair for c in ("inertia_agrees", "all_iterations_done"))
        lines.append(
            [
                *(f"{size:,}" for size in (n, d, k)),
                dtype,
                f"{mine:.2f}",
                f"{theirs:.2f}",
                f"{theirs / mine:.2f}",
                "ok" if sound else "CHECKS FAILED",
            ]
        )
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table(["N", "D", "K", "dtype", "ours, ms", "scikit-learn, ms", "ratio", "checks"], lines)
    finish("cpu", argv, rows, options.write)
    return 0 if all(line[-1] == "ok" for line in lines) else 1
