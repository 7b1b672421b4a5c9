"""One hash per data set, whatever computes it: ``python -m benchmarks bits``.

Every row of the table is one data set clustered by every array library at hand, by the generic
backend on each of them, in several block sizes and numbers of threads. The exit code is 1 if any
hash of a row differs from the others.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import finish, row
from kmeans_xp import kmeans
from kmeans_xp.result import fingerprint
from tests.datasets import make, weights

BLOCKS = ("1000", "7001", str(2**30), None)
THREADS = ("1", "2")
BACKEND, BLOCK_ROWS, NUM_THREADS = (
    "KMEANS_XP_BACKEND",
    "KMEANS_XP_BLOCK_ROWS",
    "KMEANS_XP_NUM_THREADS",
)


@dataclass(frozen=True)
class Data:
    """A data set and how to cluster it."""

    kind: str
    dtype: str
    n: int = 10_000
    d: int = 5
    k: int = 12
    init: str = "k-means++"
    weighted: str | None = None

    def __str__(self) -> str:
        weighted = f", {self.weighted} weights" if self.weighted else ""
        return f"{self.kind} {self.n}x{self.d} {self.dtype}, k={self.k}, {self.init}{weighted}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Make X and the sample weights."""
        # Fewer blobs than clusters: the ways have to agree for more than two iterations.
        X = make(self.kind, self.dtype, self.n, self.d, self.k // 2, seed=1)
        return X, weights(self.weighted, self.n, seed=1)


DATA = (
    Data("blobs", "float32"),
    Data("blobs", "float64", weighted="float64"),
    Data("blobs", "float16", init="random"),
    Data("uniform", "float32", n=20_000, d=2, k=10),
    Data("uniform", "float64", n=3_000, d=40, k=50, init="random", weighted="integer"),
    Data("grid", "float32", k=20),
    Data("duplicates", "float32", k=8),
    Data("bisectors", "float64"),
    Data("offset", "float32", init="random", weighted="float32"),
    Data("outlier", "float32", init="random"),
    Data("decades", "float64", init="random"),
    Data("huge", "float32", n=3_000),
    Data("tiny", "float32", n=3_000),
)
MAX_ITER = 8


@dataclass(frozen=True)
class Library:
    """An array library, in one setting."""

    name: str
    asarray: Callable[[np.ndarray], Any]
    dtypes: tuple[str, ...] = ("float16", "float32", "float64")
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def libraries() -> Iterator[Library]:
    """Yield what is installed and works."""
    yield Library("numpy", np.asarray)
    with contextlib.suppress(ImportError):
        strict = importlib.import_module("array_api_strict")
        yield Library("array-api-strict", strict.asarray, ("float32", "float64"))
        yield Library(
            "array-api-strict, static shapes",
            strict.asarray,
            ("float32", "float64"),
            lambda: strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False),
        )
    with contextlib.suppress(ImportError):
        torch = importlib.import_module("torch")
        yield Library("torch", lambda a: torch.asarray(a.copy()))
        if torch.cuda.is_available():
            yield Library("torch cuda", lambda a: torch.asarray(a.copy(), device="cuda"))
    with contextlib.suppress(ImportError):
        jax = importlib.import_module("jax")
        x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
        yield Library("jax x64", jax.numpy.asarray, context=lambda: x64(True))
        yield Library("jax", jax.numpy.asarray, ("float16", "float32"), lambda: x64(False))
    with contextlib.suppress(ImportError):
        cupy = importlib.import_module("cupy")
        if cupy.cuda.is_available():
            yield Library("cupy", cupy.asarray)


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Set (or, with None, unset) environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def settings(library: Library, n: int, quick: bool) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Name each way to compute, and the variables that ask for it."""
    blocks = (
        ["1000"]
        if quick
        else [rows for rows in BLOCKS if rows is None or int(rows) < n or int(rows) == 2**30]
    )
    native = itertools.product(blocks, ("2",) if quick else THREADS)
    # Slower, and threads matter to few libraries there: each block size and each thread count.
    generic = zip(blocks, itertools.cycle(THREADS), strict=False)
    for backend, ways in ((None, native), ("generic", generic)):
        for rows, threads in ways:
            size = "one block" if rows == str(2**30) else f"blocks of {rows}"
            size = size if rows else "default blocks"
            name = f"{library.name}{' ' + backend if backend else ''}, {size}, threads: {threads}"
            yield name, {BACKEND: backend, BLOCK_ROWS: rows, NUM_THREADS: threads}


def hashes(data: Data, found: Sequence[Library], quick: bool) -> dict[str, str]:
    """Cluster one data set in every way."""
    X, sample_weight = data.arrays()
    result: dict[str, str] = {}
    for library in found:
        if data.dtype not in library.dtypes:
            continue
        with library.context():
            x = library.asarray(X)
            for name, variables in settings(library, data.n, quick):
                if torch := sys.modules.get("torch"):
                    torch.set_num_threads(int(variables[NUM_THREADS] or 1))
                with environment(**variables), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # fewer distinct rows than clusters, by design
                    fitted = kmeans(
                        x,
                        data.k,
                        init=data.init,
                        sample_weight=sample_weight,
                        max_iter=MAX_ITER,
                        random_state=7,
                    )
                result[name] = fingerprint(fitted)
    return result


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks bits", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one block size and thread count")
    parser.add_argument("--only", metavar="KIND", help="data sets of this kind only")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/bits.json")
    options = parser.parse_args(argv)
    found = list(libraries())
    print(f"libraries: {', '.join(library.name for library in found)}\n", flush=True)
    chosen = [data for data in DATA if options.only in (None, data.kind)]
    width = max((len(str(data)) for data in chosen), default=0)
    print(f"{'data':{width}}  {'hash':16}  ways  result")
    bad, rows = 0, []
    for data in chosen:
        ways = hashes(data, found, options.quick)
        expected = next(iter(ways.values()))
        wrong = {name: value for name, value in ways.items() if value != expected}
        bad += bool(wrong)
        verdict = f"{len(wrong)} DIFFER" if wrong else "equal"
        print(f"{data!s:{width}}  {expected}  {len(ways):4}  {verdict}", flush=True)
        rows.append(
            row(
                "hashes",
                (data.n, data.d, data.k),
                data.dtype,
                f"{len(ways)} ways",
                data=str(data),
                hash=expected,
                equal=not wrong,
            )
        )
        for name, value in wrong.items():
            print(f"  {name}: {value}", file=sys.stderr)
    print(f"\n{len(chosen) - bad} of {len(chosen)} data sets have one hash")
    finish("bits", argv, rows, options.write)
    return 1 if bad or not chosen else 0
