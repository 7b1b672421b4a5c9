#!/usr/bin/env bash
# The digits demo on a bare machine: makes .venv, installs what is needed, runs it.
# Arguments go to `kmeans-xp demo`; see `bash ci/demo.sh --help`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
extras=(cli plot sklearn)
previous=""
for arg in "$@"; do
    case "$previous $arg" in
    *" --backend="*) backend="${arg#--backend=}" ;;
    "--backend "*) backend="$arg" ;;
    *) backend="" ;;
    esac
    case "$backend" in
    torch | jax) extras+=("$backend") ;;
    cupy) extras+=("${KMEANS_XP_CUDA:-cuda13}") ;;
    esac
    previous="$arg"
done
ensure_env "${extras[@]}"
exec "$VENV/bin/kmeans-xp" demo "$@"
