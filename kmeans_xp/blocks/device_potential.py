"""Potentials on a device for as long as it can tell them, and on the host from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kmeans_xp.backends.nvrtc import DeviceUnsupported

__all__ = ["REFUSALS", "DeviceOrHost"]

# What a device raises that cannot go on.
REFUSALS = (DeviceUnsupported, MemoryError)


class DeviceOrHost:
    """Potentials on the device, or on the host where the device has no kernels or no memory for
    them, or too many of them need rational numbers.

    Both give the same integers, so that the change shows in nothing but time.

    Parameters
    ----------
    device, host : callable
        Make them: `base.Potential` or `base.Oversampling`.
    """

    def __init__(self, device: Callable[[], Any], host: Callable[[], Any]) -> None:
        self._host = host
        self._steps: list[tuple[str, Any]] = []
        try:
            self._now = device()
        except REFUSALS:
            self._now = host()

    def _do(self, step: str, argument: Any) -> None:
        """Change the potentials, and remember how."""
        self._steps.append((step, argument))
        try:
            getattr(self._now, step)(argument)
        except REFUSALS:
            self._go_to_host()

    def _go_to_host(self) -> None:
        self._now = self._host()
        for step, argument in self._steps:
            getattr(self._now, step)(argument)

    def _ask(self, question: str, argument: Any) -> Any:
        try:
            return getattr(self._now, question)(argument)
        except REFUSALS:
            self._go_to_host()
            return getattr(self._now, question)(argument)

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""
        self._steps.clear()
        self._do("start", row)

    def accept(self, row: int) -> None:
        """Add a centre."""
        self._do("accept", row)

    def accept_all(self, rows: np.ndarray) -> None:
        """Add centres, in one pass over the rows."""
        self._do("accept_all", rows)

    def costs(self, rows: list[int]) -> list[int]:
        """For each row the exact Σ q after adding it as a centre."""
        found: list[int] = self._ask("costs", rows)
        return found

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """For each of these centres the weight of the rows nearest to it."""
        return np.asarray(self._ask("shares", rows))

    def total(self) -> int:
        """Exact Σ q of the current potentials."""
        return int(self._now.total())

    def locate(self, targets: list[int]) -> list[int]:
        """For each target the first row whose running sum of q exceeds it."""
        found: list[int] = self._now.locate(targets)
        return found
