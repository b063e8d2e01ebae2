"""Our clients against foreign servers: client.py BIN_DIR CHECK [PEER [deflate]]; the checks are at the end."""

import os
import socket
import threading

import harness

# what examples/client prints of what peers/battery.py says to it
GREETINGS = ["Hello, WebSocket Server!", "grüß dich, 🌍", "x" * 100_000, "in three pieces"]


def client(binaries, url):
    program = harness.RustClient(binaries, url)
    status = program.end()
    return program, status


def greeted(binaries, peer):
    """examples/client prints what it is sent, in order, and ends when the server closes."""
    server = harness.Program(*harness.peer_command(peer, "server"))
    program, status = client(binaries, server.url())
    expected = [f"Received message: {greeting}" for greeting in GREETINGS]
    assert program.lines[: len(expected)] == expected, f"{program.lines!r:.500}"
    assert program.lines[len(expected)].startswith("Connection lost: "), f"{program.lines[len(expected):]!r:.500}"
    assert status == 0, f"exit status {status}"
    assert server.end() == 0, f"{server.name}: {server.lines[-3:]}"


def echoes(binaries, peer, deflate=None):
    """examples/autobahn_client echoes a foreign server's battery."""
    server = harness.Program(*harness.peer_command(peer, "server", *([deflate] if deflate else [])))
    program = harness.Program(os.path.join(binaries, "autobahn_client"), server.url())
    assert server.end() == 0, f"{server.name}: {server.lines[-3:]}; {program.name}: {program.lines[-3:]}"
    assert program.end() == 0, f"{program.name}: {program.lines[-3:]}"


def refused(binaries):
    """A closed port: Twisted's words, to the letter."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port meanwhile
        program, _ = client(binaries, f"ws://127.0.0.1:{closed.getsockname()[1]}")
    expected = "Connection failed: Connection was refused by other side: 111: Connection refused."
    assert expected in program.lines, f"{program.lines}"


def hangs_up(binaries):
    """A server that accepts and closes without a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        program, _ = client(binaries, f"ws://127.0.0.1:{listener.getsockname()[1]}")
    assert any(line.startswith("Connection lost: ") for line in program.lines), f"{program.lines}"


harness.run({"greeted": greeted, "echoes": echoes, "refused": refused, "hangs_up": hangs_up})
