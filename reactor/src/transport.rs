//! `Transport`: the handle of a connection.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::address::Address;
use crate::conn::{Conn, Delivery, Patience, Phase, WriteHalf};
use crate::core::Task;
use crate::error::ConnectionAborted;
use crate::failure::Failure;
use crate::producer::{Producer, Streaming};
use crate::protocol::ProtocolHandle;
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::writing::SEND_NOW;

/// How much output a transport queues before it says so, and before it gives up. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// Above this a push producer is paused and [`Protocol::output_high`](crate::Protocol::output_high) is called.
    /// Default 64 KiB, as in Twisted.
    pub high: usize,
    /// At or below this, after `high`, the producer is resumed and
    /// [`Protocol::output_drained`](crate::Protocol::output_drained) is called. Default 0, as in Twisted.
    pub low: usize,
    /// A write that would make the queue longer than this, with something queued already, aborts the connection with
    /// [`BufferOverflow`](crate::BufferOverflow). Default 64 MiB: Twisted has no limit, and its programs write whole
    /// files at once; a server that sends to peers it does not trust sets less. (One write alone, with nothing queued,
    /// is never refused: its bytes exist already.)
    pub cap: usize,
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self { high: 64 * 1024, low: 0, cap: 64 * 1024 * 1024 }
    }
}

/// A connection's handle: `ITCPTransport`. Cheap to clone, equal to its clones and to nothing else.
///
/// No method runs user code before it returns, so all may be called from anywhere, under any borrow. It stays valid for
/// ever: once the connection is gone its methods do nothing.
#[derive(Clone)]
pub struct Transport(Rc<Conn>);

impl Transport {
    pub(crate) fn from_conn(conn: Rc<Conn>) -> Self {
        Self(conn)
    }

    #[inline]
    pub(crate) fn conn(&self) -> &Conn {
        &self.0
    }

    pub(crate) fn enqueue(&self, delivery: Delivery) {
        if let Some(core) = self.0.core() {
            core.push(Task::Connection(self.clone(), delivery));
        }
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn buffered(&self) -> usize {
        self.0.out.borrow().len()
    }

    /// Bytes that the kernel has taken so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent.get()
    }

    /// Whether the kernel has refused some of the output: what is queued waits for the peer, not for the turn's end.
    pub fn is_blocked(&self) -> bool {
        !self.0.writable.get() && self.buffered() > 0
    }

    /// Asks for [`Protocol::output_drained`](crate::Protocol::output_drained) when the output is at or below
    /// [`BufferLimits::low`], whether or not it was high; where it is blocked, after the peer has taken some of it. In
    /// `output_drained` it says that there is more to go first: a push producer is resumed after one in which this was
    /// not called.
    pub fn notify_drained(&self) {
        if self.0.is_over() || self.0.drain_awaited.replace(true) {
            return;
        }
        self.0.watched.set(true);
        if self.buffered() <= self.0.limits.get().low && !self.is_blocked() {
            self.drained();
        }
    }

    /// Sets the output limits; they hold for what is queued already, too.
    pub fn set_buffer_limits(&self, limits: BufferLimits) {
        self.0.limits.set(limits);
        self.0.much.set(if self.keeps_records() { 0 } else { limits.high.min(SEND_NOW) });
        if self.buffered() > limits.high {
            self.flush(); // as `write` does: what merely waits for the turn's end is not high
            self.look_whether_high();
        }
    }

    /// The output limits.
    pub fn buffer_limits(&self) -> BufferLimits {
        self.0.limits.get()
    }

    /// Stops reading, sends what is queued, closes; then `connection_lost` with
    /// [`ConnectionDone`](crate::ConnectionDone). Data written while it drains is sent too. It gives up after the
    /// [close timeout](Self::set_close_timeout).
    pub fn lose_connection(&self) {
        if self.0.phase.get() == Phase::Open {
            self.0.phase.set(Phase::Disconnecting);
            self.0.watched.set(true);
            self.enqueue(Delivery::Close);
        }
    }

    /// Drops the connection and what is queued, at once (TCP: with RST); then `connection_lost` with
    /// [`ConnectionAborted`].
    pub fn abort_connection(&self) {
        self.abort_with(Failure::new(ConnectionAborted::new()));
    }

    /// `abort_connection` with another reason.
    pub fn abort_with(&self, reason: Failure) {
        self.0.end(self, reason, true);
    }

    /// Closes our sending half once what is queued has been sent; then `write_connection_lost`. Reading goes on.
    pub fn lose_write_connection(&self) {
        if self.0.phase.get() == Phase::Open && self.0.write_half.get() == WriteHalf::Open {
            self.0.write_half.set(WriteHalf::Ending);
            self.0.watched.set(true);
            self.enqueue(Delivery::ShutWrite);
        }
    }

    /// How long `lose_connection` may take to flush before the connection is aborted: default 30 s; `None` waits for
    /// ever, as Twisted does.
    pub fn set_close_timeout(&self, timeout: Option<Duration>) {
        self.0.close_timeout.set(Patience::new(timeout));
        if let Some(armed) = self.0.close_timer.take() {
            let _ = armed.cancel();
        }
        if self.disconnecting() {
            self.enqueue(Delivery::Close); // which begins anew
        }
    }

    /// Aborts the connection when output waits and the peer takes, in a period of this length, neither all that waited
    /// when it began nor 256 bytes a second. Default `None`: never.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.0.write_timeout.set(Patience::new(timeout));
        if let Some(armed) = self.0.stall_timer.take() {
            let _ = armed.cancel();
        }
        if self.is_blocked() {
            self.watch_stall(self.buffered());
        }
    }

    /// Whether the connection is there and has not been told to end.
    pub fn is_connected(&self) -> bool {
        // where a send has failed nothing can be written, though what has come is still read
        self.0.phase.get() == Phase::Open && !(self.0.write_half.get() == WriteHalf::Shut && self.0.is_broken())
    }

    /// Whether `lose_connection` was called and output is still draining: Twisted's `disconnecting`.
    pub fn disconnecting(&self) -> bool {
        self.0.phase.get() == Phase::Disconnecting
    }

    /// Stops `data_received` until `resume_producing`. That the peer is gone is still noticed.
    pub fn pause_producing(&self) {
        self.0.paused.set(true);
        if self.0.is_broken() {
            self.enqueue(Delivery::Read); // which ends it
        }
    }

    /// Reads again; what has come meanwhile is delivered from the reactor's queue.
    pub fn resume_producing(&self) {
        if self.0.phase.get() == Phase::Open && self.0.paused.replace(false) {
            self.enqueue(Delivery::Read);
        }
    }

    /// Whether reading is paused.
    pub fn paused(&self) -> bool {
        self.0.paused.get()
    }

    /// Gives received bytes back: they come again, before anything else, from the reactor's queue or, while reading is
    /// paused, once it is resumed. For protocols that pause in the middle of what they were given; one that has taken
    /// all the bytes but not yet told all they said gives back none, and is called with none.
    pub fn unread(&self, data: &[u8]) {
        if self.0.is_over() {
            return;
        }
        self.0.keep_unread(data);
        if !self.paused() {
            self.enqueue(Delivery::Read);
        }
    }

    /// Lets the protocol do the next read itself, with [`Protocol::read_from`](crate::Protocol::read_from). For one
    /// read: it is to be asked for again.
    pub fn delegate_read(&self) {
        self.0.delegated.set(true);
        self.0.detour.set(true);
    }

    /// Lets `producer` feed this transport: paused above [`BufferLimits::high`], resumed at [`BufferLimits::low`], after
    /// `output_drained`. A [`Streaming::Pull`] producer is called once now (from the queue) and each time the output is
    /// empty. If the connection is gone, the producer is stopped.
    ///
    /// # Errors
    /// [`ProducerRegistered`] when another one was never unregistered.
    pub fn register_producer(&self, producer: impl Producer, streaming: Streaming) -> Result<(), ProducerRegistered> {
        if self.0.producer.is_registered() {
            return Err(ProducerRegistered);
        }
        self.0.producer.register(Box::new(producer), streaming);
        self.0.watched.set(true);
        if self.0.is_over() {
            self.enqueue(Delivery::StopProducer);
        } else if streaming == Streaming::Pull {
            self.ask_producer();
        } else if self.0.output_high.get() {
            self.enqueue(Delivery::PauseProducer);
        }
        Ok(())
    }

    /// The producer has no more to give. A closing connection that waited for it may close now.
    pub fn unregister_producer(&self) {
        if let Some(producer) = self.0.producer.unregister() {
            self.call_soon(move |_| drop(producer)); // not here: that is user code
        }
        match self.0.phase.get() {
            Phase::Disconnecting => self.enqueue(Delivery::Close),
            Phase::Open if self.0.write_half.get() == WriteHalf::Ending => self.enqueue(Delivery::ShutWrite),
            _ => {}
        }
    }

    /// The other end: `getPeer()`. Known for ever.
    pub fn peer(&self) -> &Address {
        &self.0.peer
    }

    /// This end: `getHost()`.
    ///
    /// # Errors
    /// `NotConnected` once the connection is gone, or what the OS says.
    pub fn host(&self) -> io::Result<Address> {
        self.with_stream(|stream| stream.host())
    }

    /// Whether small writes are sent without waiting for an acknowledgement (TCP_NODELAY). On by default, unlike in
    /// Twisted: the reactor sends once a turn, so that Nagle's algorithm could only delay.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn tcp_nodelay(&self) -> io::Result<bool> {
        self.with_stream(|stream| stream.nodelay())
    }

    /// Sets TCP_NODELAY.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn set_tcp_nodelay(&self, on: bool) -> io::Result<()> {
        self.with_stream(|stream| stream.set_nodelay(on))
    }

    /// Whether the kernel probes an idle peer (SO_KEEPALIVE). Off by default.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn tcp_keepalive(&self) -> io::Result<bool> {
        self.with_stream(|stream| stream.keepalive())
    }

    /// Sets SO_KEEPALIVE.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn set_tcp_keepalive(&self, on: bool) -> io::Result<()> {
        self.with_stream(|stream| stream.set_keepalive(on))
    }

    pub(crate) fn with_stream<R>(&self, f: impl FnOnce(&mut dyn Stream) -> io::Result<R>) -> io::Result<R> {
        let mut stream = self.0.stream.borrow_mut();
        stream.as_mut().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |stream| f(&mut **stream))
    }

    /// The connection's protocol, for use from a timer, a Deferred or another connection.
    pub fn protocol<P: 'static>(&self) -> ProtocolHandle<P> {
        ProtocolHandle::new(self.clone())
    }

    /// Calls `f` from the reactor's queue, in this turn or the next: what is to be done once a turn is put together so.
    /// It is dropped if the reactor is gone. ([`Reactor::call_when_running`] waits for the startup; this does not.)
    pub fn call_soon(&self, f: impl FnOnce(&Reactor) + 'static) {
        self.0.call_soon(Box::new(f));
    }

    /// The reactor that serves this connection.
    ///
    /// # Panics
    /// When that reactor has been dropped, which cannot be inside a callback.
    pub fn reactor(&self) -> Reactor {
        match self.0.core() {
            Some(core) => Reactor::from_core(core),
            None => panic!("the reactor of this transport has been dropped"),
        }
    }
}

impl Conn {
    pub(crate) fn call_soon(&self, call: Box<dyn FnOnce(&Reactor)>) {
        if let Some(core) = self.core() {
            core.call_soon(call);
        }
    }
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Transport {}

impl Hash for Transport {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({}, {:?})", self.0.peer, self.0.phase.get())
    }
}

/// [`Transport::register_producer`] found another producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerRegistered;

impl fmt::Display for ProducerRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot register a producer, because another one was never unregistered")
    }
}

impl std::error::Error for ProducerRegistered {}
