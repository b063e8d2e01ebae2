//! `Settings`: what all connections of a factory share.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use twistor_reactor::{Address, Transport};

use crate::observer::{HandshakeFailure, Observed, Observer, Traffic};
use crate::options::Options;
use crate::sansio::Role;
use crate::sansio::deflate::Agreed;
use crate::socket::Compressor;

/// What all connections of a factory share.
pub(crate) struct Settings {
    options: Options,
    observed: OnceCell<Observed>,
    /// The one that was made last to be shared.
    compressor: RefCell<Option<Rc<Compressor>>>,
}

impl Settings {
    pub(crate) fn new(options: Options) -> Rc<Self> {
        Rc::new(Self { options, observed: OnceCell::new(), compressor: RefCell::default() })
    }

    /// A compressor for one more connection: the one that others have, if it remembers nothing of their messages.
    pub(crate) fn compressor(&self, agreed: &Agreed, role: Role) -> Rc<Compressor> {
        let remembers = match role {
            Role::Server => !agreed.server_no_context_takeover,
            Role::Client => !agreed.client_no_context_takeover,
        };
        if remembers {
            return Rc::new(Compressor::new(agreed, role));
        }
        let mut shared = self.compressor.borrow_mut();
        match &*shared {
            Some(compressor) if compressor.agreed == *agreed => compressor.clone(),
            _ => shared.insert(Rc::new(Compressor::new(agreed, role))).clone(),
        }
    }

    /// The first observer stays.
    pub(crate) fn observe(&self, observer: impl Observer + 'static) {
        let _ = self.observed.set(Observed::by(observer));
    }

    #[inline]
    pub(crate) fn observer(&self) -> Option<&Observed> {
        self.observed.get()
    }

    pub(crate) fn handshake_failed(&self, peer: &Address, why: HandshakeFailure) {
        if let Some(observed) = self.observer() {
            observed.tell(|observer| observer.handshake_failed(peer, why));
        }
    }

    /// Adds to the traffic of this turn, if anybody counts it. A handle may do this: the observer hears of it from the
    /// queue.
    pub(crate) fn count(self: &Rc<Self>, transport: &Transport, add: impl FnOnce(&mut Traffic)) {
        let Some(observed) = self.observer() else { return };
        let mut traffic = observed.traffic.get();
        add(&mut traffic);
        observed.traffic.set(traffic);
        if !observed.due.replace(true) {
            let this = self.clone();
            transport.call_soon(move |_| {
                if let Some(observed) = this.observer() {
                    observed.due.set(false);
                    let traffic = observed.traffic.take();
                    observed.tell(|observer| observer.traffic(&traffic));
                }
            });
        }
    }
}

impl Deref for Settings {
    type Target = Options;
    #[inline]
    fn deref(&self) -> &Options {
        &self.options
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}
