"""Elements of HTML. Whatever is not made here is text and is escaped."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Html", "clean", "element", "fixed", "join", "number", "table"]

MOST_LETTERS = 120  # of a name
# What XML does not allow, and what turns the direction of the text that follows.
FORBIDDEN = "\ufffe\uffff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
VOID = ("link", "meta")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def clean(text: Any) -> str:
    """Make a name from outside printable and not too long."""
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(letter) in ("Cc", "Cs") or letter in FORBIDDEN
        else letter
        for letter in " ".join(str(text).split())
    )
    return shown if len(shown) <= MOST_LETTERS else shown[: MOST_LETTERS - 1] + "…"


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Make an element; ``class_`` is its class, and ``aria_label`` is ``aria-label``."""
    start = name
    for key, value in attributes.items():
        quoted = html.escape(str(value), quote=True)
        start += f' {key.rstrip("_").replace("_", "-")}="{quoted}"'
    return Html(f"<{start}>" if name in VOID else f"<{start}>{join(children)}</{name}>")


def join(parts: Iterable[Any]) -> Html:
    """Put parts after each other."""
    return Html(
        "".join(
            part if isinstance(part, Html) else html.escape(str(part), quote=False)
            for part in parts
        )
    )


def table(
    caption: str, header: Sequence[Any], rows: Iterable[Sequence[Any]], *, words: Sequence[int] = ()
) -> Html:
    """Make a table whose first column names the rows; `words` are columns that hold no numbers."""

    def kind(column: int) -> dict[str, str]:
        return {} if column in words else {"class_": "number"}

    head = [element("th", cell, scope="col", **kind(i)) for i, cell in enumerate(header)]
    body = []
    for first, *rest in rows:
        cells = [element("td", cell, **kind(i)) for i, cell in enumerate(rest, 1)]
        body.append(element("tr", element("th", first, scope="row", **kind(0)), *cells))
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    # Wide ones scroll within the page, by keyboard too.
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def number(value: float, digits: int = 4) -> str:
    """Write some digits of a number, with a real minus."""
    text = f"{value:.{digits}g}"
    if 1e4 <= abs(value) < 1e9:
        text = f"{float(text):,.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def fixed(value: float, places: int, sign: bool = False) -> str:
    """Write a number with so many places, which a column of them lines up at."""
    return f"{value:{'+' if sign else ''}.{places}f}".replace("-", "\N{MINUS SIGN}")
