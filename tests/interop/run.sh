#!/usr/bin/env bash
# Runs the examples against foreign peers, on loopback ports that the kernel chooses:
#
#   run.sh BIN_DIR DIR [PATTERN]
#
# BIN_DIR holds the built examples (target/release/examples), DIR what setup.sh installed. PATTERN, a bash glob, picks
# checks by name: run.sh .. .. 'chat*'. One PASS or FAIL line a check; the output of a check that failed follows its
# line. The last line is "N passed, N failed".
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(cd "$1" && pwd)
dir=$(cd "$2" && pwd)
pattern=${3:-*}
limit=90 # seconds for one check; the slowest takes about 5
python=$dir/venv/bin/python
export NODE_PATH=$dir/node_modules PYTHONDONTWRITEBYTECODE=1
log=$(mktemp -d)
servers=()
passed=0 failed=0

clean_up() {
  for pid in ${servers[@]+"${servers[@]}"}; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$log"
}
trap clean_up EXIT

check() { # NAME COMMAND...
  local name=$1 start=$SECONDS status=0
  shift
  # shellcheck disable=SC2053 # the right side is a pattern on purpose
  [[ $name == $pattern ]] || return 0
  timeout -k 5 "$limit" "$@" >"$log/check" 2>&1 </dev/null || status=$?
  if [ "$status" -eq 0 ]; then
    passed=$((passed + 1))
    echo "PASS $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    [ "$status" -ne 124 ] || echo "no end after $limit s" >>"$log/check"
    echo "FAIL $name (status $status)"
    tail -n 8 "$log/check" | cut -c1-500 | sed 's/^/    /'
  fi
}

serve() { # MODE: starts ws_echo_server, sets url
  : >"$log/$1"
  "$bin/ws_echo_server" --port 0 --mode "$1" >"$log/$1" 2>&1 </dev/null &
  servers+=($!)
  url=''
  for _ in $(seq 100); do
    url=$(sed -n 's|.*\(ws://[^ ]*:[0-9]*\).*|\1|p' "$log/$1" | head -n 1)
    [ -z "$url" ] || return 0
    kill -0 "${servers[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  url=ws://127.0.0.1:1 # the checks against it fail, each by name
  echo "ws_echo_server --mode $1 does not listen: $(tail -n 3 "$log/$1")"
}

check "chat: everybody receives everything in one order" "$python" "$here/chat.py" "$bin" everybody
check "chat: 300 kB, fragments and binary arrive whole" "$python" "$here/chat.py" "$bin" large
check "chat: clients leave by close, RST, kill; the rest go on" "$python" "$here/chat.py" "$bin" leaving

check "client: a refused connection is reported as Twisted does" "$python" "$here/client.py" "$bin" refused
check "client: a server that hangs up is reported" "$python" "$here/client.py" "$bin" hangs_up
for peer in websockets aiohttp autobahn ws; do
  check "client: greeted by $peer" "$python" "$here/client.py" "$bin" greeted "$peer"
done
for peer in websockets aiohttp autobahn ws; do
  check "client: echoes $peer" "$python" "$here/client.py" "$bin" echoes "$peer"
  check "client: echoes $peer, compressed" "$python" "$here/client.py" "$bin" echoes "$peer" deflate
done

echo_checks() { # MODE [deflate]
  serve "$1"
  for peer in websockets aiohttp autobahn; do
    check "echo: $peer, mode $1" "$python" "$here/peers/${peer}_peer.py" client "$url" ${2:+"$2"}
  done
  for peer in ws chromium; do
    check "echo: $peer, mode $1" node "$here/peers/${peer}_peer.js" client "$url" ${2:+"$2"}
  done
}
echo_checks echo
check "echo: chromium is refused on another site's page" node "$here/peers/chromium_peer.js" foreign "$url"
echo_checks deflate deflate

for part in server client pair; do
  check "plain echo: $part" "$python" "$here/plain.py" "$bin" "$part"
done

# a check that did not run has failed
expected=31
[ "$pattern" != "*" ] || [ $((passed + failed)) -eq $expected ] || failed=$((failed + expected - passed - failed))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
