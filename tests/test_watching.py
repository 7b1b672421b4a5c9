"""What a caller sees of a running fit: callbacks, verbose lines, the progress bar, the device."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kmeans_xp import State, kmeans, predict
from kmeans_xp.exact.inertia import exact_shift

from . import datasets


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
    result = kmeans(x, 5, init=x[:5], tol=0, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("Iteration ") for line in lines) == result.n_iter
    assert repr(result.inertia) in lines[-1]


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


@pytest.mark.parametrize("value", ["gpu", 0, "cpu", np.array(["cuda"])])
def test_unknown_device(x: np.ndarray, value: object) -> None:
    with pytest.raises(ValueError, match="device must be None or 'cuda'"):
        kmeans(x, 2, device=value)


def test_device_needs_cupy(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ModuleNotFoundError, match="kmeans_xp\\[cuda12\\]"):
        kmeans(x, 2, device="cuda")
