"""Seconds of an iteration on a Dask array, and the bytes sent against the model of docs/dask.md.

The same rows in memory, on Dask's threads, and on a cluster of 1, 2 and 4 worker processes of this
machine with one thread each. Rows are made where their chunk is, the start is given, and no bounds
are kept, so that all iterations cost the same.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np

from benchmarks.harness import finish, print_table, row
from kmeans_xp import fingerprint, kmeans

__all__ = ["main"]

D, K = 32, 128
ITERATIONS = 8
CHUNKS = 8
# Levels of the exact sums of such rows, and bytes of a float32.
LEVELS, WIDTH = 2, 4
WORKERS = (1, 2, 4)


def main(argv: list[str]) -> int:
    """Fit everywhere, check that the bits agree, print and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks dask", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the result file")
    parser.add_argument("--rows", type=int, default=2_000_000, help="number of rows")
    given = parser.parse_args(argv)
    x = array(given.rows)
    memory = x.compute(scheduler="threads")
    runs = {"memory, 1 thread": measure(memory, memory[:K], "1")}
    runs["memory"] = measure(memory, memory[:K])
    with dask.config.set(scheduler="threads"):
        runs["dask, threads"] = measure(x, memory[:K])
    with cluster() as client:
        for n_workers in WORKERS:
            client.cluster.scale(n_workers)
            client.wait_for_workers(n_workers)
            runs[f"dask, {n_workers} workers"] = measure(x, memory[:K], client=client)
    expected = runs["memory"]["bits"]
    rows, lines = [], []
    for name, one in runs.items():
        ms, bits = one.pop("ms"), one.pop("bits")
        shape = given.rows, D, K
        rows.append(row("dask", shape, "float32", name, ms=ms, same_bits=bits == expected, **one))
        sent = [one[key] for key in ("bytes_moved", "model_bytes", "sent_by_workers")]
        lines.append([name, f"{ms:.1f}", *sent, bits == expected])
    print_table(["where", "ms", "bytes moved", "at most", "workers count", "same bits"], lines)
    finish(
        "dask", [] if given.rows == 2_000_000 else ["--rows", str(given.rows)], rows, given.write
    )
    return 0


def array(n: int) -> Any:
    """Rows around K centres; each chunk is made from its own seed."""
    sizes = tuple(len(part) for part in np.array_split(np.arange(n), CHUNKS))

    def make(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        rng = np.random.default_rng(block_id[0])
        centers = 2 * np.random.default_rng(1000).standard_normal((K, D), dtype=np.float32)
        rows = rng.standard_normal((sizes[block_id[0]], D), dtype=np.float32)
        return rows + centers[rng.integers(0, K, size=len(rows))]

    return da.map_blocks(make, chunks=(sizes, (D,)), dtype=np.float32, meta=np.empty((0, 0), "f4"))


def measure(
    x: Any, init: np.ndarray, threads: str | None = None, client: Any = None
) -> dict[str, Any]:
    """Fit, and note what an iteration takes and sends once everything is loaded."""
    seconds, moved, sent = [], [], []

    def note(state: Any) -> None:
        seconds.append(state.seconds)
        moved.append(state.bytes_moved)
        sent.append(sum(client.run(bytes_sent).values()) if client else 0)

    with limited(threads):
        kmeans(x[: len(x) // CHUNKS], K, init=init, max_iter=1)  # kernels are loaded
        result = kmeans(
            x, K, init=init, max_iter=ITERATIONS, tol=0.0, algorithm="lloyd", callback=note
        )
    workers = len(client.scheduler_info()["workers"]) if client else 0
    of_a_worker = K * D * WIDTH + K * (8 + 8 * D * LEVELS + 8) + 16
    return {
        "ms": 1e3 * statistics.median(seconds[1:]),
        "bits": fingerprint(result),
        "workers": workers,
        "bytes_moved": int(statistics.median(moved[1:])),
        "model_bytes": workers * of_a_worker,
        "sent_by_workers": int(statistics.median(np.diff(sent).tolist())),
    }


def bytes_sent(dask_worker: Any) -> int:
    """What a worker says it has sent."""
    return int(dask_worker.transfer_outgoing_bytes_total)


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Worker processes of one thread each on this machine."""
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"dashboard_address": None, "silence_logs": logging.ERROR}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as made, Client(made) as client:
        yield client


@contextlib.contextmanager
def limited(threads: str | None) -> Iterator[None]:
    """Context with a number of threads for arrays in memory."""
    if threads is not None:
        os.environ["KMEANS_XP_NUM_THREADS"] = threads
    try:
        yield
    finally:
        os.environ.pop("KMEANS_XP_NUM_THREADS", None)
