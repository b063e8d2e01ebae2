#!/usr/bin/env bash
# Installs the foreign peers of the interoperability checks, every version pinned:
#
#   setup.sh DIR        then: run.sh BIN_DIR DIR
#
# DIR/venv gets websockets, aiohttp and autobahn on Twisted (requirements.txt), DIR/node_modules gets ws and
# playwright-core (package-lock.json). Debian's chromium, nodejs and npm are installed only where the command is
# missing. Idempotent: with the same pins already in DIR nothing is done.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

packages=()
command -v chromium >/dev/null || packages+=(chromium)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [ ${#packages[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

stamp=$(cat "$here/requirements.txt" "$here/package-lock.json" <(echo "$dir") | sha256sum | cut -d' ' -f1)
if [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "the interoperability peers are already installed in $dir"
  exit 0
fi

rm -rf "$dir/venv" "$dir/node_modules" "$dir/.stamp"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
"$dir/venv/bin/pip" check
cp "$here/package.json" "$here/package-lock.json" "$dir/"
(cd "$dir" && npm ci --silent --no-fund --no-audit)
echo "$stamp" >"$dir/.stamp"
echo "the interoperability peers are installed in $dir"
