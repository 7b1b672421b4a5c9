"""Models on disk: a result, a fitted estimator or quantiser as one safetensors file.

Arrays are tensors, everything else is JSON in the header, so loading a file runs nothing in it.
What is not a sound model file raises `ModelError`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from array_api_compat import is_array_api_obj

from kmeans_xp.backends.convert import into_namespace, namespace_called, to_numpy
from kmeans_xp.io import atomic_write
from kmeans_xp.model_parts import (
    ModelError,
    check_batch,
    check_estimator,
    check_quantizer,
    check_result,
    state_data,
    state_of,
)
from kmeans_xp.pq import ProductQuantizer
from kmeans_xp.result import BatchResult, KMeansResult, fingerprint

__all__ = ["ModelError", "load_model", "read_model", "save_model", "write_model"]

FORMAT = "kmeans_xp"
VERSION = 1
ESTIMATORS = ("BisectingKMeans", "KMeans", "MiniBatchKMeans")
RESULTS = {
    KMeansResult.__name__: (KMeansResult, check_result),
    BatchResult.__name__: (BatchResult, check_batch),
}
QUANTIZER = ProductQuantizer.__name__
PARTS = ("parameters", "fitted", "extra")
TENSOR = "$tensor"  # {"$tensor": name} stands in the JSON for an array
ATTRIBUTE = re.compile(r"_?[a-z][a-z0-9_]*")


def save_model(model: Any, path: str | os.PathLike[str], *, labels: bool = True) -> None:
    """Write a result, a fitted estimator or a fitted product quantiser to a file.

    The file is a safetensors file: arrays with a JSON header of the class, its parameters, the
    versions and the `fingerprint` of the result. It appears under its name only when complete.

    Parameters
    ----------
    model : KMeansResult, BatchResult, or fitted estimator or ProductQuantizer
        Arrays of any library and device.
    path : path-like
        The file to make or replace, by custom ``.safetensors``.
    labels : bool, default True
        Whether to keep the labels of the training rows, 4 bytes a row; prediction does without.

    Raises
    ------
    TypeError
        If `model` is none of these, or holds something that is not data, as a function in ``init``.
    ValueError
        If the estimator is not fitted.
    ModuleNotFoundError
        If safetensors is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from kmeans_xp import kmeans, load_model, save_model
    >>> result = kmeans(np.array([[0.0], [1.0], [9.0]]), 2, random_state=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> save_model(result, path)
    >>> load_model(path).inertia
    0.5
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path must be a path, got {type(path).__name__}; call save_model(model, path)"
        )
    _safetensors()
    with atomic_write(path) as file:
        write_model(model, file, labels=labels)


def write_model(
    model: Any, file: BinaryIO, *, labels: bool = True, extra: dict[str, Any] | None = None
) -> None:
    """Write a model to an open file, with what else a reader needs to know."""
    tensors: dict[str, np.ndarray] = {}
    body = {"class": type(model).__name__, **_parts(model, labels), "extra": extra or {}}
    body |= {"versions": _versions(), "fingerprint": _fingerprint_of(model)}
    text = json.dumps(_encoded(body, "", tensors), sort_keys=True)
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "model": text,
        "sha256": _digest(text, tensors),
    }
    file.write(_safetensors().save(tensors, metadata=header))


def load_model(path: str | os.PathLike[str], *, xp: Any = "numpy", device: Any = None) -> Any:
    """Read what `save_model` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    xp : str or module, default "numpy"
        The library of the arrays: "numpy", "torch", "cupy", "jax.numpy", or a namespace.
    device : object, optional
        A device of that library; by default its own default.

    Returns
    -------
    KMeansResult, BatchResult, estimator or ProductQuantizer
        Of the class that was saved. It predicts with the same bits. Without saved labels, those of
        a result are None and an estimator has no ``labels_``.

    Raises
    ------
    ModelError
        If the file is damaged, cut off, or no model file.
    OSError
        If it cannot be read.
    ModuleNotFoundError
        If safetensors, the library `xp` or, for an estimator, scikit-learn is not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> from kmeans_xp import kmeans, load_model, save_model
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> save_model(kmeans([[0.0], [1.0], [8.0], [9.0]], 2, random_state=0), path)
    >>> load_model(path).inertia
    1.0
    """
    namespace = namespace_called(xp)
    return _moved(read_model(path)[0], namespace, device)


def read_model(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Any]]:
    """Return the model in a file, on NumPy, and what was written with it."""
    safetensors = _safetensors()
    open(path, "rb").close()  # what the system refuses is no damage
    with _damage_of(path):
        with safetensors.safe_open(path, framework="np") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        body = _checked_body(header, tensors)
        parts = _decoded({name: body[name] for name in PARTS}, tensors)
        if not isinstance(parts["extra"], dict):
            raise ModelError("what goes with the model is no list of names")
        return _rebuilt(body["class"], parts), parts["extra"]


@contextmanager
def _damage_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a spoilt file raises into a `ModelError` that names the file."""
    try:
        yield
    except (MemoryError, ModuleNotFoundError):
        raise
    except ModelError as error:
        raise ModelError(f"{os.fspath(path)}: {error}") from None
    except Exception as error:
        raise ModelError(f"{os.fspath(path)}: damaged or no model file: {error}") from error


def _safetensors() -> Any:
    try:
        return import_module("safetensors.numpy")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'models on disk need safetensors: pip install "kmeans_xp[io]"', name=error.name
        ) from None


# What is in a model


def _parts(model: Any, labels: bool) -> dict[str, Any]:
    """Take a model apart into parameters and what the fit found."""
    if isinstance(model, KMeansResult | BatchResult):
        found = {field.name: getattr(model, field.name) for field in fields(model)}
        return {"parameters": {}, "fitted": found | ({} if labels else {"labels": None})}
    if type(model).__name__ not in (*ESTIMATORS, QUANTIZER) or not _ours(model):
        names = ", ".join((BatchResult.__name__, *ESTIMATORS, QUANTIZER))
        raise TypeError(
            f"model must be a KMeansResult or one of {names} of kmeans_xp, got "
            f"{type(model).__name__}"
        )
    known = model.get_params(deep=False)
    # who loads it says where to compute
    parameters = {name: value for name, value in known.items() if name != "device"}
    found = {
        name: value
        for name, value in vars(model).items()
        if name not in known and (labels or name != "labels_")
    }
    if not {"cluster_centers_", "codebooks_"} & found.keys():
        raise ValueError(f"model must be fitted before it is saved; call {_fit_hint(model)}")
    if "_state" in found:
        found["_state"] = state_data(found["_state"])
    return {"parameters": parameters, "fitted": found}


def _ours(model: Any) -> bool:
    return type(model).__module__.partition(".")[0] == "kmeans_xp"


def _fit_hint(model: Any) -> str:
    return f"{type(model).__name__}.fit(X) first"


def _versions() -> dict[str, str]:
    own = import_module("kmeans_xp").__version__
    return {"kmeans_xp": own, "numpy": np.__version__, "python": platform.python_version()}


def _fingerprint_of(model: Any) -> str | None:
    if not isinstance(model, KMeansResult):
        names = ("labels_", "cluster_centers_", "inertia_", "n_iter_")
        if not all(hasattr(model, name) for name in names):  # bisecting, or a stream of batches
            return None
        labels, centroids, inertia, n_iter = (getattr(model, name) for name in names)
        model = KMeansResult(labels, centroids, inertia, n_iter, True)
    return None if model.labels is None else fingerprint(model)


def _rebuilt(kind: str, parts: dict[str, Any]) -> Any:
    """Make the model of checked parts."""
    found = parts["fitted"]
    if kind in RESULTS:
        result, check = RESULTS[kind]
        check(found, {field.name for field in fields(result)})
        return result(**found)
    if kind == QUANTIZER:
        check_quantizer(found, parts["parameters"])
        quantizer = ProductQuantizer(**parts["parameters"])
        vars(quantizer).update(found)
        return quantizer
    cls = getattr(import_module("kmeans_xp"), kind)
    for name in found:
        if not ATTRIBUTE.fullmatch(name) or hasattr(cls, name):
            raise ModelError(f"{kind} has no attribute {name!r} that a fit sets")
    check_estimator(found, cls._array_attributes)
    if kind == "MiniBatchKMeans":
        found["_state"] = state_of(found["_state"], found["cluster_centers_"])
    model = cls(**parts["parameters"])
    for name, value in found.items():
        setattr(model, name, value)
    return model


def _moved(model: Any, xp: Any, device: Any) -> Any:
    """Bring the arrays that a fit made into a namespace."""
    if isinstance(model, ProductQuantizer):
        model.codebooks_ = into_namespace(model.codebooks_, xp, device)
        return model
    if not isinstance(model, KMeansResult | BatchResult):
        return model.to(xp, device)
    arrays = {
        name: into_namespace(getattr(model, name), xp, device)
        for name in ("labels", "centroids")
        if getattr(model, name) is not None
    }
    return replace(model, **arrays)


# The file


def _digest(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of all that the file says."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _checked_body(header: Mapping[str, str] | None, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of a sound file of this format."""
    if not header or header.get("format") != FORMAT:
        raise ModelError("a safetensors file, but no model of kmeans_xp")
    if header["version"] != str(VERSION):
        raise ModelError(
            f"written in format {header['version'][:20]} and this version reads {VERSION}; "
            "upgrade kmeans_xp"
        )
    if header["sha256"] != _digest(header["model"], tensors):
        raise ModelError("damaged: the checksum does not fit the content")
    body: dict[str, Any] = json.loads(header["model"])
    if body["class"] not in (*RESULTS, *ESTIMATORS, QUANTIZER):
        raise ModelError(f"holds an unknown class, {body['class']!r:.60}")
    return body


def _encoded(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` as JSON, its arrays put among `tensors` under their dotted path."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {
            key: _encoded(part, f"{name}.{key}".lstrip("."), tensors) for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_encoded(part, f"{name}.{i}", tensors) for i, part in enumerate(value)]
    if is_array_api_obj(value):
        array = to_numpy(value)
        if array.dtype == object and all(isinstance(item, str) for item in array.flat):
            return {"$strings": array.tolist()}
        if array.dtype.kind in "biuf":
            native = array.dtype.newbyteorder("=")
            tensors[name] = np.ascontiguousarray(array, dtype=native).reshape(array.shape)
            return {TENSOR: name}
    raise TypeError(
        f"{name.rpartition('.')[2]} is {type(value).__name__}, which a model file cannot hold "
        "(numbers, text and arrays of numbers only); replace it before saving, as by "
        f"set_params({name.rpartition('.')[2]}=...)"
    )


def _decoded(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {TENSOR}:
            return tensors[value[TENSOR]]
        if set(value) == {"$strings"}:
            return np.array(value["$strings"], dtype=object)
        return {key: _decoded(part, tensors) for key, part in value.items()}
    if isinstance(value, list):
        return [_decoded(part, tensors) for part in value]
    return value
