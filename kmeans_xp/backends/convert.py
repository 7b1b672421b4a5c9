"""Moving arrays between namespaces: to NumPy for exact steps, back for results."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_cupy_array,
    is_dask_array,
    is_jax_array,
    is_torch_array,
    to_device,
)

from kmeans_xp.backends.devices import cuda_number, device_name
from kmeans_xp.streams import is_stream

__all__ = [
    "centroid_dtype",
    "cupy_sparse_on_host",
    "from_numpy",
    "home",
    "into_namespace",
    "is_cupy_sparse",
    "is_sparse",
    "namespace_called",
    "namespace_name",
    "on_cpu",
    "take_rows",
    "to_numpy",
    "zero_copy_numpy",
]

_HOST = np.empty(0)


def namespace_name(x: Any) -> str:
    """Short name of the array library of `x`, for messages."""
    if is_dask_array(x):
        return "dask"
    name: str = array_namespace(home(x)).__name__
    return name.removeprefix("array_api_compat.").split(".")[0]


def is_sparse(x: Any) -> bool:
    """Whether x is one of SciPy's sparse matrices or arrays."""
    scipy_sparse = sys.modules.get("scipy.sparse")  # whoever has one has imported it
    return scipy_sparse is not None and bool(scipy_sparse.issparse(x))


def is_cupy_sparse(x: Any) -> bool:
    """Whether x is one of CuPy's sparse matrices."""
    return type(x).__module__.startswith("cupyx.scipy.sparse")


def cupy_sparse_on_host(x: Any) -> Any:
    """Return CuPy's sparse matrix as SciPy's, in CSR format, with CuPy as its `home`."""
    from scipy.sparse import csr_matrix

    x = x.tocsr()
    host = csr_matrix(tuple(to_numpy(part) for part in (x.data, x.indices, x.indptr)), x.shape)
    host.home = x.data[:0]
    return host


def home(x: Any) -> Any:
    """Return an array in the namespace and on the device where results for `x` belong.

    That is `x` itself, but for streams and sparse matrices, and Dask arrays, of which results that
    are no longer than K are NumPy.
    """
    elsewhere = is_sparse(x) or is_stream(x) or is_dask_array(x)
    return getattr(x, "home", _HOST) if elsewhere else x


def centroid_dtype(x: Any) -> np.dtype[Any]:
    """float32 for float16, bfloat16 and float32 arrays, float64 for all else."""
    kind = str(x.dtype).split(".")[-1].lstrip("<>=")
    narrow = kind in ("float16", "bfloat16", "float32", "f2", "f4")
    return np.dtype(np.float32 if narrow else np.float64)


def on_cpu(x: Any) -> bool:
    """Whether the memory of `x` is the host's."""
    if isinstance(x, np.ndarray):
        return True
    if is_cupy_array(x):
        return False
    if is_torch_array(x):
        return bool(x.device.type == "cpu")
    if is_jax_array(x):
        return all(d.platform == "cpu" for d in x.devices())
    return "cpu" in str(device(x)).lower()


def to_numpy(x: Any) -> np.ndarray:
    """Copy (or view) an array of any namespace and device as NumPy."""
    if isinstance(x, np.ndarray):
        return x
    if is_torch_array(x):
        x = x.detach().cpu().resolve_neg()
        if str(x.dtype) == "torch.bfloat16":  # NumPy has none; float32 holds it exactly
            x = x.float()
        return np.asarray(x.numpy())
    if is_cupy_array(x):
        return np.asarray(x.get())
    if is_jax_array(x):
        return np.asarray(x)
    if is_dask_array(x):
        return to_numpy(x.compute())
    if not on_cpu(x):  # nobody's name for the host is known; the default device usually is it
        x = to_device(x, array_namespace(x).__array_namespace_info__().default_device())
    try:
        return np.from_dlpack(x)
    except (AttributeError, BufferError, TypeError, RuntimeError):
        return np.asarray(x)


def zero_copy_numpy(x: Any) -> np.ndarray | None:
    """View a torch or JAX array on the CPU as NumPy without a copy; None for everything else."""
    if isinstance(x, np.ndarray):
        return x
    if (is_torch_array(x) or is_jax_array(x)) and on_cpu(x):
        return to_numpy(x)
    return None


def from_numpy(values: np.ndarray, like: Any) -> Any:
    """Bring a NumPy array into the namespace and onto the device of `like`."""
    like = home(like)
    if isinstance(like, np.ndarray):
        return values
    xp = array_namespace(like)
    values = np.ascontiguousarray(values)
    if is_cupy_array(like):
        with like.device:  # creation functions of CuPy may ignore `device=`
            return xp.asarray(values)
    if is_jax_array(like):
        return xp.asarray(values, device=next(iter(like.devices())))
    return xp.asarray(values, device=device(like))


def take_rows(x: Any, rows: np.ndarray) -> Any:
    """Copy of the rows of `x` with these indices, in its namespace and on its device."""
    if is_sparse(x):
        return x[rows]
    host = zero_copy_numpy(x)
    if host is not None:  # JAX would compile a gather for each number of rows
        return from_numpy(host[rows], x)
    kind = np.int32 if x.shape[0] < 1 << 31 else np.int64  # JAX may have no int64
    return array_namespace(x).take(x, from_numpy(rows.astype(kind), x), axis=0)


def namespace_called(xp: Any, name: str = "xp") -> Any:
    """Return the array namespace that `xp` names or is.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    TypeError
        If it is no namespace.
    ValueError
        If it is the name of a device.
    """
    if isinstance(xp, str):
        if device_name(xp) is not None or xp == "gpu":
            raise ValueError(
                f"{name} must name an array library ('numpy', 'torch', 'cupy', 'jax.numpy'), and "
                f"{xp!r} is a device; a device of the library goes into device=, as in "
                f"{name}='torch', device='cuda' or {name}='cupy', device=0"
            )
        try:
            xp = import_module("jax.numpy" if xp == "jax" else xp)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{name}={xp!r} needs {error.name}, which is not installed; install it, or give "
                "another of 'numpy', 'torch', 'cupy', 'jax.numpy'",
                name=error.name,
            ) from None
    if not isinstance(xp, ModuleType) or not hasattr(xp, "asarray"):
        raise TypeError(
            f"{name} must be an array namespace or its name ('numpy', 'torch', 'cupy', "
            f"'jax.numpy'), got {xp!r:.60}"
        )
    return xp


def into_namespace(values: np.ndarray, xp: Any, device: Any = None) -> Any:
    """Bring a NumPy array into a namespace, onto a device of it or its default one.

    Raises
    ------
    ValueError
        If the namespace would change the dtype, as JAX does with float64 unless told otherwise.
    """
    library = xp.__name__.removeprefix("array_api_compat.")
    if library == "numpy":
        if device not in (None, "cpu"):
            raise ValueError(f"device must be None or 'cpu' for numpy, got {device!r}")
        return values
    if library.startswith("jax") and values.dtype.itemsize == 8 and not _holds(xp, values.dtype):
        raise ValueError(
            f"jax.numpy cannot hold {values.dtype} unless told to: "
            "jax.config.update('jax_enable_x64', True)"
        )
    here = nullcontext()
    if library.startswith("cupy") and device is not None:
        here = device if hasattr(device, "__enter__") else _cupy_device(xp, device)
        device = None
    if library.startswith("jax") and isinstance(device, str):
        device = import_module("jax").devices(device)[0]
    with here:
        return xp.asarray(values) if device is None else xp.asarray(values, device=device)


def _cupy_device(xp: Any, device: Any) -> Any:
    """Return the device of CuPy that a name or a number means; "cuda" is the current one."""
    name = device_name(device)
    if name in (None, "cpu"):
        raise ValueError(
            f"device must be None, 'cuda', 'cuda:N' or a number for cupy, got {device!r}"
        )
    return xp.cuda.Device(cuda_number(name))


def _holds(xp: Any, dtype: np.dtype[Any]) -> bool:
    return bool(dtype.name in xp.__array_namespace_info__().dtypes())
