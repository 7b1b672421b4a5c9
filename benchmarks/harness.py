"""What the benchmarks share: the machine, result files, fair timing, peak memory.

A result file is ``{"machine", "versions", "command", "date", "rows"}``; a row has ``table, n, d, k,
dtype, implementation, ms, peak_bytes, checks``, with None for what was not measured.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmeans_xp.io import atomic_write

__all__ = [
    "RESULTS",
    "finish",
    "interleaved",
    "peak_extra_bytes",
    "print_table",
    "reset_peak",
    "resident_bytes",
    "row",
    "run_fresh",
    "write_results",
]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    "kmeans_xp",
    "numpy",
    "array-api-compat",
    "array-api-strict",
    "threadpoolctl",
    "numba",
    "scipy",
    "scikit-learn",
    "faiss-cpu",
    "torch",
    "jax",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "dask",
    "distributed",
)


# The record


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine."""
    cpu = platform.processor() or platform.machine()
    memory = None
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages at hand that matter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def row(
    table: str,
    shape: tuple[int, int, int],
    dtype: str,
    implementation: str,
    *,
    ms: float | None = None,
    peak_bytes: int | None = None,
    **checks: Any,
) -> dict[str, Any]:
    """Make one row of a result file; `shape` is (N, D, K)."""
    n, d, k = shape
    return {
        "table": table,
        "n": n,
        "d": d,
        "k": k,
        "dtype": dtype,
        "implementation": implementation,
        "ms": ms,
        "peak_bytes": peak_bytes,
        "checks": checks,
    }


def write_results(
    name: str, argv: Sequence[str], rows: Iterable[Mapping[str, Any]], **more: Any
) -> Path:
    """Write ``benchmarks/results/<name>.json``.

    Parameters
    ----------
    name : str
        Of the benchmark, and of anything that should not be mixed, such as the device.
    argv : sequence of str
        Arguments of the benchmark, to run it again.
    rows : iterable of mapping
        See `row`.
    **more
        Further entries of "machine", such as the GPU.
    """
    record = {
        "machine": {**machine(), **more},
        "versions": versions(),
        "command": " ".join(["python -m benchmarks", name.partition("-")[0], *argv]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rows": list(rows),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    with atomic_write(path) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    return path


def finish(name: str, argv: Sequence[str], rows: Iterable[Mapping[str, Any]], write: bool) -> None:
    """Write the result file if asked to, and say so."""
    if write:
        path = write_results(name, [a for a in argv if a != "--write"], rows)
        print(f"\nwrote {path.name}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns; text to the left, the rest to the right."""
    cells = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [not any(line[i][:1].isdigit() for line in cells[1:]) for i in range(len(header))]
    for line in cells:
        parts = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(line, widths, left, strict=True)
        )
        print("  ".join(parts).rstrip(), flush=True)


# Time


def interleaved(
    runs: Mapping[str, Callable[[], object]], repeats: int = 5, warmup: int = 1
) -> dict[str, list[float]]:
    """Time several functions in turn, again and again, so that a slow spell hits all of them.

    Parameters
    ----------
    runs : mapping of str to callable
        What to time, by name.
    repeats : int, default=5
        Timed rounds.
    warmup : int, default=1
        Rounds before, not timed.

    Returns
    -------
    dict of str to list of float
        Seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + repeats):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            passed = time.perf_counter() - start
            if turn >= warmup:
                seconds[name].append(passed)
    return seconds


def median_ms(seconds: Iterable[float]) -> float:
    """Median of some times in seconds, in milliseconds."""
    return 1e3 * statistics.median(seconds)


# Memory


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Forget the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_extra_bytes(function: Callable[[], object]) -> int:
    """Peak memory of one call, above what the process held before it (Linux only).

    Only the first call in a process is told truly: later ones find memory that an earlier one
    freed and the allocator kept. Hence `run_fresh`.
    """
    before = resident_bytes()
    reset_peak()
    result = function()
    peak = _status("VmHWM")
    del result
    return max(0, peak - before)


def run_fresh(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run ``python -m module arguments`` in a new process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
