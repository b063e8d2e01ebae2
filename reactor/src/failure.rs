//! `Failure`: an error with Twisted's vocabulary.

use std::any::TypeId;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::{
    CallbackPanicked, ConnectError, ConnectionRefusedError, NoRouteError, TCPTimedOutError, derives_from,
};

/// An error that can be kept, cloned (cheaply) and asked what it is: `twisted.python.failure.Failure`.
///
/// `Display` gives what `getErrorMessage()` gives in Twisted; the OS error, if there is one, is the
/// [`source`](Error::source).
///
/// ```
/// use twistor_reactor::{ConnectionClosed, ConnectionDone, ConnectionLost, Failure};
/// let reason = Failure::new(ConnectionDone::new());
/// assert!(reason.check::<ConnectionDone>() && reason.check::<ConnectionClosed>());
/// assert!(!reason.check::<ConnectionLost>());
/// assert_eq!(reason.to_string(), "Connection was closed cleanly.");
/// ```
#[derive(Clone)]
pub struct Failure {
    class: TypeId, // dyn Error tells none, and the abstract ConnectionClosed must be askable too
    error: Arc<dyn Error + Send + Sync>,
}

impl Failure {
    /// Wraps any error.
    pub fn new<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self { class: TypeId::of::<E>(), error: Arc::new(error) }
    }

    /// Whether the error is an `E`, or of a class that Twisted derives from `E`, or was caused by a `Failure` of which
    /// that is true.
    pub fn check<E: 'static>(&self) -> bool {
        let wanted = TypeId::of::<E>();
        let caused_by = || self.error.source().and_then(|source| source.downcast_ref::<Self>());
        self.class == wanted || derives_from(self.error(), wanted) || caused_by().is_some_and(Self::check::<E>)
    }

    /// The error itself, if it is exactly an `E`.
    pub fn value<E: Error + 'static>(&self) -> Option<&E> {
        self.error().downcast_ref()
    }

    /// The wrapped error.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    /// The error's text: Twisted's name for `to_string()`.
    pub fn get_error_message(&self) -> String {
        self.error.to_string()
    }

    /// A failed `connect`, classified by errno as `twisted.internet.error.getConnectError` does.
    pub fn from_connect_error(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::new(ConnectionRefusedError::from(error)),
            Some(libc::ETIMEDOUT) => Self::new(TCPTimedOutError::from(error)),
            Some(libc::ENETUNREACH) => Self::new(NoRouteError::from(error)),
            _ => Self::new(ConnectError::from(error)),
        }
    }

    /// What a panic's payload says.
    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        Self::new(CallbackPanicked::new(payload))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?})", self.error)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
