"""The plain TCP examples against each other and against Python sockets: plain.py BIN_DIR server|client|pair."""

import os
import re
import socket
import threading

import harness


def echo_server(binaries):
    """Starts examples/echo_server; returns the port that it prints."""
    program = harness.Program(os.path.join(binaries, "echo_server"), "--port", "0")
    while (line := program.line()) is not None:
        if found := re.search(r":(\d+)\b", line):
            return int(found.group(1))
    raise AssertionError(f"echo_server ended: {program.lines}")


def echo_client(binaries, port):
    program = harness.Program(os.path.join(binaries, "echo_client"), "--port", str(port))
    status = program.end()
    assert status == 0 and "Server said: hello, world!" in program.lines, f"status {status}: {program.lines}"


def server(binaries):
    """1 MiB comes back as it was on each of several connections at once, and ends when the sender's end does."""
    port = echo_server(binaries)
    connections = [socket.create_connection(("127.0.0.1", port), harness.PATIENCE) for _ in range(8)]
    payloads = [bytes([i]) * (1 << 20) for i in range(len(connections))]

    def send(connection, payload):
        connection.sendall(payload)

    threads = [threading.Thread(target=send, args=pair, daemon=True) for pair in zip(connections, payloads)]
    for thread in threads:
        thread.start()
    for connection, payload in zip(connections, payloads):
        got = bytearray()
        while len(got) < len(payload) and (piece := connection.recv(1 << 16)):
            got += piece
        assert got == payload, f"{len(got)} bytes came back"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"", "the server keeps a connection that its peer has ended"


def client(binaries):
    """The client against a Python socket that echoes: it says something, takes the echo and ends."""
    said = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo():
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(4096):
                    said.extend(data)
                    connection.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        echo_client(binaries, listener.getsockname()[1])
    assert said, "the client said nothing"


def pair(binaries):
    """The two examples with each other."""
    echo_client(binaries, echo_server(binaries))


harness.run({"server": server, "client": client, "pair": pair})
