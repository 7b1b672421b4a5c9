"""Names of devices, as arguments called `device` take them, and the CUDA device that one means."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array

__all__ = ["ACCEPTED", "cuda_number", "device_name", "on_cuda_device", "require_cuda"]

ACCEPTED = "None, 'cpu', 'cuda', 'cuda:N' or the number N of a CUDA device"


def device_name(value: Any) -> str | None:
    """Return the name of a device: "cpu", "cuda", "cuda:N", or None where `value` is no device.

    Parameters
    ----------
    value : object
        One of these names, the number of a CUDA device, or a device of torch or CuPy.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"cuda:{int(value)}" if value >= 0 else None
    library = type(value).__module__.partition(".")[0]
    if library == "cupy" and isinstance(getattr(value, "id", None), int):
        return f"cuda:{value.id}"
    if library == "torch" and type(value).__name__ == "device":
        value = "cpu" if value.type == "cpu" else str(value)
    known = isinstance(value, str) and re.fullmatch(r"cpu|cuda|cuda:[0-9]{1,4}", value)
    if not known:
        return None
    kind, _, number = str(value).partition(":")
    return f"{kind}:{int(number)}" if number else kind


def cuda_number(name: str | None) -> int | None:
    """Return N of "cuda:N"; None for every other name."""
    number = (name or "").partition(":")[2]
    return int(number) if number else None


def require_cuda(name: str = "cuda") -> None:
    """Raise a clear error unless CuPy and the CUDA device of this name are there."""
    try:
        import cupy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"device={name!r} needs CuPy: pip install 'kmeans_xp[cuda12]' or 'kmeans_xp[cuda13]'"
        ) from None
    if not cupy.cuda.is_available():
        raise ValueError(
            f"device={name!r} needs a CUDA device, and none is available; device=None computes on "
            "the host, with the same bits"
        )
    number, count = cuda_number(name), cupy.cuda.runtime.getDeviceCount()
    if number is not None and number >= count:
        there = "'cuda:0' alone" if count == 1 else f"'cuda:0' to 'cuda:{count - 1}'"
        raise ValueError(f"device={name!r} is not here: there is {there}")


def on_cuda_device(name: str | None, x: Any) -> AbstractContextManager[Any]:
    """Context in which "cuda:N" is the current device, or else that of a CuPy array."""
    number = cuda_number(name)
    if number is None and is_cupy_array(x):
        number = int(x.device.id)
    if number is None:
        return nullcontext()
    import cupy

    device: AbstractContextManager[Any] = cupy.cuda.Device(number)
    return device
