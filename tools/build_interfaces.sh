#!/usr/bin/env bash
# Build ros_ws/src/crl_interfaces into a pip environment. Usage: build_interfaces.sh [VENV] [--force]
# Rebuilds only when a message, the CMakeLists, this recipe or the environment's Python changed.
# The long output goes to build/crl_interfaces.log; on failure its end is shown.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${1:-$root/.venv}
force=${2:-}
venv=$(cd "$venv" && pwd)
source=$root/ros_ws/src/crl_interfaces
build=$root/build/crl_interfaces
log=$root/build/crl_interfaces.log
stamp=$venv/share/crl_interfaces/.source.sha256

fail() { echo "build_interfaces: $*" >&2; exit 1; }

[ -x "$venv/bin/python" ] || fail "no Python at $venv/bin/python; run 'make venv' first."

fingerprint=$( {
  cd "$source"
  find . -type f | LC_ALL=C sort | xargs sha256sum
  sha256sum "$root/tools/build_interfaces.sh" "$root/tools/strip_wheel_paths.cmake" | cut -d' ' -f1
  "$venv/bin/python" -c 'import sys; print(sys.version, sys.prefix)'
} | sha256sum | cut -d' ' -f1)

if [ "$force" != "--force" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then
  exit 0
fi

for compiler in gcc g++; do
  command -v "$compiler" >/dev/null || fail "the compiler '$compiler' is missing, and the message package is compiled C/C++. On Debian: apt install build-essential."
done
"$venv/bin/python" - <<'PY' || fail "Python.h is missing, and the message package has a Python extension. On Debian: apt install python3-dev."
import os, sys, sysconfig
sys.exit(0 if os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")) else 1)
PY
for tool in cmake ninja; do
  [ -x "$venv/bin/$tool" ] || fail "'$tool' is missing from $venv/bin; run 'make venv' (it installs requirements/build.txt)."
done

mkdir -p "$build"
echo "crl_interfaces: building (about a minute; log: ${log#"$root"/})"
# A colcon or apt environment of the caller would be mixed into the search path: set it, do not extend it.
if ! {
  export PATH=$venv/bin:$PATH AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv LD_LIBRARY_PATH=$venv/lib
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  unset PYTHONPATH COLCON_PREFIX_PATH
  "$venv/bin/cmake" -S "$source" -B "$build" -G Ninja --fresh \
    -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_MAKE_PROGRAM="$venv/bin/ninja" \
    -DCMAKE_INSTALL_PREFIX="$venv" \
    -DCMAKE_PROJECT_INCLUDE="$root/tools/strip_wheel_paths.cmake" \
    -DPython3_EXECUTABLE="$venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY \
    -DBUILD_TESTING=OFF &&
  "$venv/bin/cmake" --build "$build" &&
  "$venv/bin/cmake" --install "$build"
} >"$log" 2>&1; then
  tail -n 25 "$log" >&2
  fail "the build failed; the full output is in $log"
fi
echo "$fingerprint" >"$stamp"
echo "crl_interfaces: installed into $venv"
