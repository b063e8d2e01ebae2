//! A transport's registered producer.

use std::cell::Cell;

use crate::dispatch::guarded;
use crate::failure::Failure;
use crate::producer::{Producer, Streaming};

struct Registered {
    producer: Box<dyn Producer>,
    streaming: Streaming,
}

/// The producer, and whether we have paused it. It is taken out while it is called, so that it may unregister itself.
#[derive(Default)]
pub(crate) struct ProducerSlot {
    producer: Cell<Option<Box<Registered>>>,
    streaming: Cell<Option<Streaming>>,
    paused: Cell<bool>,
    /// A pull is on its way.
    due: Cell<bool>,
    /// It is the first, which comes whether or not there is room.
    first: Cell<bool>,
}

impl ProducerSlot {
    pub(crate) fn is_registered(&self) -> bool {
        self.streaming.get().is_some()
    }

    #[inline]
    pub(crate) fn is_pull(&self) -> bool {
        self.streaming.get() == Some(Streaming::Pull)
    }

    /// Whether a closing connection waits for this producer: a pull producer, or a push producer that we have paused.
    pub(crate) fn holds_open(&self) -> bool {
        self.is_pull() || (self.is_registered() && self.paused.get())
    }

    pub(crate) fn register(&self, producer: Box<dyn Producer>, streaming: Streaming) {
        self.streaming.set(Some(streaming));
        self.paused.set(false);
        self.first.set(true);
        self.producer.set(Some(Box::new(Registered { producer, streaming })));
    }

    /// Gives the producer, whose drop is user code.
    pub(crate) fn unregister(&self) -> Option<Box<dyn Producer>> {
        self.streaming.set(None);
        self.paused.set(false);
        self.producer.take().map(|registered| registered.producer)
    }

    pub(crate) fn pause(&self) -> Result<(), Failure> {
        let push = self.streaming.get() == Some(Streaming::Push);
        if push && !self.paused.replace(true) { self.call(Producer::pause_producing) } else { Ok(()) }
    }

    pub(crate) fn resume(&self) -> Result<(), Failure> {
        if self.paused.replace(false) { self.call(Producer::resume_producing) } else { Ok(()) }
    }

    /// Whether a pull is to be sent on its way: to a pull producer, and one at a time.
    pub(crate) fn ask(&self) -> bool {
        self.is_pull() && !self.due.replace(true)
    }

    /// The pull that was on its way; the producer is called if there is `room`.
    pub(crate) fn pull(&self, room: bool) -> Result<(), Failure> {
        self.due.set(false);
        if (self.first.replace(false) || room) && self.is_pull() {
            self.call(Producer::resume_producing)
        } else {
            Ok(())
        }
    }

    /// The consumer is gone: the last call.
    pub(crate) fn stop(&self) {
        let Some(mut producer) = self.unregister() else { return };
        let _ = guarded("a producer", || producer.stop_producing()); // it may register another, which is stopped, too
        discard(producer);
    }

    /// Calls the producer, if there is one. A panic unregisters it.
    fn call(&self, f: impl FnOnce(&mut dyn Producer)) -> Result<(), Failure> {
        let Some(mut registered) = self.producer.take() else { return Ok(()) };
        let outcome = guarded("a producer", || f(&mut *registered.producer));
        if outcome.is_err() {
            self.streaming.set(None);
        }
        // put back, unless it has unregistered itself (and perhaps another has taken its place)
        let occupied = self.producer.take();
        let back = match occupied {
            None if self.streaming.get() == Some(registered.streaming) => registered,
            other => {
                self.producer.set(other);
                discard(registered);
                return outcome;
            }
        };
        self.producer.set(Some(back));
        outcome
    }
}

/// Drops a producer, which is user code.
fn discard<T>(producer: T) {
    let _ = guarded("dropping a producer", || drop(producer));
}
