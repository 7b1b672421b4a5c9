"""The command line: ``kmeans-xp fit``, ``predict``, ``select-k``, ``plot``, ``report`` and more.

What was asked for goes to stdout, everything else to stderr. The exit code is 0, 1 if something
failed (a file that is missing or damaged among it), 2 for wrong usage, 130 if interrupted, and 141,
as that of any program in a pipe, if the reader of stdout went away.
"""

# each registers its command when it is imported
from kmeans_xp.cli import bench, demo, fit, info, page, plot, predict, quantize, select  # noqa: F401
from kmeans_xp.cli.app import app, run

__all__ = ["app", "run"]
