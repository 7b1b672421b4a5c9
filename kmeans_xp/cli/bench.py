"""``kmeans-xp bench``: how fast this machine is."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import app, guarded, note
from kmeans_xp.cli.report import print_json, print_table
from kmeans_xp.functional import kmeans

__all__ = ["bench"]

ITERATIONS = 10


@app.command()
@guarded()
def bench(
    rows: Annotated[int, typer.Option(help="Rows.", min=1)] = 100_000,
    features: Annotated[int, typer.Option(help="Features.", min=1)] = 16,
    n_clusters: opt.ClustersOption = 64,
    repeat: Annotated[int, typer.Option(help="Runs; the fastest counts.", min=1)] = 3,
    device: opt.DeviceOption = "cpu",
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Time 10 iterations on random float32 rows, beside scikit-learn's where it is installed."""
    X = np.random.default_rng(0).standard_normal((rows, features), dtype=np.float32)
    start = X[:: max(1, rows // n_clusters)][:n_clusters].copy()
    if len(start) < n_clusters:
        raise typer.BadParameter(f"{n_clusters} is more than --rows", param_hint="'-k'")
    where = opt.as_device(device)

    def own() -> int:
        result = kmeans(X, n_clusters, init=start, max_iter=ITERATIONS, tol=0.0, device=where)
        return int(result.n_iter)

    runs: dict[str, Callable[[], int]] = {"kmeans_xp": own}
    other = _scikit_learn(X, start)
    if other is not None:
        runs["scikit-learn"] = other
    note(f"{ITERATIONS} iterations, {rows} x {features} float32, {n_clusters} clusters, {device}")
    best = _fastest(runs, repeat)
    if form is opt.Format.JSON:
        print_json({"milliseconds_an_iteration": best})
        return
    lines = [[name, f"{value:.2f}"] for name, value in best.items()]
    print_table([["library", "ms an iteration"], *lines])


def _fastest(runs: dict[str, Callable[[], int]], repeat: int) -> dict[str, float]:
    """Milliseconds an iteration; the libraries take turns, after a run that warms up."""
    best: dict[str, float] = {}
    for turn in range(repeat + 1):
        for name, call in runs.items():
            began = time.perf_counter()
            iterations = call()
            spent = 1000 * (time.perf_counter() - began) / max(iterations, 1)
            if turn:
                best[name] = min(spent, best.get(name, spent))
    return best


def _scikit_learn(X: np.ndarray, start: np.ndarray) -> Callable[[], int] | None:
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        return None

    def call() -> int:
        options: dict[str, Any] = {"init": start, "n_init": 1, "max_iter": ITERATIONS, "tol": 0.0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it has not converged
            return int(KMeans(len(start), algorithm="lloyd", **options).fit(X).n_iter_)

    return call
