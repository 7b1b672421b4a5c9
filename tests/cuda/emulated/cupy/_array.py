"""The array: NumPy's numbers behind a wall."""

from __future__ import annotations

import operator

import numpy as np

from .cuda import Device, MemoryPointer, get_current_stream
from .cuda.memory import Memory

KINDS = "?bhilqBHILQefdFD"  # the dtypes CuPy has, by their character codes


class ndarray:
    """`cupy.ndarray`: memory on a device, read by the host with `get` alone."""

    __array_priority__ = 100
    __array_ufunc__ = None  # NumPy's operators leave the work to ours

    def __init__(self, host, memory):
        self._host, self._memory = host, memory
        self.device = Device(memory.device_id)

    # ---- what it is

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: self._view(self._host.T))
    mT = property(lambda self: self._view(self._host.mT))
    __hash__ = None

    @property
    def data(self):
        return MemoryPointer(self._memory, self._host.ctypes.data)

    def __array__(self, *_, **__):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __repr__(self):
        return f"array on the device, {self.dtype} {self.shape}"

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    # ---- to the host

    def _settled(self):
        """The numbers, once the current stream has done its work."""
        get_current_stream()._wait()
        self._memory.check()
        return self._host

    def get(self, stream=None, order="C", out=None, blocking=True):
        if stream is not None or out is not None or not blocking:
            raise NotImplementedError("only get() without arguments is provided here")
        return np.array(self._settled(), order=order)

    def item(self):
        return self._settled().item()

    def tolist(self):
        return self._settled().tolist()

    def __float__(self):
        return float(self._settled())

    def __int__(self):
        return int(self._settled())

    def __bool__(self):
        return bool(self._settled())

    def __index__(self):
        return operator.index(self._settled()[()])

    # ---- views and copies

    def _view(self, host):
        return ndarray(host, self._memory)

    def view(self, dtype=None):
        return self._view(self._host.view() if dtype is None else self._host.view(dtype))

    def reshape(self, *shape, order="C"):
        new = self._host.reshape(*shape, order=order)
        return self._view(new) if np.may_share_memory(new, self._host) else _new(self._settled())

    def transpose(self, *axes):
        return self._view(self._host.transpose(*axes))

    def squeeze(self, axis=None):
        return self._view(self._host.squeeze(axis))

    def ravel(self, order="C"):
        return self.reshape(-1, order=order)

    def copy(self, order="C"):
        return _new(np.array(self._settled(), order=order))

    def astype(self, dtype, order="K", copy=True):
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        with np.errstate(all="ignore"):
            return _new(self._settled().astype(dtype, order=order))

    def fill(self, value):
        self._settled().fill(unwrap(value))

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if all(p is None or p is ... or isinstance(p, (int, np.integer, slice)) for p in parts):
            found = self._host[index]
            if isinstance(found, np.generic):  # a scalar is an array without axes
                found = self._host[(*parts, ...)]
            return self._view(found)
        return _new(self._settled()[unwrap(index)])

    def __setitem__(self, index, value):
        host = self._settled()
        host[unwrap(index)] = unwrap(value)


def unwrap(value):
    """The host's view of arguments; arrays of the host itself are refused, as CuPy does."""
    if isinstance(value, ndarray):
        return value._settled()
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(unwrap(v) for v in value)
    return value


def wrap(value, sources=()):
    """Results of NumPy as arrays on the device: views stay views, all else is copied there."""
    if isinstance(value, (tuple, list)):
        return type(value)(wrap(v, sources) for v in value)
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    value = np.asarray(value)
    for source in sources:
        if isinstance(source, ndarray) and np.may_share_memory(value, source._host):
            return source._view(value)
    return _new(value)


def empty(shape, dtype=float, order="C"):
    """Fresh memory, full of rubbish."""
    dtype = np.dtype(dtype)
    if dtype.char not in KINDS:
        raise ValueError(f"Unsupported dtype {dtype}")
    shape = tuple(map(int, shape)) if isinstance(shape, (tuple, list)) else (int(shape),)
    memory = Memory(int(np.prod(shape, dtype=object)) * dtype.itemsize)
    return ndarray(np.ndarray(shape, dtype, memory.bytes, order=order), memory)


def _new(host):
    fortran = host.flags.f_contiguous and not host.flags.c_contiguous
    out = empty(host.shape, host.dtype, "F" if fortran else "C")
    out._host[...] = host
    return out


def asarray(a, dtype=None, order=None, *, copy=None):
    """An array of the current device; a copy where `a` is no such array yet."""
    if isinstance(a, ndarray):
        right = dtype is None or a.dtype == np.dtype(dtype)
        contiguous = {"C": a.flags.c_contiguous, "F": a.flags.f_contiguous}.get(order, True)
        if right and contiguous and not copy and a.device == Device():
            return a
        a = a._settled()
    elif isinstance(a, (list, tuple)):
        a = unwrap(a)
    return _new(np.array(a, dtype=dtype, order=order or "K"))


def array(obj, dtype=None, copy=True, order="K"):
    return asarray(obj, dtype, None if order == "K" else order, copy=copy)


def asnumpy(a, stream=None, order="C"):
    return a.get(stream, order) if isinstance(a, ndarray) else np.asarray(a, order=order)


def _method(name):
    def method(self, *args, **kwargs):
        from ._functions import forward

        return forward(name)(self, *args, **kwargs)

    return method


for _name in ("sum", "max", "min", "any", "all", "argmax", "argmin", "nonzero", "mean", "take"):
    setattr(ndarray, _name, _method(_name))


def _binary(name, function):
    def forwards(self, other):
        with np.errstate(all="ignore"):
            return wrap(function(self._settled(), unwrap(other)))

    def backwards(self, other):
        with np.errstate(all="ignore"):
            return wrap(function(unwrap(other), self._settled()))

    def in_place(self, other):
        with np.errstate(all="ignore"):
            self._host[...] = function(self._settled(), unwrap(other))
        return self

    setattr(ndarray, f"__{name}__", forwards)
    if name not in ("lt", "le", "eq", "ne", "gt", "ge"):
        setattr(ndarray, f"__r{name}__", backwards)
        setattr(ndarray, f"__i{name}__", in_place)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or",
              "xor", "lshift", "rshift", "lt", "le", "eq", "ne", "gt", "ge"):  # fmt: skip
    _binary(_name, getattr(operator, f"__{_name}__"))


def _unary(name, function):
    setattr(ndarray, f"__{name}__", lambda self: wrap(function(self._settled())))


for _name in ("neg", "pos", "abs", "invert"):
    _unary(_name, getattr(operator, f"__{_name}__"))
