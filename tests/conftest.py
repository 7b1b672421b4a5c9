"""The array libraries the tests run on, and a library that is missing skips with its reason."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator

import numpy as np
import pytest

# scikit-learn's array API dispatch can be switched on only if this was set before SciPy's import.
os.environ["SCIPY_ARRAY_API"] = "1"


class Library:
    """One array library in one setting: how to enter it, and how arrays go in and come out."""

    module = "numpy"
    dtypes: tuple[str, ...] = ("float16", "float32", "float64", "int64", "int32", "uint8", "bool")

    def __init__(self):
        self.xp = importlib.import_module(self.module)

    @property
    def name(self) -> str:
        """What error messages call it."""
        return self.module.split(".")[0]

    def setting(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def asarray(self, array: np.ndarray):
        """`array` in this library, its dtype unchanged; skips where there is no such dtype."""
        if array.dtype.name not in self.dtypes:
            pytest.skip(f"{self.module} in this setting has no {array.dtype}")
        return self.xp.asarray(array)

    def numpy(self, array) -> np.ndarray:
        return np.asarray(array)

    def owns(self, array) -> bool:
        return type(array) is type(self.xp.asarray([1.0]))


class Strict(Library):
    module = "array_api_strict"
    dtypes = ("float32", "float64", "int64", "int32", "uint8", "bool")


class StrictStatic(Strict):
    """Without boolean indexing and other functions whose result shapes depend on data."""

    def setting(self):
        return self.xp.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False)


class Torch(Library):
    module = "torch"
    threads = 1

    @contextlib.contextmanager
    def setting(self):
        before = self.xp.get_num_threads()
        self.xp.set_num_threads(self.threads)
        yield
        self.xp.set_num_threads(before)

    def asarray(self, array):
        return super().asarray(array.copy())  # torch warns about read-only memory


class Torch2(Torch):
    threads = 2


class Jax(Library):
    module = "jax.numpy"
    x64 = True

    def setting(self):
        jax = importlib.import_module("jax")
        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(self.x64)
        from jax.experimental import enable_x64

        return enable_x64(self.x64)


class Jax32(Jax):
    x64 = False
    dtypes = ("float16", "float32")


class Cupy(Library):
    module = "cupy"

    def __init__(self):
        super().__init__()
        if not self.xp.cuda.is_available():
            pytest.skip("cupy finds no device")

    def numpy(self, array):
        return self.xp.asnumpy(array)


LIBRARIES = {
    "numpy": Library,
    "strict": Strict,
    "strict-static": StrictStatic,
    "torch-1": Torch,
    "torch-2": Torch2,
    "jax-x64": Jax,
    "jax-x32": Jax32,
    "cupy": Cupy,
}


@contextlib.contextmanager
def entered(name: str) -> Iterator[Library]:
    """The library called `name`, in its setting; skips with the reason where it cannot be used."""
    kind = LIBRARIES[name]
    pytest.importorskip(kind.module, exc_type=ImportError)
    library = kind()
    with library.setting():
        yield library


@pytest.fixture(params=LIBRARIES)
def library(request) -> Iterator[Library]:
    with entered(request.param) as found:
        yield found


@pytest.fixture(params=["native", "generic"])
def backend(request, monkeypatch) -> str:
    """The backend chosen for the array, and the generic one for every array."""
    if request.param == "generic":
        monkeypatch.setenv("KMEANS_XP_BACKEND", "generic")
    else:
        monkeypatch.delenv("KMEANS_XP_BACKEND", raising=False)
    return request.param
