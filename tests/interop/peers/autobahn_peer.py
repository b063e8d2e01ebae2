"""Autobahn on Twisted as client and server: client URL | server, then `deflate` or not."""

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
    connectWS,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.task import react

import battery


class Peer:
    """Autobahn's callbacks as the coroutine methods that battery.py calls; mixed into both protocols."""

    fragments = True

    def onOpen(self):
        self.inbox, self.pongs, self.closed = DeferredQueue(), DeferredQueue(), Deferred()
        work = Deferred.fromCoroutine(self.factory.talk(self))
        work.addCallbacks(
            self.factory.finished, lambda failure: self.factory.done.called or self.factory.done.errback(failure)
        )

    def onMessage(self, payload, isBinary):
        self.inbox.put(payload if isBinary else payload.decode())

    def onPong(self, payload):
        self.pongs.put(payload)

    def onClose(self, wasClean, code, reason):
        if not hasattr(self, "closed"):
            self.factory.done.errback(ConnectionError(f"the handshake failed: {reason}"))
            return
        self.inbox.put(None)
        self.pongs.put(None)
        self.outcome = (code, reason or "")
        self.closed.callback(self.outcome)

    async def send(self, message):
        binary = isinstance(message, bytes)
        self.sendMessage(message if binary else message.encode(), binary)

    async def send_fragments(self, pieces):
        self.beginMessage(isinstance(pieces[0], bytes))
        for piece in pieces:
            self.sendMessageFrame(piece if isinstance(piece, bytes) else piece.encode())
        self.endMessage()

    async def receive(self):
        message = await self.inbox.get()
        if message is None:
            raise ConnectionError(f"the connection ended: {self.outcome}")
        return message

    async def ping(self, payload):
        self.sendPing(payload)
        battery.same("pong", await self.pongs.get(), payload)

    async def close(self, code, reason):
        self.sendClose(code, reason or None)
        return await self.closed

    def negotiated(self):
        return bool(self.websocket_extensions_in_use)


class Client(Peer, WebSocketClientProtocol):
    pass


class Server(Peer, WebSocketServerProtocol):
    def onConnect(self, request):
        self.path = request.path
        return super().onConnect(request)


def client(reactor, url, deflate):
    async def talk(peer):
        battery.same("permessage-deflate in use", peer.negotiated(), deflate)
        await battery.echo(peer)
        return True

    factory = WebSocketClientFactory(url)
    factory.protocol, factory.talk = Client, talk
    if deflate:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        )
    connectWS(factory)
    return factory


def server(reactor, url, deflate):
    factory = WebSocketServerFactory()
    factory.protocol = Server
    factory.talk = lambda peer: battery.serve(peer, peer.path, peer.negotiated(), deflate)
    if deflate:
        factory.setProtocolOptions(perMessageCompressionAccept=lambda offers: PerMessageDeflateOfferAccept(offers[0]))
    battery.listening(reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port)
    return factory


def main(reactor):
    role, url, deflate = battery.arguments()
    done = Deferred()
    factory = {"client": client, "server": server}[role](reactor, url, deflate)
    factory.done = done
    factory.finished = lambda last: last and done.callback(None)
    return done


react(main)
