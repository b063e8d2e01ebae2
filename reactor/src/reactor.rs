//! `Reactor`: the loop's handle.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use crate::clock::Time;
use crate::connect::{ConnectOptions, Connector};
use crate::core::{Core, Driver, Stage, WAKER};
use crate::deferred::{Deferred, Resolver, spawn};
use crate::factory::{ClientFactory, Factory};
use crate::listen::{ListenAddress, ListenError, ListenOptions, ListeningPort};
use crate::protocol::Protocol;
use crate::thread::{Mailbox, ReactorHandle};
use crate::timers::DelayedCall;
use crate::triggers::{Phase, SystemEvent, TriggerId, TriggerResult};

/// An event loop: `twisted.internet.reactor`, as a value. Cheap to clone; each thread may have its own.
///
/// A method never runs user code before it returns: callbacks start from the loop alone, with no other callback on the
/// stack. Inside a callback the reactor is at hand as [`transport.reactor()`](crate::Transport::reactor) or
/// [`connector.reactor()`](Connector::reactor); a protocol that stores a `Reactor` instead keeps it alive.
///
/// ```
/// use std::time::Duration;
/// use twistor_reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let reactor = Reactor::new()?;
/// let stopper = reactor.clone();
/// reactor.call_later(Duration::from_millis(1), move || stopper.stop());
/// reactor.run()
/// # }
/// ```
#[derive(Clone)]
pub struct Reactor {
    pub(crate) core: Rc<Core>,
}

impl Reactor {
    /// A reactor with a poller of its own.
    ///
    /// # Errors
    /// When the OS refuses the poller or its waker (out of descriptors).
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        let driver = Driver::Poll { poll: Box::new(RefCell::new(poll)), registry };
        Ok(Self { core: Core::new(driver, Time::System, Mailbox::new(Some(waker))) })
    }

    pub(crate) fn from_core(core: Rc<Core>) -> Self {
        Self { core }
    }

    /// Serves until [`stop`](Self::stop), or SIGINT or SIGTERM, ends it. Then every connection gets its
    /// `connection_lost` (unflushed: [`ConnectionLost`](crate::ConnectionLost)), every pending connect its failure, and
    /// every factory its `stop_factory`. What is to be done before or afterwards is for
    /// [triggers](Self::add_system_event_trigger). It may run again.
    ///
    /// # Errors
    /// [`ReactorAlreadyRunning`](crate::ReactorAlreadyRunning) from inside a callback; else what the poller says.
    pub fn run(&self) -> io::Result<()> {
        crate::turn::run(&self.core)
    }

    /// Ends `run`: at the end of the turn that has called the triggers before shutdown, or when what they gave back has
    /// fired. Does nothing if the reactor does not run or stops already.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Whether everything runs: from the end of what is done before startup to the end of what is done before shutdown.
    /// So it is still true after [`stop`](Self::stop), and false once the connections are closed for it.
    pub fn running(&self) -> bool {
        matches!(self.core.stage.get(), Stage::Running | Stage::Stopping)
    }

    /// Whether `run` lets SIGINT and SIGTERM stop the reactor (a second one then ends the process): default true.
    pub fn set_signal_handlers(&self, install: bool) {
        self.core.signals.set(install);
    }

    /// Calls `f` once the reactor runs, in the order of registration; from the queue if it does already.
    pub fn call_when_running(&self, f: impl FnOnce(&Self) + 'static) {
        match self.core.stage.get() {
            Stage::Idle | Stage::Starting => {
                self.add_system_event_trigger(Phase::After, SystemEvent::Startup, f);
            }
            Stage::Running | Stage::Stopping | Stage::Leaving => self.core.call_soon(Box::new(f)),
        }
    }

    /// Calls `f`, once, when the reactor starts or stops: `addSystemEventTrigger`. Within a phase in the order of
    /// registration; a panic is logged and the others are called all the same. One that is added when its phase is over
    /// waits for the next `run`.
    ///
    /// While a [`Deferred`] that came from [`Phase::Before`] has not fired, whether with a value or a failure, the
    /// event waits, and connections and timers are served as ever: give it a deadline of its own, as a shutdown that
    /// waits for ever is ended only by a second SIGINT or SIGTERM. From the other phases it is not waited for.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twistor_reactor::{Phase, Reactor, SystemEvent};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let reactor = Reactor::new()?;
    /// reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, |reactor| {
    ///     let (resolver, said_goodbye) = reactor.deferred();
    ///     reactor.call_later(Duration::from_millis(10), move || resolver.resolve(()));
    ///     said_goodbye
    /// });
    /// reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, |_| println!("all is closed"));
    /// reactor.call_when_running(Reactor::stop);
    /// reactor.run()
    /// # }
    /// ```
    pub fn add_system_event_trigger<R: TriggerResult>(
        &self,
        phase: Phase,
        event: SystemEvent,
        f: impl FnOnce(&Self) -> R + 'static,
    ) -> TriggerId {
        self.core.triggers.add(phase, event, Box::new(move |reactor| f(reactor).into_deferred()))
    }

    /// Forgets a trigger, which may happen inside another one. Whether it was still to be called.
    pub fn remove_system_event_trigger(&self, id: TriggerId) -> bool {
        self.core.triggers.remove(&id)
    }

    /// Calls `f` after `delay`: not before, and in the order of the calls when deadlines are equal. Monotonic time.
    pub fn call_later(&self, delay: Duration, f: impl FnOnce() + 'static) -> DelayedCall {
        DelayedCall::schedule(&self.core, delay, Box::new(f))
    }

    /// The reactor's time: monotonic, and virtual in tests.
    pub fn now(&self) -> Instant {
        self.core.time.now()
    }

    /// How many delayed calls are pending.
    pub fn pending_calls(&self) -> usize {
        self.core.timers.borrow().len()
    }

    /// Listens on a TCP port: `8000` (every IPv4 interface), `"127.0.0.1:8000"`, `"[::1]:8000"`, or a `SocketAddr`;
    /// port 0 takes a free one, which [`ListeningPort::address`] tells. Accepting begins with the next turn.
    ///
    /// # Errors
    /// [`ListenError`] names the address, says why, and gives the factory back. A reactor that stops, whose ports are
    /// stopped, too, makes no new ones.
    pub fn listen_tcp<F>(&self, address: impl Into<ListenAddress>, factory: F) -> Result<ListeningPort, ListenError<F>>
    where
        F: Factory<Protocol: Protocol>,
    {
        self.listen_tcp_with(address, factory, ListenOptions::default())
    }

    /// [`listen_tcp`](Self::listen_tcp) with options.
    ///
    /// # Errors
    /// As `listen_tcp`.
    pub fn listen_tcp_with<F>(
        &self,
        address: impl Into<ListenAddress>,
        factory: F,
        options: ListenOptions,
    ) -> Result<ListeningPort, ListenError<F>>
    where
        F: Factory<Protocol: Protocol>,
    {
        crate::listen::listen(&self.core, address.into(), factory, options)
    }

    /// Connects to `host` (a name, resolved in a thread, or an address). The outcome comes through the factory, never
    /// before this has returned; every address of the name is tried, for 30 s in all.
    pub fn connect_tcp<F>(&self, host: &str, port: u16, factory: F) -> Connector
    where
        F: ClientFactory<Protocol: Protocol>,
    {
        self.connect_tcp_with(host, port, factory, ConnectOptions::default())
    }

    /// [`connect_tcp`](Self::connect_tcp) with options.
    pub fn connect_tcp_with<F>(&self, host: &str, port: u16, factory: F, options: ConnectOptions) -> Connector
    where
        F: ClientFactory<Protocol: Protocol>,
    {
        Connector::new(&self.core, host, port, factory, options)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ReactorHandle {
        ReactorHandle::new(self.core.mailbox.clone())
    }

    /// Runs `f` in the reactor's thread pool (at most 10 threads); its result comes back as a Deferred.
    pub fn defer_to_thread<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Deferred<T> {
        crate::thread::defer_to_thread(self, f)
    }

    /// A Deferred, and the end that fires it.
    pub fn deferred<T: 'static>(&self) -> (Resolver<T>, Deferred<T>) {
        Deferred::new(&self.core)
    }

    /// Runs a future on this reactor's thread: `inlineCallbacks`. It is first polled from the queue; dropping the
    /// Deferred lets it run on.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Deferred<T> {
        spawn(self, future)
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reactor(running: {})", self.running())
    }
}
