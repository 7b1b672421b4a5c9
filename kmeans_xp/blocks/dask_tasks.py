"""Chunks kept where Dask put them, and what is computed of all of them, combined by a tree."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import dask
import numpy as np
from dask.delayed import Delayed, delayed

__all__ = ["Chunks", "Piece", "hold", "process", "tree"]

# Results that are combined in one task.
_FAN_IN = 8
# Seconds after which it is time to see whether the workers that are waited for are still there.
_PATIENCE = 1.0
# Many centroids make a large graph: that must be so, and the caller need not be warned.
_LARGE_GRAPHS = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}


@dataclass(frozen=True)
class Piece:
    """A result on its way to the client, with what it took to bring it so far.

    Attributes
    ----------
    value : object
    process : tuple
        Where it is.
    moved : int
        Bytes of results that went from one process to another.
    workers : frozenset
        Processes that had a hand in it.
    """

    value: Any
    process: tuple[str, int]
    moved: int
    workers: frozenset[tuple[str, int]]

    def __sizeof__(self) -> int:
        """Bytes, by which Dask chooses where to combine."""
        return 200 + _bytes(self.value)


class Chunks:
    """The chunks of an array, computed once and kept by the scheduler's workers.

    Parameters
    ----------
    parts : sequence of Delayed
        One a chunk.
    """

    def __init__(self, parts: Sequence[Delayed]) -> None:
        self.parts = list(dask.persist(*parts))
        self._known: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def keep(self, which: Sequence[int]) -> Chunks:
        """Some of the chunks."""
        some = Chunks([])
        some.parts = [self.parts[i] for i in which]
        some._known = None if self._known is None else [self._known[i] for i in which]
        return some

    def each(
        self,
        function: Callable[..., Any],
        *shared: Any,
        own: Sequence[tuple[Any, ...]] | None = None,
    ) -> list[Any]:
        """Results of ``function(chunk, *own, *shared)`` on the client."""
        return self._run(lambda: self._tasks(function, shared, own))

    def total(
        self,
        function: Callable[..., Any],
        merge: Callable[[list[Any]], Any],
        *shared: Any,
        own: Sequence[tuple[Any, ...]] | None = None,
    ) -> Piece:
        """Combine ``function(chunk, *own, *shared)`` of all chunks.

        Those of a worker are combined there first, so that one result a worker travels.
        """
        join = functools.partial(_merged, merge)

        def combined() -> list[Delayed]:
            groups: dict[str | None, list[Delayed]] = {}
            tasks = self._tasks(function, shared, own, _piece)
            for home, task in zip(self._homes(), tasks, strict=True):
                groups.setdefault(home, []).append(task)
            tops = []
            for home, group in groups.items():
                with _at(home):
                    tops.append(tree(join, group))
            return [tree(join, tops)]

        [piece] = self._run(combined)
        return _merged(_only, [piece])

    def kept(self, function: Callable[..., Any], name: str, *shared: Any) -> dict[Any, Any]:
        """Graph of the results of ``function(chunk, *shared)``, kept where the chunks are."""
        tasks = []
        for i, (part, home) in enumerate(zip(self.parts, self._homes(), strict=True)):
            with _at(home, strict=False):
                call = delayed(function, pure=False)
                tasks.append(call(part, *shared, dask_key_name=(name, i)))
        found = dask.persist(*tasks, optimize_graph=False)
        return {key: value for task in found for key, value in dict(task.dask).items()}

    def _tasks(
        self,
        function: Callable[..., Any],
        shared: tuple[Any, ...],
        own: Sequence[tuple[Any, ...]] | None,
        *around: Callable[..., Any],
    ) -> list[Delayed]:
        """Calls where the chunks are, through `around` if it is given."""
        tasks = []
        for i, (part, home) in enumerate(zip(self.parts, self._homes(), strict=True)):
            call = *around, function, part, *(own[i] if own is not None else ()), *shared
            with _at(home):
                tasks.append(_task(*call, name=function.__name__))
        return tasks

    def _homes(self) -> list[str | None]:
        """Addresses of the workers that have the chunks; None where there is but this process."""
        if self._known is None:
            client = _client()
            if client is None:
                self._known = [None] * len(self)
            else:
                futures = [next(iter(part.dask.values())) for part in self.parts]
                _wait(futures)
                found = client.who_has(futures)
                self._known = [min(found[future.key], default=None) for future in futures]
        return self._known

    def _run(self, build: Callable[[], list[Delayed]]) -> list[Any]:
        """Compute tasks; again from their beginning if a worker that they are meant for is gone.

        Tasks are bound to the worker that has their chunk, or Dask would move rows to idle ones.
        """
        client = _client()
        with dask.config.set(_LARGE_GRAPHS):
            while client is not None:
                futures = client.compute(build(), optimize_graph=False)
                if self._done(client, futures):
                    return list(client.gather(futures))
                client.cancel(futures)
                self._known = None
            return list(dask.compute(*build(), optimize_graph=False))

    def _done(self, client: Any, futures: list[Any]) -> bool:
        """Wait for futures; false if some wait for a worker that is gone."""
        while not _wait(futures, _PATIENCE):
            meant = {home for home in self._homes() if home is not None}
            if not meant <= set(client.nthreads()):
                return False
        return True


def hold(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """Keep a value on a worker, which the others get it from; lost, it is made again."""
    with dask.config.set(_LARGE_GRAPHS):
        [held] = dask.persist(_task(function, *arguments), optimize_graph=False)
    return held


def tree(merge: Callable[[list[Any]], Any], tasks: list[Delayed]) -> Delayed:
    """Combine what tasks give, some at a time."""
    while len(tasks) > 1:
        tasks = [
            _task(merge, tasks[i : i + _FAN_IN], name="combine")
            for i in range(0, len(tasks), _FAN_IN)
        ]
    return tasks[0]


def _task(function: Callable[..., Any], *arguments: Any, name: str = "") -> Delayed:
    """A call that dashboards show by its name."""
    key = f"kmeans-{(name or function.__name__).strip('_')}-{uuid.uuid4().hex}"
    return delayed(function, pure=False)(*arguments, dask_key_name=key)


def _at(home: str | None, strict: bool = True) -> contextlib.AbstractContextManager[Any]:
    """Context of tasks that are to run on this worker, or should."""
    if home is None:
        return contextlib.nullcontext()
    return dask.annotate(workers=[home], allow_other_workers=not strict)


def _client() -> Any:
    """The client of a cluster, if Dask computes there."""
    distributed = sys.modules.get("distributed")  # whoever has a cluster has imported it
    get = dask.base.get_scheduler()
    client = getattr(get, "__self__", None)
    known = distributed is not None and isinstance(client, distributed.Client)
    return client if known else None


def _wait(futures: list[Any], timeout: float | None = None) -> bool:
    """Wait until all futures are done; false if that takes longer."""
    from distributed import wait

    try:
        wait(futures, timeout=timeout)
    except TimeoutError:
        return False
    return True


def process() -> tuple[str, int]:
    """Name of this process, among those of a cluster."""
    return platform.node(), os.getpid()


def _piece(function: Callable[..., Any], *arguments: Any) -> Piece:
    here = process()
    return Piece(function(*arguments), here, 0, frozenset([here]))


def _merged(merge: Callable[[list[Any]], Any], pieces: list[Piece]) -> Piece:
    here = process()
    moved = sum(p.moved + (_bytes(p.value) if p.process != here else 0) for p in pieces)
    workers = frozenset().union(*(p.workers for p in pieces))
    return Piece(merge([p.value for p in pieces]), here, moved, workers)


def _only(values: list[Any]) -> Any:
    return values[0]


def _bytes(value: Any) -> int:
    """Bytes of a result: those of its arrays, and 8 a number."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list):
        return sum(_bytes(one) for one in value)
    if is_dataclass(value):
        return sum(_bytes(getattr(value, field.name)) for field in fields(value))
    return 8
