"""The application itself: how commands start, fail and end."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

__all__ = ["CommandError", "app", "guarded", "need", "note", "run", "sentence"]

# The plain look of typer: its boxes need a wide terminal and do not survive a pipe.
app = typer.Typer(
    name="kmeans-xp",
    help="Exact k-means for every array library.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class CommandError(Exception):
    """A failure whose message is all the user needs."""


class Interrupted(Exception):  # noqa: N818 - no error, a wish
    """Ctrl-C."""


class Closed(Exception):  # noqa: N818 - no error either
    """Nobody reads stdout any more."""


@contextmanager
def guarded() -> Iterator[None]:
    """Let Ctrl-C and a closed pipe pass by typer, which would call them failures."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise Interrupted from None
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        raise Closed from None


def _version(wanted: bool) -> None:
    if wanted:
        from kmeans_xp import __version__

        print(f"kmeans-xp {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # With a callback typer keeps the commands' names even if there is only one.
    pass


def run(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; failures become one line on stderr."""
    try:
        app(args, prog_name="kmeans-xp")
    except Interrupted:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Closed:
        # What Python still holds for stdout would fail again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except (CommandError, ValueError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def sentence(error: BaseException) -> str:
    """Say what failed without the number of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def note(text: str) -> None:
    """Tell the user something that is no result."""
    print(text, file=sys.stderr)


def need(module: str, extra: str) -> Any:
    """Import a module that an extra brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CommandError(
            f"{module.partition('.')[0]} cannot be imported ({error})\n"
            f'  pip install "kmeans_xp[{extra}]"\n'
            f'or, in a checkout: .venv/bin/python -m pip install -e ".[{extra}]"'
        ) from error
