#!/usr/bin/env bash
# Runs wstest's fuzzing client against a WebSocket server that already listens at URL.
#
#   run_server_cases.sh [--strict] [--agent NAME] [--timeout SECONDS] URL OUTDIR [CASES...]
#
# CASES: patterns such as '7.*' 9.1.6 (quote the star; '1.*', not '1*', which takes 10, 12
# and 13 as well); all 517 cases by default. A leading '-' leaves cases out: '-12.*'.
# OUTDIR must be new, empty, or an earlier report (which it replaces): spec.json, wstest.log
# and report/ (index.json, index.html, one JSON and one HTML file a case) go there.
# Environment: WSTEST, the wstest to run (default: wstest/bin/wstest beside this script).
# Exit: summary.py's (0 good, 1 bad, 2 no report), or 3 when the run itself went wrong.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STRICT='' AGENT=server LIMIT=3600
while [ $# -gt 0 ]; do
  case $1 in
    --strict) STRICT=--strict; shift ;;
    --agent) AGENT=$2; shift 2 ;;
    --timeout) LIMIT=$2; shift 2 ;;
    --) shift; break ;;
    -*) echo "$0: unknown option $1" >&2; exit 3 ;;
    *) break ;;
  esac
done
[ $# -ge 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 3; }
URL=$1 OUT=$2; shift 2
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$HERE/common.sh"
prepare "$OUT"
make_spec fuzzingclient.json "$URL" "$@" || exit 3

START=$(date +%s.%N)
timeout -k 10 "$LIMIT" "$WSTEST" -m fuzzingclient -s "$OUT/spec.json" >"$OUT/wstest.log" 2>&1 </dev/null &
WPID=$!
trap 'kill $WPID 2>/dev/null' EXIT
wait $WPID; rc=$?
trap - EXIT
took "$START"
grep -m1 '^Connection to .* failed' "$OUT/wstest.log" && rc=0
if [ $rc -ne 0 ]; then
  echo "wstest ended with $rc$([ $rc -eq 124 ] && echo " (over $LIMIT s)"); end of $OUT/wstest.log:"
  tail -5 "$OUT/wstest.log" | cut -c1-300
  exit 3
fi
python3 "$HERE/summary.py" $STRICT --log "$OUT/wstest.log" "$OUT/report/index.json"
