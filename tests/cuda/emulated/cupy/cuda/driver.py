"""`cupy.cuda.driver`: attributes of kernels."""

from __future__ import annotations

from .function import functions


def funcSetAttribute(function, attribute, value):
    if attribute != 8:
        raise NotImplementedError(f"function attribute {attribute}")
    if value > 227 * 1024:
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE: more shared memory than a block may have")
    functions[function].shared_limit = value
