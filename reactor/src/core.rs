//! The reactor's state: what all handles of one reactor share.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::event::Source as MioSource;
use mio::{Interest, Poll, Registry, Token};
use slab::Slab;

use crate::clock::Time;
use crate::connect::{Attempt, Connector};
use crate::deferred::Tasks;
use crate::factory::FactoryCounts;
use crate::listen::Port;
use crate::reactor::Reactor;
use crate::testing::MemoryDriver;
use crate::thread::{Mailbox, Returns, ThreadPool};
use crate::timers::Timers;
use crate::transport::Transport;
use crate::triggers::Triggers;

/// One `recv` takes at most this much (but for a protocol that reads for itself): large enough that calls are few, small
/// enough for the L2 cache.
pub(crate) const READ_BUFFER: usize = 256 * 1024;

/// Tokens of the reactor's own sources; a slab key never comes near them.
pub(crate) const WAKER: Token = Token(usize::MAX);
pub(crate) const SIGNALS: Token = Token(usize::MAX - 1);

/// Something with a token.
#[derive(Clone)]
pub(crate) enum Source {
    Connection(Transport),
    Port(Rc<Port>),
    Attempt(Rc<Attempt>),
}

/// A call that waits in the queue.
pub(crate) type Call = Box<dyn FnOnce(&Reactor)>;

/// A delivery that waits for the callback on the stack to return.
pub(crate) enum Task {
    Call(Call),
    Connection(Transport, crate::conn::Delivery),
}

/// How far `run` is: forward only, from one line to the next; `Starting` may be told to stop, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody runs it.
    Idle,
    /// The loop turns; the triggers before startup are being waited for.
    Starting,
    Running,
    /// It was told to stop: the loop turns on; the triggers before shutdown are being waited for.
    Stopping,
    /// The loop is left at the end of the turn, and everything closed.
    Leaving,
}

pub(crate) enum Driver {
    Poll { poll: Box<RefCell<Poll>>, registry: Registry },
    Memory(MemoryDriver),
}

pub(crate) struct Core {
    pub(crate) driver: Driver,
    pub(crate) time: Time,
    sources: RefCell<Slab<(u32, Source)>>,
    generation: Cell<u32>,
    pub(crate) timers: RefCell<Timers>,
    /// The one queue: two would reorder `peer.post(..)` and `peer.resume_producing()`.
    pub(crate) queue: RefCell<VecDeque<Task>>,
    /// Whether anything may be in the queue or on the lists below: one look a turn where there is nothing.
    pub(crate) pending: Cell<bool>,
    /// Connections written to by others in this turn; flushed once at its end.
    dirty: RefCell<Vec<Transport>>,
    /// Sources that had more to give than one turn may take.
    ready: RefCell<Vec<Source>>,
    /// The list above as it was when the turn began.
    serving: RefCell<Vec<Source>>,
    /// Lent to each connection that reads. Only the loop reads, so that nobody else can want it meanwhile.
    pub(crate) read_buffer: RefCell<Vec<u8>>,
    /// Lent to each connection while it replies, so that one with nothing queued owns no buffer.
    pub(crate) spare_outbox: RefCell<Vec<u8>>,
    pub(crate) factories: FactoryCounts,
    /// Connectors with an attempt under way, whether a source stands for it or a name is being resolved.
    pub(crate) connecting: RefCell<HashMap<*const (), Connector>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) pool: ThreadPool,
    pub(crate) returns: Returns,
    pub(crate) tasks: Tasks,
    pub(crate) stage: Cell<Stage>,
    pub(crate) triggers: Triggers,
    /// Everything is being ended: nothing new begins.
    pub(crate) ending: Cell<bool>,
    pub(crate) signals: Cell<bool>,
}

impl Core {
    pub(crate) fn new(driver: Driver, time: Time, mailbox: Mailbox) -> Rc<Self> {
        Rc::new(Self {
            driver,
            time,
            sources: RefCell::default(),
            generation: Cell::new(0),
            timers: RefCell::default(),
            queue: RefCell::default(),
            pending: Cell::new(false),
            dirty: RefCell::default(),
            ready: RefCell::default(),
            serving: RefCell::default(),
            read_buffer: RefCell::default(),
            spare_outbox: RefCell::default(),
            factories: FactoryCounts::default(),
            connecting: RefCell::default(),
            mailbox: Arc::new(mailbox),
            pool: ThreadPool::default(),
            returns: Returns::default(),
            tasks: Tasks::default(),
            stage: Cell::new(Stage::Idle),
            triggers: Triggers::default(),
            ending: Cell::new(false),
            signals: Cell::new(true),
        })
    }

    pub(crate) fn push(&self, task: Task) {
        self.pending.set(true);
        self.queue.borrow_mut().push_back(task);
    }

    /// Notes a connection to be flushed at the end of the turn.
    pub(crate) fn push_dirty(&self, transport: Transport) {
        self.pending.set(true);
        self.dirty.borrow_mut().push(transport);
    }

    pub(crate) fn take_dirty(&self) -> Vec<Transport> {
        std::mem::take(&mut *self.dirty.borrow_mut())
    }

    /// Gives the emptied list back, so that its memory is used again.
    pub(crate) fn reuse_dirty(&self, list: Vec<Transport>) {
        let mut dirty = self.dirty.borrow_mut();
        if dirty.is_empty() {
            *dirty = list;
        }
    }

    /// Notes a source to be served in the next turn though no event will say so.
    pub(crate) fn push_ready(&self, source: Source) {
        self.pending.set(true);
        self.ready.borrow_mut().push(source);
    }

    /// A turn begins: what was noted until now is served in it, what is noted in it in the next.
    #[cold]
    pub(crate) fn begin_serving(&self) {
        self.serving.swap(&self.ready);
    }

    pub(crate) fn next_served(&self) -> Option<Source> {
        self.serving.borrow_mut().pop()
    }

    pub(crate) fn forget_lists(&self) {
        drop((self.ready.take(), self.serving.take(), self.dirty.take()));
    }

    /// Whether nothing but I/O and timers is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = self.queue.borrow().is_empty()
            && self.ready.borrow().is_empty()
            && self.dirty.borrow().is_empty()
            && self.mailbox.is_empty();
        self.pending.set(!idle);
        idle
    }

    pub(crate) fn call_soon(&self, call: Call) {
        self.push(Task::Call(call));
    }

    /// Gives a source a token (slot and generation: an event for a slot that was reused since is nobody's) and, if it
    /// has something to poll, registers that, once for all: edge-triggered, readable and writable.
    pub(crate) fn add(&self, source: Source, mio: Option<&mut dyn MioSource>, interest: Interest) -> io::Result<Token> {
        let generation = self.generation.get().wrapping_add(1) & 0x7fff_ffff;
        self.generation.set(generation);
        let key = self.sources.borrow_mut().insert((generation, source));
        let token = Token((generation as usize) << 32 | key);
        if let (Driver::Poll { registry, .. }, Some(mio)) = (&self.driver, mio) {
            if let Err(error) = mio.register(registry, token, interest) {
                drop(self.remove(token));
                return Err(error);
            }
        }
        Ok(token)
    }

    /// Puts another source in the place of the one that `token` names: a connected attempt becomes a connection.
    pub(crate) fn replace(&self, token: Token, source: Source) -> Option<Source> {
        let mut sources = self.sources.borrow_mut();
        let slot = sources.get_mut(key_of(token)).filter(|slot| slot.0 == generation_of(token))?;
        Some(std::mem::replace(&mut slot.1, source))
    }

    pub(crate) fn remove(&self, token: Token) -> Option<Source> {
        let mut sources = self.sources.borrow_mut();
        let current = sources.get(key_of(token)).is_some_and(|slot| slot.0 == generation_of(token));
        current.then(|| sources.remove(key_of(token)).1)
    }

    #[inline]
    pub(crate) fn source(&self, token: Token) -> Option<Source> {
        let sources = self.sources.borrow();
        let (generation, source) = sources.get(key_of(token))?;
        (*generation == generation_of(token)).then(|| source.clone())
    }

    pub(crate) fn all_sources(&self) -> Vec<Source> {
        self.sources.borrow().iter().map(|(_, (_, source))| source.clone()).collect()
    }
}

/// A reactor dropped without having run to its end closes what it had, and breaks the cycles through it.
impl Drop for Core {
    fn drop(&mut self) {
        self.mailbox.close();
        for (_, (_, source)) in std::mem::take(&mut *self.sources.borrow_mut()) {
            match source {
                Source::Connection(transport) => transport.conn().dismantle(),
                Source::Attempt(attempt) => attempt.dismantle(),
                Source::Port(_) => {}
            }
        }
        // whoever keeps the handle of a call may be kept by the call
        let calls = self.timers.borrow_mut().take_all();
        calls.for_each(|call| drop(call.fire()));
    }
}

fn key_of(token: Token) -> usize {
    token.0 & 0xffff_ffff
}

fn generation_of(token: Token) -> u32 {
    (token.0 >> 32) as u32
}
