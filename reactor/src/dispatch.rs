//! The one place where user code is called for a connection, and where its panics end.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::conn::{Conn, Delivery};
use crate::core::Core;
use crate::failure::Failure;
use crate::protocol::{AnyProtocol, Protocol, WithError};
use crate::transport::Transport;

enum Slot {
    Present(Box<dyn AnyProtocol>),
    /// One of its callbacks is on the stack.
    Busy,
    Gone,
}

/// Where a connection keeps its protocol, and the one that is to follow it.
pub(crate) struct ProtocolSlot {
    current: Cell<Slot>,
    next: Cell<Option<Box<dyn AnyProtocol>>>,
}

impl ProtocolSlot {
    pub(crate) fn new(protocol: Box<dyn AnyProtocol>) -> Self {
        Self { current: Cell::new(Slot::Present(protocol)), next: Cell::new(None) }
    }

    /// For a transport of a test, which has no protocol.
    pub(crate) fn empty() -> Self {
        Self { current: Cell::new(Slot::Gone), next: Cell::new(None) }
    }

    pub(crate) fn set_next(&self, protocol: Box<dyn AnyProtocol>) {
        let replaced = self.next.replace(Some(protocol));
        drop(replaced); // user code; nothing is borrowed
    }

    pub(crate) fn discard(&self) {
        let gone = (self.current.replace(Slot::Gone), self.next.take());
        drop(gone);
    }
}

/// Runs user code; a panic becomes a Failure (and has been printed by the panic hook).
pub(crate) fn guarded<R>(what: &str, f: impl FnOnce() -> R) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let failure = Failure::from_panic(&*payload);
        log::error!("{what}: {failure}");
        failure
    })
}

impl Conn {
    /// Calls into the protocol from wherever: [`ProtocolHandle::with`](crate::ProtocolHandle::with).
    pub(crate) fn with_protocol<R>(&self, f: impl FnOnce(&mut dyn AnyProtocol) -> R) -> Result<R, WithError> {
        struct PutBack<'a>(&'a Cell<Slot>, Option<Box<dyn AnyProtocol>>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                if let Some(protocol) = self.1.take() {
                    self.0.set(Slot::Present(protocol));
                }
            }
        }
        match self.protocol.current.replace(Slot::Busy) {
            Slot::Present(protocol) => {
                let mut guard = PutBack(&self.protocol.current, Some(protocol));
                match &mut guard.1 {
                    Some(protocol) => Ok(f(&mut **protocol)),
                    None => Err(WithError::ProtocolGone),
                }
            }
            Slot::Busy => Err(WithError::ProtocolBusy),
            Slot::Gone => {
                self.protocol.current.set(Slot::Gone);
                Err(WithError::ProtocolGone)
            }
        }
    }
}

impl Transport {
    /// Calls one callback of the connection's protocol. Only the loop does this, with no other callback on the stack.
    #[inline(always)] // a call less for each message
    pub(crate) fn callback(&self, core: &Rc<Core>, f: impl FnOnce(&mut dyn AnyProtocol, &Self)) {
        let slot = &self.conn().protocol;
        let mut protocol = match slot.current.replace(Slot::Busy) {
            Slot::Present(protocol) => protocol,
            other => return slot.current.set(other),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| f(&mut *protocol, self)));
        if let Err(payload) = outcome {
            self.panicked(&mut *protocol, &*payload);
        }
        slot.current.set(Slot::Present(protocol));
        self.switch_if_asked(core);
    }

    #[cold]
    fn panicked(&self, protocol: &mut dyn AnyProtocol, payload: &(dyn std::any::Any + Send)) {
        let reason = Failure::from_panic(payload);
        log::error!("{}: {reason}", self.conn().peer);
        self.conn().override_reason(&reason);
        if guarded("callback_panicked", || protocol.callback_panicked(self, &reason)).is_err() {
            self.abort_with(reason);
        }
    }

    /// The last callback; then the protocol is dropped, which breaks the cycle factory, list, transport, protocol.
    pub(crate) fn last_callback(&self, core: &Rc<Core>, reason: &Failure) {
        let slot = &self.conn().protocol;
        let next = slot.next.take();
        let _ = guarded("dropping a protocol", || drop(next));
        self.callback(core, |protocol, transport| protocol.connection_lost(transport, reason));
        let last = (slot.current.replace(Slot::Gone), slot.next.take());
        let _ = guarded("dropping a protocol", || drop(last));
    }

    /// Carries out `switch_protocol`, if it was called.
    #[inline]
    pub(crate) fn switch_if_asked(&self, core: &Rc<Core>) {
        let next = self.conn().protocol.next.take();
        if let Some(next) = next {
            self.switch(core, next);
        }
    }

    #[cold]
    fn switch(&self, core: &Rc<Core>, next: Box<dyn AnyProtocol>) {
        let slot = &self.conn().protocol;
        if self.conn().is_over() {
            return drop(guarded("dropping a protocol", || drop(next)));
        }
        self.conn().delegated.set(false); // the old one asked for it
        self.conn().told_high.set(false); // the old one was told
        let old = slot.current.replace(Slot::Present(next));
        let _ = guarded("dropping a protocol", || drop(old));
        self.callback(core, Protocol::connection_made);
    }

    /// Hands the connection to another protocol once the callback that is running has returned. The new one gets its
    /// `connection_made`, then `leftover` (bytes that came for it already) as `data_received`. The old one is dropped;
    /// all handles of the connection stay good.
    pub fn switch_protocol(&self, protocol: impl Protocol, leftover: &[u8]) {
        if self.conn().is_over() {
            return;
        }
        if !leftover.is_empty() {
            self.unread(leftover);
        }
        self.conn().protocol.set_next(Box::new(protocol));
        self.enqueue(Delivery::Switch);
    }
}
