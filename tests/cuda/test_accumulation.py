"""How the tensor core adds: the constant in the error bound must cover the device at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kmeans_xp.backends import cuda_iteration
from kmeans_xp.backends import cuda_kernels as variants
from kmeans_xp.backends.nvrtc import DeviceUnsupported, assemble, load

from .checks import Random

pytestmark = pytest.mark.gpu

TILE = 64


def image_column(k):
    step, place = k // 16, k % 16
    inner = 8 * ((place & 7) >> 1) + (place & 1) + ((place >> 3) << 1)
    return 32 * (step // 2) + inner + ((step & 1) << 2)


def image(B: np.ndarray, stage_bytes: int) -> np.ndarray:
    """The swizzled tiles of B, (n, 64, D) halves, written a second time, independently."""
    n, _, D = B.shape
    out = np.zeros((n, stage_bytes), np.uint8)
    k = np.arange(D)
    permuted = B[:, :, image_column(k)].view(np.uint16)
    for r in range(TILE):
        chunk = ((k % 64) >> 3) ^ (r & 7)
        at = (k // 64) * TILE * 128 + (r >> 3) * 1024 + (r & 7) * 128 + chunk * 16 + (k & 7) * 2
        out[:, at] = permuted[:, r] & 255
        out[:, at + 1] = permuted[:, r] >> 8
    return out


class Products:
    """x·c of 64 x 64 pairs of half rows on the tensor core, and in float64."""

    def __init__(self, cp, D: int, engine: str) -> None:
        self.cp = cp
        target = variants.Target.current(engine=engine)
        self.tiles = variants.Tiles(TILE, D, False, 1, 1, 2)
        name = "tiles_wgmma.cuh" if target.wgmma else "tiles_mma.cuh"
        prelude = variants.wgmma_tile(TILE) if target.wgmma else ""
        source = assemble(("common.cuh", name, "fragments.cuh"), prelude + "#define PARTS 1\n")
        source += (Path(__file__).parent / "accumulate.cu").read_text()
        defines = (("CHUNK", D), ("STAGES", 2), ("TILE", TILE), ("WARPGROUPS", 1))
        self.kernel = load(source, defines, target.arch).get_function("accumulate")
        size = self.tiles.shared_bytes
        cp.cuda.driver.funcSetAttribute(self.kernel.ptr, variants.SET_SHARED_MEMORY, size)

    def lost_units(self, A: np.ndarray, B: np.ndarray) -> float:
        """The worst error in units of 2^-24 Σ|x_i c_i|."""
        cp = self.cp
        out = cp.empty((len(A), 64, TILE), cp.float32)
        arguments = (cp.asarray(A), cp.asarray(image(B, self.tiles.stage_bytes)), out)
        self.kernel((len(A),), (128,), arguments, shared_mem=self.tiles.shared_bytes)
        x, c = A.astype(np.float64), B.astype(np.float64).transpose(0, 2, 1)
        size = np.abs(x) @ np.abs(c)
        error = np.abs(out.get() - x @ c)
        return float((error / np.maximum(size, 1e-300)).max()) * 2**24


def families(D, rng):
    shape = (4, 64, D)
    mantissa = 1 + rng.integers(0, 1024, shape) / 1024
    sign = 1 - 2.0 * rng.integers(0, 2, shape)
    yield rng.bell(shape), rng.bell(shape)
    yield mantissa, mantissa[::-1]
    yield mantissa * sign, mantissa[::-1] * sign[:, ::-1]
    yield mantissa * 2.0 ** -rng.integers(0, 13, shape), mantissa[:, ::-1]
    for j in (23, 24, 25, 26):  # one large product, all others just below its grid
        x = np.full(shape, 1.998046875 * 2.0 ** -(j // 2))
        c = np.full(shape, 2.0 ** (j // 2 - j))
        x[..., 0] = c[..., 0] = 1
        yield x, c
        yield x * np.where(np.arange(D) % 2, 1, -1), c


@pytest.mark.parametrize("engine", ["auto", "mma"])
@pytest.mark.parametrize("D", [32, 128, 256])
def test_the_error_constant_covers_this_device(device, engine, D):
    try:
        wgmma = variants.Target.current(engine=engine).wgmma
    except DeviceUnsupported as reason:
        pytest.skip(str(reason))
    products = Products(device, D, engine)
    allowed = cuda_iteration.LOST_WGMMA if wgmma else cuda_iteration.LOST_MMA
    worst = max(
        products.lost_units(a.astype(np.float16), b.astype(np.float16))
        for a, b in families(D, Random(0))
    )
    assert 0 < worst <= allowed * D
