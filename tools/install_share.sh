#!/usr/bin/env bash
# Make the pip environment an ament prefix for this source tree. Usage: install_share.sh [VENV]
# Links share/crl_node to the tree's own folders and writes lib/crl_node/<node>, so that `ros2 run` and `ros2 launch`
# find the package as if colcon had installed it with --symlink-install.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$(cd "${1:-$root/.venv}" && pwd)
share=$venv/share/crl_node
libraries=$venv/lib/crl_node
mkdir -p "$share" "$libraries" "$venv/share/ament_index/resource_index/packages"
for name in package.xml config sim models; do
  ln -sfn "$root/$name" "$share/$name"
done
# File by file: ros2 launch walks the folder without following links to folders.
[ ! -L "$share/launch" ] || rm "$share/launch"
rm -rf "${share:?}/launch"
mkdir "$share/launch"
ln -s "$root"/launch/*.launch.py "$share/launch/"
cp "$root/resource/crl_node" "$venv/share/ament_index/resource_index/packages/crl_node"
for file in "$root"/executables/*; do
  target=$libraries/$(basename "$file")
  rm -f "$target"
  # The environment's own Python, so that it works without the environment being active.
  { echo "#!$venv/bin/python"; tail -n +2 "$file"; } >"$target"
  chmod +x "$target"
done
echo "crl_node: registered in $venv"
