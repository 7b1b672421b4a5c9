#!/usr/bin/env bash
# Compiles every CUDA kernel for every architecture and fails on spills, and compares the stand-in for CuPy of
# tests/cuda/emulated with the real one; needs no GPU and no CUDA toolkit.
#
#   bash ci/kernels.sh [pytest arguments]
#
# Makes .venv-kernels with CuPy's and NVRTC's wheels (130 MB to fetch, 450 MB on disk) and nothing else, so
# that the other tests go on as on a machine without CUDA.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
VENV="$ROOT/.venv-kernels"
cd "$ROOT"

ensure_env kernels
export KMEANS_XP_TEST_KERNELS=1
exec "$VENV/bin/python" -m pytest tests/cuda/test_compile.py tests/cuda/emulated/test_stand_in.py "$@"
