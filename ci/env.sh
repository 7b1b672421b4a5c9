# Sourced by the other scripts: `ensure_env EXTRA...` makes $VENV with the package and these extras.
#
# Needs nothing but Python >= 3.11 and pip. The second call is quick: a stamp in the environment
# says which extras were installed for which pyproject.toml.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

say() { printf '%s\n' "$*" >&2; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in ${PYTHON:+"$PYTHON"} python3 python python3.14 python3.13 python3.12 python3.11; do
        if is_recent "$name"; then
            command -v "$name"
            return
        fi
    done
    say "no Python >= 3.11 found; install one, or name it: PYTHON=/path/to/python bash $0"
    return 1
}

make_venv() {
    local python
    python="$(find_python)"
    say "making $VENV with $("$python" --version)"
    if ! "$python" -m venv --clear "$VENV" >/dev/null 2>&1; then
        # Some systems ship venv without ensurepip; a pip outside can fill the environment too.
        "$python" -m venv --clear --without-pip "$VENV"
        "$python" -m pip --python "$VENV/bin/python" install --quiet pip
    fi
}

# What was installed depends on these; the path, since an environment does not survive a move.
fingerprint() {
    { cat "$ROOT/pyproject.toml" "$ROOT/ci/constraints.txt"; echo "$ROOT"; } | cksum
}

# Every word of $1 is among the words of $2.
is_subset() {
    local word
    for word in $1; do
        case " $2 " in *" $word "*) ;; *) return 1 ;; esac
    done
}

ensure_env() {
    local wanted="$*" have="" stamp="$VENV/.kmeans_xp-extras" print old_print=""
    is_recent "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
    print="$(fingerprint)"
    if [ -f "$stamp" ]; then
        { read -r old_print && read -r have; } <"$stamp" || true
        if [ "$old_print" = "$print" ]; then
            if is_subset "$wanted" "$have"; then return; fi
        else
            have=""
        fi
    fi
    wanted="$(printf '%s\n' $have $wanted | sort -u | tr '\n' ' ')"
    wanted="${wanted% }"
    say "installing kmeans_xp[${wanted// /,}] into $VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$ROOT/ci/constraints.txt" --editable "$ROOT[${wanted// /,}]"
    printf '%s\n%s\n' "$print" "$wanted" >"$stamp"
}
