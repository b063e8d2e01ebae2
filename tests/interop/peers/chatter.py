"""The line protocol between chat.py and a chatting peer: one JSON object a line.

In, on stdin: {"send": text}, {"binary": text}, {"fragments": [text, ...]}, {"leave": true} (a clean close), {"reset": true}
(RST, nothing said). Out, on stdout: {"open": true}, {"message": text}, {"closed": code}.
"""

import asyncio
import json
import socket
import struct
import sys


def say(**what):
    print(json.dumps(what), flush=True)


def reset(transport):
    """Ends the connection with RST: no Close frame, no FIN."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def commands():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        ((verb, argument),) = json.loads(line).items()
        yield verb, argument


async def chat(peer, transport):
    """Runs a connected peer (see battery.py) until it is told to go or the server closes."""
    say(open=True)

    async def listen():
        while True:
            say(message=await peer.receive())

    listener = asyncio.create_task(listen())
    async for verb, argument in commands():
        if verb == "send":
            await peer.send(argument)
        elif verb == "binary":
            await peer.send(argument.encode())
        elif verb == "fragments":
            await peer.send_fragments(argument)
        elif verb == "leave":
            listener.cancel()
            await asyncio.wait([listener])
            code, _ = await peer.close(1000, "")
            say(closed=code)
            return
        elif verb == "reset":
            reset(transport)
            return
