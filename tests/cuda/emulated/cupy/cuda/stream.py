"""Streams that put work off until somebody waits for it, events, and graphs.

Two streams know nothing of each other: what one has not been made to wait for is not done. So the
host, or another stream, reads rubbish or old numbers where a wait is missing.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import deque

_current = threading.local()
_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


class _NoCollection:
    """No garbage is collected while work is done.

    A finalizer may wait for the stream, and would do what comes later before the work at hand.
    """

    def __init__(self):
        self._depth, self._lock, self._enabled = 0, threading.Lock(), False

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                self._enabled = gc.isenabled()
                gc.disable()
            self._depth += 1

    def __exit__(self, *_):
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._enabled:
                gc.enable()


_no_collection = _NoCollection()


class Stream:
    """`cupy.cuda.Stream`: a queue of functions."""

    null: Stream

    def __init__(self, null=False, non_blocking=False):
        if not (null or non_blocking):
            raise NotImplementedError("a stream that waits for the null stream")
        self._queue, self._lock = deque(), threading.RLock()
        self._captured = None
        self.ptr = 0 if null else id(self)
        _streams.add(self)

    def __enter__(self):
        _stack().append(self)
        return self

    def __exit__(self, *_):
        _stack().pop()

    def _add(self, work):
        (self._queue if self._captured is None else self._captured).append(work)

    def _wait(self):
        """Do all work now."""
        if self._captured is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: waiting while capturing")
        self._run(None)

    def _run(self, last):
        """Do the work until `last` is done; None: all there is now."""
        with self._lock, _no_collection:
            end = self._queue[-1] if last is None and self._queue else last
            while self._queue and end is not None:
                work = self._queue.popleft()
                work.run()
                if work is end:
                    break

    def synchronize(self):
        self._wait()

    def wait_event(self, event):
        self._add(_Wait(event))

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: the null stream")
        self._captured = []

    def end_capture(self):
        launches, self._captured = self._captured, None
        return Graph(launches)


class _Wait:
    def __init__(self, event):
        self._event, self._mark = event, event._mark

    def run(self):
        self._event._reach(self._mark)


class Graph:
    """Launches to repeat. It keeps no memory alive, as CUDA does not."""

    def __init__(self, launches):
        self._launches = [launch.weak() for launch in launches]

    def upload(self, stream):
        pass

    def launch(self, stream=None):
        stream = get_current_stream() if stream is None else stream
        for launch in self._launches:
            stream._add(launch.strong())


class _Mark:
    """A place in a queue."""

    def __init__(self, stream):
        self.stream, self.done = stream, False

    def run(self):
        self.done = True


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._mark = None

    def record(self, stream=None):
        stream = get_current_stream() if stream is None else stream
        self._mark = _Mark(stream)
        stream._add(self._mark)

    def synchronize(self):
        self._reach(self._mark)

    def _reach(self, mark):
        if mark is None:
            return
        with mark.stream._lock:
            if not mark.done:
                mark.stream._run(mark)


Stream.null = Stream(null=True)


def _stack():
    if not hasattr(_current, "stack"):
        _current.stack = [Stream.null]
    return _current.stack


def get_current_stream():
    return _stack()[-1]


def synchronize_all():
    for stream in list(_streams):
        stream._wait()
