"""Every kernel variant compiles for every architecture without spills; no device needed."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from kmeans_xp.backends import cuda_kernels as variants
from kmeans_xp.backends import nvrtc as compiler
from kmeans_xp.backends.cuda_seeding import CANDIDATES

from .conftest import absent

# architecture, wgmma, bytes of shared memory a block may have
TARGETS = {
    "sm_80": variants.Target("sm_80", False, 108, 163 * 1024),
    "sm_89": variants.Target("sm_89", False, 128, 99 * 1024),
    "sm_90a": variants.Target("sm_90a", True, 132, 227 * 1024),
    "sm_100": variants.Target("sm_100", False, 148, 227 * 1024),
    "sm_120": variants.Target("sm_120", False, 170, 99 * 1024),
}
# Registers saved around the call of a rare path are not spills of a loop. The rare paths of
# `means` and `fit_whole` keep long integers on the stack on purpose, and save many registers.
FEW_BYTES, STACK_ALLOWED = 96, {"means": 512, "fit_whole": 640}
# All columns that `padded` makes of up to 768, where rows are not cut into chunks, and then some;
# numbers of clusters on either side of every limit of `certify_tiles`.
COLUMNS = sorted({variants.padded(D) for D in range(1, 1025)} | {1536})
CLUSTERS = (16, 1024, 8192)
BITS = (16, 32, 64)


def tile_variants(target: variants.Target) -> dict[str, variants.Variant]:
    """All of the tile kernels and of the kernels that prepare centroids for them."""
    found = {}
    for Dp in COLUMNS:
        second = variants.recheck_tiles(Dp, target)
        found[f"recheck-{Dp}"] = variants.recheck_variant(second, target, mutate=False)
        for K in CLUSTERS:
            first = variants.certify_tiles(Dp, K, target)
            for bounds in (False, True):
                found[f"certify-{Dp}-{K}-{bounds}"] = variants.certify_variant(
                    first, target, bounds=bounds, mutate=False
                )
            for bits in BITS:
                found[f"centroids-{Dp}-{K}-{bits}"] = variants.centroids_variant(
                    bits, first, second
                )
    return found


def plain_variants() -> dict[str, variants.Variant]:
    """All of the kernels without tiles."""
    plain, found = variants.plain_variant, {}
    for bits in BITS:
        found[f"prepare-{bits}"] = plain(("prepare.cu",), X_BITS=bits)
        found[f"decide-{bits}"] = plain(("exact.cuh", "decide.cu"), X_BITS=bits)
        found[f"bounds-{bits}"] = variants.bounds_variant(bits)
        for weighted in (False, True):
            found[f"means-{bits}-{weighted}"] = variants.means_variant(bits, weighted, False)
            for levels in (1, 3) if bits != 64 and not weighted else (3,):
                for inside in (False, True):
                    found[f"whole-{bits}-{weighted}-{levels}-{inside}"] = variants.whole_variant(
                        bits, weighted, levels, inside
                    )
            for power in (1, 2):
                found[f"moments-{bits}-{power}-{weighted}"] = plain(
                    ("moments.cu",), X_BITS=bits, POWER=power, WEIGHTED=int(weighted)
                )
            for vec in (1, 2) if bits == 64 else (1, 2, 4):
                for terms in (1, 2, 3, 4) if weighted or bits == 64 else (0,):
                    for differences in (False, True):
                        name = f"sums-{bits}-{vec}-{terms}-{weighted}-{differences}"
                        found[name] = variants.sums_variant(bits, vec, terms, weighted, differences)
        for lanes in (1, 2, 4, 8, 16, 32):
            for candidates in CANDIDATES:
                found[f"seed-{bits}-{lanes}-{candidates}"] = plain(
                    ("seed.cu",), X_BITS=bits, LANES=lanes, CANDIDATES=candidates
                )
    return found


def spills(nvrtc, variant: variants.Variant, arch: str) -> dict[str, int]:
    """Bytes spilled by each kernel, from the assembler's report."""
    source, defines = variant
    program = nvrtc.createProgram(source, "kmeans_xp.cu", (), ())
    options = (f"--gpu-architecture={arch}", *compiler.OPTIONS, "--ptxas-options=-v")
    try:
        nvrtc.compileProgram(program, options + tuple(f"-D{k}={v}" for k, v in defines))
        log = nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)
    report = r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores"
    found = re.findall(report, log, re.DOTALL)
    assert found, "the assembler reported nothing"
    return {
        name: max(int(spilled), 0 if name in STACK_ALLOWED else int(stack))
        for name, stack, spilled in found
    }


def over(found: dict[str, int]) -> dict[str, int]:
    """Kernels that spill more than is allowed."""
    return {name: n for name, n in found.items() if n > STACK_ALLOWED.get(name, FEW_BYTES)}


@pytest.mark.parametrize("arch", TARGETS)
@pytest.mark.parametrize("kind", ["tiles", "plain"])
def test_every_variant_compiles_without_spills(nvrtc, arch, kind):
    if arch not in {f"sm_{a}" for a in nvrtc.getSupportedArchs()} | {"sm_90a"}:
        absent(f"this NVRTC does not know {arch}")
    found = tile_variants(TARGETS[arch]) if kind == "tiles" else plain_variants()
    unique = {variant: name for name, variant in found.items()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compilers run outside the GIL
        spilled = pool.map(lambda variant: over(spills(nvrtc, variant, arch)), unique)
        bad = {name: some for name, some in zip(unique.values(), spilled, strict=True) if some}
    assert not bad


def test_a_kernel_that_spills_is_found(nvrtc):
    source = """
    extern "C" __global__ void __launch_bounds__(1024) f(float* x, int n) {
        float kept[200];
        for (int i = 0; i < 200; ++i) kept[i] = x[i];
        for (int j = 0; j < n; ++j)
            for (int i = 0; i < 200; ++i) kept[i] = kept[i] * kept[(i + 7) % 200] + x[j];
        for (int i = 0; i < 200; ++i) x[i] = kept[i];
    }"""
    assert over(spills(nvrtc, (source, ()), "sm_90a"))


def test_a_source_that_does_not_compile_says_why(nvrtc):
    with pytest.raises(compiler.DeviceUnsupported, match="undefined"):
        compiler.compile_source("__global__ void f() { undefined(); }", (), "sm_90a")
    with pytest.raises(compiler.DeviceUnsupported, match="sm_1"):
        compiler.compile_source("__global__ void f() {}", (), "sm_1")


def test_compiled_kernels_are_kept_between_processes(nvrtc, monkeypatch, tmp_path):
    monkeypatch.setenv("KMEANS_XP_CACHE_DIR", str(tmp_path / "cache"))
    source = 'extern "C" __global__ void f(int* x) { *x = VALUE; }'
    key, first = compiler.cubin(source, (("VALUE", 1),), "sm_90a")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{key}.cubin"]
    monkeypatch.setattr(compiler, "compile_source", None)  # a second compilation would fail
    assert compiler.cubin(source, (("VALUE", 1),), "sm_90a") == (key, first)


def test_a_cache_that_cannot_be_written_is_no_error(nvrtc, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KMEANS_XP_CACHE_DIR", str(tmp_path / "file" / "cache"))
    _, data = compiler.cubin('extern "C" __global__ void f() {}', (), "sm_90a")
    assert data[:4] == b"\x7fELF"


def test_a_damaged_cache_entry_is_replaced(nvrtc, monkeypatch, tmp_path):
    monkeypatch.setenv("KMEANS_XP_CACHE_DIR", str(tmp_path))
    source = 'extern "C" __global__ void f() {}'
    key, good = compiler.cubin(source, (), "sm_90a")
    (tmp_path / f"{key}.cubin").write_bytes(b"")
    assert compiler.cubin(source, (), "sm_90a") == (key, good)
