"""NVRTC's functions, with the host's C++ compiler behind them. A "cubin" is a shared library."""

from __future__ import annotations

import atexit
import functools
import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .translate import translated

HOST = Path(__file__).parents[2] / "host"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-march=native", "-fno-strict-aliasing")
QUIET = ("-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE", "-pipe")
KNOWN = ("--std=c++17", "-default-device")


class NVRTCError(RuntimeError):
    pass


class _Program:
    def __init__(self, source):
        self.source, self.cubin, self.log = source, b"", ""


_programs: dict[int, _Program] = {}
_numbers = itertools.count(1)


@functools.cache
def compiler():
    """Path of the C++ compiler, or None."""
    return os.environ.get("CXX") or shutil.which("g++")


@functools.cache
def _digest():
    files = (*sorted(HOST.iterdir()), Path(__file__).with_name("translate.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)


@functools.cache
def _header():
    """What every kernel includes, compiled ahead."""
    header = Path(_folder.name, "cuda.hpp")
    build((*FLAGS, *QUIET, "-x", "c++-header", str(HOST / "cuda.hpp")), f"{header}.gch")
    header.write_text(f'#include "{HOST / "cuda.hpp"}"\n')  # if it cannot be used
    return str(header)


def getVersion():
    return "emulated", _digest(), FLAGS


def getSupportedArchs():
    return [80, 90]


def createProgram(source, name, headers, include_names):
    if headers or include_names:
        raise NotImplementedError("headers of a program")
    number = next(_numbers)
    _programs[number] = _Program(source)
    return number


def destroyProgram(program):
    del _programs[program]


def compileProgram(program, options=()):
    given = _programs[program]
    arch, *others = options
    defines = [o for o in others if o.startswith("-D")]
    if arch.removeprefix("--gpu-architecture=") not in ("sm_80", "sm_90", "sm_90a"):
        raise NVRTCError(f"NVRTC_ERROR_INVALID_OPTION: {arch}")
    if set(others) - set(defines) - set(KNOWN):
        raise NotImplementedError(f"options {others}")
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        source.write_text(translated(given.source))
        include = ("-include", _header(), str(source))
        given.log = build(("-shared", *FLAGS, *QUIET, *defines, *include), out)
        given.cubin = out.read_bytes() if out.exists() else b""
    if not given.cubin:
        raise NVRTCError("NVRTC_ERROR_COMPILATION (6)")


def getCUBIN(program):
    return _programs[program].cubin


def getProgramLog(program):
    return _programs[program].log


def build(arguments, out):
    """Run the compiler; returns what it says."""
    done = subprocess.run(
        [compiler(), *arguments, "-o", str(out)], capture_output=True, text=True, check=False
    )
    return done.stderr
