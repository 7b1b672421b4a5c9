#!/usr/bin/env bash
# The manual on a bare machine: makes .venv, installs what is needed, runs every example, builds the pages.
#
#   bash ci/docs.sh [sphinx-build arguments]     then open docs/_build/html/index.html
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ensure_env docs
cd "$ROOT"
export PATH="$VENV/bin:$PATH" # the tour calls kmeans-xp
exec "$VENV/bin/python" -m sphinx --fail-on-warning --keep-going -j auto "$@" docs docs/_build/html
