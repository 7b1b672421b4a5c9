"""A small table of clusters for notebooks, legible on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, is_dask_array

from kmeans_xp.backends.convert import to_numpy

__all__ = ["clusters_html", "problems_html"]

MOST_ROWS, MOST_COLUMNS = 20, 6
# Nothing names a colour of text or page: both are the notebook's own.
STYLE = (
    "<style>"
    ".kmeans-xp{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4em 0}"
    ".kmeans-xp caption{text-align:left;padding:.2em 0}"
    ".kmeans-xp th,.kmeans-xp td{text-align:right;padding:.15em .7em;background:none;"
    "border-bottom:1px solid rgba(128,128,128,.35)}"
    ".kmeans-xp i{display:inline-block;height:.7em;margin-left:.5em;background:#3f90da}"
    ".kmeans-xp .kmeans-xp-bar{text-align:left;min-width:9em}"
    "</style>"
)


def clusters_html(
    centroids: Any,
    labels: Any = None,
    caption: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Return a table of the clusters: size, share of the rows and the start of each centroid.

    Parameters
    ----------
    centroids : array, shape (K, D)
        Of any library and device.
    labels : array of int, shape (N,), optional
        Without them, or where they are a Dask array, there are no sizes.
    caption : str
        Plain text above.
    names : sequence of str, optional
        Of the features.

    Returns
    -------
    str
        HTML.
    """
    values = to_numpy(centroids) if is_array_api_obj(centroids) else np.asarray(centroids)
    n_clusters, n_features = values.shape
    sizes = None
    if labels is not None and not is_dask_array(labels):  # looking shall compute nothing
        sizes = np.bincount(to_numpy(labels), minlength=n_clusters)
    shown = min(n_features, MOST_COLUMNS)
    heads = [str(names[j]) if names is not None else f"[{j}]" for j in range(shown)]
    head = ["cluster", *(["rows", "share"] if sizes is not None else []), *heads]
    more = f"<th>… {n_features - shown} more</th>" if n_features > shown else ""
    body = [
        _row(k, values[k, :shown], sizes, bool(more)) for k in range(min(n_clusters, MOST_ROWS))
    ]
    if n_clusters > MOST_ROWS:
        span = len(head) + bool(more)
        body.append(f'<tr><td colspan="{span}">… {n_clusters - MOST_ROWS} more clusters</td></tr>')
    return (
        f'{STYLE}<table class="kmeans-xp"><caption>{escape(caption)}</caption><thead><tr>'
        + "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
        + f"{more}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def problems_html(columns: Mapping[str, np.ndarray], caption: str) -> str:
    """Return a table of the problems of a batch.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (B,)
        What is known of each problem, by name.
    caption : str
        Plain text above.

    Returns
    -------
    str
        HTML.
    """
    count = len(next(iter(columns.values())))
    body = []
    for b in range(min(count, MOST_ROWS)):
        cells = "".join(f"<td>{_cell(column[b].item())}</td>" for column in columns.values())
        body.append(f'<tr><th scope="row">{b}</th>{cells}</tr>')
    if count > MOST_ROWS:
        more = f"… {count - MOST_ROWS:,} more problems"
        body.append(f'<tr><td colspan="{len(columns) + 1}">{more}</td></tr>')
    return (
        f'{STYLE}<table class="kmeans-xp"><caption>{escape(caption)}</caption><thead><tr>'
        + "".join(f'<th scope="col">{escape(text)}</th>' for text in ("problem", *columns))
        + f"</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _cell(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _row(k: int, centroid: np.ndarray, sizes: np.ndarray | None, more: bool) -> str:
    cells = [f'<th scope="row">{k}</th>']
    if sizes is not None:
        share = sizes[k] / max(int(sizes.sum()), 1)
        bar = f'<i style="width:{6 * share:.2f}em"></i>'
        cells += [f"<td>{sizes[k]:,}</td>", f'<td class="kmeans-xp-bar">{share:.1%}{bar}</td>']
    cells += [f"<td>{value:.4g}</td>" for value in centroid.tolist()]
    return f"<tr>{''.join(cells)}{'<td></td>' if more else ''}</tr>"
