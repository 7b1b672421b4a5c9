"""What a result shows of itself in text and in notebooks."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from kmeans_xp import BisectingKMeans, KMeans, KMeansResult, MiniBatchKMeans, kmeans

from .datasets import blobs

X = blobs(3, 60, 2, 3)


class Cells(HTMLParser):
    """Rows of cells, and a check that every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def table(html: str) -> list[list[str]]:
    return Cells(html[html.rindex("<style>.kmeans-xp") :]).rows


def test_text(library):
    result = kmeans(library.asarray(X.astype(np.float32)), 3, random_state=0)
    name = type(library).module.split(".")[0]
    assert repr(result) == (
        f"KMeansResult(n_clusters=3, n_rows=60, n_features=2, inertia={result.inertia!r}, "
        f"n_iter={result.n_iter}, converged=True, arrays={name} float32)"
    )


def test_text_of_a_batch():
    batch = kmeans(np.stack([X, X + 1]), 3, random_state=0)
    assert repr(batch) == "BatchResult(2 problems, n_clusters=3, n_features=2, 2 converged)"


def test_table_of_a_batch():
    x = blobs(5, 25 * 6, 2, 3).reshape(25, 6, 2)
    batch = kmeans(x, 2, random_state=0)
    head, *rows = table(batch._repr_html_())
    assert head == ["problem", "rows", "clusters", "inertia", "iterations", "converged"]
    assert rows[3] == ["3", "6", "2", f"{batch.inertia[3]:.6g}", str(batch.n_iter[3]), "yes"]
    assert len(rows) == 21 and rows[-1] == ["… 5 more problems"]
    assert "25 problems, 25 converged" in batch._repr_html_()


def test_table_of_a_result(library):
    result = kmeans(library.asarray(X.astype(np.float32)), 3, random_state=0)
    html = result._repr_html_()
    head, *rows = table(html)
    assert head == ["cluster", "rows", "share", "[0]", "[1]"]
    sizes = np.bincount(library.numpy(result.labels))
    centroids = library.numpy(result.centroids)
    for k, row in enumerate(rows):
        numbers = [f"{value:.4g}" for value in centroids[k].tolist()]
        assert row == [str(k), f"{sizes[k]}", f"{sizes[k] / 60:.1%}", *numbers]
    assert f"inertia {result.inertia:.6g}, {result.n_iter} iterations, converged" in html


def test_large_tables_are_cut():
    wide = blobs(3, 60, 40, 3)
    head, *rows = table(kmeans(wide, 30, random_state=0)._repr_html_())
    assert head[-2:] == ["[5]", "… 34 more"]
    assert len(rows) == 21
    assert rows[-1] == ["… 10 more clusters"]
    assert len({len(row) for row in [head, *rows[:-1]]}) == 1


def test_without_labels():
    head, *_ = table(KMeansResult(None, X[:2], 1.0, 3, False)._repr_html_())
    assert head == ["cluster", "[0]", "[1]"]
    assert "not converged" in KMeansResult(None, X[:2], 1.0, 3, False)._repr_html_()
    assert "n_rows" not in repr(KMeansResult(None, X[:2], 1.0, 3, False))


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_estimators_add_a_table_to_scikit_learns_diagram(kind):
    model = kind(3, random_state=0)
    assert "kmeans-xp" not in model._repr_html_()
    model.fit(X)
    html = model._repr_html_()
    assert "sk-top-container" in html
    assert len(table(html)) == 4
    bundle = model._repr_mimebundle_()
    assert len(table(bundle["text/html"])) == 4
    assert bundle["text/plain"] == repr(model)


def test_names_of_features_are_escaped():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["<b>a", "b"])
    html = KMeans(3, random_state=0).fit(frame)._repr_html_()
    assert table(html)[0][-2:] == ["<b>a", "b"]


def test_no_colour_of_text_or_page_is_fixed():
    style = re.search(r"<style>(.*?)</style>", kmeans(X, 2)._repr_html_())[1]
    assert not re.search(r"(?<![-\w])color:", style)
    assert re.findall(r"background:([^;}]*)", style) == ["none", "#3f90da"]
