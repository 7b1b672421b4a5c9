"""Prediction as an ONNX graph, for programs without Python."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.io import atomic_write
from kmeans_xp.validation import check_metric

__all__ = ["to_onnx"]

OPSET, IR_VERSION = 13, 7  # of 2020: every runtime in use reads them


def to_onnx(
    model: Any, path: str | os.PathLike[str] | None = None, *, metric: str | None = None
) -> Any:
    """Export the prediction of a fitted model as an ONNX graph (opset 13).

    The graph takes ``X``, shape (rows, D), in the dtype of the centroids, any number of rows, and
    gives ``labels``, int32 of shape (rows,). It computes in floating point: of a row that lies, but
    for the rounding error, as near to one centroid as to another, it may name either, where
    `predict` decides exactly.

    Parameters
    ----------
    model : KMeansResult or fitted estimator
        Arrays of any library and device.
    path : path-like, optional
        A file to write besides; it appears under its name only when complete.
    metric : {"euclidean", "cosine"}, optional
        What a result was fitted with; "euclidean" by default. Of an estimator its own.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    TypeError
        If `model` has no centroids.
    ValueError
        If there is no such metric, or the squares of the centroids overflow.
    ModuleNotFoundError
        If onnx is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import kmeans, to_onnx
    >>> result = kmeans(np.array([[0.0], [1.0], [9.0]]), 2, random_state=0)
    >>> graph = to_onnx(result).graph  # doctest: +SKIP
    >>> [node.op_type for node in graph.node]  # doctest: +SKIP
    ['Sub', 'Gemm', 'ArgMax', 'Cast']
    """
    onnx = _onnx()
    spherical = check_metric(metric or getattr(model, "metric", "euclidean")).spherical
    exported = onnx.helper.make_model(
        _graph(onnx, model, spherical),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="kmeans_xp",
        doc_string=f"k-means prediction of {type(model).__name__}",
    )
    onnx.checker.check_model(exported)
    if path is not None:
        with atomic_write(path) as file:
            file.write(exported.SerializeToString())
    return exported


def _onnx() -> Any:
    try:
        import_module("onnx.helper")
        import_module("onnx.checker")
        return import_module("onnx")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the export needs onnx: pip install "kmeans_xp[onnx]"', name=error.name
        ) from None


def _centroids(model: Any) -> np.ndarray:
    found = getattr(model, "centroids", getattr(model, "cluster_centers_", None))
    if found is None:
        raise TypeError(
            f"model must be a KMeansResult or a fitted estimator, got {type(model).__name__}"
        )
    return to_numpy(found)


def _graph(onnx: Any, model: Any, spherical: bool) -> Any:
    """Build the nearest centroid, or the descent of a tree by the nearer one at each split."""
    centroids, tree = _centroids(model), getattr(model, "tree_", None)
    if tree is not None and len(tree):
        candidates = tree.centers.reshape(-1, centroids.shape[1])
        nodes, constants = _descent(onnx, tree.children)
    else:
        candidates = centroids
        nodes = [onnx.helper.make_node("ArgMax", ["scores"], ["leaf"], axis=1, keepdims=0)]
        constants = {}
    helper = onnx.helper
    element = helper.np_dtype_to_tensor_dtype(centroids.dtype)
    return helper.make_graph(
        [
            helper.make_node("Sub", ["X", "middle"], ["centred"]),
            helper.make_node("Gemm", ["centred", "centroids", "bias"], ["scores"], transB=1),
            *nodes,
            helper.make_node("Cast", ["leaf"], ["labels"], to=onnx.TensorProto.INT32),
        ],
        "kmeans_predict",
        [helper.make_tensor_value_info("X", element, ["rows", centroids.shape[1]])],
        [helper.make_tensor_value_info("labels", onnx.TensorProto.INT32, ["rows"])],
        [
            onnx.numpy_helper.from_array(values, name)
            for name, values in {**_scoring(candidates, spherical), **constants}.items()
        ],
    )


def _scoring(centroids: np.ndarray, spherical: bool) -> dict[str, np.ndarray]:
    """Return the constants of (x − μ)·(c − μ) − |c − μ|²/2, centred for accuracy.

    On the sphere it is x·c: the length of a row does not matter.
    """
    dtype, wide = centroids.dtype, centroids.astype(np.float64)
    scale = np.abs(wide).max() or 1.0  # or the sum of huge centroids overflows
    middle = (scale * np.mean(wide / scale, axis=0)).astype(dtype)
    if spherical:
        middle = np.zeros_like(middle)
    with np.errstate(over="ignore"):
        centred = (wide - middle).astype(dtype)
        squares = np.square(centred, dtype=np.float64).sum(axis=1)
        bias = (-0.5 * squares * (not spherical)).astype(dtype)
    if not np.isfinite(bias).all():
        raise ValueError(f"model has centroids whose squares {dtype} cannot hold; scale the data")
    return {"middle": middle, "centroids": centred, "bias": bias}


def _descent(onnx: Any, children: np.ndarray) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Return the nodes from the scores of all splits' two sides to the leaf of each row."""
    make, n_splits = onnx.helper.make_node, len(children)
    nodes = [
        make("Reshape", ["scores", "pairs"], ["paired"]),
        make("ArgMax", ["paired"], ["sides"], axis=2, keepdims=0),
        make("Cast", ["sides"], ["rightward"], to=onnx.TensorProto.BOOL),
    ]
    constants = {"pairs": np.array([0, n_splits, 2])}
    for split in reversed(range(n_splits)):  # what is below a split comes after it
        left, right = (_below(int(child)) for child in children[split])
        constants[f"number_{split}"] = np.array(split)
        nodes += [
            make("Gather", ["rightward", f"number_{split}"], [f"right_{split}"], axis=1),
            make("Where", [f"right_{split}", right, left], [_below(split)]),
        ]
    constants |= {_below(-1 - k): np.array(k) for k in range(n_splits + 1)}
    return nodes, constants


def _below(child: int) -> str:
    """Name the leaf that rows reach through a split, or a leaf itself, written as −1 − k."""
    if child == 0:
        return "leaf"
    return f"leaf_{-1 - child}" if child < 0 else f"under_{child}"
