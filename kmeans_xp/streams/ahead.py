"""Reading ahead of what is computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

__all__ = ["read_ahead"]

# Blocks read ahead of the one that is computed; a further one is being read.
_AHEAD = 1


def read_ahead(blocks: Generator[np.ndarray, None, None]) -> Iterator[np.ndarray]:
    """Read in a thread, a block ahead of what is computed."""
    places: queue.Queue[tuple[bool, Any]] = queue.Queue(_AHEAD)
    over = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not over.is_set():
            try:
                places.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for block in blocks:
                if not put((True, block)):
                    return
            put((False, None))
        except BaseException as error:  # it belongs to whoever waits for the block
            put((False, error))
        finally:
            blocks.close()  # its file too

    thread = threading.Thread(target=read, name="kmeans_xp reader", daemon=True)
    thread.start()
    try:
        while True:
            there, item = places.get()
            if not there:
                if item is not None:
                    raise item
                return
            yield item
            del item
    finally:
        over.set()
        thread.join()
