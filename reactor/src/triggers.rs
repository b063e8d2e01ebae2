//! System event triggers: what a program wants done when the reactor starts, and when it stops.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::core::{Core, Stage};
use crate::deferred::Deferred;
use crate::dispatch::guarded;
use crate::reactor::Reactor;

/// What a trigger waits for; see [`Reactor::add_system_event_trigger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SystemEvent {
    /// [`Reactor::run`] was called.
    Startup,
    /// [`Reactor::stop`] was called, or SIGINT or SIGTERM came.
    Shutdown,
}

/// When in its event a trigger is called; see [`Reactor::add_system_event_trigger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// First. What these triggers give back is waited for.
    Before,
    /// Startup: the reactor runs. Shutdown: every connection and port is closed.
    During,
    /// Last.
    After,
}

/// What a trigger gives back: `()`, or a [`Deferred`] that the event waits for, or an `Option` of one.
pub trait TriggerResult {
    /// What is to be waited for, if anything.
    fn into_deferred(self) -> Option<Deferred<()>>;
}

impl TriggerResult for () {
    fn into_deferred(self) -> Option<Deferred<()>> {
        None
    }
}

impl<T> TriggerResult for Deferred<T> {
    fn into_deferred(self) -> Option<Deferred<()>> {
        Some(self.add_callback(drop))
    }
}

impl<T> TriggerResult for Option<Deferred<T>> {
    fn into_deferred(self) -> Option<Deferred<()>> {
        self.and_then(Deferred::into_deferred)
    }
}

/// Names a trigger for [`Reactor::remove_system_event_trigger`], which consumes it: none can be removed twice.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TriggerId {
    event: SystemEvent,
    phase: Phase,
    number: u64,
}

type Call = Box<dyn FnOnce(&Reactor) -> Option<Deferred<()>>>;

struct Trigger {
    number: u64,
    call: Call,
}

/// The triggers that have not been called.
#[derive(Default)]
pub(crate) struct Triggers {
    /// Oldest first: by event, then by phase.
    waiting: RefCell<[[VecDeque<Trigger>; 3]; 2]>,
    added: Cell<u64>,
    /// Events that have begun so far; the last of them goes on.
    begun: Cell<u64>,
}

impl Triggers {
    pub(crate) fn add(&self, phase: Phase, event: SystemEvent, call: Call) -> TriggerId {
        let number = self.added.replace(self.added.get() + 1);
        self.waiting.borrow_mut()[event as usize][phase as usize].push_back(Trigger { number, call });
        TriggerId { event, phase, number }
    }

    pub(crate) fn remove(&self, id: &TriggerId) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let list = &mut waiting[id.event as usize][id.phase as usize];
        let index = list.iter().position(|trigger| trigger.number == id.number);
        let removed = index.and_then(|index| list.remove(index));
        drop(waiting);
        removed.is_some() // and is dropped: user code; nothing is borrowed
    }

    fn next(&self, phase: Phase, event: SystemEvent) -> Option<Call> {
        self.waiting.borrow_mut()[event as usize][phase as usize].pop_front().map(|trigger| trigger.call)
    }
}

impl Core {
    /// Has the loop left once the shutdown's before-triggers allow it. They run from the queue.
    pub(crate) fn stop(&self) {
        if matches!(self.stage.get(), Stage::Starting | Stage::Running) {
            self.stage.set(Stage::Stopping);
            self.call_soon(Box::new(|reactor| reactor.core.begin(SystemEvent::Shutdown)));
        }
    }

    /// The first phase of an event. It goes on when everything that this phase's triggers gave back has fired.
    pub(crate) fn begin(self: &Rc<Self>, event: SystemEvent) {
        let number = self.triggers.begun.get() + 1;
        self.triggers.begun.set(number);
        let hold = Rc::new(Hold { core: Rc::downgrade(self), event, number });
        for deferred in self.call_triggers(Phase::Before, event) {
            // a failure drops the callback, and with it the hold, and is logged as nobody else handles it
            let hold = hold.clone();
            drop(deferred.add_callback(move |()| drop(hold)));
        }
    }

    /// The rest of an event: nothing is waited for.
    pub(crate) fn complete(self: &Rc<Self>, event: SystemEvent) {
        for phase in [Phase::During, Phase::After] {
            drop(self.call_triggers(phase, event));
        }
    }

    /// Calls the triggers of a phase, those too that they add to it, each once. One that panics does not keep the
    /// others from their turn.
    fn call_triggers(self: &Rc<Self>, phase: Phase, event: SystemEvent) -> Vec<Deferred<()>> {
        let reactor = Reactor::from_core(self.clone());
        let mut waited_for = Vec::new();
        while let Some(call) = self.triggers.next(phase, event) {
            let result = guarded("While calling system event trigger handler", || call(&reactor));
            waited_for.extend(result.ok().flatten());
        }
        waited_for
    }

    fn leave(&self) {
        if self.stage.get() == Stage::Stopping {
            self.stage.set(Stage::Leaving);
        }
    }

    /// Startup's before-triggers are done. A reactor that was told to stop a moment ago starts all the same.
    fn started(self: &Rc<Self>) {
        match self.stage.get() {
            Stage::Starting => self.stage.set(Stage::Running),
            Stage::Stopping => {}
            Stage::Idle | Stage::Running | Stage::Leaving => return,
        }
        self.complete(SystemEvent::Startup);
    }
}

/// Holds an event up: shared by the Deferreds of its before-triggers. When the last one has let it go, whether by
/// firing or by being given up, the event goes on, unless another one has begun: a startup that was stopped is over.
struct Hold {
    core: Weak<Core>,
    event: SystemEvent,
    number: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let core = self.core.upgrade().filter(|core| core.triggers.begun.get() == self.number);
        match (core, self.event) {
            (Some(core), SystemEvent::Startup) => core.call_soon(Box::new(|reactor| reactor.core.started())),
            (Some(core), SystemEvent::Shutdown) => {
                // what the triggers have queued comes first
                core.call_soon(Box::new(|reactor| reactor.core.leave()));
            }
            (None, _) => {}
        }
    }
}
