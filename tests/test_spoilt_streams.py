"""Streams of spoilt files: the documented errors or, where the damage cannot show, rows."""

from __future__ import annotations

import contextlib
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import stream

from .test_readers import WRITERS

X = np.arange(60.0).reshape(20, 3) / 8
OWN_BLOCKS = (".parquet", ".arrow")
SUFFIXES = (".npy", ".npz", ".parquet", ".arrow", ".h5", ".zarr")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Files without a fault, by suffix; of those whose library is here."""
    folder, found = tmp_path_factory.mktemp("streams"), {}
    for suffix in SUFFIXES:
        with contextlib.suppress(pytest.skip.Exception):
            WRITERS[suffix](folder / f"x{suffix}", X)
            found[suffix] = folder / f"x{suffix}"
    return found


def attempt(path):
    """Open it and read every block."""
    with warnings.catch_warnings(), contextlib.suppress(TypeError, ValueError, OSError):
        warnings.simplefilter("ignore")
        rows = stream(path, block_rows="auto" if path.suffix in OWN_BLOCKS else 8)
        blocks = [block for _, block in rows.each()]
        assert sum(map(len, blocks)) == rows.shape[0]
        assert {block.shape[1] for block in blocks} == {rows.shape[1]}
        assert rows.bytes_read == rows.shape[0] * rows.shape[1] * rows.dtype.itemsize


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spoilt_bytes(sound, suffix, data):
    if suffix not in sound:
        pytest.skip(f"nothing here writes {suffix}")
    whole = sound[suffix].with_name(f"spoilt{suffix}")
    shutil.rmtree(whole, ignore_errors=True)
    if sound[suffix].is_dir():
        shutil.copytree(sound[suffix], whole)
        path = data.draw(st.sampled_from(sorted(p for p in whole.rglob("*") if p.is_file())))
    else:
        path = shutil.copyfile(sound[suffix], whole)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path.write_bytes(content[:end])
    attempt(whole)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".zarr"])
@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=80))
def test_anything_else(sound, suffix, content):
    if suffix not in sound:
        pytest.skip(f"nothing here reads {suffix}")
    path = sound[suffix].with_name(f"other{suffix}")
    path.write_bytes(content)
    attempt(path)


def test_the_error_names_the_file(tmp_path):
    WRITERS[".zarr"](tmp_path / "x.zarr", X)
    chunk = tmp_path / "x.zarr" / "c" / "0" / "0"
    chunk.write_bytes(b"\xa8" + chunk.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"x\.zarr: damaged or no \.zarr file: Zstd"):
        list(stream(tmp_path / "x.zarr").each())
