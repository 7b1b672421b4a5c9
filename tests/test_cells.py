"""Rows of few features kept in cells: the labels and sums of the plain pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import kmeans, predict
from kmeans_xp.assignment import choose_frame, prepare, resolve
from kmeans_xp.backends import cells
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.backends.records import Task
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.pruning import bound_terms

pytest.importorskip("numba")
numba_cells = pytest.importorskip("kmeans_xp.backends.numba_cells")
numba_cell_kernels = pytest.importorskip("kmeans_xp.backends.numba_cell_kernels")
numba_survey = pytest.importorskip("kmeans_xp.backends.numba_survey")
KINDS = [cells.Cells, numba_cells.Cells]


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Kernels are on, and cells pay for small data too."""
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    for kind in KINDS:
        monkeypatch.setattr(kind, "few_rows", 16)
        monkeypatch.setattr(kind, "rows_a_cell", 4)


def task_of(x, centroids, labels):
    backend, frame = NumpyBackend(x), choose_frame(x[:1000])
    centers = prepare(centroids, frame)
    terms = centers.slope, centers.offset, centers.limit, *bound_terms(centers)
    norms = backend.framed_norms(x, slice(0, len(x)), frame)
    return centers, Task(frame, centers.tile, centers.first, norms, labels, terms, None)


def check_cells(kind, x, several):
    """Cells over x, aimed at one set of centroids after the other, tell the truth."""
    labels = np.full(len(x), -1, dtype=np.int32)
    some = kind.over(x, choose_frame(x[:1000]), labels)
    assert some is not None
    assert (np.sort(some.order) == np.arange(len(x))).all()
    assert (some.x == x[some.order]).all()
    told = 0
    for centroids in several:
        centers, task = task_of(x, centroids, labels)
        expected = centers.first[resolve(x, centers)]
        before = labels.copy()
        some.aim(centers.values, task)
        parts = [some.assign(*part, labels) for part in some.ranges(5)]
        left = np.concatenate([part.left for part in parts])
        moved = some.order[np.concatenate([part.moved for part in parts])]
        old = np.concatenate([part.old for part in parts])
        sure = np.ones(len(x), dtype=bool)
        sure[left] = False
        assert (labels[sure] == expected[sure]).all()
        assert (labels[left] == before[left]).all()
        assert (np.sort(moved) == np.flatnonzero(labels != before)).all()
        assert (old == before[moved]).all()
        assert sum(part.changed for part in parts) == len(moved)
        assert (some.known[np.isin(some.order, moved)] >= 0).all()
        told += sure.sum()
        labels[left] = expected[left]  # as the rest of the cascade does
    return told / (len(x) * len(several))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 2, 3])
@pytest.mark.parametrize("n_clusters", [2, 5, 40])
def test_cells_tell_rows(kind, dtype, n_features, n_clusters):
    rng = np.random.default_rng(n_features + 10 * n_clusters)
    x = rng.standard_normal((1500, n_features)).astype(dtype)
    several = [x[rng.integers(0, 1500, n_clusters)] for _ in range(2)]
    for _ in range(2):  # small steps, as at the end of a fit
        several.append(several[-1] + (rng.standard_normal(several[-1].shape) / 50).astype(dtype))
    several[1][-1] = several[1][0]  # an equal one never wins
    listed = kind is numba_cells.Cells  # where several centroids share a cell, it tells them apart
    most = 0.9 if listed and n_clusters ** (n_features - 1) < 40 else 0.5 if listed else 0.0
    assert check_cells(kind, x, several) > (most if n_features > 1 else 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_a_table_serves_centroids_that_hardly_move(kind, n_features, monkeypatch):
    monkeypatch.setattr(cells, "_MOST_ROOM", 2.0)  # much of the table hangs on it then
    rng = np.random.default_rng(n_features)
    x = rng.random((3000, n_features)).astype(np.float32)
    several, filled = [x[:20].copy()], []
    for i in range(30):  # straight on, at every third step faster
        step = rng.standard_normal((20, n_features)) * (5e-4 if i % 3 else 1e-3)
        several.append((several[-1] + np.abs(step)).astype(np.float32))
    fill = kind.fill
    monkeypatch.setattr(kind, "fill", lambda self, *a: (filled.append(self.room), fill(self, *a)))
    check_cells(kind, x, several)
    assert 3 <= len(filled) < 20
    assert filled[0] == 0 < filled[-1]


@pytest.mark.parametrize("n_features", [1, 2, 3])
@pytest.mark.parametrize("still", [0, 3])
def test_cells_are_passed_over_while_their_labels_are_proven(n_features, still):
    rng = np.random.default_rng(n_features)
    x = rng.standard_normal((6000, n_features)).astype(np.float32)
    x[::50] = np.round(x[::50])
    several = [np.round(x[:5])]  # rows between two of them are not sure of their labels
    for _ in range(40):
        step = rng.standard_normal((5, n_features)) * 0.004
        step[:still] = 0
        several.append((several[-1] + step).astype(np.float32))
    check_cells(numba_cells.Cells, x, several)
    labels = np.full(len(x), -1, dtype=np.int32)
    some = numba_cells.Cells.over(x, choose_frame(x[:1000]), labels)
    known = []
    for centroids in (several[-1], several[-1] + np.float32(1e-5)):
        centers, task = task_of(x, centroids, labels)
        some.aim(centers.values, task)
        some.assign(0, len(some.cells), labels)
        known.append(some._least.copy())
    listing = some.codes < cells.OPEN
    proven = listing & (known[1] > 0)
    assert proven.sum() > 0.8 * listing.sum() > 0
    assert (known[1] < known[0])[proven].mean() > 0.8  # else they were looked at again


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(200, 900),
    n_features=st.integers(1, 3),
    n_clusters=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    data=st.sampled_from(["normal", "lattice", "duplicates", "offset", "outlier", "tiny", "wide"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_cells_on_any_data(n, n_features, n_clusters, seed, data, dtype):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n_features))
    if data == "lattice":
        x = rng.integers(0, 6, x.shape).astype(float)
    if data == "duplicates":
        x = x[rng.integers(0, 9, n)]
    if data == "outlier":
        x[rng.integers(n), 0] = 1e30
    if data == "wide":
        x *= 10.0 ** rng.integers(-9, 10, n_features)
    x = (x + 1e6 * (data == "offset")) * (1e-30 if data == "tiny" else 1.0)
    x = x.astype(dtype)
    several = [x[rng.integers(0, n, n_clusters)] for _ in range(3)]
    for step in (1e-3, 0, 1e-5):  # what is known of cells may last
        several.append(several[-1] * dtype(1 + step * rng.random()))
    several.append((several[-1] * 1.5).astype(dtype))  # some may lie outside the box
    with pytest.MonkeyPatch.context() as patch:
        for sort in KINDS:
            patch.setattr(sort, "few_rows", 16)
            patch.setattr(sort, "rows_a_cell", 4)
            labels = np.full(n, -1, dtype=np.int32)
            if sort.over(x, choose_frame(x[:1000]), labels) is not None:
                check_cells(sort, x, several)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_do_without_what_they_cannot_tell(kind):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4000, 4)).astype(np.float32)
    labels = np.zeros(4000, dtype=np.int32)
    over = kind.over
    assert over(x, choose_frame(x), labels) is None  # too many features
    assert over(x[:10, :2].copy(), choose_frame(x[:, :2]), labels) is None
    same = np.ones((4000, 2), dtype=np.float32)
    assert over(same, choose_frame(same), labels) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_features", [1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_fits_have_equal_bits(dtype, n_features, weighted, threads, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUM_THREADS", threads)
    rng = np.random.default_rng(n_features)
    x = rng.standard_normal((3000, n_features)).astype(dtype)
    x[::3] = np.round(x[::3] * 4) / 4  # ties
    w = rng.integers(0, 4, len(x)).astype(np.float64) if weighted else None
    opened = []
    over = cells.Cells.over.__func__

    def watched(cls, *args):
        opened.append(over(cls, *args))
        return opened[-1]

    monkeypatch.setattr(cells.Cells, "over", classmethod(watched))
    for init, n_init in (("random", 2), (np.zeros((6, n_features)) + np.arange(6)[:, None], 1)):
        options = dict(init=init, n_init=n_init, random_state=3, sample_weight=w, max_iter=40)
        found = [kmeans(x, 6, algorithm=a, **options) for a in ("auto", "lloyd", "hamerly")]
        monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
        found.append(kmeans(x, 6, **options))
        monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
        assert len({result.inertia for result in found}) == 1
        assert len({result.n_iter for result in found}) == 1
        assert all((result.labels == found[0].labels).all() for result in found)
        assert all((result.centroids == found[0].centroids).all() for result in found)
        assert (predict(x, found[0].centroids) == found[0].labels).all()
    assert {type(some) for some in opened} == set(KINDS)
    assert all(some is not None for some in opened)


def test_cells_that_tell_little_are_given_up(monkeypatch):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2000, 2))
    monkeypatch.setattr(numba_cells, "_LISTED", 1)
    blocks = MemoryBlocks(x, None, x.dtype, x)
    blocks.part.algorithm = "auto"
    handle = blocks.place(x[:300])
    for _ in range(3):
        handle = blocks.step(handle).centroids
    assert blocks.part._cells is None
    assert blocks.part._cells_pay is False


def test_warmup_compiles_what_a_fit_needs():
    numba_cells.warmup()
    numba_survey.warmup()
    kernels = numba_cell_kernels
    compiled = [kernels.number, kernels.sort, kernels.build, kernels.assign]
    compiled += [numba_survey._magnitudes, numba_survey._norms, numba_survey._squares]
    before = [len(kernel.signatures) for kernel in compiled]
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for n_features in (1, 2, 3, 20):
            kmeans(rng.standard_normal((500, n_features)).astype(dtype), 5, random_state=0)
    assert [len(kernel.signatures) for kernel in compiled] == before


def test_rows_left_by_ranges_count_the_same_whoever_takes_them():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, 2)).astype(np.float32)
    counts = []
    for together in (True, False):
        part = MemoryBlocks(x, None, x.dtype, x).part
        for centroids in (x[:500], x[500:1000]):  # the first pass makes the cells
            centers = part.prepare(centroids)
            part.relabel(centroids, centers, None)
        centers = part.prepare(x[1000:1500])
        task, some = part._task(centers), part._cells
        some.aim(centers.values, task)
        ranges = some.ranges(8)
        taken = [ranges] if together else [[one] for one in ranges]
        parts = [part._assign_batches(iter(t), centers, task, None, True, some) for t in taken]
        counts.append(np.sum(parts, axis=0).tolist())
    assert counts[0] == counts[1]
    assert counts[0][2] > 256  # together they would be worth a pass
