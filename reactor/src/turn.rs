//! One turn of the loop: poll; ready sources; timers; queue; flush.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry};

use crate::conn::Readiness;
use crate::core::{Core, Driver, SIGNALS, Source, Stage, Task};
use crate::dispatch::guarded;
use crate::error::{ConnectError, ConnectionLost, ReactorAlreadyRunning};
use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::signals::Signals;
use crate::timers::NAP;
use crate::triggers::SystemEvent;

/// Events taken from the poller at once; the rest come in the next turn.
const EVENTS_PER_TURN: usize = 1024;

/// Turns for which timers wait while the poller has more than that: what has come is read before somebody's time is up.
const FULL_TURNS: u32 = 16;

/// Queue entries per turn, over those that were there when it began (which all run): calls that calls make wait.
/// A burst from threads must not keep the sockets waiting for long: at ~100 ns a call this is a millisecond.
const CALLS_PER_TURN: usize = 10_000;

/// When everything is closed at the end of `run`, what that queues may queue more, so many times over.
const ROUNDS_AT_STOP: usize = 100;

pub(crate) fn run(core: &Rc<Core>) -> io::Result<()> {
    let Driver::Poll { poll, registry } = &core.driver else {
        return Err(io::Error::other("a MemoryReactor has no loop of its own: use settle() and advance()"));
    };
    if core.stage.get() != Stage::Idle {
        return Err(io::Error::other(ReactorAlreadyRunning::new()));
    }
    core.stage.set(Stage::Starting);
    let outcome = serve(core, &mut poll.borrow_mut(), registry);
    core.stage.set(Stage::Leaving); // if it is the poller that failed
    shut_down(core);
    core.stage.set(Stage::Idle);
    log::debug!("main loop terminated");
    outcome
}

fn serve(core: &Rc<Core>, poll: &mut Poll, registry: &Registry) -> io::Result<()> {
    let mut signals = if core.signals.get() { Some(Signals::install(registry)?) } else { None };
    core.begin(SystemEvent::Startup);
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let (mut patience, mut full_turns) = (Some(Duration::ZERO), 0);
    while core.stage.get() != Stage::Leaving {
        match poll.poll(&mut events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        if core.pending.get() {
            core.begin_serving();
        }
        for event in &events {
            let token = event.token();
            if let Some(source) = core.source(token) {
                core.on_event(&source, readiness(event));
            } else if let (SIGNALS, Some(signals)) = (token, &mut signals) {
                signals.on_event(core);
            } // else the waker's, which has done its work, or one for a source that is gone
        }
        let wait = || {
            let full = events.iter().count() == EVENTS_PER_TURN && full_turns < FULL_TURNS;
            full_turns = if full { full_turns + 1 } else { 0 };
            full
        };
        patience = core.finish_turn(!events.is_empty(), wait);
    }
    Ok(())
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        ended: event.is_read_closed() || event.is_error() || event.is_write_closed(),
        error: event.is_error(),
    }
}

impl Core {
    #[inline]
    pub(crate) fn on_event(self: &Rc<Self>, source: &Source, event: Readiness) {
        match source {
            Source::Connection(transport) => transport.on_event(self, event),
            Source::Port(port) => port.accept(self),
            Source::Attempt(attempt) => attempt.on_event(self, event),
        }
    }

    /// The rest of a turn, after its events: sources left over from the turn before, timers, queue, flushes. How long
    /// the poller may sleep then.
    #[inline]
    pub(crate) fn finish_turn(self: &Rc<Self>, busy: bool, wait: impl FnOnce() -> bool) -> Option<Duration> {
        if self.pending.get() {
            self.serve_again();
        }
        let mut now = self.run_timers(wait);
        if self.pending.get() || !self.mailbox.is_empty() {
            self.run_queue();
            self.flush_dirty();
            if !self.is_idle() {
                return Some(Duration::ZERO);
            }
            now = None; // that took time
        }
        let timers = self.timers.borrow();
        let deadline = timers.next_deadline()?;
        let now = now.unwrap_or_else(|| self.time.now());
        if busy && timers.is_far(now) {
            // the next event will come before; to know exactly how long there is would cost more than to look again
            return Some(NAP);
        }
        Some(deadline.saturating_duration_since(now))
    }

    #[cold]
    fn serve_again(self: &Rc<Self>) {
        while let Some(source) = self.next_served() {
            match source {
                Source::Connection(transport) => {
                    transport.conn().waiting.set(false);
                    transport.read_and_reply(self);
                }
                Source::Port(port) => port.accept_again(self),
                Source::Attempt(_) => {}
            }
        }
    }

    /// Runs the calls that are due, unless they are to `wait`; the time, if none was due and it had to be read.
    fn run_timers(&self, wait: impl FnOnce() -> bool) -> Option<Instant> {
        let soonest = self.timers.borrow().next_deadline()?;
        let now = self.time.now();
        if now < soonest {
            return Some(now);
        }
        if wait() {
            return None;
        }
        let before = self.timers.borrow().made();
        loop {
            let due = self.timers.borrow_mut().pop_due(now, before);
            if let Some(function) = due?.fire() {
                let _ = guarded("while handling a timed call", function);
            }
        }
    }

    /// Runs what the queue held when it began, within a bound.
    fn run_queue(self: &Rc<Self>) {
        if !self.mailbox.is_empty() {
            for call in self.mailbox.take() {
                self.call_soon(call);
            }
        }
        let count = self.queue.borrow().len().min(CALLS_PER_TURN);
        for _ in 0..count {
            let task = self.queue.borrow_mut().pop_front();
            match task {
                Some(Task::Connection(transport, delivery)) => transport.on_delivery(self, delivery),
                Some(Task::Call(call)) => {
                    let reactor = Reactor::from_core(self.clone());
                    let _ = guarded("while handling a queued call", || call(&reactor));
                }
                None => {}
            }
        }
    }

    /// Sends, once, what others wrote to a connection in this turn.
    fn flush_dirty(self: &Rc<Self>) {
        let mut list = self.take_dirty();
        for transport in list.drain(..) {
            transport.conn().listed.set(false);
            transport.flush();
        }
        self.reuse_dirty(list);
    }
}

/// What follows the loop: everything is closed, then the remaining triggers are called.
pub(crate) fn shut_down(core: &Rc<Core>) {
    close_all(core);
    core.complete(SystemEvent::Shutdown);
}

/// Whether nothing is left that callbacks, factories or threads have brought about.
fn is_at_rest(core: &Core) -> bool {
    core.queue.borrow().is_empty() && core.mailbox.is_empty() && core.connecting.borrow().is_empty()
}

fn has_connections(core: &Core) -> bool {
    core.all_sources().iter().any(|source| matches!(source, Source::Connection(_)))
}

fn stop_ports(core: &Rc<Core>) {
    for source in core.all_sources() {
        if let Source::Port(port) = source {
            port.stop(core);
        }
    }
}

/// Ends everything, each thing once, whatever the others' callbacks do: connections first, then what connects, then the
/// ports, so that a factory stops after its connections are lost.
fn close_all(core: &Rc<Core>) {
    core.ending.set(true);
    for _ in 0..ROUNDS_AT_STOP {
        for source in core.all_sources() {
            if let Source::Connection(transport) = source {
                transport.finish(core, &Failure::new(ConnectionLost::with_detail("Connection lost")));
            }
        }
        let connecting = std::mem::take(&mut *core.connecting.borrow_mut());
        for connector in connecting.into_values() {
            connector.fail(core, &Failure::new(ConnectError::with_detail("the reactor stopped")));
        }
        core.run_queue();
        if !is_at_rest(core) || has_connections(core) {
            continue;
        }
        stop_ports(core);
        if is_at_rest(core) && core.all_sources().is_empty() {
            break;
        }
    }
    stop_ports(core);
    core.run_queue(); // though others may go on for ever, as a thread that posts
    core.ending.set(false);
    core.forget_lists();
}
