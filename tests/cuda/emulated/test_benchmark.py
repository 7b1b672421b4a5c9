"""The benchmark of streams on the device runs, on little data: its figures say nothing here."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks import stream as benchmark
from benchmarks import stream_cuda
from tests import datasets

STAGES = ["reading the file", "into pinned memory", "pinned memory to the device", "computing"]


def test_stages_and_streams(cp, tmp_path, monkeypatch):
    x = datasets.make("blobs", "float32", 400, 4)
    np.save(tmp_path / "rows.npy", x)
    monkeypatch.setattr(stream_cuda, "ITERATIONS", 3)
    pool = cp.get_default_memory_pool()  # other tests may have left something there
    monkeypatch.setattr(stream_cuda, "LEAST_ALLOWED", pool.used_bytes() + (1 << 20))
    before = pool.get_limit()
    rows = stream_cuda.measure(tmp_path / "rows.npy", 3, block_rows=150)
    assert pool.get_limit() == before
    assert [r["implementation"] for r in rows[:4]] == [f"stage: {name}" for name in STAGES]
    rates = [r["checks"]["bytes_per_second"] for r in rows[:4]]
    assert np.allclose([r["ms"] for r in rows[:4]], 1e3 * x.nbytes / np.array(rates))
    for one, alone in zip(rows[4:], (STAGES[1:], STAGES, STAGES), strict=True):
        told = one["checks"]
        assert told["limited_by"] in alone
        limit = min(rates[STAGES.index(name)] for name in alone)
        assert told["of_limit"] == told["bytes_per_second"] / limit
        assert told["of_pinned_copy"] == told["bytes_per_second"] / rates[2]
        assert told["labels_as_on_the_host"] and not told["larger_than_allowed"]
        passes = told["bytes_read"] + told["bytes_skipped"]
        assert passes > told["iterations"] * x.nbytes
        assert bool(told["bytes_skipped"]) <= bool(told["resident_bytes"])


def test_the_command(cp, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "D", 4)
    monkeypatch.setattr(benchmark, "K", 3)
    monkeypatch.setattr(stream_cuda, "ITERATIONS", 2)
    monkeypatch.setattr(stream_cuda, "REPEATS", 1)
    assert (
        benchmark.main(["--cuda", "--gib", str(300 * 16 / 2**30), "--folder", str(tmp_path)]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].split() == ["ms", "a", "pass", "GB/s", "limited", "by", "of", "that"]
    assert lines[-1].startswith("streamed from the file, copies stay") and lines[-1].endswith("%")
    assert not list(tmp_path.iterdir())


def test_without_a_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert benchmark.main(["--cuda", "--folder", str(tmp_path)]) == 1
    assert "skipped, nothing was measured: CuPy cannot be imported" in capsys.readouterr().err
