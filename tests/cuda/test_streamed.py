"""Streams whose blocks go through the device; `emulated` runs the same tests without one."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from kmeans_xp import fingerprint, kmeans, predict, seeding, stream
from kmeans_xp.backends import cuda_blocks, cuda_data, cuda_resident
from kmeans_xp.backends.cuda import DeviceLloyd
from kmeans_xp.backends.nvrtc import DeviceUnsupported
from kmeans_xp.blocks import pinned
from kmeans_xp.blocks.device_streamed import DeviceStreamBlocks
from kmeans_xp.blocks.part import Part
from kmeans_xp.prediction import inertia
from kmeans_xp.pruning import Bounds
from tests.helpers import StoppedError, environment, interrupted

from .checks import Random

K = 6


def data(dtype="float32", n=900, d=5):
    rng = Random(0)
    centers = 3 * rng.bell((K, d))
    x = centers[rng.integers(0, K, n)] + rng.bell((n, d))
    return np.rint(x).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def pieces(x, size):
    return stream(lambda: (x[i : i + size] for i in range(0, len(x), size)))


def both(x, size, k=K, **options):
    """The fit in memory and the one of the stream on the device: the same bits."""
    options = {"random_state": 0, "tol": 0.0, **options}
    algorithm = options.pop("algorithm", "lloyd")
    whole = kmeans(x, k, **options)
    found = kmeans(pieces(x, size), k, device="cuda", algorithm=algorithm, **options)
    assert isinstance(found.labels, np.ndarray)
    assert fingerprint(found) == fingerprint(whole)
    return found


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("weights", [None, "float32"])
def test_the_bits_of_the_array_in_memory(cp, kernels, dtype, weights):
    w = None if weights is None else (np.arange(900) % 4 * 0.3).astype(weights)
    both(data(dtype), 257, sample_weight=w, max_iter=3)
    assert {257, 900 % 257} == set(kernels)


@pytest.mark.parametrize("size", [83, 900])
def test_blocks_of_any_size(cp, kernels, size):
    both(data(), size, n_init=2, init="random", max_iter=3)
    assert max(kernels) == size


@pytest.mark.parametrize("algorithm", ["auto", "hamerly"])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_bounds_settle_are_not_sent(cp, kernels, algorithm, weighted):
    x = Random(1).bell((700, 4)).astype(np.float32)
    w = np.arange(700) % 3 if weighted else None
    found = both(x, 199, init=x[:K], algorithm=algorithm, sample_weight=w)
    assert found.n_iter > 5
    assert kernels[:4] == [199, 199, 199, 103]
    assert 0 < min(kernels) < 50


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_bounds_of_other_numbers(cp, kernels, dtype):
    x = (Random(1).bell((500, 3)) * (1e-3 if dtype == "float16" else 1e150)).astype(dtype)
    both(
        x,
        199,
        init=x[:K].astype("float64" if dtype == "float64" else "float32"),
        algorithm="hamerly",
    )
    assert min(kernels) < 100


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_bounds_from_the_device_hold(cp, monkeypatch, scale):
    x, checked = data() * np.float32(scale), []

    def look(self, which, upper, lower, real=Bounds.replace):
        real(self, which, upper, lower)
        checked.append((self, which))

    monkeypatch.setattr(Bounds, "replace", look)
    C, streamed = x[:K].copy(), pieces(x, 400)
    blocks = DeviceStreamBlocks(streamed, None, np.dtype(np.float32))
    blocks.algorithm = "hamerly"
    blocks.assign(blocks.place(C))
    framed = x.astype(np.float64) * blocks.common.frame.scale
    points = C.astype(np.float64) * blocks.common.frame.scale
    distances = np.sqrt(((framed[:, None] - points[None]) ** 2).sum(axis=2))
    own = distances.min(axis=1)
    other = np.sort(distances, axis=1)[:, 1]
    upper, lower = (np.concatenate([getattr(b, n) for b, _ in checked]) for n in ("upper", "lower"))
    assert len(upper) == len(x)
    assert (own * (1 - 1e-12) <= upper).all()
    assert (lower <= other * (1 + 1e-12)).all()
    assert (upper - own).mean() < 0.05 * own.mean()


@pytest.mark.parametrize("weighted", [False, True])
def test_empty_clusters_take_rows_of_any_block(cp, kernels, weighted):
    x = data("float64")
    w = np.arange(len(x)) % 3 if weighted else None
    both(x, 211, init=np.vstack([x[:3], np.full((3, 5), 900.0)]), sample_weight=w)
    assert kernels


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_values_far_from_one(cp, kernels, scale):
    x = data() * np.float32(scale)
    x[17] *= 100  # beyond what the half-precision copy holds
    both(x, 333, max_iter=3)
    assert kernels


def test_sums_are_fetched_before_they_are_full(cp, monkeypatch):
    monkeypatch.setattr(cuda_blocks, "MOST_ROWS", 300)
    both(data(), 200, max_iter=3)


def test_levels_are_carried():
    levels = np.array([[5], [-(3 << 40) - 7], [(1 << 62) + 9]])
    value = sum(int(n) << (32 * (2 - i)) for i, n in enumerate(levels[:, 0]))
    carried = cuda_blocks._carried(levels)[:, 0].tolist()
    assert sum(n << (32 * (2 - i)) for i, n in enumerate(carried)) == value
    assert all(abs(n) <= 1 << 31 for n in carried[1:])


def test_copies_made_in_pieces(cp, monkeypatch):
    for name in ("_COPIED", "_LABELS"):
        monkeypatch.setattr(pinned, name, 64)
    both(data(), 257, sample_weight=(np.arange(900) % 4).astype(np.float32), max_iter=3)


def test_predict_and_inertia(cp, kernels):
    x = data()
    found = kmeans(x, K, random_state=0)
    labels = predict(pieces(x, 400), found.centroids, device="cuda")
    assert np.array_equal(labels, found.labels)
    assert len(kernels) == 3
    assert inertia(pieces(x, 400), found.centroids) == found.inertia


def test_cosine_goes_without_kernels(cp, kernels):
    both(data(), 400, metric="cosine", algorithm="auto", max_iter=3)
    assert not kernels


@pytest.mark.parametrize(
    ("dtype", "weighted"), [("float16", False), ("float32", True), ("float64", False)]
)
def test_starts_on_the_device(cp, monkeypatch, dtype, weighted):
    """Potentials of gathered rows, and of all rows block by block, without the host's."""
    x, w = data(dtype, 400), np.arange(400) % 4 * 0.3 if weighted else None
    names, sizes = ("k-means++", "k-means||"), ("auto", 150)
    starts = [{"init": name, "init_size": size} for name in names for size in sizes]
    options = dict(random_state=0, max_iter=1, sample_weight=w)
    wholes = [fingerprint(kmeans(x, K, **start, **options)) for start in starts]

    def refuse(*_):
        raise AssertionError("on the host")

    monkeypatch.setattr(Part, "oversampling", refuse)
    monkeypatch.setattr(Part, "potential", refuse)
    monkeypatch.setattr(seeding, "_LARGE_POOL", 0)
    options["device"] = "cuda"
    founds = [fingerprint(kmeans(pieces(x, 257), K, **start, **options)) for start in starts]
    assert founds == wholes


@pytest.mark.parametrize("refusal", [DeviceUnsupported("no"), MemoryError("no room")])
def test_starts_that_the_device_refuses_are_the_hosts(cp, monkeypatch, refusal):
    def refuse(*_):
        raise refusal

    for name in ("potential", "oversampling"):
        monkeypatch.setattr(DeviceLloyd, name, refuse)
    for init in ("k-means++", "k-means||"):
        both(data(n=400), 257, max_iter=1, init=init, sample_weight=np.arange(400) % 3)


def test_where_no_kernels_serve(cp, monkeypatch):
    def refuse(*_):
        raise DeviceUnsupported("not this one")

    monkeypatch.setattr("kmeans_xp.blocks.device_streamed.BlockPasses", refuse)
    with pytest.warns(RuntimeWarning, match="not this one"):
        both(data(), 400, max_iter=3)
    with environment(backend="generic"):
        both(data(), 400, max_iter=3)


def test_resumed_from_a_checkpoint(cp, tmp_path):
    x = data()
    options = dict(random_state=0, init="random", n_init=2, tol=0.0, algorithm="lloyd")
    streamed = pieces(x, 400)
    assert interrupted(streamed, tmp_path, 3, n_clusters=K, device="cuda", **options)
    whole = fingerprint(kmeans(x, K, **options))
    assert fingerprint(kmeans(streamed, K, device="cuda", resume=tmp_path, **options)) == whole


def test_blocks_in_which_nothing_can_change_are_neither_read_nor_copied(cp, monkeypatch):
    send, sent = cuda_blocks.BlockCopies.send, []

    def counted(self, place, n_rows, *, labels):
        sent.append(n_rows)
        send(self, place, n_rows, labels=labels)

    monkeypatch.setattr(cuda_blocks.BlockCopies, "send", counted)
    rng = Random(2)
    still = np.array([100, 0]) + rng.bell((600, 2))
    x = np.vstack([10 * rng.random((300, 2)), still])  # blocks before one that is read are read
    init = np.vstack([[[100.0, 0.0]], 2 * rng.random((6, 2))])
    streamed = pieces(x, 150)
    found = kmeans(streamed, 7, init=init, tol=0.0, device="cuda")
    assert fingerprint(found) == fingerprint(kmeans(x, 7, init=init, tol=0.0))
    assert streamed.bytes_skipped > 0
    assert len(sent) < 6 * found.n_iter


@pytest.mark.parametrize("algorithm", ["auto", "hamerly"])
def test_what_was_read_and_what_was_not_is_told(cp, capsys, algorithm):
    rng = Random(2)
    still = np.array([100, 0]) + rng.bell((600, 2))
    x = np.vstack([still, 10 * rng.random((300, 2))])
    init = np.vstack([[[100.0, 0.0]], 2 * rng.random((6, 2))])
    streamed, seen = stream(x, block_rows=150), []

    def note(state):
        seen.append((state.bytes_read, state.bytes_skipped))

    options = dict(init=init, tol=0.0, device="cuda", algorithm=algorithm, verbose=1)
    kmeans(streamed, 7, callback=note, **options)
    assert seen[0] == (x.nbytes, 0)
    assert all(read + skipped == x.nbytes for read, skipped in seen)
    assert 0 < sum(skipped for _, skipped in seen) <= streamed.bytes_skipped
    assert f"Read {x.nbytes} bytes, left 0 unread." in capsys.readouterr().out


# ---- half-precision copies that stay on the device


def kept(x, size, room=1 << 20):
    return stream(lambda: (x[i : i + size] for i in range(0, len(x), size)), resident_bytes=room)


@pytest.fixture
def looks(monkeypatch):
    """Counts the blocks that are assigned by their copies."""
    look, seen = cuda_blocks.BlockPasses.look, []

    def counted(self, block, place):
        seen.append(block)
        look(self, block, place)

    monkeypatch.setattr(cuda_blocks.BlockPasses, "look", counted)
    return seen


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("weights", [None, "float32"])
@pytest.mark.parametrize("algorithm", ["auto", "hamerly"])
def test_copies_that_stay_settle_rows(cp, kernels, looks, dtype, weights, algorithm):
    x, w = data(dtype), None if weights is None else (np.arange(900) % 4 * 0.3).astype(weights)
    options = dict(random_state=0, init="random", n_init=2, tol=0.0, sample_weight=w)
    whole = kmeans(x, K, **options)
    found = kmeans(kept(x, 257), K, device="cuda", algorithm=algorithm, **options)
    assert fingerprint(found) == fingerprint(whole)
    assert set(looks) == {0, 1, 2, 3}
    assert min(kernels) < 60


def test_rows_that_copies_cannot_settle(cp, kernels, looks):
    """Ties, equal rows and a row far beyond the others: float64 and exact signs decide them."""
    rng = Random(3)
    x = rng.integers(-2, 3, (600, 4)).astype(np.float32)
    x[::7] = x[0]
    x[11] *= np.float32(1e6)
    options = dict(init=x[:40:5], tol=0.0, max_iter=8)
    found = kmeans(kept(x, 150), 8, device="cuda", **options)
    assert fingerprint(found) == fingerprint(kmeans(x, 8, **options))
    assert looks


def test_rows_left_open_must_be_marked(cp, monkeypatch):
    """A mutation: labels of half precision would be taken for proven."""
    found, make = [], cuda_blocks.Iteration._prepare_kernels

    def careless(self, testing):
        make(self, testing)
        self._mark_open = lambda *_: None

    for seed in (1, 21, 22):
        x = Random(seed).bell((600, 2)).astype(np.float32)
        x[:20] *= np.float32(1000)  # beyond the copy
        options = dict(init=x[40:48], tol=0.0)
        truth = fingerprint(kmeans(x, 8, **options))
        assert fingerprint(kmeans(kept(x, 150), 8, device="cuda", **options)) == truth
        with monkeypatch.context() as patch:
            patch.setattr(cuda_blocks.Iteration, "_prepare_kernels", careless)
            found.append(fingerprint(kmeans(kept(x, 150), 8, device="cuda", **options)) == truth)
    assert not all(found)


def test_only_as_many_copies_as_there_is_room_for(cp, looks, monkeypatch):
    x = data()
    for room in (0, 2 * 200 * 72, 2 * 200 * 72 + 100 * 72 - 1):  # 32 columns and 8 bytes a row
        looks.clear()
        found = kmeans(kept(x, 200, room), K, random_state=0, tol=0.0, device="cuda")
        assert fingerprint(found) == fingerprint(kmeans(x, K, random_state=0, tol=0.0))
        assert set(looks) == ({0, 1} if room else set())


def test_room_is_half_of_what_is_free(cp, looks, monkeypatch):
    x = Random(4).bell((400, 32)).astype(np.float64)
    monkeypatch.setattr(cuda_resident, "free_bytes", lambda: 2 * 2 * 100 * 72)
    both(x, 100, max_iter=4)
    assert set(looks) == {0, 1}
    looks.clear()
    both(x[:, :5].astype(np.float32), 100, max_iter=4)  # copies would be larger than the rows
    assert not looks


def test_free_bytes_keep_to_the_limit_of_the_pool(cp):
    pool = cp.get_default_memory_pool()
    limit = pool.get_limit()
    pool.set_limit(size=pool.used_bytes() + 12345)
    try:
        assert cuda_data.free_bytes() <= 12345
    finally:
        pool.set_limit(size=limit)


def test_a_device_that_is_full_keeps_no_copies(cp, looks, monkeypatch):
    from cupy.cuda.memory import OutOfMemoryError

    def refuse(self, block, n_rows, real=cuda_resident.Resident.make):
        with monkeypatch.context() as patch:
            patch.setattr(cp, "empty", full)
            return real(self, block, n_rows)

    def full(*_):
        raise OutOfMemoryError(1, 1)

    monkeypatch.setattr(cuda_resident.Resident, "make", refuse)
    x = data()
    found = kmeans(kept(x, 300), K, random_state=0, tol=0.0, device="cuda")
    assert fingerprint(found) == fingerprint(kmeans(x, K, random_state=0, tol=0.0))
    assert not looks


def test_blocks_that_copies_settle_are_not_read(cp, looks):
    rng = Random(2)
    still = np.array([100, 0]) + rng.bell((600, 2))
    x = np.vstack([still, 10 * rng.random((300, 2))])
    init = np.vstack([[[100.0, 0.0]], 2 * rng.random((6, 2))])
    streamed = stream(x, block_rows=150, resident_bytes=1 << 20)
    found = kmeans(streamed, 7, init=init, tol=0.0, device="cuda", algorithm="lloyd")
    assert fingerprint(found) == fingerprint(kmeans(x, 7, init=init, tol=0.0))
    assert streamed.bytes_skipped >= 4 * 150 * 16 * (found.n_iter - 2)
    assert len(looks) == 6 * (found.n_iter - 1)


def test_labels_alone_keep_nothing(cp, looks):
    x = data()
    C = kmeans(x, K, random_state=0).centroids
    streamed = kept(x, 300)
    for _ in range(2):
        assert np.array_equal(predict(streamed, C, device="cuda"), predict(x, C))
    assert not looks


def test_pinned_memory_is_taken_once(cp, monkeypatch):
    taken, allocate = [], cp.cuda.alloc_pinned_memory

    def counted(size):
        taken.append(size)
        return allocate(size)

    monkeypatch.setattr(cp.cuda, "alloc_pinned_memory", counted)
    both(data(), 100, init="random", n_init=2, max_iter=2)
    rows, labels = 100 * 5 * 4, 100 * 4
    assert sorted(taken)[-2:] == [rows, rows]
    assert taken.count(labels) == 2
    assert len(taken) == 5  # and one for what the kernels tell


def test_a_source_that_fails_leaves_nothing_behind(cp):
    x, calls = data(), []

    def source():
        calls.append(0)
        for lo in range(0, len(x), 100):
            if len(calls) > 4 and lo == 500:
                raise OSError("the disk is gone")
            yield x[lo : lo + 100]

    with pytest.raises(OSError, match="disk is gone"):
        kmeans(stream(source), K, init=x[:K], tol=0.0, device="cuda", algorithm="lloyd")
    assert not [t for t in threading.enumerate() if t.name == "kmeans_xp reader"]
    both(x, 100, max_iter=2)


def test_a_callback_that_raises(cp):
    def stop(state):
        raise StoppedError

    with pytest.raises(StoppedError):
        kmeans(pieces(data(), 100), K, random_state=0, device="cuda", callback=stop)
    both(data(), 100, max_iter=2)


def test_blocks_that_do_not_fit_say_what_to_do(cp, monkeypatch):
    monkeypatch.setattr(cuda_blocks.BlockRows, "_claim", lambda self, limit: _claim(self, 1000))
    _claim = cuda_blocks.Rows._claim
    with pytest.raises(MemoryError, match="fewer block_rows"):
        kmeans(pieces(data(), 300), K, random_state=0, device="cuda")


def test_the_place_tells_whether_kernels_serve(cp):
    x = data()
    assert DeviceStreamBlocks(pieces(x, 300), None, np.dtype(np.float32)).unsupported is None
    wide = np.array([[1e-300], [1e300]] * 50)
    blocks = DeviceStreamBlocks(pieces(wide, 30), None, np.dtype(np.float64))
    assert "bits" in str(blocks.unsupported)
