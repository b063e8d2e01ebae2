#!/usr/bin/env bash
# Builds the load generator and the peers, in place or in a copy of this folder:
#
#   setup.sh [--all] [DIR]        then: bench.py --help
#
# --all adds the node and Python peers (ws, websockets, autobahn) to the Rust ones.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=''
if [ "${1:-}" = --all ]; then all=1; shift; fi
[ $# -le 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$here
if [ $# -eq 1 ]; then
  mkdir -p "$1"
  dir=$(cd "$1" && pwd)
  [ "$dir" = "$here" ] || cp -r "$here"/. "$dir"/
fi
unset CARGO_TARGET_DIR # bench.py looks for the binaries beside their sources

cargo build -q --release --locked --manifest-path "$dir/loadgen/Cargo.toml"
cargo build -q --release --locked --manifest-path "$dir/peers/rust/Cargo.toml"
if [ -n "$all" ]; then
  (cd "$dir/peers/node" && npm ci --silent --no-fund --no-audit)
  python3 -m venv "$dir/peers/py/venv"
  "$dir/peers/py/venv/bin/pip" -q install autobahn==26.10.2 twisted==26.10.0 websockets==17.4 uvloop==0.23.0
fi
echo "ready: $dir/bench.py --peer mio-min --peer raw --scenario quick"
