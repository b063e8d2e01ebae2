//! What adapters around a `WebSocketProtocol` have in common.

use crate::message::Frame;
use crate::protocol::WebSocketProtocol;
use crate::socket::WebSocket;

/// In an adapter's `impl WebSocketProtocol`: hands the protocol in field `$inner` the callbacks that no adapter has
/// business with. The others (`negotiate`, `connection_made`, `connection_lost`, `inner`) it writes itself.
macro_rules! forward_callbacks {
    ($inner:ident) => {
        fn connecting(
            &mut self,
            peer: &twistor_reactor::Address,
            request: &$crate::handshake::ClientRequest,
        ) -> Option<$crate::handshake::ClientRequest> {
            self.$inner.connecting(peer, request)
        }

        fn handshake_accepted(&mut self, socket: &$crate::WebSocket, response: &$crate::handshake::Accepted) {
            self.$inner.handshake_accepted(socket, response);
        }

        #[inline]
        fn frame_received(&mut self, socket: &$crate::WebSocket, frame: $crate::Frame<'_>) {
            self.$inner.frame_received(socket, frame);
        }

        fn wants_pieces(&self) -> bool {
            self.$inner.wants_pieces()
        }

        fn piece_received(&mut self, socket: &$crate::WebSocket, piece: $crate::Piece<'_>) {
            self.$inner.piece_received(socket, piece);
        }

        fn ping_received(&mut self, socket: &$crate::WebSocket, payload: &[u8]) {
            self.$inner.ping_received(socket, payload);
        }

        fn pong_received(&mut self, socket: &$crate::WebSocket, payload: &[u8]) {
            self.$inner.pong_received(socket, payload);
        }

        fn close_received(&mut self, socket: &$crate::WebSocket, code: u16, reason: &str) {
            self.$inner.close_received(socket, code, reason);
        }

        fn output_high(&mut self, socket: &$crate::WebSocket) {
            self.$inner.output_high(socket);
        }

        fn output_drained(&mut self, socket: &$crate::WebSocket) {
            self.$inner.output_drained(socket);
        }
    };
}

pub(crate) use forward_callbacks;

/// Stands where a protocol has to be and none is yet.
pub(crate) struct Nobody;

impl WebSocketProtocol for Nobody {
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}
