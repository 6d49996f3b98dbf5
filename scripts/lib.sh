# Shared by the setup scripts; sourced, never run. Everything set up goes to .setup/ in the repository root.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setup=$root/.setup
readonly root setup

# fail MESSAGE [WHAT_TO_DO]: ends the script.
fail() {
  echo "$(basename "$0"): $1" >&2
  [[ $# -lt 2 ]] || echo "  $2" >&2
  exit 1
}

# python_or_fail MINIMUM_MINOR [MAXIMUM_MINOR]: sets `python` to an interpreter of a supported version.
python_or_fail() {
  local minimum=$1 maximum=${2:-99}
  python=${PYTHON:-python3}
  command -v "$python" >/dev/null ||
    fail "\`$python\` not found: Python 3.$minimum or newer is needed" "install it, or name one: PYTHON=/path/to/python3 make …"
  local found
  found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
    fail "\`$python\` does not start" "name one that does: PYTHON=/path/to/python3 make …"
  local minor=${found#3.}
  if [[ $found != 3.* ]] || ((minor < minimum || minor > maximum)); then
    local wanted="Python 3.$minimum or newer"
    [[ $maximum == 99 ]] || wanted="Python 3.$minimum to 3.$maximum"
    fail "\`$python\` is Python $found, but $wanted is needed" "name one: PYTHON=/path/to/python3 make …"
  fi
}

# digest FILE...: sha256 over the files' bytes. Not `sha256sum`, which macOS lacks.
digest() {
  cat "$@" | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

# make_venv DIRECTORY LOCK [PIP_OPTION...]: a virtual environment with exactly the lock's packages.
# Does nothing when the directory was made from this lock by this interpreter.
make_venv() {
  local venv=$1 lock=$2
  shift 2
  local stamp
  stamp="$(digest "$lock") $("$python" -c 'import sys; print(sys.version_info[:3], sys.base_prefix)')"
  if [[ -f $venv/.stamp && $(cat "$venv/.stamp") == "$stamp" ]] && "$venv/bin/python" -c '' 2>/dev/null; then
    return
  fi
  echo "setting up ${venv#"$root"/} from ${lock#"$root"/}"
  mkdir -p "$(dirname "$venv")"
  "$python" -m venv --clear "$venv" ||
    fail "\`$python -m venv\` failed" "Debian and Ubuntu keep it apart: apt-get install python3-venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes "$@" --requirement "$lock" ||
    fail "the packages of ${lock#"$root"/} could not be installed" \
      "pip's message above says why; a package index must be reachable (supported: Linux x86-64 and arm64, macOS arm64)"
  echo "$stamp" >"$venv/.stamp"
}

# download_wheel DIRECTORY LOCK [PIP_OPTION...]: the lock's only wheel, hash checked, not installed.
download_wheel() {
  local directory=$1 lock=$2
  shift 2
  "$setup/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-input \
    --no-deps --require-hashes --only-binary :all: --dest "$directory" "$@" --requirement "$lock" ||
    fail "the wheel of ${lock#"$root"/} could not be downloaded" \
      "pip's message above says why; a package index must be reachable"
}
