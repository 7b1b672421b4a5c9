"""A stream on a CUDA device: what each stage alone can do, and what all of them do together.

Stages: reading the file, copying rows into pinned memory, copying those to the device, and an
iteration over rows that are there already. They run beside each other in a streamed iteration, so
that the slowest one limits it. The rows are streamed from the file and from host memory, while
CuPy's memory pool may hold less than they take; every row is copied in every pass, and once more
with half-precision copies that stay on the device as far as there is room.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import device_name
from benchmarks.harness import print_table, row, write_results
from kmeans_xp import kmeans, predict, stream
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.backends.cuda_blocks import BlockCopies
from kmeans_xp.blocks.pinned import copy_rows

__all__ = ["run"]

ITERATIONS, REPEATS = 6, 3
# Rows that are computed on the device in their whole are as many as this many blocks hold.
RESIDENT_BLOCKS = 16
# What CuPy's pool may hold in any case: a few blocks.
LEAST_ALLOWED = 1 << 30


def run(path: Path, n_clusters: int, argv: list[str], write: bool) -> None:
    """Measure the rows of a .npy file, print the table, keep it if asked to."""
    rows = measure(path, n_clusters)
    lines = [
        [
            r["implementation"],
            f"{r['ms']:.1f}",
            f"{r['checks']['bytes_per_second'] / 1e9:.2f}",
            r["checks"].get("limited_by", ""),
            f"{r['checks']['of_limit']:.0%}" if "of_limit" in r["checks"] else "",
        ]
        for r in rows
    ]
    print_table(["", "ms a pass", "GB/s", "limited by", "of that"], lines)
    if write:
        name = device_name()
        slug = "-".join(name.lower().split())
        print(f"\nwrote {write_results(f'stream-{slug}', argv, rows, device=name).name}")


def measure(path: Path, n_clusters: int, block_rows: int | str = "auto") -> list[dict[str, Any]]:
    """One row for each stage, in bytes of rows a second, then the streamed iterations."""
    x = np.load(path)
    shape = (*x.shape, n_clusters)
    init = x[:: len(x) // n_clusters][:n_clusters].copy()
    rates = {name: x.nbytes / seconds for name, seconds in stages(x, path, init, block_rows)}
    rows = [
        row(
            "stream",
            shape,
            str(x.dtype),
            f"stage: {name}",
            ms=1e3 * x.nbytes / rate,
            bytes_per_second=rate,
        )
        for name, rate in rates.items()
    ]
    allowed = max(LEAST_ALLOWED, x.nbytes // 4)
    with pool_limited(allowed):
        for name, source, alone, room in (
            ("streamed from host memory", x, list(rates)[1:], 0),
            ("streamed from the file", path, list(rates), 0),
            ("streamed from the file, copies stay", path, list(rates), allowed // 2),
        ):
            streamed = stream(source, block_rows=block_rows, resident_bytes=room)
            seconds, found = an_iteration(streamed, init)
            limit = min(alone, key=lambda stage: rates[stage])
            rate = x.nbytes / seconds
            checks = {
                "bytes_per_second": rate,
                "limited_by": limit,
                "of_limit": rate / rates[limit],
                "of_pinned_copy": rate / rates["pinned memory to the device"],
                "allowed_bytes": allowed,
                "larger_than_allowed": x.nbytes > allowed,
                "iterations": found.n_iter,
                "bytes_read": streamed.bytes_read,
                "bytes_skipped": streamed.bytes_skipped,
                "resident_bytes": room,
                "labels_as_on_the_host": labelled_alike(x, streamed, found),
            }
            rows.append(row("stream", shape, str(x.dtype), name, ms=1e3 * seconds, **checks))
    return rows


def stages(
    x: np.ndarray, path: Path, init: np.ndarray, block_rows: int | str
) -> Iterator[tuple[str, float]]:
    """Each stage alone, and the seconds it takes for all rows."""
    import cupy as cp

    bounds = stream(x, block_rows=block_rows).bounds
    most = max(hi - lo for lo, hi in bounds)

    def read() -> None:
        for _ in stream(path, block_rows=block_rows).each():
            pass

    yield "reading the file", typical(read)
    copies, backend = BlockCopies(most, x.shape[1], x.dtype, weighted=False), NumpyBackend(x)
    place = copies.next()

    def fill() -> None:
        with backend.session():
            for lo, hi in bounds:
                copy_rows(backend, x[lo:hi], place.host_x)

    def send() -> None:
        for lo, hi in bounds:
            copies.send(place, hi - lo, labels=False)
        copies.wait()

    yield "into pinned memory", typical(fill)
    yield "pinned memory to the device", typical(send)
    resident = x[: most * RESIDENT_BLOCKS]
    seconds, _ = an_iteration(cp.asarray(resident), init)
    yield "computing", seconds * len(x) / len(resident)


def typical(function: Callable[[], None]) -> float:
    """Return the median seconds of some calls, after one that is not counted."""
    seconds = []
    for turn in range(1 + REPEATS):
        began = time.perf_counter()
        function()
        if turn:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def an_iteration(rows: Any, init: np.ndarray) -> tuple[float, Any]:
    """Median seconds between iterations in which every row is assigned, and the fit."""
    kmeans(rows, len(init), init=init, max_iter=1, tol=0.0, device="cuda")  # compiles
    seen = [time.perf_counter()]
    found = kmeans(
        rows,
        len(init),
        init=init,
        max_iter=ITERATIONS,
        tol=0.0,
        algorithm="lloyd",
        device="cuda",
        callback=lambda state: seen.append(time.perf_counter()),
    )
    steps = np.diff(seen)
    return float(np.median(steps[1:] if len(steps) > 1 else steps)), found


def labelled_alike(x: np.ndarray, streamed: Any, found: Any) -> bool:
    """Whether the host gives the rows of the last block the same labels."""
    lo, hi = streamed.bounds[-1]
    return bool(np.array_equal(predict(x[lo:hi], found.centroids), found.labels[lo:hi]))


@contextlib.contextmanager
def pool_limited(size: int) -> Iterator[None]:
    """CuPy's memory pool may hold so many bytes meanwhile."""
    import cupy as cp

    pool = cp.get_default_memory_pool()
    before = pool.get_limit()
    pool.free_all_blocks()
    pool.set_limit(size=size)
    try:
        yield
    finally:
        pool.set_limit(size=before)
