"""What an array library can do where an array is."""

from __future__ import annotations

from typing import Any

from array_api_compat import device, is_jax_array, is_torch_array

from kmeans_xp.backends.convert import to_numpy

__all__ = ["flushes", "has_float64", "true_float32"]


def has_float64(xp: Any, x: Any) -> bool:
    """Whether this namespace computes in float64 on the device of `x`."""
    if is_jax_array(x):
        import jax

        return bool(jax.config.jax_enable_x64)
    try:
        return bool(xp.zeros(1, dtype=xp.float64, device=device(x)).dtype == xp.float64)
    except (AttributeError, TypeError, RuntimeError, ValueError):
        return False


def flushes(xp: Any, where: Any) -> bool:
    """Whether subnormal float32 operands count as zero (JAX on the CPU)."""
    small = xp.asarray([2.0**-140], dtype=xp.float32, device=where)
    return bool(to_numpy(small * 2.0**100)[0] == 0)


def true_float32(x: Any) -> bool:
    """Whether a float32 matrix product on the CPU is one (torch can be told otherwise)."""
    if is_torch_array(x):
        import torch

        return torch.get_float32_matmul_precision() == "highest"
    return True
