"""What a foreign peer says to twistor, whichever library it is made with.

A peer is an object with five coroutine methods: send(str | bytes), send_fragments([str | bytes, ...]), receive() -> str | bytes,
ping(bytes) which returns once the pong with that payload is there, and close(code, reason) -> (code, reason) as the other
side answered. `fragments` is False for a library that cannot send a message in fragments.
"""

import random
import sys

HELLO = "Hello, WebSocket Server!"
GREETINGS = [HELLO, "grüß dich, 🌍", "x" * 100_000, "in three pieces"]
LARGE = (1 << 20) - 8192  # under a limit of 1 MiB even when deflating made it longer
CLOSE = (4001, "that is all")

MESSAGES = [
    "",
    "hello",
    "grüß dich, 🌍",
    b"",
    bytes(range(256)),
    "a" * 125,
    "b" * 126,  # the first length that takes 16 bits
    "c" * 65_536,  # and the first that takes 64
    '{"name": "twistor", "tags": ["one", "two"]}' * 100,
    "ä" * (LARGE // 2),
    random.Random(1).randbytes(LARGE),
]


def same(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what}: got {short(got)}, not {short(expected)}")


def short(value):
    return f"{value!r:.60} of {len(value)}" if isinstance(value, (str, bytes)) else repr(value)


async def echo(peer):
    """Everything sent must come back as it was, in order; pings are answered; the close code is echoed."""
    for message in MESSAGES:
        await peer.send(message)
        same("echo", await peer.receive(), message)
    for message in MESSAGES[:9]:  # and all of them under way at once
        await peer.send(message)
    for message in MESSAGES[:9]:
        same("echo of many", await peer.receive(), message)
    if peer.fragments:
        await peer.send_fragments(["grüß ", "", "dich, ", "🌍"])
        same("echo of text in fragments", await peer.receive(), "grüß dich, 🌍")
        await peer.send_fragments([b"\x00" * 70_000, b"\xff" * 70_000])
        same("echo of bytes in fragments", await peer.receive(), b"\x00" * 70_000 + b"\xff" * 70_000)
    await peer.ping(b"are you there?")
    same("close", await peer.close(*CLOSE), CLOSE)


async def greet(peer):
    """The server's side of `examples/client`: takes its hello, answers with the greetings, closes."""
    same("hello", await peer.receive(), HELLO)
    for greeting in GREETINGS[:-1]:
        await peer.send(greeting)
    if peer.fragments:
        await peer.send_fragments(["in ", "three ", "pieces"])
    else:
        await peer.send("in three pieces")
    code, _ = await peer.close(1000, "enough")
    same("close", code, 1000)


async def serve(peer, path, negotiated, deflate):
    """One connection of a foreign server; returns True when it was the last one, so that the server may end.

    `/` is for examples/client. The paths of an Autobahn fuzzing server make examples/autobahn_client echo one battery.
    """
    if path == "/getCaseCount":
        await peer.send("1")
        await peer.close(1000, "")
        return False
    if path.startswith("/updateReports"):
        await peer.close(1000, "")
        return True
    if path.startswith("/runCase"):
        same("permessage-deflate in use", negotiated, deflate)
        await echo(peer)
        return False
    await greet(peer)
    return True


def arguments():
    """The command line of a peer: client|chat URL, or server; with the word deflate at the end, or without."""
    words = sys.argv[1:]
    deflate = words[-1:] == ["deflate"]
    if deflate:
        words.pop()
    return words[0], (words[1] if len(words) > 1 else None), deflate


def listening(port):
    print(f"ws://127.0.0.1:{port}", flush=True)
