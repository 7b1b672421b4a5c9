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
        self._workers: frozenset[Any] = frozenset()

    def __len__(self) -> int:
        return len(self.parts)

    def keep(self, which: Sequence[int]) -> Chunks:
        """Some of the chunks."""
        some = Chunks([])
        some.parts = [self.parts[i] for i in which]
        return some

    def each(
        self,
        function: Callable[..., Any],
        *shared: Any,
        own: Sequence[tuple[Any, ...]] | None = None,
    ) -> list[Any]:
        """Results of ``function(chunk, *own, *shared)`` on the client."""
        tasks = [
            _task(function, part, *(own[i] if own is not None else ()), *shared)
            for i, part in enumerate(self.parts)
        ]
        return list(dask.compute(*tasks, optimize_graph=False))

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
        groups: dict[str | None, list[Delayed]] = {}
        for i, (part, home) in enumerate(zip(self.parts, self._homes(), strict=True)):
            mine = own[i] if own is not None else ()
            with _at(home):
                task = _task(_piece, function, part, *mine, *shared, name=function.__name__)
            groups.setdefault(home, []).append(task)
        join = functools.partial(_merged, merge)
        tops = []
        for home, tasks in groups.items():
            with _at(home):
                tops.append(tree(join, tasks))
        [piece] = dask.compute(tree(join, tops), optimize_graph=False)
        if piece.workers != self._workers:  # some came or went, and chunks with them
            self._workers, self._known = piece.workers, None
        return _merged(_only, [piece])

    def _homes(self) -> list[str | None]:
        """Addresses of the workers that have the chunks; None where there is but this process."""
        if self._known is None:
            client = _client()
            self._known = [None] * len(self)
            if client is not None:
                futures = [next(iter(part.dask.values())) for part in self.parts]
                found = client.who_has(futures)
                self._known = [min(found[future.key], default=None) for future in futures]
        return self._known


def hold(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """Keep a value on a worker, which the others get it from; lost, it is made again."""
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


def _at(home: str | None) -> contextlib.AbstractContextManager[Any]:
    """Context of tasks that should run on this worker, while there is one."""
    if home is None:
        return contextlib.nullcontext()
    return dask.annotate(workers=[home], allow_other_workers=True)


def _client() -> Any:
    """The client of a cluster, if Dask computes there."""
    distributed = sys.modules.get("distributed")  # whoever has a cluster has imported it
    get = dask.base.get_scheduler()
    client = getattr(get, "__self__", None)
    known = distributed is not None and isinstance(client, distributed.Client)
    return client if known else None


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
