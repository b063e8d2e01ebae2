//! Producers: sources of data that stop when their consumer's buffer is full.

use std::cell::RefCell;
use std::rc::Rc;

use crate::protocol::ProtocolHandle;
use crate::transport::Transport;

/// Something that writes to a transport and heeds its buffer: `IPushProducer` and `IPullProducer`.
///
/// All calls come from the reactor's queue, never from inside `write` or `register_producer`. Registered as
/// [`Streaming::Push`], a producer writes by itself until it is paused; as [`Streaming::Pull`], it writes once for
/// every `resume_producing`. A [`Transport`] is a push producer (pausing stops its reading), and so is a
/// [`ProtocolHandle`] of a protocol that implements this trait.
pub trait Producer: 'static {
    /// Stop writing until `resume_producing`. Never called on a pull producer.
    fn pause_producing(&mut self) {}
    /// Write again (push), or write once (pull).
    fn resume_producing(&mut self);
    /// Stop for good: the consumer is gone.
    fn stop_producing(&mut self);
}

/// How a producer produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// By itself, until paused: `registerProducer(producer, True)`.
    Push,
    /// Once for each `resume_producing`: `registerProducer(producer, False)`.
    Pull,
}

impl Producer for Transport {
    fn pause_producing(&mut self) {
        Self::pause_producing(self);
    }
    fn resume_producing(&mut self) {
        Self::resume_producing(self);
    }
    fn stop_producing(&mut self) {
        self.lose_connection();
    }
}

impl<P: Producer> Producer for ProtocolHandle<P> {
    fn pause_producing(&mut self) {
        self.post(|protocol, _| protocol.pause_producing());
    }
    fn resume_producing(&mut self) {
        self.post(|protocol, _| protocol.resume_producing());
    }
    fn stop_producing(&mut self) {
        self.post(|protocol, _| protocol.stop_producing());
    }
}

impl<P: Producer> Producer for Rc<RefCell<P>> {
    fn pause_producing(&mut self) {
        self.borrow_mut().pause_producing();
    }
    fn resume_producing(&mut self) {
        self.borrow_mut().resume_producing();
    }
    fn stop_producing(&mut self) {
        self.borrow_mut().stop_producing();
    }
}
