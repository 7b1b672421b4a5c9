"""One Lloyd iteration on a CUDA device against other libraries: ``python -m benchmarks gpu``.

All start from the same centroids on the same float32 data, in one process, in turn. An iteration is
the difference between a long and a short run over the iterations between them, so that what a run
does once is in neither. ``wrong_labels`` are the labels of the first assignment that differ from
float64 by more than rounding, among the first rows. Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import print_table, row, write_results
from kmeans_xp.backends.cuda import DeviceLloyd, DeviceUnsupported
from kmeans_xp.backends.cuda_kernels import Target

OURS = "kmeans_xp cuda"
SHAPES = (
    (1 << 20, 128, 1024),
    (1 << 20, 128, 8192),
    (1 << 22, 64, 256),
    (1 << 20, 128, 64),
    (1 << 22, 16, 64),
    (10_000_000, 2, 10),
    (1 << 18, 768, 1024),
    (1 << 14, 32, 16),
)
CONVERGE = ((1 << 22, 64, 256), (1 << 20, 128, 1024), (1 << 22, 16, 64))
WAYS = ("plain", "lloyd", "auto", "hamerly")
CHECKED = 1 << 17

# runs so many iterations and returns the labels that belong to the centroids before the last one
Run = Callable[[int], Any]


def blobs(n: int, d: int, k: int, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Gaussian blobs on the device, and k of the rows."""
    import cupy as cp

    random = cp.random.default_rng(seed)
    centres = random.standard_normal((k, d), dtype=cp.float32)
    X = centres[random.integers(0, k, n)]
    for lo in range(0, n, 1 << 20):
        X[lo : lo + (1 << 20)] += random.standard_normal(
            (min(1 << 20, n - lo), d), dtype=cp.float32
        )
    rows = np.random.default_rng(seed).choice(n, k, replace=False)
    return X, X[cp.asarray(rows)].get()


def ours(X: Any, init: np.ndarray) -> Run:
    """Steps of the device loop."""
    loop = DeviceLloyd(X)

    def run(iterations: int) -> Any:
        handle = loop.start(init)
        for _ in range(iterations - 1):
            handle = loop.step(handle).centroids
        loop.settle(handle)
        return loop.labels()

    return run


def flash(X: Any, init: np.ndarray, dtype: str) -> Run:
    """flash-kmeans, which wants torch and a batch axis."""
    import cupy as cp
    import torch
    from flash_kmeans.kmeans_triton_impl import batch_kmeans_Euclid

    kind = getattr(torch, dtype)
    rows = torch.from_dlpack(X).to(kind)[None]
    start = torch.from_numpy(init).cuda().to(kind)[None]

    def run(iterations: int) -> Any:
        labels, *_ = batch_kmeans_Euclid(
            rows, len(init), max_iters=iterations, tol=-1, init_centroids=start.clone()
        )
        return cp.from_dlpack(labels[0].int())

    return run


def plain_torch(X: Any, init: np.ndarray) -> Run:
    """What one writes with torch: a matrix product, argmax and index_add, in pieces of rows."""
    import cupy as cp
    import torch

    rows, k = torch.from_dlpack(X), len(init)
    step = max(1, (1 << 28) // k)

    def run(iterations: int) -> Any:
        centres = torch.from_numpy(init).cuda()
        for _ in range(iterations):
            half = 0.5 * (centres * centres).sum(1)
            parts = rows.split(step)
            labels = torch.cat([(part @ centres.T - half).argmax(1) for part in parts])
            sums = torch.zeros_like(centres).index_add_(0, labels, rows)
            counts = torch.bincount(labels, minlength=k)[:, None]
            centres = torch.where(counts > 0, sums / counts, centres)
        return cp.from_dlpack(labels.int())

    return run


def plain_cupy(X: Any, init: np.ndarray) -> Run:
    """The same with CuPy."""
    import cupy as cp
    import cupyx

    k = len(init)
    step = max(1, (1 << 28) // k)

    def run(iterations: int) -> Any:
        centres = cp.asarray(init)
        for _ in range(iterations):
            half = 0.5 * (centres * centres).sum(axis=1)
            labels = cp.empty(len(X), cp.int32)
            for lo in range(0, len(X), step):
                labels[lo : lo + step] = (X[lo : lo + step] @ centres.T - half).argmax(axis=1)
            sums = cp.zeros_like(centres)
            cupyx.scatter_add(sums, labels, X)
            counts = cp.bincount(labels, minlength=k)[:, None]
            centres = cp.where(counts > 0, sums / counts, centres).astype(cp.float32)
        return labels

    return run


def cuvs(X: Any, init: np.ndarray) -> Run:
    """RAPIDS cuVS, float32."""
    import cupy as cp
    from cuvs.cluster.kmeans import KMeansParams, fit, predict

    def run(iterations: int) -> Any:
        centres = cp.asarray(init)
        params = KMeansParams(
            n_clusters=len(init), init_method="Array", max_iter=iterations, tol=1e-30
        )
        fit(params, X, centroids=centres)
        if iterations > 1:
            return None
        return cp.asarray(predict(params, X, cp.asarray(init))[0])

    return run


def contenders(X: Any, init: np.ndarray) -> tuple[dict[str, Run], dict[str, str]]:
    """Every implementation that can be set up, and why the others cannot."""
    makers: dict[str, Callable[[], Run]] = {
        OURS: lambda: ours(X, init),
        "flash-kmeans float16": lambda: flash(X, init, "float16"),
        "flash-kmeans float32": lambda: flash(X, init, "float32"),
        "cuVS": lambda: cuvs(X, init),
        "torch": lambda: plain_torch(X, init),
        "CuPy": lambda: plain_cupy(X, init),
    }
    runs, failed = {}, {}
    for name, make in makers.items():
        try:
            run = make()
            run(1)
            runs[name] = run
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[:200]
    return runs, failed


def count_wrong(X: Any, init: np.ndarray, labels: Any) -> int:
    """Labels whose centroid is not the nearest in float64."""
    import cupy as cp

    rows, centres = X[:CHECKED].astype(cp.float64), cp.asarray(init).astype(cp.float64)
    half, wrong = 0.5 * (centres * centres).sum(axis=1), 0
    for lo in range(0, len(rows), 8192):
        scores = rows[lo : lo + 8192] @ centres.T - half
        own = cp.take_along_axis(
            scores, labels[lo : lo + 8192][: len(scores), None].astype(cp.int64), 1
        )[:, 0]
        wrong += int((scores.max(axis=1) - own > 1e-11 * (1 + cp.abs(own))).sum())
    return wrong


def seconds(run: Run, iterations: int) -> float:
    """Wall-clock time of a run, the device included."""
    import cupy as cp

    cp.cuda.Device().synchronize()
    began = time.perf_counter()
    run(iterations)
    cp.cuda.Device().synchronize()
    return time.perf_counter() - began


def compare(shape: tuple[int, int, int], iterations: int, repeats: int) -> list[dict[str, Any]]:
    """One row per implementation for one shape."""
    n, d, k = shape
    X, init = blobs(n, d, k)
    runs, failed = contenders(X, init)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds(run, 2)
            passed = seconds(run, iterations + 1) - seconds(run, 1)
            times[name].append(1e3 * passed / iterations)
    rows = []
    for name, run in runs.items():
        wrong = count_wrong(X, init, run(1))
        record = row(
            "iteration",
            shape,
            "float16" if "float16" in name else "float32",
            name,
            ms=statistics.median(times[name]),
            spread=max(times[name]) - min(times[name]),
        )
        rows.append(record | {"wrong_labels": wrong, "algorithm": "lloyd"})
    for name, reason in failed.items():
        rows.append(row("iteration", shape, "float32", name, not_run=reason))
    return rows


def to_the_end(loop: DeviceLloyd, init: np.ndarray, limit: int) -> tuple[float, Any, list[Any]]:
    """Milliseconds from the start until no label changes, the last centroids, all states."""
    import cupy as cp

    cp.cuda.Device().synchronize()
    began = time.perf_counter()
    handle, states = loop.start(init), list[Any]()
    while len(states) < limit and (not states or states[-1].changed):
        states.append(loop.step(handle))
        handle = states[-1].centroids
    loop.settle(handle)
    cp.cuda.Device().synchronize()
    return 1e3 * (time.perf_counter() - began), handle, states


def converge(
    shape: tuple[int, int, int], rounds: int = 3, limit: int = 400
) -> list[dict[str, Any]]:
    """Our own loop to convergence from one k-means++ start, in turn with every way to do less.

    "plain" sums every row anew in every iteration; "lloyd" adds and subtracts the rows that
    changed; "auto" and "hamerly" also leave out rows that bounds settle.
    """
    import cupy as cp

    from kmeans_xp import kmeans_plusplus

    n, d, k = shape
    X, _ = blobs(n, d, k)
    init = np.ascontiguousarray(cp.asnumpy(kmeans_plusplus(X, k, random_state=0)[0]))
    last: dict[str, tuple[int, list[Any]]] = {}  # wrong labels, states
    bits = set()
    passed: dict[str, list[float]] = {name: [] for name in WAYS}
    for round_ in range(rounds + 1):
        for name in WAYS:  # one at a time has its copies of the rows on the device
            anew = frozenset({"sums-anew"}) if name == "plain" else frozenset[str]()
            loop = DeviceLloyd(X, algorithm="lloyd" if anew else name, testing=anew)
            to_the_end(loop, init, 2)  # compiled, and loaded
            ms, handle, states = to_the_end(loop, init, limit)
            centroids, labels = loop.fetch(handle), loop.labels()
            bits.add((len(states), labels.get().tobytes(), centroids.tobytes()))
            if not round_:  # what it compiles on its way counts in none
                last[name] = count_wrong(X, centroids, labels), states
                continue
            passed[name].append(ms)
    rows = []
    for name, (wrong, states) in last.items():
        parts = [s.details["n_todo"] / n if s.details["listed"] else 1.0 for s in states]
        line = row(
            "convergence",
            shape,
            "float32",
            OURS,
            ms=statistics.median(passed[name]),
            iterations=len(states),
            rows_assigned=statistics.fmean(parts),
            times_plain=statistics.median(passed["plain"]) / statistics.median(passed[name]),
            same_bits=len(bits) == 1,
        )
        rows.append(line | {"wrong_labels": wrong, "algorithm": name})
    return rows


def why_not() -> str | None:
    """Why our loop cannot run here, or None."""
    try:
        import cupy as cp
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    if not cp.cuda.is_available():
        return "CuPy finds no CUDA device"
    try:
        Target.current()
    except DeviceUnsupported as reason:
        return f"{device_name()}: {reason}"
    return None


def device_name() -> str:
    """Name of the device."""
    import cupy as cp

    return str(cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)["name"].decode())


def show(rows: list[dict[str, Any]]) -> None:
    """Print what was measured."""
    lines = [
        (
            f"{r['n']:,} {r['d']} {r['k']}",
            f"{r['implementation']} {r.get('algorithm', '')}",
            f"{r['ms']:.3f}" if r["ms"] is not None else "-",
            str(r.get("wrong_labels", "-")),
            " ".join(f"{key}={value}" for key, value in r["checks"].items()),
        )
        for r in rows
    ]
    print_table(("N D K", "implementation", "ms", "wrong", "checks"), lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--shapes", help="indices of the shapes, such as 0,3; all by default")
    parser.add_argument("--iterations", type=int, default=15, help="timed iterations of a run")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--no-converge", action="store_true", help="leave out the second table")
    arguments = parser.parse_args(argv)
    chosen: Sequence[int] = range(len(SHAPES))
    if arguments.shapes is not None:
        chosen = [int(i) for i in arguments.shapes.split(",")]
    reason = why_not()
    if reason is not None:
        print(f"benchmarks gpu: {reason}", file=sys.stderr)
        return 1
    import cupy as cp

    rows: list[dict[str, Any]] = []
    for i in chosen:
        rows += compare(SHAPES[i], arguments.iterations, arguments.repeats)
        cp.get_default_memory_pool().free_all_blocks()
    if not arguments.no_converge:
        for shape in CONVERGE:
            rows += converge(shape)
            cp.get_default_memory_pool().free_all_blocks()
    show(rows)
    name = device_name()
    slug = "-".join(name.lower().split())
    print(write_results(f"gpu-{slug}", argv, rows, device=name))
    return 0
