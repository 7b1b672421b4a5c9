#!/usr/bin/env bash
# The tests on a bare machine: makes .venv, installs what is needed, runs pytest.
#
#   bash ci/test.sh [--all-backends] [pytest arguments]
#
# --all-backends installs torch and JAX too; without it the tests that need them may skip.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

extras=(test)
args=()
for arg in "$@"; do
    if [ "$arg" = --all-backends ]; then
        extras+=(torch jax)
        # A library that was asked for and is missing is a failure, not a skip.
        export KMEANS_XP_TEST_ALL_BACKENDS=1
    else
        args+=("$arg")
    fi
done

ensure_env "${extras[@]}"
# File arguments are meant from where the caller stands; without any, pytest finds tests/ by itself.
if [ ${#args[@]} -eq 0 ]; then cd "$ROOT"; fi
exec "$VENV/bin/python" -m pytest --rootdir "$ROOT" -c "$ROOT/pyproject.toml" ${args[@]+"${args[@]}"}
