"""A device must prove itself before it is trusted: how its tensor cores add, and known answers.

The error bound of the fast pass rests on how a tensor core truncates, which no vendor documents,
and the kernels are written for more architectures than anyone here owns. So the first use on a
device measures the one and compares the other with NumPy. A device that fails is refused with
`DeviceUnsupported`; one that passes leaves a mark beside the compiled kernels.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from kmeans_xp.backends import cuda_kernels as variants
from kmeans_xp.backends import nvrtc
from kmeans_xp.backends.cuda_kernels import Kernel, Target, Tiles
from kmeans_xp.backends.nvrtc import DeviceUnsupported

TILE = 64
_passed: set[tuple[int, Target]] = set()
_lock = threading.Lock()


def require(target: Target, make_loop: Any) -> None:
    """Raise DeviceUnsupported unless the current device passes; it is asked once.

    Parameters
    ----------
    target : Target
        The device and the tensor-core instructions to be used.
    make_loop : callable
        `make_loop(X, algorithm)` makes a loop that is not tested itself.
    """
    import cupy as cp

    device = cp.cuda.Device().id
    if (device, target) in _passed:
        return
    with _lock:
        mark = nvrtc.cache_directory() / f"{_fingerprint(target)}.passed"
        if (device, target) not in _passed and not mark.exists():
            _run(target, make_loop)
            with contextlib.suppress(OSError):
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
        _passed.add((device, target))


def _fingerprint(target: Target) -> str:
    """All that may change the outcome: the kernels, the device, the driver and the compiler."""
    import cupy as cp

    runtime = cp.cuda.runtime
    name = runtime.getDeviceProperties(cp.cuda.Device().id)["name"]
    parts = [repr(target), repr(name), repr(runtime.driverGetVersion()), repr(nvrtc.version())]
    parts += [path.read_text() for path in sorted(nvrtc.KERNELS.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _run(target: Target, make_loop: Any) -> None:
    lost = max(units for units in lost_units(target, 128))
    allowed = variants.lost_units_allowed(target) * 128
    if not 0 < lost <= allowed:
        raise DeviceUnsupported(
            f"this device's tensor cores lose {lost:.0f} units in a sum of 128 products, "
            f"the error bound allows {allowed:.0f}"
        )
    for n, d, k in ((3001, 33, 70), (27001, 40, 70), (5001, 2, 9)):
        for algorithm in ("lloyd", "hamerly"):
            wrong = _known_answers(n, d, k, algorithm, make_loop)
            if wrong:
                raise DeviceUnsupported(
                    f"the CUDA kernels fail their self-test on this device: {wrong} "
                    f"({n} rows, {d} columns, {k} clusters, {algorithm})"
                )


def _known_answers(n: int, d: int, k: int, algorithm: str, make_loop: Any) -> str:
    """Compare a few iterations on integers with NumPy; returns what differs."""
    import cupy as cp

    raw = np.random.PCG64(n).random_raw(n * d) >> np.uint64(52)
    X = (raw.astype(np.float64) - 2048).reshape(n, d)
    loop = make_loop(cp.asarray(X.astype(np.float32)), algorithm)
    handle = loop.start(X[:k])
    loop.settle(handle)
    if (_nearest(X, X[:k])[0] != loop.labels().get()).any():  # exact, ties included
        return "labels"
    for _ in range(5):
        handle = loop.step(handle).centroids
    loop.settle(handle)
    labels, (levels, exponents, counts, _) = loop.labels().get(), loop.cluster_sums()
    nearest, clear = _nearest(X, loop.fetch(handle).astype(np.float64))
    if (nearest != labels)[clear].any():
        return "labels after some iterations"
    sums = np.zeros((k, d))
    np.add.at(sums, labels, X)
    rows = np.bincount(labels, minlength=k)
    if (counts[0] != rows).any():
        return "counts"
    exact = np.ldexp(levels.astype(np.float64), exponents[:, None].astype(np.intc)).sum(axis=0)
    if (exact != sums).any():
        return "sums"
    means = loop.fetch(loop.step(handle).centroids)[rows > 0]
    want = sums[rows > 0] / rows[rows > 0, None]
    if (np.abs(means - want) > np.spacing(np.abs(means)) * 0.500001).any():
        return "means"
    return ""


def _nearest(X: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroids in float64 (exact on integers), and where they lead clearly."""
    scores = (C * C).sum(axis=1) - 2 * (X @ C.T)
    two = np.partition(scores, 1, axis=1)[:, :2]
    return scores.argmin(axis=1), two[:, 1] - two[:, 0] > 1e-6 * np.abs(scores).max()


# ---- how the tensor core adds
def lost_units(target: Target, D: int) -> Iterator[float]:
    """Worst errors of half-precision products, in units of 2^-24 Σ|x_i c_i|, by kind of data."""
    import cupy as cp

    tiles = Tiles(TILE, D, False, 1, 1, 2)
    kernel = Kernel(
        variants.accumulate_variant(tiles, target),
        "accumulate",
        target,
        threads=128,
        shared=tiles.shared_bytes,
    )
    for x, c in _families(D):
        a, b = x.astype(np.float16), c.astype(np.float16)
        out = cp.empty((len(a), 64, TILE), cp.float32)
        kernel(len(a), cp.asarray(a), cp.asarray(_image(b, tiles.stage_bytes)), out)
        x, c = a.astype(np.float64), b.astype(np.float64).transpose(0, 2, 1)
        size = np.abs(x) @ np.abs(c)
        error = np.abs(out.get() - x @ c)
        worst = float((error / np.maximum(size, 1e-300)).max()) * 2**24
        yield worst if worst == worst else np.inf


def _families(D: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shape = (4, 64, D)
    mantissa = 1 + rng.integers(0, 1024, shape) / 1024
    sign = 1 - 2.0 * rng.integers(0, 2, shape)
    yield rng.standard_normal(shape), rng.standard_normal(shape)
    yield mantissa, mantissa[::-1]
    yield mantissa * sign, mantissa[::-1] * sign[:, ::-1]
    yield mantissa * 2.0 ** -rng.integers(0, 13, shape), mantissa[:, ::-1]
    for j in (23, 24, 25, 26):  # one large product, all others just below its grid
        x = np.full(shape, 1.998046875 * 2.0 ** -(j // 2))
        c = np.full(shape, 2.0 ** (j // 2 - j))
        x[..., 0] = c[..., 0] = 1
        yield x, c
        yield x * np.where(np.arange(D) % 2, 1, -1), c


def _image(B: np.ndarray, stage_bytes: int) -> np.ndarray:
    """The swizzled tiles of B, (n, 64, D) halves: the layout of centroids.cu, written again."""
    n, _, D = B.shape
    out = np.zeros((n, stage_bytes), np.uint8)
    k = np.arange(D)
    step, place = k // 16, k % 16
    column = 8 * ((place & 7) >> 1) + (place & 1) + ((place >> 3) << 1) + ((step & 1) << 2)
    permuted = B[:, :, 32 * (step // 2) + column].view(np.uint16)
    for r in range(TILE):
        chunk = ((k % 64) >> 3) ^ (r & 7)
        at = (k // 64) * TILE * 128 + (r >> 3) * 1024 + (r & 7) * 128 + chunk * 16 + (k & 7) * 2
        out[:, at] = permuted[:, r] & 255
        out[:, at + 1] = permuted[:, r] >> 8
    return out
