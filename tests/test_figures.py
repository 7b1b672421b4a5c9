"""Tables that the manual makes from result files."""

from __future__ import annotations

import pytest

from benchmarks import tables
from benchmarks.harness import RESULTS, row

MACHINE = {"cpu": "Abacus", "cores": 2, "memory_bytes": 8 * 2**30, "system": "Linux"}
SHAPE = (60_000, 784, 10)


def record(*rows):
    return {
        "machine": MACHINE,
        "versions": {"python": "3.13", "numpy": "2.4"},
        "command": "python -m benchmarks cpu",
        "date": "2026-01-02",
        "rows": rows,
    }


def entry(name, ms, table="seeding", shape=SHAPE, **checks):
    return row(table, shape, "float32", name, ms=ms, **checks)


def test_a_line_for_each_data_set_and_a_column_for_each_library():
    found = tables.table(
        record(
            entry("kmeans_xp numba", 2.5),
            entry("scikit-learn", 10.0),
            entry("faiss", 1234.5),
            {**entry("kmeans_xp numba", 150.0, shape=(5, 2, 2), data="dice"), "dtype": "float64"},
            {**entry("scikit-learn", 75.0, shape=(5, 2, 2), data="dice"), "dtype": "float64"},
            entry("kmeans_xp numba", 1.0, table="another"),
        ),
        "seeding",
    )
    assert found.header == ["data", "K", "kmeans_xp numba", "scikit-learn", "faiss"]
    assert found.rows == [
        ["60,000 × 784", "10", "2.50 ms (4.00×)", "10.0 ms", "1.23 s"],
        ["dice, 5 × 2, float64", "2", "150 ms (0.50×)", "75.0 ms", "–"],
    ]


def test_quality_has_a_column_where_fits_differ():
    rows = entry("kmeans_xp numba", 1.0, "fit", inertia=99.0), entry("x", 1.0, "fit", inertia=100.0)
    found = tables.table(record(*rows), "fit")
    assert found.header[-1] == "inertia, ours to theirs"
    assert found.rows[0][-1] == "0.9900"


def test_what_is_slower_is_told():
    given = record(
        entry("kmeans_xp numba", 2.0, "one iteration"),
        entry("kmeans_xp NumPy", 0.5, "one iteration"),
        entry("scikit-learn", 1.5, "one iteration"),
        entry("faiss", 1.0, "one iteration"),
        entry("kmeans_xp numba", 1.0),
        entry("scikit-learn", 1.5),
        entry("kmeans_xp numba", None, "limits"),
    )
    assert tables.behind(given) == [
        "one iteration, 60,000 × 784, K = 10: 2.00 ms against 1.00 ms of faiss"
    ]


def test_where_it_was_measured():
    assert tables.measured(record()) == (
        "python -m benchmarks cpu",
        "on 2026-01-02: Abacus, 2 cores, 8 GiB, Python 3.13, numpy 2.4.",
    )


def test_no_such_table():
    with pytest.raises(ValueError, match="no table 'speed'; there are seeding"):
        tables.table(record(entry("faiss", 1.0)), "speed")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_committed_result_can_be_shown(path):
    given = tables.read_results(path.stem)
    assert given["date"] in tables.measured(given)[1]
    tables.behind(given)
    for name in {found["table"] for found in given["rows"]} - {"ceilings"}:
        found = tables.table(given, name)
        assert found.rows
        assert {len(cells) for cells in found.rows} == {len(found.header)}
        assert all(cell for cells in found.rows for cell in cells)
