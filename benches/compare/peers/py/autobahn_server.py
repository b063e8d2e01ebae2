"""autobahn-python on Twisted (epoll reactor, NVX): PORT echo|broadcast|deflate"""

import sys
from twisted.internet import epollreactor

epollreactor.install()
from twisted.internet import reactor
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
import autobahn.websocket as aw

port = int(sys.argv[1])
mode = sys.argv[2] if len(sys.argv) > 2 else "echo"


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


class Broadcast(WebSocketServerProtocol):
    def onOpen(self):
        self.factory.clients.add(self)

    def onClose(self, wasClean, code, reason):
        self.factory.clients.discard(self)

    def onMessage(self, payload, isBinary):
        f = self.factory
        m = f.prepareMessage(payload, isBinary)  # the framed message is built once
        for c in f.clients:
            c.sendPreparedMessage(m)


factory = WebSocketServerFactory("ws://127.0.0.1:%d" % port)
factory.protocol = Broadcast if mode == "broadcast" else Echo
factory.clients = set()
factory.setProtocolOptions(
    tcpNoDelay=True,
    autoPingInterval=0,
    openHandshakeTimeout=0,
    maxMessagePayloadSize=64 << 20,
    maxFramePayloadSize=64 << 20,
)
if mode == "deflate":

    def accept(offers):
        for o in offers:
            if isinstance(o, PerMessageDeflateOffer):
                return PerMessageDeflateOfferAccept(o, request_no_context_takeover=o.accept_no_context_takeover)

    factory.setProtocolOptions(perMessageCompressionAccept=accept)
reactor.listenTCP(port, factory, backlog=4096, interface="127.0.0.1")
print("listening on", port, type(reactor).__name__, "NVX", aw.USES_NVX, file=sys.stderr)
reactor.run()
