"""k-means on whatever array you already hold, with the same bits everywhere."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kmeans_xp.backends import warmup
from kmeans_xp.checkpoint import Checkpoint, CheckpointError
from kmeans_xp.exceptions import ConvergenceWarning
from kmeans_xp.export import to_onnx
from kmeans_xp.functional import kmeans, kmeans_plusplus
from kmeans_xp.history import History
from kmeans_xp.lloyd import State
from kmeans_xp.models import ModelError, load_model, save_model
from kmeans_xp.prediction import predict
from kmeans_xp.result import BatchResult, KMeansResult, fingerprint
from kmeans_xp.selection import KSelection, select_k
from kmeans_xp.streams import Stream, stream

if TYPE_CHECKING:
    from kmeans_xp.estimators import BisectingKMeans as BisectingKMeans
    from kmeans_xp.estimators import KMeans as KMeans
    from kmeans_xp.estimators import MiniBatchKMeans as MiniBatchKMeans
    from kmeans_xp.estimators import k_means as k_means

__version__ = "0.1.0"

__all__ = [
    "BatchResult",
    "Checkpoint",
    "CheckpointError",
    "ConvergenceWarning",
    "History",
    "KMeansResult",
    "KSelection",
    "ModelError",
    "State",
    "Stream",
    "fingerprint",
    "kmeans",
    "kmeans_plusplus",
    "load_model",
    "predict",
    "save_model",
    "select_k",
    "stream",
    "to_onnx",
    "warmup",
]

_LAZY = ("BisectingKMeans", "KMeans", "MiniBatchKMeans", "k_means")  # they need scikit-learn
_MODULES = ("metrics", "plot", "pq", "vq")


def __dir__() -> list[str]:
    # what cannot be had is not listed: help() and tab completion get every name of this list
    lazy = _LAZY if find_spec("sklearn") else ()
    return sorted([*__all__, *lazy, *_MODULES])


def __getattr__(name: str) -> Any:
    """Import the estimators, and scikit-learn with them, and some modules only when used."""
    if name in _LAZY:
        from kmeans_xp import estimators

        return getattr(estimators, name)
    if name in _MODULES:
        return import_module(f"kmeans_xp.{name}")
    raise AttributeError(f"module 'kmeans_xp' has no attribute {name!r}")
