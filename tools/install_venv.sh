#!/usr/bin/env bash
# Create or update the pip environment. Usage: install_venv.sh VENV REQUIREMENTS...
# Safe to repeat and to interrupt: pip installs only what is missing or of another version.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$1
shift
python=${PYTHON:-python3.11}
log=$root/build/venv.log

fail() { echo "install_venv: $*" >&2; exit 1; }

if [ ! -x "$venv/bin/python" ]; then
  command -v "$python" >/dev/null || fail "'$python' is missing. The simulator and the ROS wheels exist for CPython 3.11 only. On Debian 12: apt install python3.11 python3.11-venv python3.11-dev (or name yours: make PYTHON=/path/to/python3.11)."
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    fail "'$python' is $("$python" --version), it must be Python 3.11 (the simulator and the ROS wheels exist for no other)."
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "'$python' has no venv module. On Debian 12: apt install python3.11-venv."
  echo "venv: creating $venv"
  "$python" -m venv "$venv"
fi
for compiler in gcc g++; do
  command -v "$compiler" >/dev/null || fail "the compiler '$compiler' is missing, and our ROS messages are compiled. On Debian: apt install build-essential."
done
files=()
for file in "$@"; do files+=(-r "$file"); done
mkdir -p "$root/build"
total=$(cat "$@" | grep -c '==')
echo "venv: installing $total pinned packages (several minutes the first time; log: ${log#"$root"/})"
# pip's own progress is lost in a log: name what it is at, one line that is overwritten on a terminal.
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "${files[@]}" 2>&1 |
  tee "$log" |
  awk -v total="$total" -v tty="$([ -t 1 ] && echo 1 || echo 0)" '
    /^Collecting|^Requirement already satisfied/ { count += 1; name = $0; sub(/^Collecting /, "", name); sub(/^Requirement already satisfied: /, "", name); sub(/ .*/, "", name)
      if (tty) { printf "\r\033[Kvenv: %d of %d  %s", count, total, name; fflush() }
      else if (count % 40 == 0) { printf "venv: %d of %d\n", count, total; fflush() } }
    /^Installing collected packages/ { printf "%svenv: unpacking everything (a minute or two)\n", tty ? "\r\033[K" : ""; fflush() }
    END { if (tty) printf "\r\033[K" }'; then
  grep -E '^ERROR' "$log" | head -n 10 >&2 || tail -n 10 "$log" >&2
  fail "pip could not install everything; the full output is in $log. Running 'make venv' again goes on from here."
fi
# The ROS wheels restart Python through a .pth file; --no-build-isolation keeps that out of a second environment.
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --no-deps --no-build-isolation -e "$root" >>"$log" 2>&1 || {
  tail -n 15 "$log" >&2
  fail "the package itself could not be installed; the full output is in $log."
}
echo "venv: $venv is complete"
