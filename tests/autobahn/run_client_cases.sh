#!/usr/bin/env bash
# Starts wstest's fuzzing server on a loopback port, runs a WebSocket client against it,
# and summarises the report.
#
#   run_client_cases.sh [--strict] [--port N] [--timeout SECONDS] OUTDIR [CASES...] -- COMMAND [ARGS...]
#
# COMMAND gets the server's URL (ws://127.0.0.1:PORT, no trailing slash) as its last argument.
# It is to read the number of cases from URL/getCaseCount, echo every message on
# URL/runCase?case=N&agent=X for N = 1, 2, ..., and then to open URL/updateReports?agent=X.
# CASES, OUTDIR, WSTEST and the exit status are as in run_server_cases.sh; COMMAND's output
# goes to OUTDIR/client.log. --port 0, the default, takes a free port. If the client never
# asked for the report, it is asked for here, so that a client that died leaves one too.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STRICT='' PORT=0 LIMIT=3600
# the client names its agent itself, in the URLs that it opens: common.sh needs none
# shellcheck disable=SC2034
AGENT=''
while [ $# -gt 0 ]; do
  case $1 in
    --strict) STRICT=--strict; shift ;;
    --port) PORT=$2; shift 2 ;;
    --timeout) LIMIT=$2; shift 2 ;;
    -*) echo "$0: unknown option $1" >&2; exit 3 ;;
    *) break ;;
  esac
done
usage() { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 3; }
[ $# -ge 3 ] || usage
OUT=$1; shift
CASES=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do CASES+=("$1"); shift; done
[ $# -ge 2 ] || usage
shift
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$HERE/common.sh"
prepare "$OUT"
[ "$PORT" != 0 ] || PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
URL=ws://127.0.0.1:$PORT
make_spec fuzzingserver.json "$URL" ${CASES[@]+"${CASES[@]}"} || exit 3

# -u 0: without it wstest also opens a web server on port 8080, on every interface
"$WSTEST" -m fuzzingserver -s "$OUT/spec.json" -u 0 >"$OUT/wstest.log" 2>&1 </dev/null &
WPID=$!
stop_server() {
  kill $WPID 2>/dev/null || return 0
  for _ in $(seq 50); do kill -0 $WPID 2>/dev/null || break; sleep 0.1; done
  kill -9 $WPID 2>/dev/null
  wait $WPID 2>/dev/null
}
trap stop_server EXIT
up=''
for _ in $(seq 300); do
  kill -0 $WPID 2>/dev/null || break
  if grep -q '^Cases = ' "$OUT/wstest.log" && (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then up=1; break; fi
  sleep 0.1
done
if [ -z "$up" ] || ! kill -0 $WPID 2>/dev/null; then
  echo "the fuzzing server does not listen on port $PORT; end of $OUT/wstest.log:"
  tail -5 "$OUT/wstest.log" | cut -c1-300
  exit 3
fi

START=$(date +%s.%N)
timeout -k 10 "$LIMIT" "$@" "$URL" >"$OUT/client.log" 2>&1 </dev/null
crc=$?
took "$START"
if [ ! -e "$OUT/report/index.json" ]; then
  echo "the client asked for no report: asking for it"
  python3 - "$PORT" <<'PY'
import socket, sys
port = int(sys.argv[1])
s = socket.create_connection(("127.0.0.1", port), 600)
s.sendall(b"GET /updateReports?agent=script HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port +
          b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
try:
    while s.recv(4096):
        pass
except ConnectionResetError:
    pass
PY
fi
stop_server
trap - EXIT
python3 "$HERE/summary.py" $STRICT --log "$OUT/wstest.log" "$OUT/report/index.json"
rc=$?
if [ $crc -ne 0 ]; then
  echo "the client ended with $crc$([ $crc -eq 124 ] && echo " (over $LIMIT s)"); end of $OUT/client.log:"
  tail -5 "$OUT/client.log" | cut -c1-300
  [ $rc -ne 0 ] || rc=3
fi
exit $rc
