"""Files of every kind: what is read, which columns, and one error for whatever is spoilt."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp.io import SUFFIXES, DataError, read_array, read_table

X = np.arange(12.0).reshape(4, 3) / 8
IMAGE = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def write_parquet(path, array):
    arrow = pytest.importorskip("pyarrow.parquet")
    arrow.write_table(table(array), path)


def write_arrow(path, array, stream=False):
    arrow = pytest.importorskip("pyarrow")
    made = table(array)
    new = arrow.ipc.new_stream if stream else arrow.ipc.new_file
    with arrow.OSFile(str(path), "wb") as sink, new(sink, made.schema) as writer:
        writer.write_table(made)


def table(array):
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({name: arrow.array(c) for name, c in zip("abcdef", array.T, strict=False)})


def write_hdf5(path, array):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["group/values"] = array


def write_zarr(path, array):
    zarr = pytest.importorskip("zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.save_array(str(path), array)


def write_image(path, array):
    image = pytest.importorskip("PIL.Image")
    pixels = np.rint(array * 8).astype(np.uint8).reshape(2, 2, 3)
    image.fromarray(pixels).save(path)


def write_text(path, array):
    delimiter = "," if path.suffix == ".csv" else "\t"
    np.savetxt(path, array, delimiter=delimiter, header=delimiter.join("abc"), comments="")


WRITERS = {
    ".npy": np.save,
    ".npz": np.savez,
    ".csv": write_text,
    ".tsv": write_text,
    ".parquet": write_parquet,
    ".arrow": write_arrow,
    ".feather": write_arrow,
    ".h5": write_hdf5,
    ".hdf5": write_hdf5,
    ".zarr": write_zarr,
}


def test_every_suffix_is_tested():
    assert set(WRITERS) == set(SUFFIXES)


def written(folder: Path, suffix: str, array=X) -> Path:
    path = folder / f"x{suffix}"
    WRITERS[suffix](path, array)
    return path


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_gives_the_same_numbers(tmp_path, suffix):
    found = read_array(written(tmp_path, suffix))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".arrow", ".h5", ".zarr"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint16", "int64", "bool"])
def test_types_are_kept(tmp_path, suffix, dtype):
    found = read_array(written(tmp_path, suffix, X.astype(dtype)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, X.astype(dtype))


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("columns", [["2", "0"], ["0:2"], ["1:3", "0"]])
def test_columns_by_number(tmp_path, suffix, columns):
    indices = {"2": [2], "0": [0], "0:2": [0, 1], "1:3": [1, 2]}
    expected = X[:, [i for text in columns for i in indices[text]]]
    found = read_array(written(tmp_path, suffix), columns=columns)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".arrow"])
def test_columns_by_name(tmp_path, suffix):
    found = read_table(written(tmp_path, suffix), columns=["c", "a"])
    assert found.names == ["c", "a"]
    np.testing.assert_array_equal(found.values, X[:, [2, 0]])
    assert read_table(written(tmp_path, suffix)).names == ["a", "b", "c"]
    with pytest.raises(DataError, match="no column 'd'; there are 3, numbered from 0, called a"):
        read_table(written(tmp_path, suffix), columns=["d"])


@pytest.mark.parametrize("column", ["3", "-1", "2:1", "0:4", "1:", "x"])
def test_columns_that_are_not_there(tmp_path, column):
    with pytest.raises(DataError, match=f"no column '{column}'; there are 3"):
        read_array(written(tmp_path, ".npy"), columns=[column])


def test_other_columns_may_hold_anything(tmp_path):
    (tmp_path / "x.csv").write_text('name,a,b\n"x, y",1,2\nz,3,\n')
    found = read_table(tmp_path / "x.csv", columns=["a"])
    np.testing.assert_array_equal(found.values, [[1], [3]])
    with pytest.raises(DataError, match="line 3, column 3: an empty cell"):
        read_table(tmp_path / "x.csv", columns=["b", "a"])
    arrow = pytest.importorskip("pyarrow")
    mixed = arrow.table({"name": ["x", "z"], "a": [1, 3], "b": [2.0, None]})
    pytest.importorskip("pyarrow.parquet").write_table(mixed, tmp_path / "x.parquet")
    found = read_table(tmp_path / "x.parquet", columns=["a"])
    np.testing.assert_array_equal(found.values, [[1], [3]])
    with pytest.raises(DataError, match="column 'name' holds string, not real numbers"):
        read_table(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'b' has no value in row 1"):
        read_table(tmp_path / "x.parquet", columns=["b"])


def test_tabs_are_asked_for(tmp_path):
    (tmp_path / "x.tsv").write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match="'3,4' is not a number; separate the columns by tabs"):
        read_array(tmp_path / "x.tsv")


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa,b\n1,2\n")))
    found = read_table("-")
    assert found.names == ["a", "b"]
    np.testing.assert_array_equal(found.values, [[1, 2]])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1,\xff\n")))
    with pytest.raises(DataError, match="standard input: not UTF-8"):
        read_table("-")


def test_arrow_streams(tmp_path):
    write_arrow(tmp_path / "x.arrow", X, stream=True)
    np.testing.assert_array_equal(read_array(tmp_path / "x.arrow"), X)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_vectors_in_one_column(tmp_path, fixed, suffix):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    kind = arrow.list_(arrow.float32(), 3) if fixed else arrow.list_(arrow.float32())
    made = arrow.table({"id": ["a"] * 4, "vector": arrow.array(X.tolist(), kind)})
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        parquet.write_table(made, path)
    else:
        with arrow.OSFile(str(path), "wb") as s, arrow.ipc.new_file(s, made.schema) as writer:
            writer.write_table(made)
    found = read_array(path, columns=["vector"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, X.astype(np.float32))


def test_vectors_of_unequal_length(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    made = arrow.table({"vector": [[1.0, 2.0], [3.0]]})
    pytest.importorskip("pyarrow.parquet").write_table(made, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"column 'vector' has lists of lengths \[1, 2\]"):
        read_array(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".zarr"])
def test_one_array_of_several(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    arrays = {"a": X, "b": X + 1}
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        pytest.importorskip("zarr").save_group(str(path), **arrays)
    np.testing.assert_array_equal(read_array(path, array="b"), X + 1)
    with pytest.raises(DataError, match="holds a, b; name one of them X"):
        read_array(path)
    with pytest.raises(DataError, match="holds no array 'c'; it holds a, b"):
        read_array(path, array="c")


def test_pictures_have_a_row_for_each_pixel(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(IMAGE).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_array(tmp_path / "x.png"), IMAGE.reshape(12, 3))
    image.fromarray(IMAGE[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_array(tmp_path / "grey.png")[:, 0], IMAGE[:, :, 0].ravel())
    image.fromarray(IMAGE).save(tmp_path / "x.jpg")
    assert read_array(tmp_path / "x.jpg").shape == (12, 3)
    image.fromarray(IMAGE).save(tmp_path / "x.gif")
    shutil.move(tmp_path / "x.gif", tmp_path / "gif.png")
    with pytest.raises(DataError, match="a picture of type GIF"):
        read_array(tmp_path / "gif.png")


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [
        (".parquet", "pyarrow.parquet", "io"),
        (".arrow", "pyarrow", "io"),
        (".h5", "h5py", "io"),
        (".zarr", "zarr", "io"),
        (".png", "PIL.Image", "plot"),
    ],
)
def test_a_missing_library_names_the_command(tmp_path, monkeypatch, suffix, module, extra):
    (tmp_path / f"x{suffix}").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    command = rf'pip install "kmeans_xp\[{extra}\]"'
    with pytest.raises(ModuleNotFoundError, match=command):
        read_array(tmp_path / f"x{suffix}")


# Spoilt files: the documented error or, where the damage cannot show, an array


FUZZED = [".npy", ".npz", ".csv", ".tsv", ".parquet", ".arrow", ".h5", ".png", ".jpg"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    found = {}
    for suffix in FUZZED:
        with contextlib.suppress(pytest.skip.Exception):
            if suffix in (".png", ".jpg"):
                write_image(folder / f"x{suffix}", X)
                found[suffix] = folder / f"x{suffix}"
            else:
                found[suffix] = written(folder, suffix)
    return found


def attempt(path: Path) -> None:
    with warnings.catch_warnings(), contextlib.suppress(DataError):
        warnings.simplefilter("ignore")
        assert isinstance(read_array(path), np.ndarray)


@pytest.mark.parametrize("suffix", FUZZED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spoilt_bytes(sound, tmp_path_factory, suffix, data):
    if suffix not in sound:
        pytest.skip(f"nothing here writes {suffix}")
    content = bytearray(sound[suffix].read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = sound[suffix].with_name(f"spoilt{suffix}")
    path.write_bytes(content[:end])
    attempt(path)


@pytest.mark.parametrize("suffix", FUZZED)
@settings(max_examples=30, deadline=None)
@given(content=st.one_of(st.binary(max_size=80), st.text(max_size=40).map(str.encode)))
def test_anything_else(sound, suffix, content):
    if suffix not in sound:
        pytest.skip(f"nothing here reads {suffix}")
    path = sound[suffix].with_name(f"other{suffix}")
    path.write_bytes(content)
    attempt(path)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_spoilt_zarr(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "spoilt.zarr"
    shutil.rmtree(folder, ignore_errors=True)
    write_zarr(folder, X)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    attempt(folder)


def test_a_claim_of_more_rows_than_memory(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 3), }"
    header += b" " * (117 - len(header)) + b"\n"
    whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("X.npy", whole)
    with pytest.raises(DataError, match="memory"):
        read_array(tmp_path / "x.npz")
