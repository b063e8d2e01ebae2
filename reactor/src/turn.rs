//! One turn of the loop: poll; ready sources; timers; queue; flush.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Registry};

use crate::conn::Readiness;
use crate::core::{Core, Driver, SIGNALS, Source, Task, WAKER};
use crate::dispatch::guarded;
use crate::error::{ConnectError, ConnectionLost, ReactorAlreadyRunning};
use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::signals::Signals;

/// Events taken from the poller at once; the rest come in the next turn.
const EVENTS_PER_TURN: usize = 1024;

/// Queue entries per turn, over those that were there when it began (which all run): calls that calls make wait.
/// A burst from threads must not keep the sockets waiting for long: at ~100 ns a call this is a millisecond.
const CALLS_PER_TURN: usize = 10_000;

/// When everything is closed at the end of `run`, what that queues may queue more, so many times over.
const ROUNDS_AT_STOP: usize = 100;

pub(crate) fn run(core: &Rc<Core>) -> io::Result<()> {
    let Driver::Poll { poll, registry } = &core.driver else {
        return Err(io::Error::other(
            "a MemoryReactor has no loop of its own: use settle() and advance()",
        ));
    };
    if core.running.replace(true) {
        return Err(io::Error::other(ReactorAlreadyRunning::new()));
    }
    core.stopping.set(false);
    let outcome = serve(core, &mut poll.borrow_mut(), registry);
    shut_down(core);
    core.running.set(false);
    core.stopping.set(false);
    log::debug!("main loop terminated");
    outcome
}

fn serve(core: &Rc<Core>, poll: &mut Poll, registry: &Registry) -> io::Result<()> {
    let mut signals = if core.signals.get() {
        Some(Signals::install(registry)?)
    } else {
        None
    };
    for call in std::mem::take(&mut *core.when_running.borrow_mut()) {
        core.call_soon(call);
    }
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    while !core.stopping.get() {
        match poll.poll(&mut events, core.patience()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        let leftover = std::mem::take(&mut *core.ready.borrow_mut());
        for event in &events {
            match event.token() {
                WAKER => {}
                SIGNALS => {
                    if let Some(signals) = &mut signals {
                        signals.on_event(core);
                    }
                }
                token => {
                    if let Some(source) = core.source(token) {
                        core.on_event(&source, readiness(event));
                    }
                }
            }
        }
        core.finish_turn(leftover);
    }
    Ok(())
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        ended: event.is_read_closed() || event.is_error() || event.is_write_closed(),
    }
}

impl Core {
    /// How long the poller may sleep.
    fn patience(&self) -> Option<Duration> {
        if !self.is_idle() {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.borrow().next_deadline()?;
        let left = deadline.saturating_duration_since(self.time.now());
        // epoll counts milliseconds: mio rounds up, so that a timer is never early by spinning
        Some(left)
    }

    /// Whether nothing but I/O and timers is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty()
            && self.ready.borrow().is_empty()
            && self.dirty.borrow().is_empty()
            && self.mailbox.is_empty()
    }

    #[inline]
    pub(crate) fn on_event(self: &Rc<Self>, source: &Source, event: Readiness) {
        match source {
            Source::Connection(transport) => transport.on_event(self, event),
            Source::Port(port) => port.accept(self),
            Source::Attempt(attempt) => attempt.on_event(self),
        }
    }

    /// The rest of a turn, after its events: sources left over from the turn before, timers, queue, flushes.
    pub(crate) fn finish_turn(self: &Rc<Self>, leftover: Vec<Source>) {
        for source in leftover {
            match source {
                Source::Connection(transport) => transport.read_and_reply(self),
                Source::Port(port) => port.accept(self),
                Source::Attempt(_) => {}
            }
        }
        self.run_timers();
        self.run_queue();
        self.flush_dirty();
    }

    fn run_timers(&self) {
        if self.timers.borrow().len() == 0 {
            return;
        }
        let (now, before) = (self.time.now(), self.timers.borrow().made());
        loop {
            let Some(call) = self.timers.borrow_mut().pop_due(now, before) else {
                return;
            };
            if let Some(function) = call.fire() {
                let _ = guarded("while handling a timed call", function);
            }
        }
    }

    fn run_queue(self: &Rc<Self>) {
        if !self.mailbox.is_empty() {
            for call in self.mailbox.take() {
                self.call_soon(call);
            }
        }
        let count = self.queue.borrow().len().min(CALLS_PER_TURN);
        for _ in 0..count {
            let Some(task) = self.queue.borrow_mut().pop_front() else {
                return;
            };
            match task {
                Task::Connection(transport, delivery) => transport.on_delivery(self, delivery),
                Task::Call(call) => {
                    let reactor = Reactor::from_core(self.clone());
                    let _ = guarded("while handling a queued call", || call(&reactor));
                }
            }
        }
    }

    /// Sends, once, what others wrote to a connection in this turn.
    fn flush_dirty(self: &Rc<Self>) {
        if self.dirty.borrow().is_empty() {
            return;
        }
        let mut list = std::mem::take(&mut *self.dirty.borrow_mut());
        for transport in list.drain(..) {
            transport.conn().listed.set(false);
            transport.flush(self);
        }
        // flushing runs no user code, so nothing was added; the list keeps its memory
        *self.dirty.borrow_mut() = list;
    }
}

/// Ends everything, each thing once, whatever the others' callbacks do.
pub(crate) fn shut_down(core: &Rc<Core>) {
    for source in core.all_sources() {
        match source {
            Source::Connection(transport) => {
                let reason = ConnectionLost::with_detail("Connection lost");
                transport.finish(core, &Failure::new(reason));
            }
            Source::Attempt(_) => {} // its connector is among those below
            Source::Port(port) => port.stop(core),
        }
    }
    let connecting = std::mem::take(&mut *core.connecting.borrow_mut());
    for connector in connecting {
        connector.fail(core, &Failure::new(ConnectError::with_detail("the reactor stopped")));
    }
    for _ in 0..ROUNDS_AT_STOP {
        if core.queue.borrow().is_empty() {
            break;
        }
        core.run_queue();
    }
    core.ready.borrow_mut().clear();
    core.dirty.borrow_mut().clear();
}
