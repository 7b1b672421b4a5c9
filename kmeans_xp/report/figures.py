"""Pictures as SVG that takes its colours from the page, so that they follow it into the dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import numpy as np

from kmeans_xp.plot._common import PALETTE, look

__all__ = ["draw", "histogram"]

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
COLOR = re.compile(r"#[0-9a-f]{6}\b")
REFERENCE = re.compile(r"(^|url\()#")
LOOK = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "kmeans_xp",  # the same picture has the same names inside
    "font.size": 9.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.fontsize": 9,
}
WIDTH = 5.0  # inches; small, so that letters can be read on a phone


@contextmanager
def _drawing() -> Iterator[None]:
    """Plain settings, whatever the user's are."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        # Letters that matplotlib's font lacks are drawn by the reader's.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(LOOK)  # type: ignore[arg-type] # its keys are typed one by one
        yield


def draw(name: str, text: str, plot: Any, *, height: float = 3.6, panels: int = 1) -> str:
    """Call ``plot(axes)`` and return the picture as the text of an <svg> element.

    Parameters
    ----------
    name : str
        Put before all names inside, which must differ from those of other pictures of the page.
    text : str
        For those who do not see it.
    plot : callable
        Called with one Axes, or a list where there are several panels.
    height : float
        In inches.
    panels : int
        One below the other.
    """
    from matplotlib.figure import Figure

    with _drawing():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
        plot(list(axes) if panels > 1 else axes[0])
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _for_the_page(name, text, file.getvalue())


def histogram(ax: Any, values: np.ndarray, labels: np.ndarray, k: int, name: str) -> None:
    """Stack the histograms of the clusters in the only feature."""
    parts = [values[labels == i] for i in range(k)]
    colors = [look(i)[0] for i in range(k)]
    ax.hist(parts, bins=40, stacked=True, color=colors)
    ax.set_xlabel(name, parse_math=False)
    ax.set_ylabel("rows")
    ax.spines[["top", "right"]].set_visible(False)


def _for_the_page(name: str, text: str, data: bytes) -> str:
    """Make names unique, colours variable, and leave out what only a file of its own needs."""
    root = ElementTree.fromstring(data)
    for parent in root.iter():
        for child in list(parent):
            if child.tag == SVG + "style" or child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.set(key.removeprefix(XLINK), _attribute(name, key, value))
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", text)
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(name: str, key: str, value: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == XLINK + "href" or "url(#" in value:
        return REFERENCE.sub(rf"\1#{name}-", value)
    return COLOR.sub(_variable, value) if key in ("style", "fill", "stroke") else value


def _variable(match: re.Match[str]) -> str:
    color = match[0]
    if color in PALETTE:
        return f"var(--c{PALETTE.index(color)})"
    if color in ("#000000", "#ffffff"):
        return "var(--fg)" if color == "#000000" else "var(--bg)"
    return "var(--mid)" if color[1:3] == color[3:5] == color[5:7] else color
