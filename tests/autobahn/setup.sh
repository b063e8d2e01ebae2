#!/usr/bin/env bash
# Installs the Autobahn WebSocket Testsuite (wstest) into DIR, with no docker.
#
#   setup.sh DIR        then: DIR/bin/wstest -m fuzzingclient|fuzzingserver ...
#
# autobahntestsuite 25.10.1 is still Python 2.7 code (print statements), so this
# makes a Python 2.7 virtualenv with every package pinned. Needs python2.7 (pyenv's
# 2.7.18, or $PYTHON27), a C compiler (for wsaccel) and pip. Idempotent:
# with the same pins already in DIR it only checks that wstest starts.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
DIR=$(cd "$1" && pwd)

VIRTUALENV_PINS='virtualenv==20.15.1 distlib==0.4.4 filelock==3.2.1 platformdirs==2.0.2
six==1.17.0 importlib-metadata==2.1.3 importlib-resources==3.3.1 contextlib2==0.6.0.post1
configparser==4.0.2 zipp==1.2.0 pathlib2==2.3.7.post1 scandir==1.10.0 singledispatch==3.7.0
typing==3.10.0.0'

# The upper half is what autobahntestsuite 25.10.1 itself pins; the lower half are their
# dependencies, frozen from a working install. All but autobahn, txaio, PyHamcrest and
# wsaccel come as wheels; wsaccel's sdist ships its generated C, so no Cython is needed.
read -r -d '' PINS <<'PINS' || true
setuptools==44.0.0
autobahntestsuite==25.10.1
autobahn==0.10.9
txaio==2.1.0
Twisted==19.10.0
zope.interface==4.6.0
incremental==16.10.1
pyOpenSSL==19.1.0
cryptography==3.3.2
service-identity==18.1.0
jinja2==2.11.3
markupsafe==1.1.1
Werkzeug==1.0.1
klein==17.10.0
unittest2==1.1.0
six==1.16.0
wsaccel==0.6.6
ujson==2.0.3
Automat==22.10.0
PyHamcrest==1.10.1
argparse==1.4.0
attrs==21.4.0
cffi==1.15.1
constantly==15.1.0
enum34==1.1.10
hyperlink==21.0.0
idna==2.10
ipaddress==1.0.23
linecache2==1.0.0
pyasn1==0.5.1
pyasn1-modules==0.3.0
pycparser==2.21
traceback2==1.4.0
typing==3.10.0.0
PINS

works() { # wstest starts, in the pinned version, with the C accelerators
  "$DIR/bin/wstest" -a 2>/dev/null | grep -qx 'AutobahnTestSuite 25.10.1' &&
    "$DIR/venv/bin/python" -c 'import wsaccel.utf8validator, wsaccel.xormask, ujson' 2>/dev/null &&
    [ "$(cat "$DIR/cases.txt" 2>/dev/null | wc -l)" -eq 517 ]
}

STAMP=$(printf '%s\n' "$VIRTUALENV_PINS" "$PINS" "$DIR" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$DIR/.stamp" 2>/dev/null)" = "$STAMP" ] && works; then
  echo "wstest is already installed: $DIR/bin/wstest"
  exit 0
fi

PY=${PYTHON27:-}
if [ -z "$PY" ]; then
  for p in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7 \
           "$(command -v python2.7 || true)"; do
    if [ -n "$p" ] && "$p" -c 'import sys; assert sys.version_info[:2] == (2, 7)' 2>/dev/null; then PY=$p; break; fi
  done
fi
[ -n "$PY" ] || { echo "no python2.7 found (Debian 12 has none; pyenv's 2.7.18 is expected, or set PYTHON27)" >&2; exit 1; }
if ! command -v cc >/dev/null && ! command -v gcc >/dev/null; then
  apt-get update -qq && apt-get install -y -qq gcc libc6-dev
fi

rm -rf "${DIR:?}"/{boot,venv,bin,cases.txt,.stamp}
mkdir -p "$DIR/bin"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
LOG=$DIR/install.log
: >"$LOG"
failed() {
  local status=$?
  [ $status -eq 0 ] || { echo "setup failed ($status); end of $LOG:" >&2; tail -20 "$LOG" >&2; }
}
trap failed EXIT

# virtualenv into a folder of its own (pyenv's Python stays untouched); its bundled
# pip 20.3.4 is the last for 2.7. app-data in DIR, or it writes under ~/.local.
# shellcheck disable=SC2086
"$PY" -m pip install --no-warn-script-location --no-deps --target "$DIR/boot" $VIRTUALENV_PINS >>"$LOG" 2>&1
XDG_DATA_HOME="$DIR/boot/share" PYTHONPATH="$DIR/boot" "$PY" -m virtualenv --no-download --app-data "$DIR/boot/app-data" "$DIR/venv" >>"$LOG" 2>&1

printf '%s\n' "$PINS" >"$DIR/requirements.txt"
pip() { "$DIR/venv/bin/python" -m pip "$@" >>"$LOG" 2>&1; }
pip install --no-deps setuptools==44.0.0
pip install --no-deps --no-build-isolation -r "$DIR/requirements.txt"
pip check

# wstest as packaged listens on all interfaces in fuzzingserver mode; this one on the
# loopback only. It also leaves stdout unbuffered, and WSTEST_HTML=0 skips the HTML
# reports (the JSON ones are what the summary reads).
cat >"$DIR/bin/wstest" <<WRAP
#!$DIR/venv/bin/python -u
import os, sys
import autobahntestsuite.wstest as wstest
import autobahntestsuite.fuzzing as fuzzing
_listen = fuzzing.listenWS
fuzzing.listenWS = lambda factory, ctx=None: _listen(factory, ctx, interface=os.environ.get('WSTEST_INTERFACE', '127.0.0.1'))
if os.environ.get('WSTEST_HTML') == '0':
    _reports = fuzzing.FuzzingFactory.createReports
    fuzzing.FuzzingFactory.createReports = lambda self, produceHtml=True, produceJson=True: _reports(self, False, produceJson)
sys.exit(wstest.run())
WRAP
chmod +x "$DIR/bin/wstest"

# every case's id, one a line: wstest never ends when it is given an id that it does not know
"$DIR/venv/bin/python" - >"$DIR/cases.txt" <<'PY'
from autobahntestsuite.case import Cases
print '\n'.join(c.__name__[4:].replace('_', '.') for c in Cases)
PY

works || { echo "wstest does not start" >&2; "$DIR/bin/wstest" -a >&2 || true; exit 1; }
echo "$STAMP" >"$DIR/.stamp"
echo "wstest is installed: $DIR/bin/wstest"
