"""The cost model of docs/scaling.md against measured runs, and what it predicts for larger ones.

Measured are the runs in ``results/stream.json`` and, where it is there, ``results/dask.json``. What
the model takes from this machine is the time of an iteration over some of the rows in memory, and
the rate of ``cat``, which the stream benchmark noted. No run that it is compared with is fitted.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.harness import finish, print_table, row
from benchmarks.tables import read_results
from kmeans_xp import kmeans
from kmeans_xp.exceptions import ConvergenceWarning

__all__ = ["Cluster", "Job", "main", "predicted"]

# Rows that the time in memory is taken from.
_SAMPLE = 1 << 18


@dataclass(frozen=True)
class Job:
    """One iteration over all rows, with no bounds that would settle any.

    Attributes
    ----------
    n, d, k : int
        Rows, features, clusters.
    width : int
        Bytes of a value.
    levels : int
        Of the exact sums: 2 for most float32 data, 3 for float64.
    """

    n: int
    d: int
    k: int
    width: int = 4
    levels: int = 2

    @property
    def flops(self) -> float:
        """A product and a sum for every row, feature and cluster."""
        return 2.0 * self.n * self.d * self.k

    @property
    def bytes_read(self) -> int:
        """Every value once."""
        return self.n * self.d * self.width

    def bytes_sent(self, workers: int) -> int:
        """Centroids to each worker, sums with counts and cluster numbers back: docs/dask.md."""
        return workers * (self.k * (self.d * (self.width + 8 * self.levels) + 16) + 16)


@dataclass(frozen=True)
class Cluster:
    """What is assumed of the machines.

    Attributes
    ----------
    workers : int
        Devices, each with a worker of its own.
    flops : float
        Of an iteration, a worker and second.
    memory_bytes : float
        Rows that a worker can hold; none of the rest stay.
    memory_rate, storage_rate : float
        Bytes a second that a worker reads of rows it holds, and of rows it does not.
    send_rate, latency : float
        Bytes a second between two workers, and seconds a message.
    chunk_bytes, task_seconds : float
        Size of a chunk, and what the one scheduler takes for each.
    """

    workers: int
    flops: float = 1e14
    memory_bytes: float = 64e9
    memory_rate: float = 2e12
    storage_rate: float = 5e9
    send_rate: float = 5e9
    latency: float = 1e-3
    chunk_bytes: float = 1e9
    task_seconds: float = 5e-4


def predicted(job: Job, cluster: Cluster) -> dict[str, float]:
    """Seconds of each part of an iteration; those that run beside each other count once."""
    share = job.bytes_read / cluster.workers
    held = share <= cluster.memory_bytes
    rate = cluster.memory_rate if held else cluster.storage_rate
    rounds = math.ceil(math.log2(cluster.workers)) if cluster.workers > 1 else 0
    parts = {
        "computing": job.flops / (cluster.workers * cluster.flops),
        "reading": share / rate,
        "scheduling": max(cluster.workers, job.bytes_read / cluster.chunk_bytes)
        * cluster.task_seconds,
    }
    sending = rounds * (2 * cluster.latency + job.bytes_sent(1) / cluster.send_rate)
    return {**parts, "sending": sending, "seconds": max(parts.values()) + sending}


def main(argv: list[str]) -> int:
    """Print and keep both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the result file")
    given = parser.parse_args(argv)
    rows = [*against_streams(), *against_dask()]
    lines = [
        [one["implementation"], f"{one['ms']:.0f}", f"{one['checks']['model_ms']:.0f}"]
        for one in rows
    ]
    print_table(["run", "measured ms", "model ms"], lines)
    print()
    far = list(predictions())
    lines = [
        [f"{one['n']:.0e}", one["checks"]["workers"], f"{one['ms'] / 1e3:.3g}",
         one["checks"]["limit"], one["checks"]["bytes_sent"] >> 20]
        for one in far
    ]  # fmt: skip
    print_table(["rows", "devices", "s an iteration", "limit", "MiB sent"], lines)
    finish("scaling", [], [*rows, *far], given.write)
    return 0


def against_streams() -> Iterator[dict[str, Any]]:
    """The streamed file: computing and reading run beside each other."""
    for one in read_results("stream")["rows"]:
        told = one["checks"]
        if "seconds_an_iteration" not in told:
            continue
        job = Job(one["n"], one["d"], one["k"])
        in_memory = seconds_in_memory(job)
        reading = job.bytes_read / told["cat_bytes_per_second"]
        yield row(
            "model",
            (job.n, job.d, job.k),
            one["dtype"],
            one["implementation"],
            ms=1e3 * told["seconds_an_iteration"],
            model_ms=1e3 * max(in_memory, reading),
            computing_ms=1e3 * in_memory,
            reading_ms=1e3 * reading,
        )


def against_dask() -> Iterator[dict[str, Any]]:
    """Worker processes of one thread, against one thread in memory; where that was measured."""
    try:
        record = read_results("dask")
    except FileNotFoundError:
        return
    found = {one["implementation"]: one for one in record["rows"]}
    alone, cores = found["memory, 1 thread"]["ms"], record["machine"]["cores"]
    for name, one in found.items():
        workers = one["checks"]["workers"]
        if not workers:
            continue
        job = Job(one["n"], one["d"], one["k"])
        computing = alone / min(workers, cores)
        # of this machine: messages stay in its memory, and a task is one chunk
        here = Cluster(workers, memory_rate=math.inf, flops=math.inf, memory_bytes=math.inf)
        sent = one["checks"]["bytes_moved"]
        parts = predicted(job, replace(here, chunk_bytes=job.bytes_read / 16))
        yield row(
            "model",
            (job.n, job.d, job.k),
            one["dtype"],
            name,
            ms=one["ms"],
            model_ms=computing + 1e3 * (parts["scheduling"] + parts["sending"]),
            computing_ms=computing,
            bytes_sent=sent,
            model_bytes_sent=job.bytes_sent(workers),
        )


def seconds_in_memory(job: Job) -> float:
    """An iteration over all rows at the rate of some in memory, of data like the stream's."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.standard_normal((job.k, job.d), dtype=np.float32)
    x = rng.standard_normal((_SAMPLE, job.d), dtype=np.float32)
    x += centers[rng.integers(0, job.k, size=len(x))]
    seconds: list[float] = []

    def note(state: Any) -> None:
        if state.iteration > 1:
            seconds.append(state.seconds)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(3):
            kmeans(x, job.k, init=x[: job.k], max_iter=6, tol=0.0, algorithm="lloyd", callback=note)
    return statistics.median(seconds) * job.n / len(x)


def predictions() -> Iterator[dict[str, Any]]:
    """Large jobs on the machines that `Cluster` assumes."""
    for n in (10**9, 10**12):
        for workers in (8, 64, 1000):
            job, cluster = Job(n, 128, 1000), Cluster(workers)
            parts = predicted(job, cluster)
            seconds = parts.pop("seconds")
            held = job.bytes_read / workers <= cluster.memory_bytes
            yield row(
                "prediction",
                (job.n, job.d, job.k),
                "float32",
                "kmeans_xp dask",
                ms=1e3 * seconds,
                workers=workers,
                held=held,
                limit=max(parts, key=lambda name: parts[name]),
                bytes_read=job.bytes_read,
                bytes_sent=job.bytes_sent(workers),
                computing_ms=1e3 * parts["computing"],
                reading_ms=1e3 * parts["reading"],
                scheduling_ms=1e3 * parts["scheduling"],
                sending_ms=1e3 * parts["sending"],
            )


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
