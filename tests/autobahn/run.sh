#!/usr/bin/env bash
# Runs the Autobahn suite, strict, against our examples in both directions:
#
#   run.sh BIN_DIR DIR [full|ci]
#
# BIN_DIR holds the built examples ws_echo_server and autobahn_client (target/release/examples). DIR takes wstest (by
# setup.sh, if it is not there yet) and the reports: DIR/server/report/index.html and DIR/client/report/index.html.
# full, the default, is all 517 cases; ci is the cut in ci.cases. The last line is "N passed, N failed", the cases of
# both directions together; the exit status is 0 when every expected case ran and was OK or INFORMATIONAL.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(cd "$1" && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)

bash "$here/setup.sh" "$dir/wstest"
export WSTEST=$dir/wstest/bin/wstest

case ${3:-full} in
  full) cases=() expected=517 ;;
  ci)
    mapfile -t cases < <(grep -v '^#' "$here/ci.cases")
    expected=353 # 301 of sections 1 to 10 and 52 of 12 and 13
    ;;
  *) echo "$0: full or ci, not $3" >&2; exit 2 ;;
esac

"$bin/ws_echo_server" --port 0 --mode deflate --max-message 67108864 >"$dir/ws_echo_server.log" 2>&1 </dev/null &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
url=''
for _ in $(seq 100); do
  url=$(sed -n 's|.*[a-z]*://[^ ]*:\([0-9]*\).*|ws://localhost:\1|p' "$dir/ws_echo_server.log" | head -n 1)
  if [ -n "$url" ] || ! kill -0 $server 2>/dev/null; then break; fi
  sleep 0.1
done
[ -n "$url" ] || { echo "ws_echo_server does not listen:" >&2; cat "$dir/ws_echo_server.log" >&2; exit 3; }

passed=0 failed=0 status=0
run() { # NAME COMMAND...: one direction
  local name=$1 counts
  shift
  echo "== $name"
  "$@" | tee "$dir/$name.txt" | grep -v '^[0-9]* passed, [0-9]* failed$' || true
  counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$dir/$name.txt")
  local good=${counts% *} bad=${counts#* }
  # a case that did not run has failed
  bad=$((${bad:-0} + expected - ${good:-0} - ${bad:-0}))
  passed=$((passed + ${good:-0}))
  failed=$((failed + bad))
}
run server "$here/run_server_cases.sh" --strict --agent twistor "$url" "$dir/server" ${cases[@]+"${cases[@]}"}
kill -0 $server 2>/dev/null || { echo "ws_echo_server ended meanwhile" >&2; status=1; }
run client "$here/run_client_cases.sh" --strict "$dir/client" ${cases[@]+"${cases[@]}"} -- "$bin/autobahn_client"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $status -eq 0 ]
