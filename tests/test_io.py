"""Files: what is read, what is refused in which words, and that none is left half-written."""

from __future__ import annotations

import contextlib
import io
import os
import stat

import numpy as np
import pytest

from kmeans_xp.io import DataError, atomic_files, atomic_write, read_array, write_csv, write_npy

X = np.arange(12.0).reshape(4, 3) / 8


def text(tmp_path, content: str | bytes, name: str = "x.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# NumPy's formats


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint64", "bool", ">f8"]
)
def test_npy_keeps_the_type_and_stays_on_disk(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    found = read_array(tmp_path / "x.npy")
    assert isinstance(found, np.memmap)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, X.astype(dtype))


def test_suffix_in_capitals_and_a_string_path(tmp_path):
    text(tmp_path, "1,2\n", "X.CSV")
    np.testing.assert_array_equal(read_array(str(tmp_path / "X.CSV")), [[1, 2]])


def test_fortran_order(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy"), X)


def test_npz_with_one_array(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", whatever=X)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npz"), X)


def test_npz_prefers_x(tmp_path):
    np.savez(tmp_path / "x.npz", a=X + 1, X=X, z=X + 2)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npz"), X)


def test_npz_that_leaves_the_choice_open(tmp_path):
    np.savez(tmp_path / "x.npz", b=X, a=X)
    with pytest.raises(
        DataError, match=r"x\.npz: holds a, b; name one of them X, or say with array"
    ):
        read_array(tmp_path / "x.npz")


def test_empty_npz(tmp_path):
    np.savez(tmp_path / "x.npz")
    with pytest.raises(DataError, match="holds no array"):
        read_array(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04 no", b"hello, world\n" * 99])
def test_foreign_files(tmp_path, name, content):
    with pytest.raises(DataError, match=name):
        read_array(text(tmp_path, content, name))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_every_truncation_is_an_error(tmp_path, name):
    whole = io.BytesIO()
    np.save(whole, X) if name == "x.npy" else np.savez(whole, X=X)
    content = whole.getvalue()
    for length in range(0, len(content), 7):
        with pytest.raises(DataError, match=name):
            read_array(text(tmp_path, content[:length], name))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_flipped_byte_is_an_error_or_read(tmp_path, name):
    whole = io.BytesIO()
    np.save(whole, X) if name == "x.npy" else np.savez_compressed(whole, X=X)
    for place in range(len(whole.getvalue())):
        content = bytearray(whole.getvalue())
        content[place] ^= 0x15
        with contextlib.suppress(DataError):
            read_array(text(tmp_path, bytes(content), name))


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "b"]),
        np.array([1 + 2j]),
        np.zeros(3, dtype=[("x", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
)
def test_other_types(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match="not real numbers"):
        read_array(tmp_path / "x.npy")


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a plain array"):
        read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["no.npy", "no.npz", "no.csv"])
def test_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        read_array(tmp_path / name)


@pytest.mark.parametrize("name", ["x.txt", "x"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(DataError, match=r"cannot read .*\.npy, \.npz, \.csv"):
        read_array(tmp_path / name)


# CSV


@pytest.mark.parametrize(
    "content",
    [
        "1,2\n3,4\n",
        "1,2\r\n3,4",
        "a,b\n1,2\n3,4\n",
        '"first, second",b\n1,2\n3,4\n',
        "\ufeffa,b\n1,2\n3,4\n",
        "\ufeff1,2\n3,4\n",
        "\n\na,b\n\n 1 , 2\n3,4\n\n",
        '"1","2"\n"3","4"\n',
        "1e0,+2.0\n3.,.4e1\n",
    ],
)
def test_csv(tmp_path, content):
    np.testing.assert_array_equal(read_array(text(tmp_path, content)), [[1, 2], [3, 4]])


def test_csv_header_is_noted(tmp_path):
    notes = []
    read_array(text(tmp_path, "1,2\n"), notes.append)
    assert notes == []
    path = text(tmp_path, "\na,b\n1,2\n")
    read_array(path, notes.append)
    assert notes == [f"{path}: line 2 taken as header: a,b"]


def test_csv_first_row_of_nan_is_data(tmp_path):
    assert np.isnan(read_array(text(tmp_path, "nan,nan\n1,2\n"))[0]).all()


def test_csv_with_one_column_and_one_row(tmp_path):
    assert read_array(text(tmp_path, "w\n1\n2\n")).shape == (2, 1)
    assert read_array(text(tmp_path, "1,2\n")).shape == (1, 2)


def test_csv_numbers_are_correctly_rounded(tmp_path):
    values = np.random.PCG64(3).random_raw(200).view(np.float64)
    values = values[np.isfinite(values)]
    content = "\n".join(map(repr, values.tolist()))
    np.testing.assert_array_equal(read_array(text(tmp_path, content))[:, 0], values)


def test_csv_keeps_nan_for_kmeans_to_refuse(tmp_path):
    assert np.isnan(read_array(text(tmp_path, "1,nan\n")))[0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        ("\n \n", "holds no rows"),
        ("a,b\n", "holds no numbers, only line 1: 'a,b'"),
        ("1,2\n3,x\n", "line 2, column 2: 'x' is not a number"),
        ("a,b\n1,2\n\n3,x\n", "line 4, column 2: 'x' is not a number"),
        ("1,2\n3,\n", "line 2, column 2: an empty cell"),
        (",0,1\n0,1,2\n", "line 1, column 1: an empty cell"),
        ("NA,NA\n1,2\n", "line 1, column 1: 'NA' is not a number"),
        (",\n1,2\n", "line 1, column 1: an empty cell"),
        ("a,NA\n1,2\n", "line 1, column 1: 'a' is not a number"),
        (",a,b\n0,1,2\n", "line 1, column 1: an empty name in the header"),
        (",a,b\n0,1,2\n", "index=False"),
        ("a,b\n1,2\nc,d\n", "line 3, column 1: 'c' is not a number"),
        ("1,2\n3\n", "line 2 has 1 column, the lines before it 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 columns, the lines before it 2"),
        ("1;2\n3;4\n", "line 2, column 1: '3;4' is not a number; separate the columns by commas"),
        ("a;b\n1;2\n", "line 2, column 1: '1;2' is not a number; separate the columns by commas"),
        ("1,1_000\n", "line 1, column 2: '1_000' is not a number"),
        ("1,0x10\n", "line 1, column 2: '0x10' is not a number"),
        ('1,2\n3,"4\n5,6\n', "line 2: a quote is opened"),
        (b"1,\xff\n", "not UTF-8"),
        (b"1,2\n" * 9999 + b"1,\xff\n", "not UTF-8"),
        ("1,\0\n", "line 1"),
    ],
)
def test_csv_errors_say_where(tmp_path, content, message):
    with pytest.raises(DataError) as caught:
        read_array(text(tmp_path, content))
    assert message in str(caught.value)
    assert "x.csv" in str(caught.value)


# Writing


def test_atomic_write_appears_when_complete(tmp_path):
    path = tmp_path / "out.bin"
    with atomic_write(path) as file:
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_write_that_fails_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def fail():
        with atomic_write(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_atomic_files_all_or_none(tmp_path):
    (tmp_path / "b").mkdir()

    def write():
        with atomic_files([tmp_path / "a", tmp_path / "b"]) as files:
            for file in files:
                file.write(b"new")

    with pytest.raises(IsADirectoryError, match="b: a folder stands"):
        write()
    assert os.listdir(tmp_path) == ["b"]


def test_errors_name_no_temporary_file(tmp_path):
    with (
        pytest.raises(OSError, match="x: cannot be written") as caught,
        atomic_write(tmp_path / "no" / "x"),
    ):
        pass
    assert ".tmp" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="file modes are a POSIX matter")
def test_atomic_write_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "out.bin"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.bin").stat().st_mode) == 0o640


def test_write_npy(tmp_path):
    with atomic_write(tmp_path / "x.npy") as file:
        write_npy(file, X)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy"), X)


def test_write_csv_reads_back_bit_for_bit(tmp_path):
    values = np.array([0.1, 1 / 3, 5e-324, 1e308])
    labels = np.array([3, 1, 0, 2], dtype=np.int32)
    with atomic_write(tmp_path / "x.csv") as file:
        write_csv(file, ["label", "value"], [labels, values])
        file.write(b"")  # still open
    assert (tmp_path / "x.csv").read_text().startswith("label,value\n3,0.1\n")
    np.testing.assert_array_equal(
        read_array(tmp_path / "x.csv"), np.stack([labels, values], axis=1)
    )


def test_write_csv_of_unequal_columns(tmp_path):
    with pytest.raises(ValueError, match="shorter"), atomic_write(tmp_path / "x.csv") as file:
        write_csv(file, ["a", "b"], [np.zeros(2), np.zeros(1)])
    assert os.listdir(tmp_path) == []
