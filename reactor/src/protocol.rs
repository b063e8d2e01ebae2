//! `Protocol`: what a user writes, and `ProtocolHandle`: a protocol reached from elsewhere.

use std::any::{Any, TypeId};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use crate::failure::Failure;
use crate::timers::DelayedCall;
use crate::transport::Transport;

/// One connection's behaviour: `twisted.internet.protocol.Protocol`.
///
/// Callbacks come in this order: `connection_made`, any number of `data_received`, exactly one `connection_lost`. Each
/// starts from the reactor's loop, with no other callback on the stack, and is handed its own transport, so that the
/// smallest protocol has no fields. Only `data_received` must be written.
///
/// A panic in a callback ends this connection, with the panic as its reason, and no other.
///
/// ```
/// use twistor_reactor::{Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
///         transport.write(data);
///     }
/// }
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait Protocol: 'static {
    /// The connection is there. Writing is allowed from here on.
    fn connection_made(&mut self, transport: &Transport) {}

    /// Bytes have come, in order, cut anywhere; never none (but see [`Transport::unread`]). At most 256 KiB a call, one
    /// call a turn while other connections wait.
    fn data_received(&mut self, transport: &Transport, data: &[u8]);

    /// `data_received` for a protocol that decodes in place; it may overwrite `data`. The reactor calls this one, and
    /// its default calls `data_received`.
    fn data_received_mut(&mut self, transport: &Transport, data: &mut [u8]) {
        self.data_received(transport, data);
    }

    /// After [`Transport::delegate_read`], and in place of `data_received`: reads once from `source`, to wherever it
    /// wants the bytes to be, and deals with them. For a protocol that collects much and would only copy what it is
    /// given. The end of the stream and errors are the reactor's to deal with. The default does nothing, and the
    /// reactor reads.
    fn read_from(&mut self, transport: &Transport, source: &mut dyn io::Read) {}

    /// The peer has closed its sending half (FIN); nothing more will be received. The default closes our half too,
    /// after what is still queued has been sent. A protocol that overrides this is Twisted's `IHalfCloseableProtocol`:
    /// it may go on writing, and must call `lose_connection` in its own time.
    fn read_connection_lost(&mut self, transport: &Transport) {
        transport.lose_connection();
    }

    /// Our sending half is closed: all was flushed after `lose_write_connection`.
    fn write_connection_lost(&mut self, transport: &Transport) {}

    /// More than [`BufferLimits::high`](crate::BufferLimits::high) bytes are queued: write less.
    fn output_high(&mut self, transport: &Transport) {}

    /// The output has drained to [`BufferLimits::low`](crate::BufferLimits::low) after `output_high`.
    fn output_drained(&mut self, transport: &Transport) {}

    /// One of the callbacks above panicked. The default aborts the connection with the panic as its reason; a protocol
    /// that can say something to its peer first may do so, and then lose the connection.
    fn callback_panicked(&mut self, transport: &Transport, reason: &Failure) {
        transport.abort_with(reason.clone());
    }

    /// The connection is gone, for this reason; the last callback. The transport's methods do nothing any more.
    fn connection_lost(&mut self, transport: &Transport, reason: &Failure) {}

    /// For adapters: the protocol inside, so that [`Transport::protocol`] finds it. An adapter answers `Some` when
    /// `wanted` is the type of what it wraps, and asks that one otherwise.
    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        None
    }
}

/// A protocol of some type, and a way to that type.
pub(crate) trait AnyProtocol: Protocol {
    fn find(&mut self, wanted: TypeId) -> Option<&mut dyn Any>;
}

impl<P: Protocol> AnyProtocol for P {
    fn find(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(self) } else { self.inner(wanted) }
    }
}

/// Why [`ProtocolHandle::with`] could not call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithError {
    /// That protocol is on the stack: one of its callbacks is running. `post` waits for it.
    ProtocolBusy,
    /// The connection is over, or its protocol is (no longer) of that type.
    ProtocolGone,
}

impl fmt::Display for WithError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProtocolBusy => "the protocol is in the middle of a callback",
            Self::ProtocolGone => "the connection has no protocol of this type any more",
        })
    }
}

impl std::error::Error for WithError {}

/// The protocol of a connection, to be used later or from another connection: what `self` is in a Twisted callback.
///
/// Made by [`Transport::protocol`]; finds `P` through adapters and wrappers. Cheap to clone; keeps no connection alive
/// that has ended.
pub struct ProtocolHandle<P> {
    transport: Transport,
    protocol: PhantomData<fn(P)>,
}

impl<P: 'static> ProtocolHandle<P> {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, protocol: PhantomData }
    }

    /// The connection.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Calls into the protocol now: the one handle method that runs user code before it returns.
    ///
    /// # Errors
    /// [`WithError::ProtocolBusy`] when that protocol is on the stack, [`WithError::ProtocolGone`] when it is no more.
    pub fn with<R>(&self, f: impl FnOnce(&mut P, &Transport) -> R) -> Result<R, WithError> {
        self.transport.conn().with_protocol(|protocol| {
            let found = protocol.find(TypeId::of::<P>()).and_then(|any| any.downcast_mut::<P>());
            found.map(|protocol| f(protocol, &self.transport)).ok_or(WithError::ProtocolGone)
        })?
    }

    /// Calls into the protocol from the reactor's queue, in the order of the posts; not at all if it is gone by then.
    pub fn post(&self, f: impl FnOnce(&mut P, &Transport) + 'static) {
        let this = self.clone();
        self.transport.conn().call_soon(Box::new(move |_| {
            let _ = this.with(f); // gone by then: nobody to tell
        }));
    }

    /// `reactor.call_later` for a method of the protocol; it does nothing if the connection is over by then.
    pub fn call_later(&self, delay: Duration, f: impl FnOnce(&mut P, &Transport) + 'static) -> DelayedCall {
        let this = self.clone();
        self.transport.reactor().call_later(delay, move || {
            let _ = this.with(f);
        })
    }

    /// A closure that posts its argument to the protocol: `deferred.add_callback(handle.bind(|p, transport, value|
    /// ..))`.
    pub fn bind<A: 'static>(&self, f: impl FnOnce(&mut P, &Transport, A) + 'static) -> impl FnOnce(A) + 'static {
        let this = self.clone();
        move |argument| this.post(move |protocol, transport| f(protocol, transport, argument))
    }
}

impl<P> Clone for ProtocolHandle<P> {
    fn clone(&self) -> Self {
        Self { transport: self.transport.clone(), protocol: PhantomData }
    }
}

impl<P> fmt::Debug for ProtocolHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolHandle<{}>({:?})", std::any::type_name::<P>(), self.transport)
    }
}
