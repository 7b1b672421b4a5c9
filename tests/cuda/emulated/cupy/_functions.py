"""CuPy's functions, with CuPy's arguments, computed by NumPy's of the same name."""

from __future__ import annotations

import inspect

import numpy as np

from ._array import unwrap, wrap

_UNARY = """abs absolute arccos arccosh arcsin arcsinh arctan arctanh ceil conj cos cosh exp expm1
floor frexp imag invert isfinite isinf isnan log log10 log1p log2 logical_not negative positive real
reciprocal rint sign signbit sin sinh sqrt square tan tanh trunc"""
_BINARY = """add arctan2 bitwise_and bitwise_or bitwise_xor copysign divide equal floor_divide
greater greater_equal hypot ldexp left_shift less less_equal logaddexp logical_and logical_or
logical_xor maximum minimum multiply nextafter not_equal power remainder right_shift subtract"""

SIGNATURES = {
    **dict.fromkeys(_UNARY.split(), "x, /"),
    **dict.fromkeys(_BINARY.split(), "x1, x2, /"),
    **dict.fromkeys(("any", "all", "max", "min"), "a, axis=None, out=None, keepdims=False"),
    **dict.fromkeys(("sum", "mean", "prod"), "a, axis=None, dtype=None, out=None, keepdims=False"),
    **dict.fromkeys(("argmax", "argmin"), "a, axis=None, dtype=None, out=None, keepdims=False"),
    **dict.fromkeys(("std", "var"), "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False"),
    **dict.fromkeys(("cumsum", "cumprod"), "a, axis=None, dtype=None, out=None"),
    **dict.fromkeys(("concatenate", "stack"), "tup, axis=0"),
    **dict.fromkeys(("nonzero",), "a"),
    "argsort": "a, axis=-1, kind=None",
    "bincount": "x, weights=None, minlength=None",
    "broadcast_arrays": "*args",
    "broadcast_shapes": "*shapes",
    "broadcast_to": "array, shape",
    "clip": "a, a_min=None, a_max=None, out=None",
    "count_nonzero": "a, axis=None",
    "diff": "a, n=1, axis=-1",
    "expand_dims": "a, axis",
    "flip": "a, axis=None",
    "isin": "element, test_elements, assume_unique=False, invert=False",
    "linspace": "start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0",
    "matmul": "x1, x2, /",
    "meshgrid": "*xi, indexing='xy'",
    "moveaxis": "a, source, destination",
    "partition": "a, kth, axis=-1",
    "permute_dims": "a, axes=None",
    "repeat": "a, repeats, axis=None",
    "reshape": "a, newshape, order='C', *, copy=None",
    "roll": "a, shift, axis=None",
    "round": "a, decimals=0, out=None",
    "searchsorted": "a, v, side='left', sorter=None",
    "sort": "a, axis=-1, kind=None",
    "squeeze": "a, axis=None",
    "swapaxes": "a, axis1, axis2",
    "take": "a, indices, axis=None, out=None",
    "take_along_axis": "a, indices, axis",
    "tensordot": "a, b, axes=2",
    "tile": "A, reps",
    "transpose": "a, axes=None",
    "tril": "m, k=0",
    "triu": "m, k=0",
    "unique": "ar, return_index=False, return_inverse=False, return_counts=False, axis=None, "
    "*, equal_nan=True",
    "where": "condition, x=None, y=None",
}


def forward(name):
    """The function `name`: it takes what CuPy's takes, and arrays of the device alone."""
    target = getattr(np, name)
    arguments = SIGNATURES[name]
    binding = inspect.signature(eval(f"lambda {arguments}: None"))

    def function(*args, **kwargs):
        bound = binding.bind(*args, **kwargs)
        if bound.arguments.get("out") is not None:
            raise NotImplementedError(f"cupy.{name} with out=")
        given = {key: unwrap(value) for key, value in bound.kwargs.items()}
        with np.errstate(all="ignore"):
            found = target(*(unwrap(value) for value in bound.args), **given)
        return wrap(found, args)

    function.__name__, function.__signature__ = name, binding
    return function
