"""Tables of a result file for people: the manual makes its tables from them when it is built."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.harness import RESULTS

__all__ = ["Table", "behind", "measured", "read_results", "table"]

OURS = "kmeans_xp numba"
Record = Mapping[str, Any]
Entries = Sequence[Mapping[str, Any]]


class Table(NamedTuple):
    """Cells of a table, row by row."""

    header: list[str]
    rows: list[list[str]]


def read_results(name: str) -> dict[str, Any]:
    """Read ``benchmarks/results/<name>.json``."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def table(record: Record, name: str) -> Table:
    """Lay out the rows of one table of a result file.

    Parameters
    ----------
    record : mapping
        See `read_results`.
    name : str
        What its rows call it.

    Raises
    ------
    ValueError
        If the file has no such table.
    """
    rows = [entry for entry in record["rows"] if entry["table"] == name]
    if not rows:
        names = ", ".join(sorted({entry["table"] for entry in record["rows"]}))
        raise ValueError(f"there is no table {name!r}; there are {names}")
    return _LAYOUTS.get(name, _speeds)(rows)


def behind(record: Record, ours: str = OURS) -> list[str]:
    """Say where another library was faster, one line each.

    Parameters
    ----------
    record : mapping
        See `read_results`.
    ours : str
        The implementation that is compared with the others' fastest.
    """
    lines = []
    for entries in _groups(record["rows"]):
        speeds = _milliseconds(entries)
        peers = {name: ms for name, ms in speeds.items() if not name.startswith("kmeans_xp")}
        if ours not in speeds or not peers:
            continue
        best = min(peers, key=lambda name: peers[name])
        if peers[best] < speeds[ours]:
            first = entries[0]
            what = f"{first['table']}, {_data(first)}, K = {first['k']:,}"
            times = f"{_time(speeds[ours])} against {_time(peers[best])}"
            lines.append(f"{what}: {times} of {best}")
    return lines


def measured(record: Record) -> tuple[str, str]:
    """Return the command that took the figures, and when, where and with what it did."""
    machine, versions = record["machine"], record["versions"]
    shown = [name for name in ("numpy", "numba", "scikit-learn", "faiss-cpu") if name in versions]
    memory = machine.get("memory_bytes")
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores",
        *([f"{memory / 2**30:.0f} GiB"] if memory else []),
        *([machine["gpu"]] if "gpu" in machine else []),
        f"Python {versions['python']}",
        *(f"{name} {versions[name]}" for name in shown),
    ]
    return record["command"], f"on {record['date']}: {', '.join(parts)}."


def _groups(entries: Entries) -> list[list[Mapping[str, Any]]]:
    """Entries of the same data, which several implementations computed."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in entries:
        told = entry["checks"]
        key = [entry[name] for name in ("table", "n", "d", "k", "dtype")]
        key += [told.get(name) for name in ("data", "problems", "subvectors")]
        found.setdefault(tuple(key), []).append(entry)
    return list(found.values())


def _milliseconds(entries: Entries) -> dict[str, float]:
    return {e["implementation"]: e["ms"] for e in entries if e["ms"] is not None}


def _speeds(entries: Entries) -> Table:
    """Times of each implementation; ours with how many times as fast the first other one is."""
    names = list(dict.fromkeys(entry["implementation"] for entry in entries))
    base = next((name for name in names if not name.startswith("kmeans_xp")), None)
    compared = _compared(entries)
    rows = []
    for group in _groups(entries):
        speeds, first = _milliseconds(group), group[0]
        cells = []
        for name in names:
            cell = _time(speeds[name]) if name in speeds else "–"
            if name.startswith("kmeans_xp") and name in speeds and base in speeds:
                cell += f" ({speeds[base] / speeds[name]:.2f}×)"
            cells.append(cell)
        more = [_ratio(group, compared)] if compared else []
        rows.append([_data(first), f"{first['k']:,}", *cells, *more])
    last = [f"{compared.replace('_', ' ')}, ours to theirs"] if compared else []
    return Table(["data", "K", *names, *last], rows)


def _compared(entries: Entries) -> str | None:
    """The measure of quality that every entry has and that is worth a column."""
    measure = {"fit": "inertia", "pq": "mean_squared_error"}.get(entries[0]["table"])
    return measure if measure and all(measure in e["checks"] for e in entries) else None


def _ratio(group: Entries, measure: str) -> str:
    values = {entry["implementation"]: entry["checks"][measure] for entry in group}
    theirs = next(value for name, value in values.items() if not name.startswith("kmeans_xp"))
    return f"{next(iter(values.values())) / theirs:.4f}"


def _memory(entries: Entries) -> Table:
    rows = []
    for entry in entries:
        how = entry["implementation"].removeprefix("kmeans_xp ")
        limit = entry["checks"]["limit_bytes"]
        size = [_data(entry), f"{entry['k']:,}", how]
        rows.append([*size, _bytes(entry["peak_bytes"]), _bytes(limit)])
    return Table(["data", "K", "how", "peak", "limit"], rows)


def _streams(entries: Entries) -> Table:
    rows = []
    for entry in entries:
        told = entry["checks"]
        rows.append(
            [
                entry["implementation"],
                f"{_data(entry)}, {_bytes(told['file_bytes'])}",
                f"{entry['k']:,}",
                f"{told['passes']:.3g}",
                _time(entry["ms"]),
                f"{told['of_cat']:.0%}",
                _bytes(entry["peak_bytes"]),
            ]
        )
    header = ["implementation", "file", "K", "passes", "a pass", "of the speed of cat", "peak"]
    return Table(header, rows)


def _models(entries: Entries) -> Table:
    rows = []
    for entry in entries:
        model = entry["checks"]["model_ms"]
        what = [entry["implementation"], _data(entry), f"{entry['k']:,}"]
        rows.append([*what, _time(entry["ms"]), _time(model), f"{entry['ms'] / model:.2f}"])
    return Table(["run", "data", "K", "an iteration", "by the model", "measured to model"], rows)


def _predictions(entries: Entries) -> Table:
    rows = []
    for entry in entries:
        told = entry["checks"]
        parts = [_time(told[f"{part}_ms"]) for part in _PARTS]
        where = "on the devices" if told["held"] else "in storage"
        rows.append([_data(entry), f"{told['workers']:,}", where, *parts, _time(entry["ms"])])
    return Table(["data", "devices", "rows are", *_PARTS, "an iteration"], rows)


_PARTS = ("computing", "reading", "scheduling", "sending")


def _hashes(entries: Entries) -> Table:
    rows = [[e["checks"]["data"], e["implementation"], e["checks"]["hash"]] for e in entries]
    return Table(["data", "computed in", "the one hash"], rows)


_LAYOUTS: dict[str, Callable[[Entries], Table]] = {
    "peak extra memory of a fit": _memory,
    "stream": _streams,
    "hashes": _hashes,
    "model": _models,
    "prediction": _predictions,
}


def _data(entry: Mapping[str, Any]) -> str:
    """Name and size; the type where it is not float32."""
    told = entry["checks"]
    size = f"{entry['n']:,} × {entry['d']:,}"
    if "problems" in told:
        size = f"{told['problems']:,} problems of {size}"
    if "subvectors" in told:
        size = f"{size} in {told['subvectors']} parts"
    named = f"{told['data']}, {size}" if "data" in told else size
    return named if entry["dtype"] == "float32" else f"{named}, {entry['dtype']}"


def _time(ms: float) -> str:
    return f"{_digits(ms / 1000)} s" if ms >= 1000 else f"{_digits(ms)} ms"


def _digits(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
