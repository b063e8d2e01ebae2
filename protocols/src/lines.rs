//! Lines: `LineOnlyReceiver`, and the pair that adapts it to the reactor.

use std::any::{Any, TypeId};
use std::fmt;
use std::ops::Deref;

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure, Protocol, Transport};

use crate::splitter::{Line, Splitter};

/// A protocol of lines: `twisted.protocols.basic.LineOnlyReceiver`. Wrap its factory in a [`LineFactory`].
///
/// Callbacks come in this order: `connection_made`, any number of the others, exactly one `connection_lost`. Only
/// `line_received` must be written. Nothing is received once the connection is being closed: after `lose_connection` or
/// `abort_connection` the rest of the lines is dropped, those that came in the same segment too. After
/// `pause_producing` it waits for `resume_producing`, in the middle of a segment too. A last line without a delimiter
/// is not delivered.
///
/// | Twisted | here |
/// |---|---|
/// | `delimiter`, `MAX_LENGTH` | [`LineOptions`] |
/// | `lineReceived(line)` | [`line_received`](Self::line_received) |
/// | `lineLengthExceeded(line)` | [`line_length_exceeded`](Self::line_length_exceeded) |
/// | `self.sendLine(line)` | [`transport.send_line(line)`](LineTransport::send_line) |
///
/// ```
/// use twistor_protocols::{LineOnlyReceiver, LineTransport};
///
/// struct Greeter;
///
/// impl LineOnlyReceiver for Greeter {
///     fn connection_made(&mut self, transport: &LineTransport) {
///         transport.send_line("What is your name?");
///     }
///
///     fn line_received(&mut self, transport: &LineTransport, line: &[u8]) {
///         transport.send_line(format!("Hello, {}!", String::from_utf8_lossy(line)));
///         transport.lose_connection();
///     }
/// }
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait LineOnlyReceiver: 'static {
    /// The connection is there. Writing is allowed from here on.
    fn connection_made(&mut self, transport: &LineTransport) {}

    /// A line has come, without its delimiter: any bytes, none included, but no more than
    /// [`LineOptions::max_length`].
    fn line_received(&mut self, transport: &LineTransport, line: &[u8]);

    /// A line longer than [`LineOptions::max_length`] has come, or as much of it as makes that sure; `start` is its
    /// first `max_length + 1` bytes. The default loses the connection. A protocol that keeps it gets the lines after
    /// this one, the rest of which is skipped. (Twisted goes on with the rest as if it were a line, or reports it again
    /// with every segment, and keeps all of it.)
    fn line_length_exceeded(&mut self, transport: &LineTransport, start: &[u8]) {
        transport.lose_connection();
    }

    /// As [`Protocol::read_connection_lost`].
    fn read_connection_lost(&mut self, transport: &LineTransport) {
        transport.lose_connection();
    }

    /// As [`Protocol::write_connection_lost`].
    fn write_connection_lost(&mut self, transport: &LineTransport) {}

    /// As [`Protocol::output_high`].
    fn output_high(&mut self, transport: &LineTransport) {}

    /// As [`Protocol::output_drained`].
    fn output_drained(&mut self, transport: &LineTransport) {}

    /// The connection is gone, for this reason; the last callback.
    fn connection_lost(&mut self, transport: &LineTransport, reason: &Failure) {}

    /// For adapters: the protocol inside, as [`Protocol::inner`].
    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        None
    }
}

/// How lines look, both ways. Change what you need and leave the rest:
///
/// ```
/// use twistor_protocols::LineOptions;
/// let options = LineOptions { delimiter: b"\n", ..LineOptions::default() };
/// assert_eq!(options.max_length, 16_384);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOptions {
    /// What ends a line; not empty. Default `\r\n`, that of SMTP, IRC and the other protocols of the Internet, as in
    /// Twisted. With `\n` a line of theirs has a `\r` at its end.
    pub delimiter: &'static [u8],
    /// The longest line that is taken, in bytes without the delimiter. Default 16,384, as in Twisted: far above the 512
    /// of IRC and 998 of mail, and no more than a connection may cost while its line is unfinished.
    pub max_length: usize,
}

impl Default for LineOptions {
    fn default() -> Self {
        Self { delimiter: b"\r\n", max_length: 16 * 1024 }
    }
}

/// The handle of a connection that speaks lines: a [`Transport`], to which it dereferences, that can
/// [`send_line`](Self::send_line). Cheap to clone, equal to its clones and to nothing else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LineTransport {
    transport: Transport,
    delimiter: &'static [u8],
}

impl LineTransport {
    /// Sends a line: these bytes and the delimiter. Lines within `line` are not looked for.
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        self.transport.write_sequence(&[line.as_ref(), self.delimiter]);
    }
}

impl Deref for LineTransport {
    type Target = Transport;
    fn deref(&self) -> &Transport {
        &self.transport
    }
}

impl fmt::Debug for LineTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineTransport({:?})", self.transport)
    }
}

/// The adapter from [`LineOnlyReceiver`] to [`Protocol`].
#[derive(Debug)]
pub struct Lines<P> {
    inner: P,
    splitter: Splitter,
}

impl<P: LineOnlyReceiver> Lines<P> {
    /// With the default options.
    pub fn new(inner: P) -> Self {
        Self::with_options(inner, LineOptions::default())
    }

    /// With options.
    ///
    /// # Panics
    /// When the delimiter is empty.
    pub fn with_options(inner: P, options: LineOptions) -> Self {
        Self { inner, splitter: Splitter::new(options) }
    }

    fn line_transport(&self, transport: &Transport) -> LineTransport {
        LineTransport { transport: transport.clone(), delimiter: self.splitter.options().delimiter }
    }
}

impl<P: LineOnlyReceiver> Protocol for Lines<P> {
    fn connection_made(&mut self, transport: &Transport) {
        let transport = self.line_transport(transport);
        self.inner.connection_made(&transport);
    }

    fn data_received(&mut self, transport: &Transport, mut data: &[u8]) {
        let lines = self.line_transport(transport);
        while transport.is_connected() {
            if transport.paused() {
                // nothing to give back must not look like something: the peer's end is noticed while reading is paused
                if !data.is_empty() {
                    transport.unread(data);
                }
                return;
            }
            match self.splitter.next(&mut data) {
                Some(Line::Whole(line)) => self.inner.line_received(&lines, line),
                Some(Line::TooLong(start)) => self.inner.line_length_exceeded(&lines, &start),
                None => return,
            }
        }
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        let transport = self.line_transport(transport);
        self.inner.read_connection_lost(&transport);
    }

    fn write_connection_lost(&mut self, transport: &Transport) {
        let transport = self.line_transport(transport);
        self.inner.write_connection_lost(&transport);
    }

    fn output_high(&mut self, transport: &Transport) {
        let transport = self.line_transport(transport);
        self.inner.output_high(&transport);
    }

    fn output_drained(&mut self, transport: &Transport) {
        let transport = self.line_transport(transport);
        self.inner.output_drained(&transport);
    }

    fn connection_lost(&mut self, transport: &Transport, reason: &Failure) {
        let transport = self.line_transport(transport);
        self.inner.connection_lost(&transport, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.inner) } else { self.inner.inner(wanted) }
    }
}

/// Wraps a factory of [`LineOnlyReceiver`]s into one of [`Protocol`]s, for servers and clients.
///
/// ```no_run
/// use twistor_protocols::{LineFactory, LineOnlyReceiver, LineTransport};
/// use twistor_reactor::{Reactor, for_protocol};
///
/// struct Echo;
///
/// impl LineOnlyReceiver for Echo {
///     fn line_received(&mut self, transport: &LineTransport, line: &[u8]) {
///         transport.send_line(line);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// reactor.listen_tcp(1234, LineFactory::new(for_protocol(|| Echo)))?;
/// reactor.run()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LineFactory<F> {
    factory: F,
    options: LineOptions,
}

impl<F: Factory<Protocol: LineOnlyReceiver>> LineFactory<F> {
    /// With the default options.
    pub fn new(factory: F) -> Self {
        Self::with_options(factory, LineOptions::default())
    }

    /// With options.
    ///
    /// # Panics
    /// When the delimiter is empty.
    pub fn with_options(factory: F, options: LineOptions) -> Self {
        assert!(!options.delimiter.is_empty(), "a delimiter must not be empty");
        Self { factory, options }
    }
}

impl<F: Factory<Protocol: LineOnlyReceiver>> Factory for LineFactory<F> {
    type Protocol = Lines<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        let inner = self.factory.build_protocol(peer)?;
        Some(Lines::with_options(inner, self.options.clone()))
    }

    fn start_factory(&mut self) {
        self.factory.start_factory();
    }

    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }

    fn identity(&self) -> Option<*const ()> {
        self.factory.identity()
    }
}

impl<F: ClientFactory<Protocol: LineOnlyReceiver>> ClientFactory for LineFactory<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_lost(connector, reason);
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
