"""Python `websockets` as client, chatter and server: client URL | chat URL | server, then `deflate` or not."""

import asyncio

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

import battery
import chatter


class Peer:
    fragments = True

    def __init__(self, socket):
        self.socket = socket
        self.send = self.send_fragments = socket.send  # a list is sent as fragments
        self.receive = socket.recv

    async def ping(self, payload):
        await (await self.socket.ping(payload))

    async def close(self, code, reason):
        await self.socket.close(code, reason)
        answer = self.socket.protocol.close_rcvd
        return (answer.code, answer.reason) if answer else (1006, "")


def negotiated(socket):
    return any(extension.name == "permessage-deflate" for extension in socket.protocol.extensions)


async def client(url, deflate):
    async with connect(url, compression="deflate" if deflate else None, proxy=None) as socket:
        battery.same("permessage-deflate in use", negotiated(socket), deflate)
        await battery.echo(Peer(socket))


async def chat(url):
    async with connect(url, proxy=None) as socket:
        await chatter.chat(Peer(socket), socket.transport)


async def server(deflate):
    done = asyncio.get_running_loop().create_future()

    async def handler(socket):
        try:
            if await battery.serve(Peer(socket), socket.request.path, negotiated(socket), deflate):
                done.set_result(None)
        except Exception as error:  # what went wrong in one connection ends the server with a failure
            done.done() or done.set_exception(error)

    async with serve(handler, "127.0.0.1", 0, compression="deflate" if deflate else None) as listener:
        battery.listening(listener.sockets[0].getsockname()[1])
        await done


role, url, deflate = battery.arguments()
asyncio.run(
    {"client": lambda: client(url, deflate), "chat": lambda: chat(url), "server": lambda: server(deflate)}[role]()
)
