"""A file far larger than the memory of the process, against plain reading and scikit-learn.

The file is made first, then clustered in a process that may take 2 GiB of addresses (RLIMIT_AS),
from given centroids, for some iterations; scikit-learn's `MiniBatchKMeans.partial_fit` makes one
pass over it in blocks. Every figure is also given as a rate against ``cat file > /dev/null``.

With ``--cuda`` a CUDA device computes: see `benchmarks.stream_cuda`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import finish, peak_extra_bytes, print_table, row, run_fresh
from kmeans_xp import kmeans, predict, stream

__all__ = ["main"]

D, K = 128, 64
ITERATIONS = 5
ADDRESSES = 2 << 30
BLOCK = 1 << 16


def main(argv: list[str]) -> int:
    """Make the file, run each side in a process of its own, print and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stream", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the result file")
    parser.add_argument("--gib", type=float, default=8.0, help="size of the file")
    parser.add_argument("--folder", help="where to make it; default: the system's temporary one")
    parser.add_argument("--cuda", action="store_true", help="compute the file on a CUDA device")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        name, path = given.child
        print(json.dumps(CHILDREN[name](path)))
        return 0
    n = int(given.gib * 2**30) // (4 * D)
    shown = [] if given.gib == 8.0 else ["--gib", str(given.gib)]  # where the file was says nothing
    if given.cuda:
        return on_cuda(given.folder, n, shown, given.write)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "rows.npy"
        make(path, n)
        size = path.stat().st_size
        began = time.perf_counter()
        with open(path, "rb") as file:
            subprocess.run(["cat"], stdin=file, stdout=subprocess.DEVNULL, check=True)
        plain = size / (time.perf_counter() - began)
        found = {
            name: json.loads(run_fresh("benchmarks", "stream", "--child", name, str(path)))
            for name in CHILDREN
        }
    rows, lines = [], []
    for name, one in found.items():
        rate, peak = one["bytes"] / one["seconds"], one.pop("peak_bytes")
        checks = {**one, "file_bytes": size, "cat_bytes_per_second": plain, "of_cat": rate / plain}
        ms = 1e3 * one["seconds"] / one["passes"]
        rows.append(row("stream", (n, D, K), "float32", name, ms=ms, peak_bytes=peak, **checks))
        lines.append([name, f"{ms:.0f}", f"{rate / 1e9:.2f}", f"{rate / plain:.2f}", peak >> 20])
    print_table(["implementation", "ms a pass", "GB/s", "of cat", "peak MiB"], lines)
    finish("stream", shown, rows, given.write)
    return 0


def on_cuda(folder: str | None, n: int, shown: list[str], write: bool) -> int:
    """Stages and streamed iterations of a file on a CUDA device."""
    from benchmarks import gpu, stream_cuda

    reason = gpu.why_not()
    if reason is not None:
        print(f"benchmarks stream --cuda: skipped, nothing was measured: {reason}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made) / "rows.npy"
        make(path, n)
        stream_cuda.run(path, K, ["--cuda", *shown], write)
    return 0


def make(path: Path, n: int) -> None:
    """Write n rows around K centres, block by block."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.standard_normal((K, D), dtype=np.float32)
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, D)}
        np.lib.format.write_array_header_1_0(file, header)
        for lo in range(0, n, BLOCK):
            count = min(BLOCK, n - lo)
            noise = rng.standard_normal((count, D), dtype=np.float32)
            file.write((centers[rng.integers(0, K, size=count)] + noise).tobytes())


def start(path: str) -> np.ndarray:
    """First centroids: rows spread over the file."""
    rows = np.load(path, mmap_mode="r")
    return rows[:: len(rows) // K][:K].copy()  # a view would keep the file mapped


def ours(path: str) -> dict[str, Any]:
    """Whole iterations over the file, in a process with few addresses."""
    rng = np.random.default_rng(1)
    small = rng.standard_normal((1 << 15, D), dtype=np.float32)
    kmeans(small, K, max_iter=2, random_state=0)  # compile ahead
    init = start(path)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    rows = stream(path)
    seconds: list[float] = []
    began = time.perf_counter()

    def note(state: Any) -> None:
        seconds.append(time.perf_counter())

    kept: list[Any] = []
    peak = peak_extra_bytes(
        lambda: kept.append(kmeans(rows, K, init=init, max_iter=ITERATIONS, tol=0.0, callback=note))
    )
    every = time.perf_counter() - began
    [result] = kept
    _, first = next(rows.each([0]))
    same = bool(np.array_equal(predict(first, result.centroids), result.labels[: len(first)]))
    steps = np.diff(seconds)
    return {
        "seconds": every,
        "bytes": rows.bytes_read,
        "passes": rows.bytes_read / (rows.shape[0] * D * 4),
        "seconds_an_iteration": float(np.median(steps)),
        "labels_as_in_memory": same,
        "address_limit": ADDRESSES,
        "file_fits": os.path.getsize(path) < ADDRESSES,
        "peak_bytes": peak,
    }


def peer(path: str) -> dict[str, Any]:
    """One pass of scikit-learn's partial_fit over the same file, in blocks."""
    from sklearn.cluster import MiniBatchKMeans

    rows = np.load(path, mmap_mode="r")
    model = MiniBatchKMeans(K, init=start(path), n_init=1, batch_size=BLOCK)

    def learn() -> None:
        for lo in range(0, len(rows), BLOCK):
            model.partial_fit(np.asarray(rows[lo : lo + BLOCK]))

    began = time.perf_counter()
    peak = peak_extra_bytes(learn)
    passed = time.perf_counter() - began
    return {"seconds": passed, "bytes": rows.nbytes, "passes": 1, "peak_bytes": peak}


CHILDREN = {"kmeans_xp stream": ours, "scikit-learn partial_fit": peer}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
