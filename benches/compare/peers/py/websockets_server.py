"""websockets (asyncio, uvloop): PORT echo|broadcast|deflate"""

import logging
import sys
import uvloop
from websockets.asyncio.server import serve, broadcast

port = int(sys.argv[1])
mode = sys.argv[2] if len(sys.argv) > 2 else "echo"
logging.disable(logging.CRITICAL)
clients = set()


async def echo(ws):
    async for m in ws:
        await ws.send(m)


async def bcast(ws):
    clients.add(ws)
    try:
        async for m in ws:
            broadcast(clients, m)
    finally:
        clients.discard(ws)


async def main():
    async with serve(
        bcast if mode == "broadcast" else echo,
        "127.0.0.1",
        port,
        backlog=4096,
        compression="deflate" if mode == "deflate" else None,
        max_size=64 << 20,
        ping_interval=None,
    ) as s:
        print("listening on", port, file=sys.stderr)
        await s.serve_forever()


uvloop.run(main())
