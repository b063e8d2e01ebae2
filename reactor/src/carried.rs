//! Transports that stand on another protocol's connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use crate::address::Address;
use crate::conn::{Conn, Delivery};
use crate::core::Source;
use crate::dispatch::ProtocolSlot;
use crate::failure::Failure;
use crate::listen::both;
use crate::protocol::Protocol;
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::transport::Transport;

/// What a record takes in memory at least, roughly: it is a buffer of its own, and an entry in a queue.
const RECORD: usize = 64;

/// What a [`Carried`] connection stands on, such as a WebSocket whose messages it is. Methods of handles call it, so
/// that it must not run user code: it may use other handles.
pub trait Carrier: 'static {
    /// Whether it takes a record now. After it has said no, it is to call [`Carried::ready`] when it does again.
    fn is_ready(&self) -> bool;

    /// Takes a record: what one `write` of the carried protocol wrote.
    fn send(&mut self, record: &[u8]);

    /// All that was [received](Carried::received) has been read.
    fn drained(&mut self);

    /// The carried connection is over, or has no more to send; may come more than once. `abort`: at once.
    fn close(&mut self, abort: bool);

    /// Our own end's address.
    ///
    /// # Errors
    /// The system's, or that there is none.
    fn host(&self) -> io::Result<Address>;
}

/// A connection inside another one: a [`Protocol`] with a [`Transport`] of its own, whose bytes another protocol
/// carries. It is what Twisted does with a transport that wraps a transport (`ProtocolWrapper`). This is the handle for
/// the one that carries; dropping it ends nothing.
///
/// Each `write` of the carried protocol is one record, as long as the others: nothing is put together, so that a carrier
/// of messages can make it a message. Writing is bounded by [`BufferLimits`](crate::BufferLimits), as with sockets, and
/// by 16,384 records that wait.
#[derive(Clone)]
pub struct Carried {
    transport: Transport,
    incoming: Rc<RefCell<Incoming>>,
}

#[derive(Default)]
struct Incoming {
    records: VecDeque<Vec<u8>>,
    /// Bytes already read of the first.
    read: usize,
    /// Bytes of all, as [`Carried::waiting`] counts them.
    waiting: usize,
    /// Why there will be no more.
    ended: Option<Failure>,
}

impl Carried {
    /// Makes the connection; `connection_made` comes from the reactor's queue.
    pub fn new(reactor: &Reactor, peer: Address, protocol: impl Protocol, carrier: impl Carrier) -> Self {
        let core = &reactor.core;
        let incoming = Rc::new(RefCell::new(Incoming::default()));
        let stream = Box::new(CarriedStream { incoming: incoming.clone(), carrier, abortive: false });
        let transport = Conn::open(core, peer, ProtocolSlot::new(Box::new(protocol)), None);
        transport.attach(transport.conn().token.get(), stream);
        // there is always more to be read until it says that there is not
        transport.conn().end_in_sight.set(true);
        transport.conn().much.set(0);
        let mut unmade = Unmade(Some(transport.clone()));
        core.call_soon(Box::new(move |reactor| {
            let Some(this) = unmade.0.take() else { return };
            // a source from here on: a reactor that stops ends nothing that was not made
            match reactor.core.add(Source::Connection(this.clone()), None, both()) {
                Ok(token) => this.conn().token.set(token),
                Err(error) => log::error!("{error}"),
            }
            this.made(&reactor.core);
        }));
        Self { transport, incoming }
    }

    /// The carried protocol's transport.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Hands the carried protocol a record, from the reactor's queue: in one piece, if it is not longer than a read
    /// (256 KiB). How much waits is for the carrier to look at: see [`waiting`](Self::waiting).
    pub fn received(&self, record: &[u8]) {
        if record.is_empty() || !self.transport.is_connected() {
            return;
        }
        let mut incoming = self.incoming.borrow_mut();
        incoming.waiting += record.len().max(RECORD);
        incoming.records.push_back(record.to_vec());
        drop(incoming);
        self.wake();
    }

    /// Bytes received and not read yet; a short record counts as 64, for it takes no less memory. They grow while the
    /// carried protocol has paused reading: a carrier stops its own peer then, until [`Carrier::drained`].
    pub fn waiting(&self) -> usize {
        self.incoming.borrow().waiting
    }

    /// The carrier takes records again: what waits is sent.
    pub fn ready(&self) {
        self.transport.conn().writable.set(true);
        self.transport.flush();
    }

    /// The carrier's connection is over: once what was received has been read, the carried one is, for this reason. One
    /// that closes reads no more, and is over.
    pub fn end(&self, reason: Failure) {
        self.incoming.borrow_mut().ended.get_or_insert(reason);
        if self.transport.disconnecting() {
            return self.transport.enqueue(Delivery::Close);
        }
        self.transport.conn().writable.set(true); // what waits will never be taken, and nobody is to wait for that
        self.wake();
    }

    fn wake(&self) {
        self.transport.conn().readable.set(true);
        self.transport.enqueue(Delivery::Read);
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carried({}, {} bytes waiting)", self.transport.peer(), self.waiting())
    }
}

/// One that waits to be made, and never is if its reactor is dropped before: it was no source of it.
struct Unmade(Option<Transport>);

impl Drop for Unmade {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            transport.conn().dismantle();
        }
    }
}

struct CarriedStream<C: Carrier> {
    incoming: Rc<RefCell<Incoming>>,
    carrier: C,
    abortive: bool,
}

impl<C: Carrier> Stream for CarriedStream<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.borrow_mut();
        let Some(record) = incoming.records.front() else {
            let over = incoming.ended.is_some();
            return Err(if over { ErrorKind::NotConnected } else { ErrorKind::WouldBlock }.into());
        };
        let rest = &record[incoming.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        let all = count == rest.len();
        incoming.read += count;
        if all {
            incoming.waiting -= incoming.read.max(RECORD);
            incoming.read = 0;
            incoming.records.pop_front();
        }
        let drained = incoming.records.is_empty();
        drop(incoming);
        if drained {
            self.carrier.drained();
        }
        Ok(count)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let incoming = self.incoming.borrow();
        if incoming.ended.is_some() {
            // what came before the end is still to be read: until then it goes nowhere
            let over = incoming.records.is_empty();
            return if over { Err(ErrorKind::NotConnected.into()) } else { Ok(data.len()) };
        }
        drop(incoming);
        if !self.carrier.is_ready() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.carrier.send(data);
        Ok(data.len())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.carrier.close(false);
        Ok(())
    }

    fn end(&mut self) -> Option<io::Result<()>> {
        let incoming = self.incoming.borrow();
        let over = incoming.records.is_empty() && incoming.ended.is_some();
        over.then(|| Err(ErrorKind::NotConnected.into()))
    }

    fn take_error(&mut self) -> Option<io::Error> {
        None
    }

    fn reason(&mut self) -> Option<Failure> {
        self.incoming.borrow_mut().ended.take()
    }

    fn keeps_records(&self) -> bool {
        true
    }

    fn set_abortive(&mut self) {
        self.abortive = true;
    }

    fn closed(&mut self) {
        self.carrier.close(self.abortive);
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn host(&self) -> io::Result<Address> {
        self.carrier.host()
    }

    fn nodelay(&self) -> io::Result<bool> {
        Err(ErrorKind::Unsupported.into())
    }

    fn set_nodelay(&mut self, _: bool) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn keepalive(&self) -> io::Result<bool> {
        Err(ErrorKind::Unsupported.into())
    }

    fn set_keepalive(&mut self, _: bool) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}
