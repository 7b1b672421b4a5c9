"""Mini-batches against scikit-learn: ``python -m benchmarks minibatch``.

Two tables, both libraries in one process and in turn. A step: one pass of batches from the same
given centroids, no early stop, no labels, divided by the number of steps, so that what a fit does
once counts too. A fit: default settings to the end, labels included, over ten seeds; the inertia of
both results is computed exactly by this library.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.cpu import refuse_spoilers
from benchmarks.harness import finish, interleaved, median_ms, print_table, row
from benchmarks.peers import bell_clusters, uniform
from kmeans_xp import MiniBatchKMeans, warmup
from kmeans_xp.prediction import inertia

BATCH = 1024
SHAPES = ((1_000_000, 16, 64), (100_000, 16, 64), (1_000_000, 2, 10), (200_000, 128, 256))
QUICK = ((50_000, 16, 64),)
BASE = "scikit-learn"
# implementation: value of KMEANS_XP_NUMBA
OURS = {"kmeans_xp numba": "1", "kmeans_xp NumPy": "0"}

DATA = {
    "uniform": lambda n, d, k: uniform(n, d, "float32"),
    "blobs": bell_clusters,
}


def estimators(**options: Any) -> dict[str, Callable[[], Any]]:
    """What makes an estimator of each implementation."""
    from sklearn.cluster import MiniBatchKMeans as Theirs

    def mine(numba: str) -> Callable[[], Any]:
        def make() -> Any:
            os.environ["KMEANS_XP_NUMBA"] = numba
            return MiniBatchKMeans(**options)

        return make

    return {**{name: mine(numba) for name, numba in OURS.items()}, BASE: lambda: Theirs(**options)}


def time_steps(
    shape: tuple[int, int, int], weighted: bool, passes: int, repeats: int
) -> list[dict[str, Any]]:
    """Time of one step of each implementation."""
    n, d, k = shape
    X = uniform(n, d, "float32")
    w = uniform(n, 1, "float32")[:, 0] + 1 if weighted else None
    options = {"init": X[np.arange(k) * (n // k)].copy(), "n_init": 1, "batch_size": BATCH}
    options |= {"max_iter": passes, "max_no_improvement": None, "compute_labels": False}
    done: dict[str, Any] = {}

    def timed(name: str, make: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            done[name] = make().fit(X, sample_weight=w)

        return run

    peers = estimators(n_clusters=k, random_state=0, **options)
    seconds = interleaved({name: timed(name, make) for name, make in peers.items()}, repeats)
    steps = passes * n // BATCH
    return [
        row(
            "weighted step" if weighted else "step",
            shape,
            "float32",
            name,
            ms=median_ms(seconds[name]) / steps,
            batch=BATCH,
            all_steps_done=done[name].n_steps_ == steps,
        )
        for name in peers
    ]


def time_fits(data: str, shape: tuple[int, int, int], seeds: int) -> list[dict[str, Any]]:
    """Time and inertia of whole fits with default settings; ours have the same bits twice."""
    X = DATA[data](*shape)
    costs: dict[str, list[float]] = {name: [] for name in (*OURS, BASE)}
    steps: dict[str, list[int]] = {name: [] for name in costs}
    seconds: dict[str, list[float]] = {name: [] for name in costs}
    for seed in range(seeds):
        fitted: dict[str, Any] = {}
        peers = estimators(n_clusters=shape[2], batch_size=BATCH, random_state=seed)

        def timed(name: str, peers: Any = peers, fitted: Any = fitted) -> Callable[[], None]:
            def run() -> None:
                fitted[name] = peers[name]().fit(X)

            return run

        for name, (passed,) in interleaved({name: timed(name) for name in peers}, 1, 0).items():
            seconds[name].append(passed)
            steps[name].append(int(fitted[name].n_steps_))
            costs[name].append(inertia(X, fitted[name].cluster_centers_))
    first = next(iter(OURS))
    mean, theirs = statistics.fmean(costs[first]), statistics.fmean(costs[BASE])
    spread = {name: statistics.stdev(costs[name]) / math.sqrt(seeds) for name in costs}
    error = math.hypot(spread[first], spread[BASE])
    return [
        row(
            "fit",
            shape,
            "float32",
            name,
            ms=median_ms(seconds[name]),
            data=data,
            batch=BATCH,
            seeds=seeds,
            steps=statistics.fmean(steps[name]),
            inertia=statistics.fmean(costs[name]),
            inertia_error=spread[name],
            same_bits=name == BASE or costs[name] == costs[first],
            inertia_no_worse=mean <= theirs + 2 * error,
        )
        for name in costs
    ]


def show(title: str, groups: list[list[dict[str, Any]]], unit: str) -> bool:
    """Print one table; True if every check held."""
    peers = [entry["implementation"] for entry in groups[0]]
    lines, sound = [], True
    for group in groups:
        base, first = group[-1], group[0]
        checks = [value for e in group for value in e["checks"].values() if isinstance(value, bool)]
        sound &= all(checks)
        cells = [f"{e['ms']:,.2f} ({base['ms'] / e['ms']:.1f})" for e in group]
        ratio = ""
        if "inertia" in first["checks"]:
            ratio = f"{first['checks']['inertia'] / base['checks']['inertia']:.4f}"
        sizes = [f"{first[name]:,}" for name in ("n", "d", "k")]
        what = first["checks"].get("data", first["table"])
        lines.append([what, *sizes, *cells, ratio, "ok" if all(checks) else "CHECKS FAILED"])
    print(f"\n{title}: {unit} (and how many times as fast as {BASE})")
    print_table(["", "N", "D", "K", *peers, "inertia", "checks"], lines)
    return sound


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks minibatch", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small shape")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds of steps (default 3)")
    parser.add_argument("--seeds", type=int, default=10, help="fits of each (default 10)")
    parser.add_argument("--write", action="store_true", help="write results/minibatch.json")
    options = parser.parse_args(argv)
    if refuse_spoilers():
        return 2
    warmup()
    shapes = QUICK if options.quick else SHAPES
    steps = [time_steps(s, False, math.ceil(200_000 / s[0]), options.repeats) for s in shapes]
    steps.append(time_steps(shapes[0], True, math.ceil(200_000 / shapes[0][0]), options.repeats))
    sound = show("Steps", steps, "ms a step")
    fits = [time_fits(data, shapes[0], options.seeds) for data in DATA]
    sound &= show("Fits", fits, "ms")
    finish("minibatch", argv, [e for group in steps + fits for e in group], options.write)
    return 0 if sound else 1
