//! A connection: the state behind a `Transport`, and what the loop does with it.
//!
//! Nothing in `transport.rs`, which is what handles call, runs user code; everything that does is here or in
//! `dispatch.rs`, and is called from the loop alone.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use mio::Token;

use crate::address::Address;
use crate::core::Core;
use crate::dispatch::ProtocolSlot;
use crate::error::ConnectionLost;
use crate::failure::Failure;
use crate::outbox::Outbox;
use crate::producing::ProducerSlot;
use crate::stream::Stream;
use crate::timers::DelayedCall;
use crate::transport::{BufferLimits, Transport};
use crate::writing::SEND_NOW;

/// The life of a connection. `Ending` waits in the queue for its `connection_lost`.
///
/// ```text
///   Open --lose_connection--> Disconnecting --flushed--> Closed
///     \________________________/
///         abort, I/O error --> Ending --> Closed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Disconnecting,
    Ending,
    Closed,
}

/// Our sending half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteHalf {
    Open,
    /// `lose_write_connection` was called; what is queued goes first.
    Ending,
    Shut,
}

/// What waits in the queue for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Reading was resumed.
    Read,
    /// `switch_protocol` was called outside of a callback of the connection's own.
    Switch,
    OutputHigh,
    /// A push producer was registered while the output was high.
    PauseProducer,
    OutputDrained,
    /// A pull producer's turn.
    Pull,
    /// Registered on a connection that is gone, or the like.
    StopProducer,
    /// `lose_write_connection`: shut the sending half once all is flushed.
    ShutWrite,
    /// `lose_connection`: finish once all is flushed.
    Close,
    /// `Phase::Ending`: finish now.
    End,
}

/// What a poller, real or in memory, says of a source.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer's FIN or an error is behind what is still to be read.
    pub(crate) ended: bool,
    pub(crate) error: bool,
}

/// Who wants to know, beside the protocol, that a connection is over.
pub(crate) trait Owner {
    fn connection_over(&self, reason: &Failure);
}

pub(crate) struct Conn {
    core: Weak<Core>,
    pub(crate) token: Cell<Token>,
    pub(crate) peer: Address,
    pub(crate) phase: Cell<Phase>,
    pub(crate) write_half: Cell<WriteHalf>,
    pub(crate) paused: Cell<bool>,
    pub(crate) read_ended: Cell<bool>,
    pub(crate) readable: Cell<bool>,
    pub(crate) end_in_sight: Cell<bool>,
    /// Something comes before the next plain read: one of the two below.
    pub(crate) detour: Cell<bool>,
    pub(crate) has_unread: Cell<bool>,
    /// The protocol reads for itself.
    pub(crate) delegated: Cell<bool>,
    pub(crate) writable: Cell<bool>,
    /// On the list of those to be read again in the next turn.
    pub(crate) waiting: Cell<bool>,
    /// On the turn's list of connections to flush, or about to be flushed anyhow.
    pub(crate) listed: Cell<bool>,
    pub(crate) output_high: Cell<bool>,
    /// `output_high` was told, and no `output_drained` since.
    pub(crate) told_high: Cell<bool>,
    /// `Delivery::OutputDrained` is on its way.
    pub(crate) drain_due: Cell<bool>,
    /// `output_drained` was asked for.
    pub(crate) drain_awaited: Cell<bool>,
    /// Something waits for the output to drain: a producer, a close, a watermark.
    pub(crate) watched: Cell<bool>,
    pub(crate) abortive: Cell<bool>,
    pub(crate) stream: RefCell<Option<Box<dyn Stream>>>,
    pub(crate) out: RefCell<Outbox>,
    pub(crate) protocol: ProtocolSlot,
    /// Received, but to be delivered later: given back with `unread`, or left over for a new protocol.
    pub(crate) unread: Cell<Option<Box<[u8]>>>,
    pub(crate) producer: ProducerSlot,
    pub(crate) limits: Cell<BufferLimits>,
    /// With more than this queued, `write` has more to do than to queue.
    pub(crate) much: Cell<usize>,
    pub(crate) close_timeout: Cell<Patience>,
    pub(crate) write_timeout: Cell<Patience>,
    pub(crate) close_timer: Cell<Option<DelayedCall>>,
    pub(crate) stall_timer: Cell<Option<DelayedCall>>,
    pub(crate) bytes_sent: Cell<u64>,
    /// The reason of the end: while it is open, of one that is known and waits until what has come has been read.
    ending: Cell<Option<Box<Failure>>>,
    pub(crate) owner: Cell<Option<Rc<dyn Owner>>>,
}

/// A timeout in few bytes, since every connection has two: milliseconds, up to seven weeks.
#[derive(Clone, Copy)]
pub(crate) struct Patience(u32);

impl Patience {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self(timeout.map_or(u32::MAX, |timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)))
    }

    /// `None`: without end.
    pub(crate) fn limit(self) -> Option<Duration> {
        (self.0 != u32::MAX).then(|| Duration::from_millis(self.0.into()))
    }
}

/// How long a closing connection may take to flush: Twisted waits for ever, and a peer that does not read keeps it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

impl Conn {
    pub(crate) fn open(
        core: &Rc<Core>,
        peer: Address,
        protocol: ProtocolSlot,
        owner: Option<Rc<dyn Owner>>,
    ) -> Transport {
        Transport::from_conn(Rc::new(Self {
            core: Rc::downgrade(core),
            token: Cell::new(Token(usize::MAX - 2)),
            peer,
            phase: Cell::new(Phase::Open),
            write_half: Cell::new(WriteHalf::Open),
            paused: Cell::new(false),
            read_ended: Cell::new(false),
            readable: Cell::new(false),
            end_in_sight: Cell::new(false),
            detour: Cell::new(false),
            has_unread: Cell::new(false),
            delegated: Cell::new(false),
            writable: Cell::new(true),
            waiting: Cell::new(false),
            listed: Cell::new(false),
            output_high: Cell::new(false),
            told_high: Cell::new(false),
            drain_due: Cell::new(false),
            drain_awaited: Cell::new(false),
            watched: Cell::new(false),
            abortive: Cell::new(false),
            stream: RefCell::new(None),
            out: RefCell::default(),
            protocol,
            unread: Cell::default(),
            producer: ProducerSlot::default(),
            limits: Cell::default(),
            much: Cell::new(SEND_NOW),
            close_timeout: Cell::new(Patience::new(Some(CLOSE_TIMEOUT))),
            write_timeout: Cell::new(Patience::new(None)),
            close_timer: Cell::default(),
            stall_timer: Cell::default(),
            bytes_sent: Cell::new(0),
            ending: Cell::default(),
            owner: Cell::new(owner),
        }))
    }

    pub(crate) fn core(&self) -> Option<Rc<Core>> {
        self.core.upgrade()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase.get(), Phase::Ending | Phase::Closed)
    }

    /// Whether `write` still queues: until the sending half is shut, and while a closing connection drains.
    #[inline]
    pub(crate) fn accepts_output(&self) -> bool {
        !self.is_over() && self.write_half.get() != WriteHalf::Shut
    }

    pub(crate) fn wants_input(&self) -> bool {
        let open = self.phase.get() == Phase::Open && !self.read_ended.get();
        open && !self.paused.get() && !self.has_unread.get()
    }

    /// Keeps bytes to be delivered before anything that is read later.
    pub(crate) fn keep_unread(&self, data: &[u8]) {
        let mut kept = data.to_vec();
        kept.extend(self.unread.take().into_iter().flatten());
        self.unread.set(Some(kept.into()));
        self.has_unread.set(true);
        self.detour.set(true);
    }

    /// Notes that the connection is to end for `reason`; the queue does the rest.
    pub(crate) fn end(&self, transport: &Transport, reason: Failure, abortive: bool) {
        if self.is_over() {
            return;
        }
        self.phase.set(Phase::Ending);
        self.abortive.set(abortive);
        if abortive {
            self.paused.set(true); // a protocol that has more to deliver stops there
        }
        self.ending.set(Some(Box::new(reason)));
        self.out.borrow_mut().clear();
        transport.enqueue(Delivery::End);
    }

    /// Why the connection is broken, if sending has told.
    pub(crate) fn broken(&self) -> Option<Failure> {
        if self.is_over() { None } else { self.ending.take().map(|reason| *reason) }
    }

    pub(crate) fn is_broken(&self) -> bool {
        let reason = self.ending.take();
        let broken = reason.is_some() && !self.is_over();
        self.ending.set(reason);
        broken
    }

    /// A panic in a callback is the reason even where an abort came first (P117).
    pub(crate) fn override_reason(&self, reason: &Failure) {
        if self.phase.get() == Phase::Ending {
            self.ending.set(Some(Box::new(reason.clone())));
        }
    }

    /// Frees what would keep a cycle alive, without telling anybody: the reactor itself is gone.
    pub(crate) fn dismantle(&self) {
        self.phase.set(Phase::Closed);
        drop(self.stream.take());
        drop(self.owner.take());
        drop(self.producer.unregister());
        self.protocol.discard();
    }
}

impl Transport {
    /// The connection is there: `connection_made`, and what that wrote is sent.
    pub(crate) fn start(&self, core: &Rc<Core>, token: Token, stream: Box<dyn Stream>) {
        self.attach(token, stream);
        self.made(core);
    }

    pub(crate) fn attach(&self, token: Token, stream: Box<dyn Stream>) {
        self.conn().token.set(token);
        *self.conn().stream.borrow_mut() = Some(stream);
    }

    pub(crate) fn made(&self, core: &Rc<Core>) {
        self.callback(core, super::protocol::Protocol::connection_made);
    }

    /// The poller has something to say.
    #[inline(always)]
    pub(crate) fn on_event(&self, core: &Rc<Core>, event: Readiness) {
        let conn = self.conn();
        if event.writable {
            conn.writable.set(true);
            if !conn.out.borrow().is_empty() {
                self.flush();
            }
        }
        if event.ended {
            conn.end_in_sight.set(true);
        }
        if event.error && (conn.read_ended.get() || conn.phase.get() != Phase::Open) {
            self.look_for_error();
        }
        if event.readable || event.ended {
            conn.readable.set(true);
            if !conn.waiting.get() {
                self.read_and_reply(core);
            }
        }
    }

    /// A send failed: the peer is gone, but what it sent before that is read first, as Twisted does.
    #[cold]
    pub(crate) fn send_failed(&self, error: io::Error) {
        let conn = self.conn();
        let reads = conn.phase.get() == Phase::Open && !conn.read_ended.get() && !conn.paused.get();
        if !reads {
            return self.lost(error);
        }
        conn.ending.set(Some(Box::new(self.reason(error))));
        conn.out.borrow_mut().clear();
        conn.write_half.set(WriteHalf::Shut);
        conn.readable.set(true);
        conn.end_in_sight.set(true);
        self.enqueue(Delivery::Read);
    }

    fn reason(&self, error: io::Error) -> Failure {
        let known = self.conn().stream.borrow_mut().as_mut().and_then(|stream| stream.reason());
        known.unwrap_or_else(|| Failure::new(ConnectionLost::from(error)))
    }

    pub(crate) fn lost(&self, error: io::Error) {
        self.conn().end(self, self.reason(error), false);
    }

    /// A producer's panic is its connection's end.
    pub(crate) fn heed(&self, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            self.abort_with(failure);
        }
    }

    /// One delivery from the queue.
    pub(crate) fn on_delivery(&self, core: &Rc<Core>, delivery: Delivery) {
        let conn = self.conn();
        match delivery {
            Delivery::Read if conn.waiting.get() => {} // it is read in the next turn
            Delivery::Read => self.read_and_reply(core),
            Delivery::Switch => self.switch_if_asked(core),
            Delivery::End => {
                let reason = conn.ending.take();
                self.finish(core, &reason.map_or_else(|| Failure::new(ConnectionLost::new()), |reason| *reason));
            }
            Delivery::Close => self.close_if_flushed(core),
            Delivery::ShutWrite => self.shut_write_if_flushed(core),
            Delivery::StopProducer => conn.producer.stop(),
            Delivery::Pull => {
                if !conn.is_over() {
                    let room = conn.out.borrow().is_empty();
                    self.heed(conn.producer.pull(room));
                }
            }
            Delivery::PauseProducer => {
                if conn.output_high.get() && !conn.is_over() {
                    self.heed(conn.producer.pause());
                }
            }
            Delivery::OutputHigh => {
                if conn.output_high.get() && !conn.is_over() {
                    self.heed(conn.producer.pause());
                    if !conn.told_high.replace(true) {
                        self.callback(core, super::protocol::Protocol::output_high);
                    }
                }
            }
            Delivery::OutputDrained => {
                conn.drain_due.set(false);
                if !conn.output_high.get() && !conn.is_over() {
                    conn.told_high.set(false);
                    self.callback(core, super::protocol::Protocol::output_drained);
                    // a protocol that asks for it again has more that is to go first
                    if !conn.output_high.get() && !conn.drain_awaited.get() && conn.phase.get() == Phase::Open {
                        self.heed(conn.producer.resume());
                    }
                }
            }
        }
    }
}
