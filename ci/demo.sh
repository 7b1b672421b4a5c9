#!/usr/bin/env bash
# The digits demo on a bare machine: makes .venv, installs what is needed, runs it.
# Arguments go to `kmeans-xp demo`; see `bash ci/demo.sh --help`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ensure_env cli plot sklearn
exec "$VENV/bin/kmeans-xp" demo "$@"
