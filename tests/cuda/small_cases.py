"""Small problems through every kernel, for compute-sanitizer.

``python -m tests.cuda.small_cases``
"""

from __future__ import annotations

from .checks import Random


def main() -> None:
    import cupy as cp

    from kmeans_xp.backends.cuda import DeviceLloyd

    rng = Random(0)
    for dtype, D, K, weighted in (
        ("float32", 33, 20, False),
        ("float32", 128, 200, True),
        ("float16", 200, 30, False),
        ("float64", 7, 9, False),
        ("float32", 2, 5, False),
    ):
        X = cp.asarray(rng.integers(-9, 9, (700, D)).astype(dtype))
        w = cp.asarray(rng.random(700)) if weighted else None
        loop = DeviceLloyd(X, w)
        handle = loop.start(X[:K].get())
        for _ in range(4):
            handle = loop.step(handle).centroids
        loop.settle(handle)
        potential = loop.potential()
        potential.start(3)
        potential.accept(potential.locate([potential.total() // 2])[0])
        potential.costs([1, 2, 3])
        loop.farthest(handle, 5)
        loop.column_sums(power=2, weighted=weighted)
        print(dtype, D, K, "done", flush=True)


if __name__ == "__main__":
    main()
