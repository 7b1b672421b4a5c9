"""The runs whose bits are committed, and the script that computes their hashes anew.

    python -m tests.make_hashes

writes `expected_hashes.json` from `reference.py` alone: the library has no part in it. Run it only
when a definition in docs/exactness.md or a case below has changed on purpose; look at the diff.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from . import datasets, reference

FILE = Path(__file__).with_name("expected_hashes.json")


@dataclass(frozen=True)
class Case:
    """One dataset, one seed, one way to start."""

    kind: str
    dtype: str
    init: str
    weights: str | None
    n: int = 1500
    d: int = 3
    k: int = 7
    seed: int = 0
    metric: str = "euclidean"

    @property
    def name(self) -> str:
        weights = f"{self.weights} weights" if self.weights else "no weights"
        metric = "" if self.metric == "euclidean" else f", {self.metric}"
        return f"{self.kind} {self.n}x{self.d} {self.dtype}, {self.init}, {weights}{metric}"

    def data(self):
        X = datasets.make(self.kind, self.dtype, self.n, self.d, self.k, self.seed)
        if self.metric == "cosine":
            X[~X.any(axis=1)] = 1
        return X

    def sample_weight(self):
        return datasets.weights(self.weights, self.n, self.seed)

    def options(self) -> dict:
        """Of `kmeans`, weights aside."""
        return {
            "n_clusters": self.k,
            "init": self.init,
            "n_init": 2 if self.init == "random" else 1,
            "max_iter": 12,
            "tol": 1e-4 if self.weights else 0,
            "random_state": self.seed,
            "metric": self.metric,
        }


SMALL = [
    Case(kind, dtype, init, weights)
    for kind in datasets.KINDS
    for dtype, init, weights in [
        ("float32", "k-means++", None),
        ("float32", "random", "float32"),
        ("float64", "random", None),
        ("float64", "k-means++", "float64"),
        ("float16", "k-means++", "integer"),
    ]
]
SMALL += [
    Case(kind, dtype, init, weights, metric="cosine")
    for kind, dtype, init, weights in [
        ("blobs", "float32", "k-means++", "float32"),
        ("grid", "float32", "random", None),
        ("tiny", "float32", "k-means++", None),
        ("decades", "float32", "k-means++", "float64"),
        ("duplicates", "float64", "k-means++", "float64"),
        ("offset", "float64", "random", None),
        ("outlier", "float64", "k-means++", None),
        ("huge", "float64", "random", "float64"),
    ]
]
SMALL += [
    Case(kind, dtype, "k-means||", weights, metric=metric)
    for kind, dtype, weights, metric in [
        ("blobs", "float32", None, "euclidean"),
        ("duplicates", "float64", "float64", "euclidean"),
        ("decades", "float32", "integer", "cosine"),
    ]
]
LARGE = [
    Case(kind, dtype, init, weights, n=9000, d=4, k=5, seed=1)
    for kind, dtype in [("uniform", "float32"), ("offset", "float64")]
    for init in ["k-means++", "random"]
    for weights in [None, "float64"]
]
LARGE.append(Case("uniform", "float32", "k-means++", None, 9000, 4, 5, 1, "cosine"))


def expected_hash(case: Case) -> str:
    truth = reference.kmeans(case.data(), sample_weight=case.sample_weight(), **case.options())
    return reference.fingerprint(truth.labels, truth.centroids, truth.inertia, truth.n_iter)


def main() -> None:
    hashes = {case.name: expected_hash(case) for case in SMALL + LARGE}
    FILE.write_text(json.dumps(hashes, indent=1) + "\n")
    print(f"wrote {len(hashes)} hashes to {FILE.name}")


if __name__ == "__main__":
    main()
