"""The cost model of docs/scaling.md: its counts, and which part is the limit."""

from __future__ import annotations

import pytest

from benchmarks import tables
from benchmarks.scaling import Cluster, Job, predicted, predictions

JOB = Job(n=10**9, d=128, k=1000)


def test_counts():
    assert JOB.flops == 2 * 10**9 * 128 * 1000
    assert JOB.bytes_read == 10**9 * 128 * 4
    assert JOB.bytes_sent(3) == 3 * (1000 * (128 * 4 + 128 * 8 * 2 + 16) + 16)
    assert Job(5, 2, 3, width=8, levels=3).bytes_sent(1) == 3 * (2 * 8 + 2 * 8 * 3 + 16) + 16


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        (dict(flops=1e9), "computing"),
        (dict(memory_bytes=1e6, storage_rate=1e3), "reading"),
        (dict(task_seconds=1.0), "scheduling"),
        (dict(latency=100.0), "sending"),
    ],
)
def test_the_slowest_part_is_the_limit(change, limit):
    parts = predicted(JOB, Cluster(8, **change))
    seconds, sending = parts.pop("seconds"), parts["sending"]
    assert max(parts, key=lambda name: parts[name]) == limit
    beside = max(value for name, value in parts.items() if name != "sending")
    assert seconds == beside + sending


def test_one_worker_sends_nothing_far():
    assert predicted(JOB, Cluster(1))["sending"] == 0


def test_predictions_make_a_table():
    rows = list(predictions())
    found = tables.table({"rows": rows}, "prediction")
    assert len(found.rows) == 6
    assert {len(cells) for cells in found.rows} == {len(found.header)}
    assert {told["checks"]["held"] for told in rows} == {True, False}
