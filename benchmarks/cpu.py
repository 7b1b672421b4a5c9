"""Time and memory on the CPU against scikit-learn and faiss: ``python -m benchmarks cpu``.

Three tables: one Lloyd iteration, a fit to convergence, seeding. All libraries start from the same
data and centroids, in one process, in turn; the median of the rounds counts.

An iteration is the difference between a long fit and one of a single iteration, over the iterations
between them, so that what a fit does once (checks, norms, the last assignment) is in neither. The
long fit takes a second more (`--span`) in the fastest library, or makes a hundred iterations; every
round has fresh data, which no branch predictor has seen. The fits to convergence have tol=0 and at
most 300 iterations; faiss, which has no stop rule, makes as many as scikit-learn. The peak memory
is what one fit of two iterations adds to a process of its own that holds X already.

Every fit's inertia and labels are checked in float64 (`benchmarks.peers.checks`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.chart import draw
from benchmarks.harness import (
    finish,
    interleaved,
    peak_extra_bytes,
    print_table,
    row,
    run_fresh,
)
from benchmarks.peers import BASE, Fitted, bell_clusters, checks, default_fits, fits, uniform
from kmeans_xp import kmeans_plusplus, warmup
from kmeans_xp.prediction import inertia

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
SEEDING = ((1_000_000, 16, 64), (200_000, 64, 256), (60_000, 784, 10))
QUICK = ((100_000, 2, 10, "float32"), (50_000, 16, 64, "float32"))
MOST_ITERATIONS = 100
SEEDS = 20
# Timed rounds of a fit to convergence stop after so many seconds, but not before three.
PATIENCE = 40.0

Rows = list[dict[str, Any]]


def one_iteration(
    shape: tuple[int, int, int], dtype: str, span: float, repeats: int, ceilings: dict[str, float]
) -> Rows:
    """One row for each library."""
    n, d, k = shape
    peers = fits(dtype, "lloyd")
    data = partial(uniform, n, d, dtype)
    X = data(seed=0)
    init = X[np.arange(k) * (n // k)].copy()
    each = []
    for fit in peers.values():
        fit(X, init, 2)
        short, long = (_timed(fit, X, init, iterations)[0] for iterations in (1, 4))
        each.append(max(long - short, 1e-6) / 3)
    more = int(np.clip(math.ceil(span / min(each)), 3, MOST_ITERATIONS))
    taken: dict[str, list[float]] = {name: [] for name in peers}
    done: dict[str, Fitted] = {}
    for turn in range(repeats):
        X = data(seed=1 + turn)
        init = X[np.arange(k) * (n // k)].copy()
        for name, fit in peers.items():
            short, first = _timed(fit, X, init, 1)
            long, done[name] = _timed(fit, X, init, 1 + more)
            taken[name].append((long - short) / (done[name].n_iter - first.n_iter))
    found = checks(X, done)
    rows = []
    for name in peers:
        passed = statistics.median(taken[name])
        part = {
            "of_sgemm": 2e-9 * n * d * k / passed / ceilings["sgemm_gflops"],
            "of_bandwidth": 1e-9 * X.nbytes / passed / ceilings["bandwidth_gbytes"],
        }
        peak = peak_bytes(shape, dtype, name)
        entry = row("one iteration", shape, dtype, name, ms=1e3 * passed, peak_bytes=peak)
        rows.append({**entry, "checks": {**found[name], **part}})
    return rows


def _timed(
    fit: Callable[..., Fitted], X: np.ndarray, init: np.ndarray, iterations: int
) -> tuple[float, Fitted]:
    start = time.perf_counter()
    fitted = fit(X, init, iterations)
    return time.perf_counter() - start, fitted


def peak_bytes(shape: tuple[int, int, int], dtype: str, name: str) -> int | None:
    """Memory that a fit of two iterations adds, measured in a process of its own."""
    if sys.platform != "linux":
        return None
    return int(json.loads(run_fresh("benchmarks.cpu", json.dumps([*shape, dtype, name]))))


def _child(argument: str) -> None:
    n, d, k, dtype, name = json.loads(argument)
    fit = fits(dtype, "lloyd")[name]
    small = uniform(2_000, d, dtype)
    fit(small, small[: min(k, 100)].copy(), 2)  # imports and compiled code are not a fit's
    X = uniform(n, d, dtype)
    init = X[np.arange(k) * (n // k)].copy()
    print(peak_extra_bytes(lambda: fit(X, init, 2)))


def measure_ceilings() -> dict[str, float]:
    """Float32 matrix product and memory reading, both with all cores."""
    a = uniform(2_048, 2_048, "float32")
    gemm = min(interleaved({"": lambda: a @ a}, 9)[""])
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    parts = np.ones((cores, 1 << 25), dtype=np.float32)
    out = np.empty_like(parts)
    with ThreadPoolExecutor(cores) as pool:
        copy = min(interleaved({"": lambda: list(pool.map(np.copyto, out, parts))}, 9)[""])
    return {
        "sgemm_gflops": 2e-9 * 2_048**3 / gemm,
        "bandwidth_gbytes": 2e-9 * parts.nbytes / copy,
    }


def converging_data(quick: bool) -> dict[str, tuple[np.ndarray, int, str]]:
    """Name, data, K and start of the fits to convergence."""
    from sklearn.datasets import load_digits, load_sample_image

    sets = {"digits": (load_digits().data.astype(np.float32), 10, "k-means++")}
    if quick:
        return sets
    pixels = load_sample_image("china.jpg").reshape(-1, 3).astype(np.float32)
    return sets | {
        "china.jpg pixels": (pixels, 64, "k-means++"),
        "uniform": (uniform(200_000, 8, "float32"), 100, "k-means++"),
        "blobs": (bell_clusters(200_000, 64, 256), 256, "k-means++"),
        "blobs, random start": (bell_clusters(1_000_000, 16, 64), 64, "random"),
    }


def converge(name: str, X: np.ndarray, k: int, start: str, repeats: int) -> Rows:
    """Fit to convergence with each library from the same centroids."""
    if start == "random":
        init = X[np.arange(k) * (len(X) // k)].copy()
    else:
        init = np.asarray(kmeans_plusplus(X, k, random_state=0)[0])
    peers = fits(str(X.dtype), "auto")
    iterations = peers[BASE](X, init, 300).n_iter
    runs = {
        peer: partial(fit, X, init, iterations if peer == "faiss" else 300)
        for peer, fit in peers.items()
    }
    return _whole_fits("convergence", name, X, k, runs, repeats)


def whole(X: np.ndarray, k: int, repeats: int) -> Rows:
    """Complete fits with default arguments, seeding included."""
    runs = {name: partial(fit, X, k) for name, fit in default_fits().items()}
    return _whole_fits("convergence", "default fit", X, k, runs, repeats)


def _whole_fits(
    table: str,
    data: str,
    X: np.ndarray,
    k: int,
    runs: Mapping[str, Callable[[], Fitted]],
    repeats: int,
) -> Rows:
    done: dict[str, Fitted] = {}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - began > PATIENCE:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            done[name] = run()
            taken[name].append(time.perf_counter() - start)
    found = checks(X, done)
    rows = []
    for name in runs:
        ms = 1e3 * statistics.median(taken[name])
        told = {"data": data, "rounds": len(taken[name]), **found[name]}
        rows.append(row(table, (*X.shape, k), str(X.dtype), name, ms=ms, **told))
    return rows


def seeding(shape: tuple[int, int, int], repeats: int) -> Rows:
    """Greedy k-means++ on all rows; its quality over seeds on part of them."""
    from sklearn.cluster import kmeans_plusplus as theirs

    n, d, k = shape
    X = bell_clusters(n, d, k)

    def mine(numba: str, X: np.ndarray, seed: int) -> np.ndarray:
        os.environ["KMEANS_XP_NUMBA"] = numba
        return np.asarray(kmeans_plusplus(X, k, init_size=len(X), random_state=seed)[0])

    def other(X: np.ndarray, seed: int) -> np.ndarray:
        return np.asarray(theirs(X, k, random_state=seed)[0])

    ways: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "kmeans_xp NumPy": partial(mine, "0"),
        BASE: other,
    }
    if find_spec("numba") is not None:
        ways = {"kmeans_xp numba": partial(mine, "1"), **ways}
    seconds = interleaved({name: partial(way, X, 0) for name, way in ways.items()}, repeats)
    part = X[:20_000]
    rows = []
    for name, way in ways.items():
        costs = [inertia(part, way(part, seed)) for seed in range(SEEDS)]
        rows.append(
            row(
                "seeding",
                shape,
                "float32",
                name,
                ms=1e3 * statistics.median(seconds[name]),
                mean_inertia=statistics.mean(costs),
                inertia_deviation=statistics.stdev(costs) / math.sqrt(SEEDS),
                seeds=SEEDS,
                rows_of_these=len(part),
            )
        )
    base = rows[-1]["checks"]
    for entry in rows[:-1]:
        told = entry["checks"]
        spread = 3 * math.hypot(base["inertia_deviation"], told["inertia_deviation"])
        told["as_good_a_start"] = told["mean_inertia"] < base["mean_inertia"] + spread
    return rows


def show(title: str, groups: Sequence[Rows]) -> bool:
    """Print one table; True if every check held."""
    peers = list(dict.fromkeys(entry["implementation"] for group in groups for entry in group))
    lines, sound = [], True
    for group in groups:
        entries = {entry["implementation"]: entry for entry in group}
        base, first = entries[BASE]["ms"], group[0]
        failed = [
            f"{name}: {check}"
            for name, entry in entries.items()
            for check, value in entry["checks"].items()
            if value is False
        ]
        sound &= not failed
        cells = [_cell(entries.get(peer), base) for peer in peers]
        sizes = [f"{first[name]:,}" for name in ("n", "d", "k")]
        what = first["checks"].get("data", first["dtype"])
        lines.append([what, *sizes, *cells, "; ".join(failed) or "ok"])
    print(f"\n{title}: ms (times as fast as {BASE})")
    print_table(["", "N", "D", "K", *peers, "checks"], lines)
    return sound


def _cell(entry: Mapping[str, Any] | None, base: float) -> str:
    if entry is None:
        return "-"
    parted = entry["checks"].get("parted_from_scikit_learn")
    note = "" if parted is None else f", inertia {parted:+.3%}"
    return f"{entry['ms']:,.1f} ({base / entry['ms']:.2f}{note})"


def show_limits(groups: Sequence[Rows], ceilings: Mapping[str, float]) -> None:
    """Print memory, and how near the machine's limits an iteration comes."""
    print(
        f"\nThis machine: sgemm {ceilings['sgemm_gflops']:.0f} GFLOP/s, "
        f"memory {ceilings['bandwidth_gbytes']:.1f} GB/s\n"
        "Peak memory a fit adds (MiB), and the parts of sgemm / bandwidth reached"
    )
    peers = [entry["implementation"] for entry in groups[0]]
    lines = []
    for group in groups:
        entries = {entry["implementation"]: entry for entry in group}
        cells = []
        for peer in peers:
            entry = entries.get(peer)
            if entry is None:
                cells.append("-")
                continue
            told = entry["checks"]
            peak = "?" if entry["peak_bytes"] is None else f"{entry['peak_bytes'] / 2**20:,.0f}"
            cells.append(f"{peak}, {told['of_sgemm']:.0%} / {told['of_bandwidth']:.0%}")
        sizes = [f"{group[0][name]:,}" for name in ("n", "d", "k")]
        lines.append([*sizes, group[0]["dtype"], *cells])
    print_table(["N", "D", "K", "dtype", *peers], lines)


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
        "--span", type=float, default=1.0, help="seconds between short and long fits (default 1)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/cpu.json and the chart"
    )
    options = parser.parse_args(argv)
    if refuse_spoilers():
        return 2
    if find_spec("numba") is not None:
        warmup()
    repeats, span = (2, 0.1) if options.quick else (options.repeats, options.span)
    ceilings = measure_ceilings()
    shapes = QUICK if options.quick else SHAPES
    once = [one_iteration((n, d, k), t, span, repeats, ceilings) for n, d, k, t in shapes]
    sound = show("One iteration", once)
    show_limits(once, ceilings)
    sets = converging_data(options.quick)
    ends = [converge(name, *what, repeats) for name, what in sets.items()]
    size = (20_000, 16, 16) if options.quick else (1_000_000, 16, 64)
    ends.append(whole(bell_clusters(*size), size[2], repeats))
    sound &= show("To convergence", ends)
    sizes = ((20_000, 8, 16),) if options.quick else SEEDING
    starts = [seeding(shape, repeats) for shape in sizes]
    sound &= show("Seeding", starts)
    rows = [entry for group in once + ends + starts for entry in group]
    limits = {**row("ceilings", (0, 0, 0), "float32", "this machine"), "checks": ceilings}
    finish("cpu", argv, [*rows, limits], options.write)
    if options.write:
        draw(rows, BASE)
    return 0 if sound else 1


if __name__ == "__main__":
    _child(sys.argv[1])
