#!/usr/bin/env bash
# The tests of the CUDA kernels on a machine with an NVIDIA GPU, from a fresh clone.
#
#   bash ci/gpu.sh [--sanitize] [pytest arguments]
#
# Uses the Python that runs it if that has CuPy (a container's, say), else makes .venv with the cuda13
# extra (KMEANS_XP_CUDA=cuda12 for older drivers). --sanitize runs small cases under compute-sanitizer.
# The loop serves compute capability 9.0; elsewhere its tests skip with that reason, and the others measure
# what the error bound would need.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

sanitize=0
if [ "${1:-}" = --sanitize ]; then
    sanitize=1
    shift
fi
python="${PYTHON:-python3}"
if ! "$python" -c 'import cupy, pytest, array_api_compat' >/dev/null 2>&1; then
    ensure_env test "${KMEANS_XP_CUDA:-cuda13}"
    python="$VENV/bin/python"
fi
"$python" -c 'import cupy, sys; sys.exit(not cupy.cuda.is_available())' || {
    say "CuPy finds no CUDA device"
    exit 1
}
if [ "$sanitize" = 1 ]; then
    for tool in memcheck racecheck initcheck; do
        say "compute-sanitizer $tool"
        compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-name-exclude kernel_substring=cupy \
            "$python" -m tests.cuda.small_cases
    done
fi
"$python" -m pytest tests/cuda "$@"
exec "$python" -m pytest tests/test_bits.py tests/test_errors.py -k cupy "$@"
