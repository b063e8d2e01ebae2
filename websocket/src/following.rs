//! Redirects of a client's opening handshake, as far as they are followed (RFC 6455, 4.1; RFC 9110, 15.4).

use std::error::Error;
use std::fmt;

use ::http::StatusCode;
use twistor_reactor::{Connector, ConnectorState, Failure, Protocol, WeakConnector};

use crate::handshake::{ClientRequest, HandshakeError, RedirectError, RedirectPolicy, shown};

/// What a client factory knows of redirects: which of them are followed, and who is connecting, since a protocol that
/// is redirected needs its connector.
#[derive(Debug, Default)]
pub(crate) struct Following {
    policy: RedirectPolicy,
    /// Empty unless redirects are followed.
    connecting: Vec<WeakConnector>,
}

impl Following {
    pub(crate) fn new(policy: RedirectPolicy) -> Self {
        Self { policy, connecting: Vec::new() }
    }

    /// The same policy, and nobody connecting.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.policy.clone())
    }

    pub(crate) fn started(&mut self, connector: &Connector) {
        if self.policy.max > 0 {
            // a wrapper of ours may have kept the end of earlier attempts to itself
            self.connecting.retain(|other| other.upgrade().is_some_and(|other| other != *connector));
            self.connecting.push(connector.downgrade());
        }
    }

    pub(crate) fn failed(&mut self, connector: &Connector) {
        let connector = connector.downgrade();
        self.connecting.retain(|other| *other != connector);
    }

    /// For the protocol that is being built.
    pub(crate) fn built(&mut self) -> Course {
        // Of those that share the factory it is the one that has a connection, but no protocol yet.
        let builds = |it: Connector| it.state() == ConnectorState::Connected && it.transport().is_none();
        let index = self.connecting.iter().position(|it| it.upgrade().is_some_and(builds));
        let connector = index.map(|index| self.connecting.swap_remove(index));
        Course { policy: self.policy.clone(), followed: 0, connector }
    }
}

/// Where a client's attempt has got to.
pub(crate) struct Course {
    policy: RedirectPolicy,
    /// How many redirects brought it there.
    followed: usize,
    connector: Option<WeakConnector>,
}

impl Course {
    /// The request for the place it is redirected to, and the course from there.
    pub(crate) fn next(
        &self,
        request: &ClientRequest,
        status: StatusCode,
        location: String,
    ) -> Result<(ClientRequest, Self), Failure> {
        let Some(connector) = self.connector.clone().filter(|_| self.policy.max > 0) else {
            return Err(Failure::new(HandshakeError::Redirect { status, location }));
        };
        let redirect = match self.policy.follow(self.followed, request.url(), &location) {
            // as `ClientError::Tls`
            Ok(redirect) if redirect.url.secure => Err(RedirectError::Tls { to: redirect.url.to_string() }),
            other => other,
        };
        let redirect = redirect.map_err(|reason| Failure::new(RedirectRefused { status, location, reason }))?;
        let course = Self { policy: self.policy.clone(), followed: self.followed + 1, connector: Some(connector) };
        Ok((request.clone().redirected(redirect), course))
    }

    /// Connects where `successor`'s request is meant for, unless `stays`: it is the peer of the connection that there
    /// is. The successor comes back if that is being lost already.
    pub(crate) fn go<P: Protocol>(&self, request: &ClientRequest, stays: bool, successor: P) -> Result<(), P> {
        let connector = self.connector.as_ref().and_then(WeakConnector::upgrade);
        let Some(connector) = connector else { return Err(successor) };
        let (host, port) = if stays { connector.target() } else { (request.url().host.clone(), request.url().port) };
        connector.redirect(&host, port, successor)
    }

    /// The connector, while it has no connection for the protocol that was redirected, but tries to make one.
    pub(crate) fn connecting(&self) -> Option<Connector> {
        let connector = self.connector.as_ref()?.upgrade()?;
        (connector.state() == ConnectorState::Connecting).then_some(connector)
    }
}

/// A redirect that the client's [`RedirectPolicy`] does not let it follow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedirectRefused {
    /// The answer's status.
    pub status: StatusCode,
    /// Its `Location`, whole, as it came.
    pub location: String,
    /// Why it is not followed.
    pub reason: RedirectError,
}

impl fmt::Display for RedirectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, location) = (self.status, shown(&self.location));
        write!(f, "expected 101 Switching Protocols, but {status} to \"{location}\" came: {}", self.reason)
    }
}

impl Error for RedirectRefused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use twistor_reactor::testing::MemoryReactor;
    use twistor_reactor::{Address, ClientFactory, ConnectOptions, Factory, Transport};

    use super::*;

    struct Quiet;

    impl Protocol for Quiet {
        fn data_received(&mut self, _: &Transport, _: &[u8]) {}
    }

    /// As a wrapper that keeps the end of its attempts to itself.
    struct Wrapper(Rc<RefCell<Following>>);

    impl Factory for Wrapper {
        type Protocol = Quiet;
        fn build_protocol(&mut self, _: &Address) -> Option<Quiet> {
            None
        }
    }

    impl ClientFactory for Wrapper {
        fn started_connecting(&mut self, connector: &Connector) {
            self.0.borrow_mut().started(connector);
        }
    }

    #[test]
    fn those_who_connect_are_forgotten_with_their_connectors() {
        let following = Rc::new(RefCell::new(Following::new(RedirectPolicy::follow_up_to(1, false))));
        let reactor = MemoryReactor::new();
        let options = ConnectOptions { timeout: Some(Duration::from_secs(1)), ..ConnectOptions::default() };
        let again = reactor.connect_tcp_with("a", 80, Wrapper(following.clone()), options.clone());
        for _ in 0..9 {
            drop(reactor.connect_tcp_with("b", 80, Wrapper(following.clone()), options.clone()));
            reactor.advance(Duration::from_secs(1));
            let _ = again.connect();
        }
        reactor.settle();
        assert!(following.borrow().connecting.len() <= 2, "{following:?}");
    }
}
