#!/usr/bin/env bash
# The tests on a bare machine: makes .venv, installs what is needed, runs pytest.
#
#   bash ci/test.sh [--all-backends] [pytest arguments]
#
# Files are shared out to as many processes as there are cores, up to 8; `-n 0` runs all in one.
# --all-backends installs torch and JAX too; without it the tests that need them skip where they are missing.
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
# A file or folder is meant from where the caller stands; without one, pytest finds tests/ by itself.
paths=0
previous=""
for arg in ${args[@]+"${args[@]}"}; do
    case "$previous" in
    -k | -m | -n | -o | -p | -W) ;;
    *) if [ -e "${arg%%::*}" ]; then paths=1; fi ;;
    esac
    previous="$arg"
done
if [ "$paths" = 0 ]; then cd "$ROOT"; fi
# What a file has set up once, it would set up in each process that runs some of its tests.
exec "$VENV/bin/python" -m pytest --rootdir "$ROOT" -c "$ROOT/pyproject.toml" \
    -n auto --maxprocesses 8 --dist loadfile ${args[@]+"${args[@]}"}
