"""What a caller sees of a running fit: callbacks, verbose lines, the progress bar, the device."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from kmeans_xp import History, KMeans, State, kmeans, predict, select_k
from kmeans_xp.exact.inertia import exact_shift
from kmeans_xp.prediction import inertia

from . import datasets
from .conftest import Library, entered
from .helpers import assert_bits, assert_same


@pytest.fixture
def x() -> np.ndarray:
    return datasets.make("uniform", "float64", 200, 3)


def test_callback_sees_every_iteration(x: np.ndarray) -> None:
    seen: list[State] = []
    result = kmeans(x, 5, init=x[:5], tol=0, callback=seen.append)
    assert [s.iteration for s in seen] == list(range(1, result.n_iter + 1))
    assert {s.start for s in seen} == {0}
    assert seen[0].changed == len(x)
    assert seen[-1].changed == 0
    assert np.array_equal(seen[-1].centroids, result.centroids)
    centers = [x[:5], *(s.centroids for s in seen)]
    for state, old, new in zip(seen, centers[:-1], centers[1:], strict=True):
        assert state.shift == pytest.approx(float(exact_shift(new, old)), rel=1e-12)
        assert state.relocated == 0
        assert state.seconds >= 0


def test_callback_counts_relocations_and_starts(x: np.ndarray) -> None:
    seen: list[State] = []
    far = np.vstack([x[:3], x[:2] + 100])
    kmeans(x, 5, init=far, tol=0, callback=seen.append)
    assert seen[0].relocated == 2
    seen.clear()
    kmeans(x, 5, init="random", n_init=3, random_state=0, callback=seen.append)
    assert sorted({s.start for s in seen}) == [0, 1, 2]


@pytest.mark.parametrize("answer", [True, np.True_])
def test_callback_stops(x: np.ndarray, answer: bool) -> None:
    result = kmeans(
        x, 5, init=x[:5], tol=0, callback=lambda s: answer if s.iteration == 2 else None
    )
    assert result.n_iter == 2
    assert not result.converged
    assert np.array_equal(predict(x, result.centroids), result.labels)


def test_an_error_in_a_callback_reaches_the_caller(x: np.ndarray) -> None:
    def fail(state: State) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        kmeans(x, 5, init=x[:5], callback=fail)
    assert kmeans(x, 5, init=x[:5]).converged


def test_verbose_prints_a_line_an_iteration(
    x: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[State] = []
    result = kmeans(x, 5, init=x[:5], tol=0, verbose=1, callback=seen.append)
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "Initialization complete"
    assert last == f"Converged at iteration {result.n_iter - 1}: strict convergence."
    centers = [x[:5], *(s.centroids for s in seen)]
    for i, line in enumerate(lines):
        assert line == f"Iteration {i}, inertia {inertia(x, centers[i])}."
    assert len(lines) == result.n_iter


def test_verbose_tells_of_tolerance_and_of_every_start(
    x: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"init": "random", "n_init": 2, "random_state": 0}
    kmeans(x, 5, tol=1e-2, verbose=1, **options)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("Initialization complete") == 2
    told = [line for line in lines if line.startswith("Converged")]
    assert len(told) == 2
    for line in told:
        shift, limit = (float(word.rstrip(".")) for word in line.split()[6::3])
        assert shift <= limit == pytest.approx(1e-2 * x.var(axis=0).mean(), rel=1e-12)
    kmeans(x, 5, tol=0, max_iter=1, verbose=1, **options)
    assert "Converged" not in capsys.readouterr().out


def test_verbose_is_scikit_learns_format(x: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    texts = []
    for estimator in (KMeans, cluster.KMeans):
        for tol in (0, 1e-2):
            estimator(5, init=x[:5], n_init=1, tol=tol, verbose=1).fit(x)
        texts.append(capsys.readouterr().out.splitlines())
    assert len(texts[0]) == len(texts[1])
    number = re.compile(r"[-+0-9.e]*[0-9]")
    for ours, theirs in zip(*texts, strict=True):
        assert number.sub("", ours) == number.sub("", theirs)
        values = [[float(n) for n in number.findall(text)] for text in (ours, theirs)]
        assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_progress_bar(x: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    kmeans(x, 5, init=x[:5], progress=True)
    captured = capsys.readouterr()
    assert "k-means, start 0" in captured.err
    assert captured.out == ""


def test_progress_without_tqdm_is_refused_first(
    x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmeans_xp.progress.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"kmeans_xp\[progress\]"):
        kmeans(np.full((3, 2), np.nan), 2, progress=True)


@pytest.mark.parametrize(
    "value", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "", -1, True, 0.0, np.array(["cuda"])]
)
def test_unknown_device(x: np.ndarray, value: object) -> None:
    calls = (
        lambda: kmeans(x, 2, device=value),
        lambda: kmeans(x[None], 2, device=value),
        lambda: predict(x, x[:2], device=value),
        lambda: select_k(x, [2], device=value),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"device must be None, 'cpu', 'cuda', 'cuda:N' or"):
            call()


def test_the_host_is_no_other_device(x: np.ndarray) -> None:
    truth = kmeans(x, 3, random_state=0)
    for given in (x, x.tolist()):
        result = kmeans(given, 3, random_state=0, device="cpu")
        assert_same(result, truth)
        assert_bits(predict(given, truth.centroids, device="cpu"), truth.labels)
    batch = kmeans(x[None], 3, random_state=0, device="cpu")
    assert_bits(batch.centroids, kmeans(x[None], 3, random_state=0).centroids)
    select_k(x, [2], random_state=0, device="cpu")


def test_device_cpu_refuses_data_elsewhere(x: np.ndarray) -> None:
    with entered("strict") as library:
        there = library.asarray(x).to_device(library.xp.Device("device1"))
        calls = (
            lambda: kmeans(there, 2, device="cpu"),
            lambda: kmeans(there[None, ...], 2, device="cpu"),
            lambda: predict(there, x[:2], device="cpu"),
        )
        for call in calls:
            with pytest.raises(ValueError, match=r"device='cpu' takes data on the host.*device1"):
                call()


def test_devices_of_torch(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    here = kmeans(x, 2, random_state=0, device=torch.device("cpu"))
    assert_same(here, kmeans(x, 2, random_state=0))
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ModuleNotFoundError, match=f"device='{name}' needs CuPy"):
            kmeans(x, 2, device=torch.device(name))
    with pytest.raises(ValueError, match=r"device must be .*, got device\(type='meta'\)"):
        kmeans(x, 2, device=torch.device("meta"))


def test_device_needs_cupy(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    for value in ("cuda", "cuda:1", 1, np.int32(1)):
        with pytest.raises(ModuleNotFoundError, match=r"device='cuda.*kmeans_xp\[cuda12\]"):
            kmeans(x, 2, device=value)


def test_inertia_of_each_iteration_is_exact_and_lazy(x: np.ndarray) -> None:
    seen: list[tuple[State, float]] = []
    result = kmeans(x, 5, init=x[:5], tol=0, callback=lambda s: seen.append((s, s.inertia)))
    centers = [x[:5], *(state.centroids for state, _ in seen)]
    for (_, value), before in zip(seen, centers, strict=False):
        truth = inertia(x, before)
        assert value == truth
    assert seen[-1][1] == result.inertia
    assert seen[0][0].inertia == seen[0][1]  # it was asked for in time
    late: list[State] = []
    kmeans(x, 5, init=x[:5], callback=late.append)
    with pytest.raises(RuntimeError, match="while the callback runs"):
        _ = late[0].inertia


def test_history_is_the_same_on_every_library(x: np.ndarray, library: Library) -> None:
    narrow = x.astype(np.float32)
    history, truth, quick = History(), History(), History(inertia=False)
    options = {"init": "random", "n_init": 2, "random_state": 0}
    kmeans(narrow, 4, callback=truth, **options)
    kmeans(library.asarray(narrow), 4, callback=history, **options)
    columns, expected = history.to_dict(), truth.to_dict()
    for name in ("start", "iteration", "inertia", "changed", "relocated"):
        assert columns[name] == expected[name]
    assert repr(history) == f"History({len(history)} iterations)"
    kmeans(x, 4, init=x[:4], callback=quick)
    assert set(quick.to_dict()["inertia"]) == {None}
