"""Time on the CPU against scikit-learn: ``python -m benchmarks cpu``.

Three tables: one Lloyd iteration, a fit to convergence, seeding. All start from the same data and
centroids, in one process, in turn. An iteration is the difference between a long and a short fit
over the iterations between them, so that what a fit does once (checks, norms, the last assignment)
is in neither. Every row checks that the peers agree on the inertia.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import finish, interleaved, print_table, row
from kmeans_xp import kmeans, kmeans_plusplus, warmup

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
SEEDING = [(1_000_000, 16, 64), (200_000, 64, 256), (60_000, 784, 10)]
QUICK = ((100_000, 2, 10, "float32"), (50_000, 16, 64, "float32"))
AGREE = 1e-5

# centroids, iterations -> inertia, iterations done
Fit = Callable[[np.ndarray, np.ndarray, int], tuple[float, int]]


def ours(numba: str, algorithm: str) -> Fit:
    """Fits with `kmeans`, its numba kernels on ("1") or off ("0")."""

    def fit(X: np.ndarray, init: np.ndarray, max_iter: int) -> tuple[float, int]:
        os.environ["KMEANS_XP_NUMBA"] = numba
        result = kmeans(
            X, len(init), init=init, n_init=1, max_iter=max_iter, tol=0, algorithm=algorithm
        )
        return float(result.inertia), result.n_iter

    return fit


def sklearn(algorithm: str) -> Fit:
    """Fits with scikit-learn's KMeans."""

    def fit(X: np.ndarray, init: np.ndarray, max_iter: int) -> tuple[float, int]:
        from sklearn.cluster import KMeans

        estimator = KMeans(
            len(init), init=init, n_init=1, max_iter=max_iter, tol=0, algorithm=algorithm
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(X)
        return float(estimator.inertia_), int(estimator.n_iter_)

    return fit


BASE = "scikit-learn lloyd"
PEERS: dict[str, Fit] = {
    "kmeans_xp numba": ours("1", "lloyd"),
    "kmeans_xp NumPy": ours("0", "lloyd"),
    BASE: sklearn("lloyd"),
}
CONVERGING: dict[str, Fit] = {
    "kmeans_xp numba": ours("1", "auto"),
    "kmeans_xp NumPy": ours("0", "auto"),
    BASE: sklearn("lloyd"),
    "scikit-learn elkan": sklearn("elkan"),
}


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
        other = done[BASE][0]
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


def bell_clusters(n: int, d: int, k: int) -> np.ndarray:
    """Sums of four uniform numbers around k centres."""
    noise = sum(make_data(n, d * (1 + i), "float32")[:, :d] for i in range(4)) - 2
    return (8 * make_data(k, d, "float32")[np.arange(n) % k] + noise).astype(np.float32)


def converging_data(quick: bool) -> dict[str, tuple[np.ndarray, int, str]]:
    """Name, data, K and start of the fits to convergence."""
    from sklearn.datasets import load_digits, load_sample_image

    sets = {"digits": (load_digits().data.astype(np.float32), 10, "k-means++")}
    if quick:
        return sets
    pixels = load_sample_image("china.jpg").reshape(-1, 3).astype(np.float32)
    return sets | {
        "china.jpg pixels": (pixels, 64, "k-means++"),
        "uniform": (make_data(200_000, 8, "float32"), 100, "k-means++"),
        "blobs": (bell_clusters(200_000, 64, 256), 256, "k-means++"),
        "blobs, random start": (bell_clusters(1_000_000, 16, 64), 64, "random"),
    }


def converge(name: str, X: np.ndarray, k: int, start: str) -> list[dict[str, Any]]:
    """Fit once to convergence with each peer: same centroids, tol=0, at most 300 iterations."""
    if start == "random":
        init = X[np.arange(k) * (len(X) // k)].copy()
    else:
        init = np.asarray(kmeans_plusplus(X, k, random_state=0)[0])
    done: dict[str, tuple[float, int]] = {}
    runs = {}
    for peer, fit in CONVERGING.items():
        runs[peer] = _kept(done, peer, partial(fit, X, init, 300))
    seconds = interleaved(runs, 1)
    shape = (*X.shape, k)
    return [
        row(
            "convergence",
            shape,
            str(X.dtype),
            peer,
            ms=1e3 * seconds[peer][0],
            data=name,
            inertia=done[peer][0],
            n_iter=done[peer][1],
            inertia_agrees=abs(done[peer][0] - done[BASE][0]) <= 1e-3 * done[BASE][0],
        )
        for peer in CONVERGING
    ]


def _kept(done: dict[str, Any], name: str, call: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        done[name] = call()

    return run


def seed(shape: tuple[int, int, int], repeats: int) -> list[dict[str, Any]]:
    """Greedy k-means++ on all rows."""
    from sklearn.cluster import kmeans_plusplus as theirs

    n, d, k = shape
    X = bell_clusters(n, d, k)

    def mine(numba: str) -> Callable[[], None]:
        def run() -> None:
            os.environ["KMEANS_XP_NUMBA"] = numba
            kmeans_plusplus(X, k, init_size=n, random_state=0)

        return run

    runs: dict[str, Callable[[], Any]] = {
        "kmeans_xp numba": mine("1"),
        "kmeans_xp NumPy": mine("0"),
        BASE: lambda: theirs(X, k, random_state=0),
    }
    seconds = interleaved(runs, repeats)
    return [
        row("seeding", shape, "float32", name, ms=1e3 * statistics.median(seconds[name]))
        for name in runs
    ]


def show(title: str, groups: list[list[dict[str, Any]]]) -> bool:
    """Print one table; True if every check held."""
    peers = [entry["implementation"] for entry in groups[0]]
    lines, sound = [], True
    for group in groups:
        base = next(e["ms"] for e in group if e["implementation"] == BASE)
        first = group[0]
        good = all(
            value for e in group for value in e["checks"].values() if isinstance(value, bool)
        )
        sound &= good
        cells = [f"{e['ms']:,.1f} ({base / e['ms']:.2f})" for e in group]
        sizes = [f"{first[name]:,}" for name in ("n", "d", "k")]
        lines.append([*sizes, first["dtype"], *cells, "ok" if good else "CHECKS FAILED"])
    print(f"\n{title}: ms (and how many times as fast as {BASE})")
    print_table(["N", "D", "K", "dtype", *peers, "checks"], lines)
    return sound


def refuse_spoilers() -> bool:
    """Say how to measure where the environment slows BLAS down."""
    spoilers = [name for name in SPOILERS if name in os.environ]
    if spoilers:
        print(
            f"{' and '.join(spoilers)} would slow the matrix product down; measure with\n"
            f"  env {' '.join(f'-u {name}' for name in SPOILERS)} python -m benchmarks cpu",
            file=sys.stderr,
        )
    return bool(spoilers)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks cpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few small shapes")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument(
        "--iterations", type=int, default=4, help="iterations between the fits (default 4)"
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/cpu.json")
    options = parser.parse_args(argv)
    if refuse_spoilers():
        return 2
    warmup()
    shapes = QUICK if options.quick else SHAPES
    once = [compare((n, d, k), t, options.iterations, options.repeats) for n, d, k, t in shapes]
    sound = show("One iteration", once)
    fits = [converge(name, *what) for name, what in converging_data(options.quick).items()]
    sound &= show("To convergence", fits)
    sizes = [(20_000, 8, 16)] if options.quick else SEEDING
    starts = [seed(shape, min(options.repeats, 3)) for shape in sizes]
    sound &= show("Seeding", starts)
    rows = [entry for group in once + fits + starts for entry in group]
    finish("cpu", argv, rows, options.write)
    return 0 if sound else 1
