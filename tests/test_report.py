"""The page about a clustering: what it says, that it is whole, and that names do it no harm."""

from __future__ import annotations

import html.parser
import itertools
import json
import re

import numpy as np
import pytest

from kmeans_xp import fingerprint, kmeans, select_k
from kmeans_xp.metrics import silhouette_samples

from .datasets import blobs, uniform, words
from .helpers import assert_same
from .test_cli import call, found_hash

pytest.importorskip("matplotlib")

from kmeans_xp.report import build, cluster_report, numbers, pictures
from kmeans_xp.report.html import Html, clean, element, fixed, number

X = blobs(11, 150, 3, 4)
EVIL = ['<script>alert("1")</script>', "a & b</svg>", "$x_1$ 'q'"]


class Page(html.parser.HTMLParser):
    """Elements with their attributes and text; refuses tags that do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        entry = {"tag": tag, "text": "", "inside": [e["tag"] for e in self.open], **dict(attrs)}
        self.found.append(entry)
        if tag not in ("meta", "link"):
            self.open.append(entry)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for entry in self.open:
            entry["text"] += data

    def all(self, tag):
        return [entry for entry in self.found if entry["tag"] == tag]

    def text(self):
        return self.all("body")[0]["text"]


@pytest.fixture(scope="module")
def report():
    return cluster_report(X, title="Blobs & more", feature_names=EVIL, random_state=0)


@pytest.fixture(scope="module")
def page(report):
    return Page(report.html)


# The page as a whole


def test_is_one_page_that_loads_nothing(report, page):
    assert report.html.startswith("<!doctype html>\n<html lang=")
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    assert not re.search(r"https?:|//|url\((?!#)|@import", report.html)
    assert not page.all("script") + page.all("img") + page.all("iframe")
    targets = [e["href"] for e in page.found if "href" in e]
    ids = [e["id"] for e in page.found if "id" in e]
    assert len(set(ids)) == len(ids)
    assert {t[1:] for t in targets if t != "data:,"} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", report.html)) <= set(ids)


def test_pictures_are_told_in_words(page):
    pictures = [e for e in page.all("svg") if e["inside"][-1] == "figure"]
    assert len(pictures) == len(page.all("figure")) == len(page.all("figcaption")) == 4
    assert all(e["role"] == "img" and len(e["aria-label"]) > 30 for e in pictures)
    assert all(e["text"] for e in page.all("figcaption"))
    hidden = [e for e in page.all("svg") if e not in pictures]
    assert all(e["aria-hidden"] == "true" for e in hidden)


def test_headings_and_tables_have_order(page):
    levels = [int(e["tag"][1]) for e in page.found if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) > 4
    assert len({e["text"] for e in page.all("caption")}) == len(page.all("caption"))
    assert all(e["scope"] in ("col", "row") for e in page.all("th"))
    sections = page.all("section") + page.all("article")
    ids = {e["id"] for e in page.found if "id" in e}
    assert all(e["aria-labelledby"] in ids for e in sections)


def test_colours_follow_the_page(report, page):
    drawn = "".join(re.findall(r"<figure>.*?</figure>", report.html, re.S))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    assert {"var(--fg)", "var(--bg)", "var(--c0)"} <= set(re.findall(r"var\([^)]*\)", drawn))
    style = page.all("style")[0]["text"]
    for name in set(re.findall(r"var\((--\w+)\)", report.html)):
        assert f"{name}:" in style


def luminance(color):
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_in_light_and_dark(page):
    style = page.all("style")[0]["text"]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.S)
    light = dict(re.findall(r"(--\w+): (#[0-9a-f]{6})", light))
    dark = light | dict(re.findall(r"(--\w+): (#[0-9a-f]{6})", dark))
    for colors in (light, dark):
        for ground in (colors["--bg"], colors["--card"]):
            # WCAG 2.2: 4.5 for text
            assert contrast(colors["--fg"], ground) >= 4.5
            assert contrast(colors["--soft"], ground) >= 4.5
        assert contrast(colors["--mid"], colors["--bg"]) >= 3
    assert all(contrast(dark[f"--c{i}"], dark["--bg"]) >= 3 for i in range(10))


def test_the_same_page_each_time_and_with_any_style():
    import matplotlib

    first = cluster_report(X, 3, random_state=0)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        again = cluster_report(X, 3, random_state=0)
        assert matplotlib.rcParams["font.size"] == 30
    assert again.html == first.html


# What it says


def test_tells_of_the_fit(report, page):
    truth = kmeans(X, report.selection.k, n_init=5, random_state=0)
    assert_same(report.result, truth)
    assert report.selection.k == select_k(X, n_init=5, random_state=0).k == 4
    text = page.text()
    for part in (fingerprint(truth), repr(truth.inertia), report.selection.reason, "k = 4"):
        assert part in text
    codes = [e["text"] for e in page.all("code")]
    assert codes[2:8] == ["5", "300", "0.0001", "euclidean", "none", "0"]


def test_sizes_and_silhouettes(report, page):
    (table,) = [e for e in page.all("tbody") if "Sizes" in cell_caption(page, e)]
    labels = report.result.labels
    expected = silhouette_samples(X, labels)
    for k in range(4):
        own = expected[labels == k].mean()
        size = int((labels == k).sum())
        assert f"{k}{size}{size / 150:.1%}" in table["text"]
        assert fixed(own, 3) in table["text"]
    assert fixed(expected.mean(), 3) in page.text()


def cell_caption(page, body):
    place = page.found.index(body)
    return next(e["text"] for e in page.found[:place][::-1] if e["tag"] == "caption")


def test_portrait():
    x = np.array([[0.0, 5.0], [2.0, 5.0], [10.0, 5.0], [12.0, 5.0], [17.0, 5.0]])
    w = np.array([1.0, 1.0, 2.0, 1.0, 1.0])
    labels = np.array([0, 0, 1, 1, 1])
    centroids = np.array([[1.0, 5.0], [12.25, 5.0]])
    seen = numbers.portrait(x, labels, centroids, w, "euclidean", 17.0)
    mean = np.average(x[:, 0], weights=w)
    deviation = np.sqrt(np.average((x[:, 0] - mean) ** 2, weights=w))
    costs = w * ((x - centroids[labels]) ** 2).sum(axis=1)
    np.testing.assert_allclose(seen.mean, [mean, 5])
    np.testing.assert_allclose(seen.deviation, [deviation, 0])
    np.testing.assert_allclose(seen.contrast[:, 0], (centroids[:, 0] - mean) / deviation)
    assert (seen.contrast[:, 1] == 0).all()  # constant
    np.testing.assert_allclose(seen.shares, np.bincount(labels, costs) / costs.sum())
    assert (seen.sizes.tolist(), seen.weights.tolist()) == ([2, 3], [2.0, 4.0])
    assert [rows.tolist() for rows in seen.nearest] == [[0, 1], [3, 2, 4]]
    np.testing.assert_allclose(seen.distances[1], [0.25, 2.25, 4.75])


def test_nearest_rows_are_the_nearest(monkeypatch):
    monkeypatch.setattr(numbers, "CHUNK", 64)
    x = uniform(3, (300, 4)).astype(np.float32)
    result = kmeans(x, 5, metric="cosine", random_state=0)
    seen = numbers.portrait(x, result.labels, result.centroids, None, "cosine", 1.0)
    unit = x / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    cosine = 1 - (unit * result.centroids[result.labels]).sum(axis=1)
    for k in range(5):
        rows = np.flatnonzero(result.labels == k)
        expected = rows[np.argsort(cosine[rows])][:5]
        np.testing.assert_array_equal(seen.nearest[k], expected)
        np.testing.assert_allclose(seen.distances[k], cosine[expected], rtol=1e-4, atol=1e-7)


def test_values_are_in_the_units_of_the_data():
    data = np.column_stack([words(1, 60) % 1000 + 5000, words(2, 60) % 7]).astype(float)
    data[:30, 0] += 4000
    mean, scale = data.mean(axis=0), data.std(axis=0)
    made = cluster_report((data - mean) / scale, 2, units=(mean, scale), random_state=0)
    text = Page(made.html).text()
    for k in range(2):
        assert number(data[made.result.labels == k, 0].mean()) in text
    assert "standardized" in made.html


def test_features_of_other_sizes_are_told():
    x = X * [1, 1, 1000]
    assert "decide the clusters" in cluster_report(x, 3, random_state=0).html
    assert "decide the clusters" not in cluster_report(X, 3, random_state=0).html


@pytest.mark.parametrize(
    ("x", "k"),
    [
        (np.ones((1, 2)), 1),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), 2),
        (np.ones((30, 3)), 1),
        (uniform(1, (40, 1)), None),
        (uniform(2, (40, 3)) * 1e300, None),
        (uniform(2, (40, 2)) * 1e307, None),
        (uniform(2, (40, 2)) * 1e-305, None),
        (uniform(2, (40, 2)) + 1e12, None),
    ],
)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_data_of_every_kind(x, k):
    made = cluster_report(x, n_init=1, random_state=0)
    assert k is None or len(made.result.centroids) == k
    body = Page(made.html).text()
    assert "nan" not in body.lower().split()


def test_more_clusters_than_are_listed(monkeypatch):
    made = cluster_report(uniform(4, (300, 2)), 60, random_state=0)
    page = Page(made.html)
    assert len(page.all("article")) == 50
    assert "the 50 largest" in page.text()


def test_arrays_of_every_library(library):
    made = cluster_report(library.asarray(X.astype(np.float32)), 3, title="X", random_state=0)
    expected = cluster_report(X.astype(np.float32), 3, title="X", random_state=0)
    assert library.owns(made.result.labels)
    assert fingerprint(made.result) in made.html
    assert fingerprint(made.result) == fingerprint(expected.result)


def test_a_data_frame_brings_its_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["first", 2, "third"])
    page = Page(cluster_report(frame, 2, random_state=0).html)
    assert {"first", "feature 2", "third"} <= {e["text"] for e in page.all("th")}


# What it costs


def test_large_data_are_sampled_and_the_page_says_so(monkeypatch):
    monkeypatch.setattr(build, "CHOICE_ROWS", 60)
    monkeypatch.setattr(build, "SILHOUETTE_ROWS", 50)
    monkeypatch.setattr(pictures, "MOST_POINTS", 40)
    seen = []
    select = build.select_k

    def spy(x, **options):
        seen.append((x.shape, options["sample_size"]))
        return select(x, **options)

    monkeypatch.setattr(build, "select_k", spy)
    made = cluster_report(X, n_init=1, random_state=0)
    assert seen == [((60, 3), 50)]
    assert made.result.labels.shape == (150,)
    text = Page(made.html).text()
    assert "60 rows drawn at random from 150" in text
    assert "Of 50 rows drawn at random from 150" in text
    assert "40 of 150 rows are drawn" in text


def test_wide_data_are_sampled_more(monkeypatch):
    monkeypatch.setattr(build, "CHOICE_ENTRIES", 300)
    monkeypatch.setattr(build, "CHOICE_ROWS_AT_LEAST", 20)
    assert "100 rows drawn at random" in cluster_report(X, n_init=1, random_state=0).html


def test_without_a_knee_the_silhouette_chooses():
    made = cluster_report(uniform(6, (120, 2)), n_init=1, random_state=0)
    assert made.selection.k is None
    rows = [row for row in made.selection.rows if row["silhouette"] == row["silhouette"]]
    best = max(rows, key=lambda row: row["silhouette"])
    assert len(made.result.centroids) == best["k"]
    assert "highest mean silhouette" in made.html


def test_cosine_and_weights_are_told():
    w = np.arange(1.0, 151.0)
    made = cluster_report(X, metric="cosine", sample_weight=w, n_init=1, random_state=0)
    k = len(made.result.centroids)
    assert_same(
        made.result, kmeans(X, k, n_init=5, metric="cosine", sample_weight=w, random_state=0)
    )
    text = Page(made.html).text()
    assert "brought to length 1" in text
    assert "The weights played no part" in text


# Names from outside


def test_names_stay_text(page):
    text = page.text()
    assert page.all("h1")[0]["text"] == page.all("title")[0]["text"] == "Blobs & more"
    for name in EVIL:
        assert name in text
    assert not page.all("script")


def test_names_that_no_page_can_hold(tmp_path):
    names = ["a\x00\x1b\uffff$", "b\ud800\u202e\n" + "c" * 500]
    made = cluster_report(X[:, :2], 2, feature_names=names, title="\ud800", random_state=0)
    made.save(tmp_path / "x.html")
    Page((tmp_path / "x.html").read_text("utf-8"))


def test_escaping():
    assert element("p", "<b>", Html("<b>"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<b></p>'
    assert clean(" a\n\tb\x07 ") == "a b�"
    assert len(clean("x" * 1000)) == 120
    assert number(-1234567.0) == "−1,235,000"
    assert number(-1.5e-7) == "−1.5e−07"
    assert fixed(-0.25, 3, sign=True) == "−0.250"


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_clusters": "many"}, ValueError, "n_clusters must be 'auto' or an integer, got 'many'"),
        ({"n_clusters": 0}, ValueError, "n_clusters must be >= 1"),
        ({"n_clusters": 151}, ValueError, "n_clusters must be at most"),
        ({"feature_names": ["a"]}, ValueError, "feature_names must hold a name for each of the 3"),
        ({"feature_names": "abc"}, ValueError, "feature_names must hold a name"),
        ({"units": ([1], [2])}, ValueError, "units must be the mean and the scale of the 3"),
        ({"units": 3}, ValueError, "units must be the mean and the scale of the 3"),
        ({"metric": "l1"}, ValueError, "metric must be"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight"),
        ({"random_state": "x"}, TypeError, "random_state"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"n_init": 0}, ValueError, "n_init"),
        ({"n_init": "some"}, ValueError, "n_init"),
        ({"device": "tpu"}, ValueError, "device"),
    ],
)
def test_bad_arguments(options, error, message, monkeypatch):
    # all of them before any work
    monkeypatch.setattr(build, "select_k", None)
    monkeypatch.setattr(build, "kmeans", None)
    with pytest.raises(error, match=message):
        cluster_report(X, **options)


def test_bad_data():
    bad = np.ones((30, 3))
    bad[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[7, 1\] is nan"):
        cluster_report(bad)
    with pytest.raises(ValueError, match="two-dimensional"):
        cluster_report(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"row of zeros.*X\[0\]"):
        cluster_report(np.zeros((30, 3)), metric="cosine")


def test_a_generator_is_drawn_from_once():
    made = cluster_report(X, 3, random_state=np.random.default_rng(5))
    (seed,) = re.findall(r"random_state</th><td><code>(\d+)<", made.html)
    assert_same(made.result, kmeans(X, 3, random_state=int(seed)))
    rng = np.random.default_rng(5)
    with pytest.raises(ValueError, match=r"row of zeros.*X\[0\]"):
        cluster_report(np.zeros((30, 3)), 2, metric="cosine", random_state=rng)
    assert rng.bit_generator.state == np.random.default_rng(5).bit_generator.state


def test_without_matplotlib(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "kmeans_xp\[plot\]"'):
        cluster_report(X)


# The command


@pytest.fixture
def data(tmp_path):
    pytest.importorskip("typer")
    lines = ["id,a,<b>", *(f"row {i},{a!r},{b!r}" for i, (a, b, _) in enumerate(X.tolist()))]
    (tmp_path / "x & y.csv").write_text("\n".join(lines))
    return tmp_path / "x & y.csv"


def test_command(data, tmp_path, capsys):
    out = tmp_path / "page.html"
    args = ("report", data, "--columns", "a,<b>", "--n-init", 1, "-o", out)
    code, text, err = call(capsys, *args)
    assert code == 0, err
    made = cluster_report(X[:, :2], n_init=1, random_state=0)
    assert found_hash(text) == fingerprint(made.result)
    assert f"wrote       {out}\n" in text
    page = Page(out.read_text("utf-8"))
    assert page.all("h1")[0]["text"] == "Clusters of x & y.csv"
    codes = [e["text"] for e in page.all("code")]
    assert codes[:3] == ["x & y.csv", "a, <b>", "no"]
    assert fingerprint(made.result) in codes
    assert not list(tmp_path.glob(".*"))


def test_command_with_options(data, tmp_path, capsys):
    np.save(tmp_path / "w.npy", np.arange(1.0, 151.0))
    out = tmp_path / "page.htm"
    args = ("report", data, "--columns", "1:3", "-k", 3, "-o", out, "--standardize")
    args += ("--weights", tmp_path / "w.npy", "--seed", 4, "--title", "<T>", "--format", "json")
    code, text, err = call(capsys, *args)
    assert code == 0, err
    x = X[:, :2]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    truth = kmeans(x, 3, sample_weight=np.arange(1.0, 151.0), random_state=4)
    found = json.loads(text)
    assert (found["hash"], found["files"]) == (fingerprint(truth), [str(out)])
    page = Page(out.read_text("utf-8"))
    assert page.all("h1")[0]["text"] == "<T>"
    assert {"yes", "w.npy", "given", "4"} <= {e["text"] for e in page.all("code")}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("-k", "0"), 2, "'0' is neither auto nor 1 or more"),
        (("-k", "x"), 2, "'x' is neither auto nor 1 or more"),
        (("-o", "x.pdf"), 2, "ends in .html"),
        (("-o", "no/x.html"), 1, "there is no folder"),
        (("-k", "999"), 1, "n_clusters must be at most"),
        ((), 1, "'row 0' is not a number"),
        (("--columns", "a", "--weights", "x & y.csv"), 1, "--weights"),
    ],
)
def test_command_errors(data, tmp_path, args, code, message, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if message.startswith("n_clusters"):
        args = (*args, "--columns", "a")
    got, text, err = call(capsys, "report", data, *args)
    assert (got, text) == (code, "")
    assert message in err.replace("\n", " ")
    assert not list(tmp_path.rglob("*.html"))


def test_command_leaves_the_old_page_if_it_fails(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "page.html"
    out.write_text("old")
    monkeypatch.setattr(build, "page", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(capsys, "report", data, "--columns", "a", "-k", 2, "-o", out)
    assert out.read_text() == "old"
