"""The command ``kmeans-xp``, also as ``python -m kmeans_xp``.

Kept apart from `kmeans_xp.cli` so that a missing extra ends in advice and not in a traceback.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        from kmeans_xp.cli import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "kmeans_xp":
            raise
        print(
            f"error: the command line needs {error.name}, which is not installed\n"
            '  pip install "kmeans_xp[cli]"',
            file=sys.stderr,
        )
        sys.exit(1)
    run()


if __name__ == "__main__":
    main()
