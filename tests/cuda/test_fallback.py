"""Seeding goes on where the device gives up; no device needed."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp.backends.nvrtc import DeviceUnsupported
from kmeans_xp.blocks.device_potential import DeviceOrHost
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.blocks.potential import HostPotential
from kmeans_xp.seeding import Words, plus_plus

from .checks import Random


class GivesUp(HostPotential):
    """Stands for potentials on the device, and fails at one of its passes over the rows."""

    def __init__(self, blocks, rows, passes):
        super().__init__(blocks, rows)
        self.passes = passes

    def count(self):
        self.passes -= 1
        if self.passes == 0:
            raise DeviceUnsupported("too many potentials need rational arithmetic")

    def accept(self, row):
        self.count()
        super().accept(row)

    def costs(self, rows):
        self.count()
        return super().costs(rows)


@pytest.mark.parametrize("passes", [1, 2, 3, 6])
@pytest.mark.parametrize("init_size", ["auto", 150])
def test_the_host_takes_over_with_the_same_integers(monkeypatch, passes, init_size):
    X = Random(1).bell((400, 3))
    blocks = MemoryBlocks(X, None, np.dtype(np.float64), X)
    want = plus_plus(blocks, 6, Words(4), init_size)[1]
    made = []

    def potential(rows=None, weighted=True):
        device = GivesUp(blocks.part, rows, passes)
        made.append(DeviceOrHost(lambda: device, lambda: HostPotential(blocks.part, rows)))
        return made[0]

    monkeypatch.setattr(blocks, "potential", potential)
    assert (plus_plus(blocks, 6, Words(4), init_size)[1] == want).all()
    assert type(made[0]._now) is HostPotential
