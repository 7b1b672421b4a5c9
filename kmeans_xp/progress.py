"""What a person sees while the loop runs: verbose lines, a progress bar, the caller's callback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

from kmeans_xp.backends.convert import from_numpy
from kmeans_xp.blocks.base import Blocks, Step
from kmeans_xp.lloyd import LoopResult, State
from kmeans_xp.streams import is_stream

__all__ = ["Watch", "check_progress", "pass_bars", "problem_bar"]


def check_progress(progress: bool) -> None:
    """Refuse a progress bar that cannot be drawn, before any work."""
    if progress and find_spec("tqdm") is None:
        raise ModuleNotFoundError("progress=True needs tqdm: pip install 'kmeans_xp[progress]'")


@contextlib.contextmanager
def problem_bar(
    total: int, progress: bool, unit: str = "problem"
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar over the problems of a batch; gives the function that moves it."""
    if not progress:
        yield lambda count: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="k-means", unit=unit) as bar:
        yield bar.update


@contextlib.contextmanager
def pass_bars(x: Any, progress: bool) -> Iterator[None]:
    """Show a progress bar over the bytes of each pass over a stream, with its rate."""
    if not (progress and is_stream(x)):
        yield
        return
    from tqdm.auto import tqdm

    def bar(total: int) -> Any:
        return tqdm(total=total, desc="reading", unit="B", unit_scale=True, leave=False)

    with x.watched(bar):
        yield


def _counted(x: Any) -> tuple[int, int]:
    """Bytes that a stream has read, and has left unread."""
    return (x.bytes_read, x.bytes_skipped) if is_stream(x) else (0, 0)


class Watch:
    """Turns iterations into verbose lines, a progress bar and the caller's callback."""

    def __init__(
        self,
        blocks: Blocks,
        x: Any,
        start: int,
        max_iter: int,
        progress: bool,
        callback: Callable[[State], bool | None] | None,
        verbose: int,
    ) -> None:
        self.blocks, self.x, self.start, self.verbose, self.callback = (
            blocks,
            x,
            start,
            verbose,
            callback,
        )
        self.progress, self.max_iter = progress, max_iter
        self.bar: Any = None
        watched = progress or verbose or callback is not None
        self.on_iteration = self._seen if watched else None
        self._from: Any = None  # the centroids of the iteration that runs
        self._last: Step | None = None
        self._bytes = _counted(x)

    def begin(self, handle: Any) -> None:
        """The start is made: iterations begin from these centroids."""
        self._from, self._bytes = handle, _counted(self.x)
        if self.verbose:
            print("Initialization complete")

    def end(self, loop: LoopResult, tol: float) -> None:
        """The loop has ended; say how if it converged."""
        if not (self.verbose and loop.converged and self._last is not None):
            return
        if self._last.changed == 0 and not self._last.relocated:
            why = "strict convergence."
        else:
            limit = float(Fraction(tol) * self.blocks.variance())
            why = f"center shift {self._last.shift[1]} within tolerance {limit}."
        print(f"Converged at iteration {loop.n_iter - 1}: {why}")

    def __enter__(self) -> None:
        if self.progress:
            from tqdm.auto import tqdm

            name = f"k-means, start {self.start}"
            self.bar = tqdm(total=self.max_iter, desc=name, unit="iteration")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _seen(self, iteration: int, step: Step, seconds: float) -> bool:
        measure = _Measure(self.blocks, self._from)
        read, skipped = (now - old for now, old in zip(_counted(self.x), self._bytes, strict=True))
        if self.verbose:  # in scikit-learn's words, which count from 0
            of_stream = f" Read {read} bytes, left {skipped} unread." if is_stream(self.x) else ""
            print(f"Iteration {iteration - 1}, inertia {measure()}.{of_stream}")
        self._bytes = _counted(self.x)
        self._from, self._last = step.centroids, step
        if self.bar is not None:
            shown = {} if measure.value is None else {"inertia": f"{measure.value:.6g}"}
            self.bar.set_postfix(changed=step.changed, **shown, refresh=False)
            self.bar.update()
        if self.callback is None:
            return False
        centroids = from_numpy(self.blocks.fetch(step.centroids).copy(), self.x)
        state = State(
            start=self.start,
            iteration=iteration,
            centroids=centroids,
            shift=step.shift[1],
            changed=step.changed,
            relocated=step.relocated,
            rechecked=step.rechecked,
            seconds=seconds,
            bytes_moved=step.bytes_moved,
            measure=measure,
            bytes_read=read,
            bytes_skipped=skipped,
        )
        try:
            return bool(self.callback(state))
        finally:
            measure.blocks = None


class _Measure:
    """The inertia of an iteration, computed once and only while the blocks still hold it."""

    def __init__(self, blocks: Blocks, handle: Any) -> None:
        self.blocks: Blocks | None = blocks
        self.handle = handle
        self.value: float | None = None

    def __call__(self) -> float:
        if self.value is None:
            if self.blocks is None:
                raise RuntimeError(
                    "state.inertia must be asked for while the callback runs; the data have moved "
                    "on since"
                )
            self.blocks.settle_step(self.handle)
            self.value = self.blocks.inertia(self.handle)
        return self.value
