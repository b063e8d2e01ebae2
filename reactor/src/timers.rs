//! Delayed calls.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::error::{AlreadyCalled, AlreadyCancelled};
use crate::failure::Failure;

/// A deadline as far away as this never comes (P045); `Instant` arithmetic must not overflow on the way there.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How long a busy loop sleeps at most without working out when the next call is due.
pub(crate) const NAP: Duration = Duration::from_secs(1);

/// When a call is due, and which of several was made first.
type Key = (Instant, u64);

/// The pending calls, in the order in which they will run: equal deadlines in the order they were made.
#[derive(Default)]
pub(crate) struct Timers {
    pending: BTreeMap<Key, Rc<Call>>,
    made: u64,
    /// The first call's deadline, so that a turn in which nothing is due looks at this alone.
    soonest: Option<Instant>,
    /// Until when a [`NAP`] ends before that.
    far_until: Option<Instant>,
}

impl Timers {
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.soonest
    }

    fn insert(&mut self, key: Key, call: Rc<Call>) {
        self.pending.insert(key, call);
        if self.soonest.is_none_or(|soonest| key.0 < soonest) {
            self.set_soonest(Some(key.0));
        }
    }

    fn remove(&mut self, key: Key) -> Option<Rc<Call>> {
        let call = self.pending.remove(&key)?;
        self.set_soonest(self.pending.first_key_value().map(|((deadline, _), _)| *deadline));
        Some(call)
    }

    fn set_soonest(&mut self, soonest: Option<Instant>) {
        self.soonest = soonest;
        self.far_until = soonest.and_then(|soonest| soonest.checked_sub(NAP));
    }

    /// Whether the first call is more than a [`NAP`] away.
    #[inline]
    pub(crate) fn is_far(&self, now: Instant) -> bool {
        self.far_until.is_some_and(|far_until| now < far_until)
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Takes out the first call that is due at `now` and was made before the call numbered `before`, so that calls
    /// that timers make wait for the next turn (P047).
    pub(crate) fn pop_due(&mut self, now: Instant, before: u64) -> Option<Rc<Call>> {
        let due = self.pending.range(..=(now, u64::MAX)).find(|((_, number), _)| *number < before);
        let key = due.map(|(key, _)| *key)?;
        self.remove(key)
    }

    /// All calls, which will not be made: the reactor is gone.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Rc<Call>> + use<> {
        std::mem::take(self).pending.into_values()
    }

    pub(crate) fn made(&self) -> u64 {
        self.made
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Called,
    Cancelled,
}

pub(crate) struct Call {
    core: Weak<Core>,
    key: Cell<Key>,
    state: Cell<State>,
    function: Cell<Option<Box<dyn FnOnce()>>>,
}

impl Call {
    /// The call's function; from here on the call counts as called.
    pub(crate) fn fire(&self) -> Option<Box<dyn FnOnce()>> {
        self.state.set(State::Called);
        self.function.take()
    }
}

/// A call that the reactor will make: `IDelayedCall`, from [`Reactor::call_later`](crate::Reactor::call_later).
///
/// Dropping it does not cancel the call.
///
/// ```
/// use std::time::Duration;
/// use twistor_reactor::testing::MemoryReactor;
/// let reactor = MemoryReactor::new();
/// let call = reactor.call_later(Duration::from_secs(1), || println!("never"));
/// assert!(call.active());
/// call.cancel().unwrap();
/// assert_eq!(call.cancel().unwrap_err().to_string(), "Tried to cancel an already-cancelled event.");
/// ```
#[derive(Clone)]
pub struct DelayedCall(Rc<Call>);

impl DelayedCall {
    pub(crate) fn schedule(core: &Rc<Core>, delay: Duration, function: Box<dyn FnOnce()>) -> Self {
        let timers = &core.timers;
        let number = timers.borrow().made;
        let key = (core.time.now() + delay.min(FOREVER), number);
        let call = Rc::new(Call {
            core: Rc::downgrade(core),
            key: Cell::new(key),
            state: Cell::new(State::Pending),
            function: Cell::new(Some(function)),
        });
        let mut timers = timers.borrow_mut();
        timers.made += 1;
        timers.insert(key, call.clone());
        Self(call)
    }

    /// Takes the call back.
    ///
    /// # Errors
    /// [`AlreadyCalled`] or [`AlreadyCancelled`], by which Twisted tells a misuse; a caller who does not mind drops it.
    pub fn cancel(&self) -> Result<(), Failure> {
        self.check_pending()?;
        self.0.state.set(State::Cancelled);
        self.unschedule();
        // Dropped with no borrow of the library's open: what the closure owns may call back from its Drop.
        drop(self.0.function.take());
        Ok(())
    }

    /// Makes the call due `delay` from now, earlier or later than it was.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn reset(&self, delay: Duration) -> Result<(), Failure> {
        self.check_pending()?;
        if let Some(core) = self.0.core.upgrade() {
            self.move_to(core.time.now() + delay.min(FOREVER));
        }
        Ok(())
    }

    /// Makes the call due this much later than it was. (Twisted takes negative delays too; see
    /// [`advance`](Self::advance).)
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn delay(&self, by: Duration) -> Result<(), Failure> {
        self.check_pending()?;
        self.move_to(self.0.key.get().0 + by.min(FOREVER));
        Ok(())
    }

    /// Makes the call due this much earlier than it was: Twisted's `delay` with a negative argument.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn advance(&self, by: Duration) -> Result<(), Failure> {
        self.check_pending()?;
        let deadline = self.0.key.get().0;
        self.move_to(deadline.checked_sub(by).unwrap_or(deadline));
        Ok(())
    }

    /// Whether the call is still to come.
    pub fn active(&self) -> bool {
        self.0.state.get() == State::Pending
    }

    /// When the call is due.
    pub fn time(&self) -> Instant {
        self.0.key.get().0
    }

    fn check_pending(&self) -> Result<(), Failure> {
        match self.0.state.get() {
            State::Pending => Ok(()),
            State::Called => Err(Failure::new(AlreadyCalled::new())),
            State::Cancelled => Err(Failure::new(AlreadyCancelled::new())),
        }
    }

    fn unschedule(&self) -> Option<(Rc<Core>, Rc<Call>)> {
        let core = self.0.core.upgrade()?;
        let call = core.timers.borrow_mut().remove(self.0.key.get())?;
        Some((core, call))
    }

    fn move_to(&self, deadline: Instant) {
        if let Some((core, call)) = self.unschedule() {
            let key = (deadline, self.0.key.get().1);
            call.key.set(key);
            core.timers.borrow_mut().insert(key, call);
        }
    }
}

impl fmt::Debug for DelayedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0.state.get() {
            State::Pending => "pending",
            State::Called => "called",
            State::Cancelled => "cancelled",
        };
        write!(f, "DelayedCall({state})")
    }
}
