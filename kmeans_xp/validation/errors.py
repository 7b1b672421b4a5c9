"""What a refusal is, and where a warning points."""

from __future__ import annotations

import os
import sys

__all__ = ["ArgumentError", "outside"]

_PACKAGE = os.path.dirname(os.path.dirname(__file__))


class ArgumentError(TypeError, ValueError):
    """An argument of a kind that is not taken: both errors, as scikit-learn's for parameters."""


def outside() -> int:
    """Return the `stacklevel` that makes `warnings.warn` point outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
