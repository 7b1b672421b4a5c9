"""Checkpoints: what a fit needs to go on after an interruption, and end with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.blocks.base import Blocks
from kmeans_xp.io import atomic_write
from kmeans_xp.seeding import Words
from kmeans_xp.validation import check_count

__all__ = ["Best", "Checkpoint", "CheckpointError", "Keeper", "described", "open_keeper"]

FILE = "kmeans.checkpoint.npz"
FORMAT = 1
_NAMES = {"data": "X", "weights": "sample_weight"}


class CheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to other data or parameters."""


class Checkpoint:
    """Where a fit keeps its state, and how often.

    Parameters
    ----------
    path : path-like
        A folder, made if it is missing. It holds one small file (centroids, not rows), replaced in
        one step, so that an interruption leaves the last one whole.
    iterations : int, optional
        Write after every so many iterations.
    seconds : float, default 30
        Write when so many seconds have passed since the last time; whichever comes first. A fit
        that is interrupted (Ctrl-C, `sys.exit`) writes after the last iteration that it finished.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from kmeans_xp import Checkpoint, kmeans
    >>> x = np.random.default_rng(0).standard_normal((500, 2))
    >>> folder = tempfile.mkdtemp()
    >>> first = kmeans(x, 5, random_state=0, checkpoint=Checkpoint(folder, iterations=2))
    >>> again = kmeans(x, 5, random_state=0, resume=folder)  # after an interruption, say
    >>> again.inertia == first.inertia, again.n_iter == first.n_iter
    (True, True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        iterations: int | None = None,
        seconds: float = 30.0,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"checkpoint must be a folder or a Checkpoint, got {path!r}")
        if iterations is not None:
            iterations = check_count(iterations, "iterations")
        known = isinstance(seconds, int | float | np.number) and not isinstance(seconds, bool)
        if not known or not seconds >= 0:
            raise ValueError(f"seconds must be a number >= 0, got {seconds!r}")
        self.path, self.iterations, self.seconds = Path(path), iterations, float(seconds)


@dataclass
class Best:
    """The best start so far; its labels are made again where they were not kept."""

    inertia: float
    centroids: np.ndarray
    n_iter: int
    converged: bool
    labels: Any = None


class Keeper:
    """Writes the state of a fit to its checkpoint, and reads the one to go on from.

    Attributes
    ----------
    start : int
        The start to go on with.
    iteration : int
        Iterations of that start that are done.
    centroids : tuple of ndarray or None
        Those before and after the last of these iterations.
    best : Best or None
        Of the starts before.
    """

    def __init__(self, checkpoint: Checkpoint | None, resume: Path | None) -> None:
        self._target, self._resume = checkpoint, resume
        self._identity: dict[str, Any] = {}
        self._written = time.monotonic()
        self.start, self.iteration = 0, 0
        self.centroids: tuple[np.ndarray, np.ndarray] | None = None
        self.best: Best | None = None

    def begin(self, blocks: Blocks, words: Words, parameters: Mapping[str, Any]) -> None:
        """Read the state to go on from, once it is known to be of this fit."""
        if self._target is None and self._resume is None:
            return
        self._words = words
        self._identity = {
            **parameters,
            "n_samples": blocks.n_rows,
            "n_features": blocks.n_features,
            "dtype": blocks.dtype.name,
            "weights": _digest_of(blocks.weights()),
            "data": _data_digest(blocks),
        }
        if self._resume is not None:
            self._read(self._resume)

    def next_start(self, index: int) -> None:
        """Forget the iterations of the start before."""
        self.start, self.iteration, self.centroids = index, 0, None

    def after_iteration(self, blocks: Blocks, iteration: int, before: Any, after: Any) -> None:
        """Write the state of a start that goes on, if it is time to."""
        target = self._target
        if target is None:
            return
        follows = self.centroids is not None and self.iteration == iteration - 1
        old = self.centroids[1] if follows and self.centroids else blocks.fetch(before)
        self.iteration, self.centroids = iteration, (old, blocks.fetch(after))
        due = target.iterations is not None and iteration % target.iterations == 0
        if due or time.monotonic() - self._written >= target.seconds:
            self._write()

    def interrupted(self) -> None:
        """Write what the start that runs has finished."""
        if self._target is not None and self.centroids is not None:
            self._write()

    def after_start(self, index: int, best: Best) -> None:
        """Write that a start is over."""
        self.best = best
        self.next_start(index + 1)
        if self._target is not None:
            self._write()

    def _write(self) -> None:
        assert self._target is not None
        best = self.best
        state = {
            "format": FORMAT,
            "identity": self._identity,
            "start": self.start,
            "iteration": self.iteration,
            "words": self._words.state,
            "best": None if best is None else [best.inertia.hex(), best.n_iter, best.converged],
        }
        arrays = {} if best is None else {"best": best.centroids}
        if self.centroids is not None:
            arrays |= dict(zip(("before", "after"), self.centroids, strict=True))
        text = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
        self._target.path.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._target.path / FILE) as file:
            np.savez(file, allow_pickle=False, state=text, **arrays)
        self._written = time.monotonic()

    def _read(self, folder: Path) -> None:
        path = folder / FILE
        with open(path, "rb") as file:  # what the system refuses is no damage
            try:
                if not zipfile.is_zipfile(file):
                    raise CheckpointError("no archive")
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                state = json.loads(arrays.pop("state").tobytes())
                if state["format"] != FORMAT:
                    raise CheckpointError(f"format {state['format']}, this version reads {FORMAT}")
                self._check(state["identity"])
                self._take(state, arrays)
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {error}") from None
            except (MemoryError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise CheckpointError(f"{path}: damaged: {error!r}") from error

    def _check(self, identity: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of another fit, naming what differs."""
        for name, here in self._identity.items():
            there = identity.get(name)
            if there == here or (name == "random_state" and None in (here, there)):
                continue
            what = _NAMES.get(name, name)
            shown = "" if name in _NAMES else f": {there!r} there, {here!r} here"
            raise CheckpointError(
                f"the checkpoint was written with another {what}{shown}; resume with what the "
                "fit was started with, or leave resume out to start anew"
            )

    def _take(self, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        shape = self._identity["n_clusters"], self._identity["n_features"]
        for name, array in arrays.items():
            sound = array.shape == shape and array.dtype.name == self._identity["dtype"]
            if not sound or not np.isfinite(array).all():
                raise CheckpointError(f"damaged: {name} are no centroids of this fit")
        self.start, self.iteration = int(state["start"]), int(state["iteration"])
        if self.iteration:
            self.centroids = arrays["before"], arrays["after"]
        if state["best"] is not None:
            cost, n_iter, converged = state["best"]
            self.best = Best(float.fromhex(cost), arrays["best"], int(n_iter), bool(converged))
        self._words.state = state["words"]


def open_keeper(checkpoint: Any, resume: Any) -> Keeper:
    """Check both arguments of `kmeans`, before any work.

    Raises
    ------
    TypeError
        If one is no path.
    FileNotFoundError
        If there is no checkpoint to go on from.
    NotADirectoryError
        If the folder of the checkpoint could not be made, for a file is in its way.
    """
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    if checkpoint is not None:
        _check_folder(checkpoint.path)
    if resume is None:
        return Keeper(checkpoint, None)
    if isinstance(resume, Checkpoint):
        resume = resume.path
    if not isinstance(resume, str | os.PathLike):
        raise TypeError(f"resume must be a folder with a checkpoint, got {resume!r}")
    if not (Path(resume) / FILE).is_file():
        raise FileNotFoundError(
            f"resume: there is no checkpoint in {os.fspath(resume)}; leave it out to start anew"
        )
    return Keeper(checkpoint, Path(resume))


def _check_folder(path: Path) -> None:
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise NotADirectoryError(
                    f"checkpoint must be a folder, and {part} is a file; name another folder"
                )
            return


def described(init: Any, random_state: Any) -> dict[str, Any]:
    """Start and seed of a fit, so that they can be compared."""
    if callable(init):
        init = f"callable {getattr(init, '__qualname__', type(init).__name__)}"
    elif not isinstance(init, str):
        init = f"array {_digest_of(init)}"
    if isinstance(random_state, np.random.SeedSequence):
        random_state = repr((random_state.entropy, random_state.spawn_key))
    elif not isinstance(random_state, int | np.integer):
        random_state = None  # None, or a generator that has moved on since
    else:
        random_state = int(random_state)
    return {"init": init, "random_state": random_state}


def _digest_of(array: np.ndarray | None) -> str | None:
    if array is None:
        return None
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _data_digest(blocks: Blocks) -> str:
    """Hash of all rows in order, whatever holds them."""
    digest = hashlib.sha256()
    for rows in blocks.in_order():
        digest.update(np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
