"""Bar chart of a result file's rows: how many times as fast as one of the implementations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT

__all__ = ["draw"]

IMAGE = ROOT / "docs" / "images" / "cpu.png"
COLOURS = ("#0b6e99", "#8ecae6", "#999999", "#cccccc", "#e09f3e")


def draw(rows: Sequence[Mapping[str, Any]], base: str, path: Path = IMAGE) -> None:
    """Draw one panel a table, one group of bars a data set, one bar an implementation.

    Parameters
    ----------
    rows : sequence of mapping
        See `harness.row`.
    base : str
        The implementation whose speed is 1.
    path : Path
        Where the image goes.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    tables = list(dict.fromkeys(entry["table"] for entry in rows))
    names = list(dict.fromkeys(entry["implementation"] for entry in rows))
    groups = {table: _groups([e for e in rows if e["table"] == table]) for table in tables}
    heights = [len(groups[table]) for table in tables]
    figure, axes = plt.subplots(
        len(tables),
        1,
        figsize=(8, 1.2 + 0.75 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    width = 0.85 / len(names)
    for table, axis in zip(tables, axes[:, 0], strict=True):
        for place, name in enumerate(names):
            ratios = [
                (y, group[base] / group[name])
                for y, group in enumerate(groups[table].values())
                if name in group
            ]
            at = [y + (place - (len(names) - 1) / 2) * width for y, _ in ratios]
            values = [ratio for _, ratio in ratios]
            axis.barh(at, values, width, color=COLOURS[place % len(COLOURS)])
        axis.set_yticks(range(len(groups[table])), list(groups[table]))
        axis.invert_yaxis()
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{table}: times as fast as {base}", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    patches = [
        Patch(color=COLOURS[place % len(COLOURS)], label=name) for place, name in enumerate(names)
    ]
    axes[0, 0].legend(handles=patches, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"wrote {path.name}")


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Milliseconds by data set and implementation."""
    found: dict[str, dict[str, float]] = {}
    for entry in rows:
        size = f"{_short(entry['n'])}×{entry['d']}, K={entry['k']}, {entry['dtype']}"
        data = entry["checks"].get("data")
        label = f"{data}\n{size}" if data else size
        found.setdefault(label, {})[entry["implementation"]] = entry["ms"]
    return found


def _short(n: int) -> str:
    if n % 1_000_000 == 0:
        return f"{n // 1_000_000}M"
    return f"{n // 1_000}k" if n >= 10_000 else f"{n:,}"
