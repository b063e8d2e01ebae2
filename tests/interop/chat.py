"""examples/chat_server with every client at once: chat.py BIN_DIR everybody|large|leaving."""

import os
import signal

import harness

HELLO = "Hello, WebSocket Server!"
WIRE = ["websockets", "aiohttp", "ws"]


class Room:
    """A chat server and its five clients, all of them connected."""

    def __init__(self, binaries):
        self.server = harness.Program(os.path.join(binaries, "chat_server"), "--port", "0")
        self.url = self.server.url()
        self.chatters = {name: harness.Chatter(name, self.url) for name in [*WIRE, "chromium"]}
        for chatter in self.chatters.values():
            chatter.expect("open")
        self.client = harness.RustClient(binaries, self.url)
        self.all_receive([HELLO])

    def members(self):
        return [*self.chatters.values(), *([self.client] if self.client else [])]

    def all_receive(self, expected):
        for member in self.members():
            got = member.messages(len(expected))
            assert got == expected, f"{member.name} received {got!r:.200}, not {expected!r:.200}"

    def still_serves(self):
        for name, chatter in self.chatters.items():
            chatter.tell("send", f"{name} is still here")
            self.all_receive([f"{name} is still here"])


def everybody(binaries):
    """All talk at once: everybody receives everything, everybody in the same order, each sender's in its own."""
    room = Room(binaries)
    rounds = 20
    for i in range(rounds):
        for name, chatter in room.chatters.items():
            chatter.tell("send", f"{name} says {i}: grüß euch 🌍")
    received = [member.messages(rounds * len(room.chatters)) for member in room.members()]
    for member, got in zip(room.members(), received):
        assert got == received[0], f"{member.name} and {room.members()[0].name} differ in order"
    for name in room.chatters:
        mine = [text for text in received[0] if text.startswith(f"{name} says")]
        assert mine == [f"{name} says {i}: grüß euch 🌍" for i in range(rounds)], f"{name}'s: {mine}"
    if picture := os.environ.get("INTEROP_SCREENSHOT"):
        room.chatters["chromium"].tell("screenshot", picture)
        room.still_serves()


def large(binaries):
    """300 kB in one message, a message in fragments, binary ones: they arrive whole, as text, at everybody's."""
    room = Room(binaries)
    for name in WIRE:
        chatter, big = room.chatters[name], f"{name} " + "0123456789" * 30_000
        chatter.tell("send", big)
        room.all_receive([big])
        if name != "aiohttp":  # which cannot send fragments
            chatter.tell("fragments", [f"{name} ", "in ", "", "pieces: ü", "🌍", "x" * 100_000])
            room.all_receive([f"{name} in pieces: ü🌍" + "x" * 100_000])
        chatter.tell("binary", f"{name} in binary: ü")
        room.all_receive([f"{name} in binary: ü"])


def leaving(binaries):
    """Clients go with a close, by RST, by being killed and by closing their tab: the others do not notice."""
    room = Room(binaries)
    leaver = room.chatters.pop("ws")
    leaver.tell("leave")
    assert leaver.expect("closed") == 1000
    room.still_serves()
    resetting = room.chatters.pop("aiohttp")
    resetting.tell("reset")
    assert resetting.end() == 0
    room.still_serves()
    room.client.process.send_signal(signal.SIGKILL)
    room.client.end()
    room.client = None
    room.still_serves()
    room.chatters.pop("chromium").tell("leave")
    room.still_serves()
    late = room.chatters["late"] = harness.Chatter("ws", room.url)
    late.expect("open")
    room.still_serves()
    assert room.server.process.poll() is None, "the server ended"


harness.run({"everybody": everybody, "large": large, "leaving": leaving})
