"""aiohttp as client, chatter and server: client URL | chat URL | server, then `deflate` or not."""

import asyncio

from aiohttp import ClientSession, WSMsgType, web

import battery
import chatter


class Peer:
    fragments = False  # aiohttp sends every message as one frame

    def __init__(self, socket):
        self.socket = socket

    async def send(self, message):
        await (self.socket.send_str if isinstance(message, str) else self.socket.send_bytes)(message)

    async def receive(self):
        message = await self.socket.receive()
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise ConnectionError(f"the connection ended: {message}")
        return message.data

    async def ping(self, payload):
        await self.socket.ping(payload)
        pong = await self.socket.receive()  # it is seen here because autoping is off
        battery.same("pong", (pong.type, bytes(pong.data)), (WSMsgType.PONG, payload))

    async def close(self, code, reason):
        await self.socket.close(code=code, message=reason.encode())
        return self.socket.close_code, reason  # aiohttp keeps no reason


async def client(url, deflate):
    async with ClientSession() as session:
        async with session.ws_connect(url, compress=15 if deflate else 0, autoping=False) as socket:
            battery.same("permessage-deflate in use", bool(socket.compress), deflate)
            await battery.echo(Peer(socket))


async def chat(url):
    async with ClientSession() as session:
        async with session.ws_connect(url) as socket:
            await chatter.chat(Peer(socket), socket._conn.transport)


async def server(deflate):
    done = asyncio.get_running_loop().create_future()

    async def handler(request):
        socket = web.WebSocketResponse(compress=deflate, autoping=False)
        await socket.prepare(request)
        try:
            if await battery.serve(Peer(socket), request.path, bool(socket.compress), deflate):
                done.set_result(None)
        except Exception as error:  # what went wrong in one connection ends the server with a failure
            done.done() or done.set_exception(error)
        return socket

    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    battery.listening(runner.addresses[0][1])
    try:
        await done
    finally:
        await runner.cleanup()


role, url, deflate = battery.arguments()
asyncio.run(
    {"client": lambda: client(url, deflate), "chat": lambda: chat(url), "server": lambda: server(deflate)}[role]()
)
