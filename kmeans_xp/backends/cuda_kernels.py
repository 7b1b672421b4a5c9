"""Which kernel variants a problem needs, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kmeans_xp.backends.nvrtc import DeviceUnsupported, assemble, load

SET_SHARED_MEMORY = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


@dataclass(frozen=True)
class Target:
    """What the kernels must know about a device."""

    arch: str
    wgmma: bool
    multiprocessors: int
    shared_bytes: int

    @classmethod
    def current(cls, *, engine: str = "auto") -> Target:
        """Describe the current device; `engine="mma"` avoids wgmma on any device (for tests).

        Raises
        ------
        DeviceUnsupported
            If the device is not of compute capability 9.0. The error bound rests on how the tensor
            cores round, which has been measured on Hopper only; an explicit engine skips this.
        """
        import cupy as cp

        device = cp.cuda.Device()
        capability = device.compute_capability
        attributes = device.attributes
        if engine == "auto" and capability != "90":
            raise DeviceUnsupported(
                f"compute capability {capability[:-1]}.{capability[-1]}; the error bound of the "
                "tensor cores has been measured on 9.0 only"
            )
        if int(capability) < 80:
            raise DeviceUnsupported(f"compute capability {capability} is below 8.0")
        wgmma = capability == "90" and engine != "mma"
        return cls(
            arch="sm_90a" if wgmma else f"sm_{capability}",
            wgmma=wgmma,
            multiprocessors=attributes["MultiProcessorCount"],
            shared_bytes=attributes["MaxSharedMemoryPerBlockOptin"],
        )


@dataclass(frozen=True)
class Tiles:
    """The shape of a tile kernel: centroids and columns of a tile, warpgroups, ring depth."""

    tile: int
    chunk: int
    chunked: bool
    parts: int
    warpgroups: int
    stages: int
    prefetch: bool = False
    blocks_per_sm: int = 1

    @property
    def stage_bytes(self) -> int:
        """Bytes of one stage: the parts and a kilobyte that holds the biases."""
        return -(-self.chunk // 64) * self.tile * 128 * self.parts + 1024

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return self.stages * (self.stage_bytes + 20) + 32

    def fitted(self, shared_bytes: int) -> Tiles:
        """Return the same shape with as many stages as the device has room for."""
        room = shared_bytes // self.blocks_per_sm - 1024 * (self.blocks_per_sm > 1) - 32
        stages = min(self.stages, room // (self.stage_bytes + 20))
        if stages < 2:
            raise DeviceUnsupported(f"a block needs {2 * self.stage_bytes} bytes of shared memory")
        return Tiles(**{**self.__dict__, "stages": stages})


def padded(D: int) -> int:
    """Columns of the half-precision copy: a multiple of what the kernels take at once."""
    step = 32 if D <= 128 else 64 if D <= 768 else 128
    return -(-D // step) * step


def certify_tiles(Dp: int, K: int, target: Target) -> Tiles:
    """Choose the shape of the certified pass: whole rows in registers where they fit."""
    chunked = Dp > (768 if target.wgmma else 256)
    if chunked:
        chunk = 128 if Dp % 128 == 0 else 64
        shape = dict(tile=64, chunk=chunk, warpgroups=4 if target.wgmma else 2, stages=6)
    elif K <= 64 and Dp <= 256:
        deep = 3 if Dp <= 128 else 2
        shape = dict(tile=64, chunk=Dp, warpgroups=6 if Dp <= 32 else 4, stages=deep)
    elif Dp <= 64:
        shape = dict(tile=128, chunk=Dp, warpgroups=4, stages=8)
    elif Dp <= 128:
        shape = dict(tile=128, chunk=Dp, warpgroups=4, stages=6 if K > 4096 else 3)
    elif Dp <= 256:
        shape = dict(tile=64, chunk=Dp, warpgroups=4, stages=5)
    else:
        shape = dict(tile=64, chunk=Dp, warpgroups=2, stages=3 if Dp <= 512 else 2)
    prefetch = not chunked and (Dp <= 64 or (Dp <= 128 and K <= 64))
    tiles = Tiles(chunked=chunked, parts=1, prefetch=prefetch, **shape)
    return tiles.fitted(target.shared_bytes)


def recheck_tiles(Dp: int, target: Target) -> Tiles:
    """Choose the shape of the recheck: chunks of 64 columns once rows are longer than 128."""
    chunked = Dp > 128
    tiles = Tiles(
        tile=64,
        chunk=64 if chunked else Dp,
        chunked=chunked,
        parts=2,
        warpgroups=2,
        stages=3,
        blocks_per_sm=2 if target.wgmma else 1,
    )
    return tiles.fitted(target.shared_bytes)


def wgmma_tile(tile: int) -> str:
    """Write the device function for one m64 x `tile` x k16 product with a register operand."""
    n = tile // 2
    registers = ", ".join(f"%{i}" for i in range(n))
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(n))
    return (
        f"__device__ __forceinline__ void wgmma_tile(float (&d)[{n}], unsigned a0, unsigned a1,"
        " unsigned a2, unsigned a3, unsigned long long b, int add) {\n"
        f'  asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{n + 5}, 0;\\n"\n'
        f'    "wgmma.mma_async.sync.aligned.m64n{tile}k16.f32.f16.f16 {{{registers}}}, "\n'
        f'    "{{%{n}, %{n + 1}, %{n + 2}, %{n + 3}}}, %{n + 4}, p, 1, 1, 0;\\n}}"\n'
        f'    : {outputs} : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(add));\n}}\n'
    )


Variant = tuple[str, tuple[tuple[str, int], ...]]


def _tile_variant(name: str, tiles: Tiles, target: Target, **extra: int) -> Variant:
    engine = "tiles_wgmma.cuh" if target.wgmma else "tiles_mma.cuh"
    prelude = wgmma_tile(tiles.tile) if target.wgmma else ""
    prelude += f"#define PARTS {tiles.parts}\n"
    source = assemble(("common.cuh", engine, "fragments.cuh", f"{name}.cu"), prelude)
    defines = {
        "TILE": tiles.tile,
        "CHUNK": tiles.chunk,
        "CHUNKED": int(tiles.chunked),
        "WARPGROUPS": tiles.warpgroups,
        "STAGES": tiles.stages,
        "PREFETCH": int(tiles.prefetch),
        "BLOCKS_PER_SM": tiles.blocks_per_sm,
        **extra,
    }
    return source, tuple(sorted(defines.items()))


def certify_variant(tiles: Tiles, target: Target, *, bounds: bool, mutate: bool) -> Variant:
    """Source and options of the certified pass."""
    extra = {"NO_CERTIFICATE": 1} if mutate else {}
    return _tile_variant("certify", tiles, target, BOUNDS=int(bounds), **extra)


def recheck_variant(tiles: Tiles, target: Target, *, mutate: bool) -> Variant:
    """Source and options of the recheck."""
    extra = {"NO_CERTIFICATE": 1} if mutate else {}
    return _tile_variant("recheck", tiles, target, **extra)


def plain_variant(files: tuple[str, ...], **defines: int) -> Variant:
    """Source and options of the kernels without tiles."""
    return assemble(("common.cuh", *files)), tuple(sorted(defines.items()))


def centroids_variant(bits: int, first: Tiles, second: Tiles) -> Variant:
    """Source and options of the kernels that prepare the centroids."""
    return plain_variant(
        ("centroids.cu",),
        X_BITS=bits,
        TILE1=first.tile,
        CHUNK1=first.chunk,
        TILE2=second.tile,
        CHUNK2=second.chunk,
    )


def bounds_variant(bits: int) -> Variant:
    """Source and options of the kernels that tell which rows bounds settle."""
    return plain_variant(("bounds.cu",), X_BITS=bits)


def sums_variant(
    bits: int,
    vec: int,
    terms: int,
    weighted: bool,
    differences: bool = False,
    anew: bool = False,
) -> Variant:
    """Source and options of the exact sums, or of what one block changes of them."""
    options = {"WEIGHTED": int(weighted), "UNROLL": 8 if vec * max(terms, 1) <= 4 else 4}
    if differences:
        options["DIFFERENCES"] = 1
    if anew:
        options["SUM_ANEW"] = 1
    return plain_variant(("sums.cu",), X_BITS=bits, VEC=vec, TERMS=terms, **options)


def means_variant(bits: int, weighted: bool, force_slow: bool) -> Variant:
    """Source and options of the rounded means."""
    extra = {"FORCE_SLOW": 1} if force_slow else {}
    files = ("quotient.cuh", "means.cu")
    return plain_variant(files, X_BITS=bits, WEIGHTED=int(weighted), **extra)


def most_threads(bits: int) -> int:
    """Threads of a block that fits a problem whole: more would spill registers."""
    return 256 if bits == 64 else 512


def whole_variant(bits: int, weighted: bool, levels: int, in_shared: bool) -> Variant:
    """Source and options of whole fits by one block each."""
    parts = ("whole", "whole_start", "whole_nearest", "whole_sums")
    helpers = ("exact.cuh", "quotient.cuh", "pairs.cuh")
    return plain_variant(
        (*helpers, *(f"{name}.cuh" for name in parts), "whole.cu"),
        ALONE=1,
        X_BITS=bits,
        WEIGHTED=int(weighted),
        LEVELS=levels,
        IN_SHARED=int(in_shared),
        THREADS=most_threads(bits),
    )


class Kernel:
    """One kernel with the shape of its launch: calling it enqueues it on the current stream."""

    def __init__(
        self, variant: Variant, name: str, target: Target, *, threads: int, shared: int = 0
    ) -> None:
        from cupy.cuda import driver

        self._function: Any = load(*variant, target.arch).get_function(name)
        self._threads = threads
        self._shared = shared
        if shared > 48 * 1024:
            driver.funcSetAttribute(self._function.ptr, SET_SHARED_MEMORY, shared)

    def __call__(self, blocks: int, *args: Any) -> None:
        """Enqueue `blocks` blocks."""
        self._function((blocks,), (self._threads,), args, shared_mem=self._shared)
