"""The device."""

from __future__ import annotations

from .memory import pool
from .stream import synchronize_all


class Device:
    """`cupy.cuda.Device`; there is one, number 0."""

    compute_capability = "90"

    def __init__(self, device=None):
        self.attributes = {
            "MultiProcessorCount": 2,
            "MaxSharedMemoryPerBlockOptin": 227 * 1024,
        }
        self.id = 0 if device is None else int(device)
        if self.id:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    @property
    def mem_info(self):
        return pool.total - pool.used_bytes(), pool.total

    def synchronize(self):
        synchronize_all()

    def __int__(self):
        return self.id

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"
