"""Programs under test and their peers as processes: started on a free port, read line by line, ended with the check."""

import atexit
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
PATIENCE = 20  # seconds for anything that is waited for; the machine may be busy
_started = []


def peer_command(name, *arguments):
    """websockets, aiohttp, autobahn, ws or chromium -> its command line, with the Python that runs this check."""
    script = os.path.join(PEERS, f"{name}_peer")
    runs = [sys.executable, script + ".py"] if os.path.exists(script + ".py") else ["node", script + ".js"]
    return [*runs, *arguments]


class Program:
    """A child process whose output lines are kept as they come."""

    def __init__(self, *command):
        self.name = " ".join(os.path.basename(word) for word in command[:3])
        self.lines = []
        self._new = queue.Queue()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        _started.append(self)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._new.put(line.rstrip("\n"))
        self._new.put(None)

    def line(self, deadline=None):
        """The next line, or None at the end of the output."""
        deadline = deadline or time.monotonic() + PATIENCE
        try:
            line = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"{self.name} prints nothing more; its last lines: {self.lines[-3:]!r:.500}") from None
        if line is not None:
            self.lines.append(line)
        return line

    def url(self):
        """Waits for the URL that a server prints when it listens."""
        while (line := self.line()) is not None:
            if found := re.search(r"\b(?:http|ws)://\S+:\d+", line):
                return found.group().replace("http://", "ws://")
        raise AssertionError(f"{self.name} ended before it listened: {self.lines}")

    def end(self):
        """Waits until it ends by itself; returns its exit status. All its lines are in `lines` then."""
        deadline = time.monotonic() + PATIENCE
        while self.line(deadline) is not None:
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Chatter(Program):
    """A chatting peer: it takes and gives one JSON object a line (peers/chatter.py)."""

    def __init__(self, name, url):
        super().__init__(*peer_command(name, "chat", url))
        self.name = name

    def tell(self, verb, argument=True):
        self.process.stdin.write(json.dumps({verb: argument}) + "\n")
        self.process.stdin.flush()

    def event(self):
        """The next (verb, argument); lines that are not of the protocol go to stderr."""
        while (line := self.line()) is not None:
            if line.startswith("{"):
                ((verb, argument),) = json.loads(line).items()
                return verb, argument
            print(f"{self.name}: {line}", file=sys.stderr)
        raise AssertionError(f"{self.name} ended with {self.process.wait()}")

    def messages(self, count):
        """The next `count` messages."""
        return [self.expect("message") for _ in range(count)]

    def expect(self, verb):
        got, argument = self.event()
        assert got == verb, f"{self.name}: {got} {argument!r:.80} came, not {verb}"
        return argument


class RustClient(Program):
    """examples/client, as far as it can chat: it says its hello and prints what it receives."""

    def __init__(self, binaries, url):
        super().__init__(os.path.join(binaries, "client"), url)
        self.name = "examples/client"

    def messages(self, count):
        got = []
        while len(got) < count:
            line = self.line()
            assert line is not None, f"{self.name} ended: {self.lines[-3:]!r:.300}"
            if line.startswith("Received message: "):
                got.append(line.removeprefix("Received message: "))
        return got


@atexit.register
def _stop_all():
    for program in reversed(_started):
        program.stop()


def run(checks):
    """Runs the check that the command line names: SCRIPT BIN_DIR CHECK [ARGUMENTS...]."""
    binaries, check, *arguments = sys.argv[1:]
    try:
        checks[check](binaries, *arguments)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{type(error).__name__}: {error}")
