"""Peak extra memory of a fit on NumPy against its limit: ``python -m benchmarks memory``.

Each fit runs in a process of its own, which first makes X, then measures how far the resident
memory rises above that. The limit is 64 MiB + 48 bytes a row + 64 bytes per entry of the
centroids. The exit code is 1 if a fit goes over it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import numpy as np

from benchmarks.harness import finish, peak_extra_bytes, print_table, row, run_fresh

MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One fit."""

    n: int
    d: int
    k: int
    dtype: str = "float32"
    data: str = "uniform"
    init: str = "random"
    weighted: bool = False
    max_iter: int = 2
    threads: int = 2

    @property
    def limit(self) -> int:
        """Bytes the fit may take."""
        return 64 * MIB + 48 * self.n + 64 * self.k * self.d


CASES = (
    Case(1_000, 2, 3),
    Case(2_000_000, 2, 10),
    Case(2_000_000, 2, 10, "float64", weighted=True),
    Case(1_000_000, 16, 64, init="k-means++", max_iter=1),
    Case(1_000_000, 16, 64, data="grid"),
    Case(200_000, 64, 256, "float16"),
    Case(200_000, 64, 256, "float64", weighted=True),
    Case(100_000, 128, 1_024),
    Case(60_000, 784, 10, "float64"),
    Case(20_000, 256, 4_096),
    Case(20_000, 16, 10_000),
    Case(1_100_000, 64, 3, init="k-means++", max_iter=1),
    Case(1_000_000, 16, 64, threads=1),
    Case(1_000_000, 16, 64, threads=16),
    Case(60_000, 784, 10, "float64", threads=16),
)
QUICK = (CASES[0], Case(300_000, 16, 64, init="k-means++"), Case(20_000, 256, 1_024, "float64"))


def make_data(case: Case) -> np.ndarray:
    """Fill X piece by piece, so that making it leaves no peak of its own."""
    X = np.empty((case.n, case.d), dtype=case.dtype)
    source = np.random.PCG64(0)
    step = max(1, 2**18 // case.d)
    for lo in range(0, case.n, step):
        part = X[lo : lo + step]
        words = source.random_raw(part.size).reshape(part.shape) >> np.uint64(40)
        part[...] = words % 8 if case.data == "grid" else words * 2.0**-24
    return X


def measure(case: Case) -> int:
    """Peak extra bytes of one fit in this process."""
    from kmeans_xp import kmeans, warmup

    if find_spec("numba") is not None and os.environ.get("KMEANS_XP_NUMBA") != "0":
        warmup()  # the compiler's own memory is not the fit's
    X = make_data(case)
    sample_weight = np.linspace(0.5, 2, case.n) if case.weighted else None
    return peak_extra_bytes(
        lambda: kmeans(
            X,
            case.k,
            init=case.init,
            n_init=1,
            max_iter=case.max_iter,
            tol=0,
            sample_weight=sample_weight,
            random_state=0,
        )
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three small cases")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/memory.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # the process of one fit
    options = parser.parse_args(argv)
    if options.case:
        print(measure(Case(**json.loads(options.case))))
        return 0
    if sys.platform != "linux":
        print("memory is measured through /proc, which only Linux has", file=sys.stderr)
        return 2
    lines, rows, over = [], [], 0
    for case in QUICK if options.quick else CASES:
        threads = {"KMEANS_XP_NUM_THREADS": str(case.threads)}
        peak = int(
            run_fresh("benchmarks", "memory", "--case", json.dumps(asdict(case)), env=threads)
        )
        within = peak <= case.limit
        over += not within
        what = f"{case.data}, {case.init}" + (", weights" if case.weighted else "")
        what += f", threads: {case.threads}"
        lines.append(
            [
                *(f"{size:,}" for size in (case.n, case.d, case.k)),
                case.dtype,
                what,
                f"{peak / MIB:.1f}",
                f"{case.limit / MIB:.1f}",
                "within" if within else "OVER",
            ]
        )
        rows.append(
            row(
                "peak extra memory of a fit",
                (case.n, case.d, case.k),
                case.dtype,
                f"kmeans_xp numpy, {what}",
                peak_bytes=peak,
                limit_bytes=case.limit,
                within_limit=within,
            )
        )
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table(["N", "D", "K", "dtype", "fit", "peak MiB", "limit MiB", "result"], lines)
    finish("memory", argv, rows, options.write)
    return 1 if over else 0
