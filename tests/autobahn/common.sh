# shellcheck shell=bash
# Sourced by run_server_cases.sh and run_client_cases.sh, which set HERE and, before make_spec, AGENT.
WSTEST=${WSTEST:-$HERE/wstest/bin/wstest}
[ -x "$WSTEST" ] || { echo "no wstest at $WSTEST: run $HERE/setup.sh $HERE/wstest" >&2; exit 3; }

prepare() { # OUTDIR: empty, but for an earlier report, which goes
  mkdir -p "$1" || exit 3
  OUT=$(cd "$1" && pwd)
  if [ -e "$OUT/.autobahn" ]; then rm -rf "$OUT"/{report,spec.json,wstest.log,client.log,.autobahn}; fi
  [ -z "$(ls -A "$OUT")" ] || { echo "$OUT is neither empty nor an earlier report" >&2; exit 3; }
  mkdir "$OUT/report" && touch "$OUT/.autobahn" || exit 3
}

make_spec() { # TEMPLATE URL [CASES...]
  local template=$1 url=$2 c in=() out=()
  shift 2
  for c; do case $c in -*) out+=("${c#-}") ;; *) in+=("$c") ;; esac; done
  python3 "$HERE/summary.py" --spec "$HERE/$template" --out "$OUT/spec.json" \
    --known "$(dirname "$WSTEST")/../cases.txt" --url "$url" --outdir "$OUT/report" ${AGENT:+--agent "$AGENT"} ${in[@]+"${in[@]}"} ${out[@]+--exclude "${out[@]}"}
}

took() { # START
  python3 -c 'import sys, time; print("wall time: %.1f s" % (time.time() - float(sys.argv[1])))' "$1"
}
