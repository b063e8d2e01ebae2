//! Other threads: calls into the reactor, and work handed out of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use crate::deferred::Deferred;
use crate::error::ReactorNotRunning;
use crate::failure::Failure;
use crate::reactor::Reactor;

type RemoteCall = Box<dyn FnOnce(&Reactor) + Send>;

/// Calls from threads that may wait for the reactor, so that a flood cannot take all memory.
const MAILBOX_LIMIT: usize = 1 << 20;

/// Twisted's default pool size.
const POOL_THREADS: usize = 10;

/// Calls from other threads, on their way into the queue.
pub(crate) struct Mailbox {
    calls: Mutex<VecDeque<RemoteCall>>,
    count: AtomicUsize,
    /// Whether the poller has been woken for what is in the mailbox.
    woken: AtomicBool,
    closed: AtomicBool,
    waker: Option<Waker>,
}

impl Mailbox {
    pub(crate) fn new(waker: Option<Waker>) -> Self {
        Self {
            calls: Mutex::default(),
            count: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(crate) fn take(&self) -> VecDeque<RemoteCall> {
        let mut calls = self.lock();
        self.woken.store(false, Ordering::Release);
        self.count.store(0, Ordering::Release);
        std::mem::take(&mut *calls)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.take());
    }

    fn send(&self, call: RemoteCall, limit: usize) -> Result<(), CallFromThreadError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CallFromThreadError::ReactorGone);
        }
        let mut calls = self.lock();
        if calls.len() >= limit {
            return Err(CallFromThreadError::Full);
        }
        calls.push_back(call);
        self.count.store(calls.len(), Ordering::Release);
        // under the lock: `woken` must not be set for calls that were taken already
        let wake = !self.woken.swap(true, Ordering::AcqRel);
        drop(calls);
        match &self.waker {
            Some(waker) if wake => waker.wake().map_err(|_| CallFromThreadError::ReactorGone),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<RemoteCall>> {
        // a panic cannot happen while it is held; and if it did, the calls would still be whole
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call could not be handed to the reactor. The call is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFromThreadError {
    /// 1,048,576 calls wait already.
    Full,
    /// The reactor has been dropped.
    ReactorGone,
}

impl fmt::Display for CallFromThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many calls wait for the reactor's thread",
            Self::ReactorGone => "the reactor is gone",
        })
    }
}

impl std::error::Error for CallFromThreadError {}

/// A reactor's handle for other threads; may be sent and shared.
///
/// ```
/// # use twistor_reactor::Reactor;
/// # fn main() -> std::io::Result<()> {
/// let reactor = Reactor::new()?;
/// let handle = reactor.handle();
/// std::thread::spawn(move || handle.call_from_thread(|reactor| reactor.stop()));
/// reactor.run()
/// # }
/// ```
#[derive(Clone)]
pub struct ReactorHandle {
    mailbox: Arc<Mailbox>,
}

impl ReactorHandle {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }

    /// Calls `f` in the reactor's thread, from its queue, in the order of the calls; once it runs, if it does not yet.
    ///
    /// # Errors
    /// [`CallFromThreadError`]; never blocks.
    pub fn call_from_thread(&self, f: impl FnOnce(&Reactor) + Send + 'static) -> Result<(), CallFromThreadError> {
        self.mailbox.send(Box::new(f), MAILBOX_LIMIT)
    }

    /// `call_from_thread` for what the reactor has asked for itself, of which there is a bounded number: it may not get
    /// lost where others are told that there is no room.
    pub(crate) fn give_back(&self, f: impl FnOnce(&Reactor) + Send + 'static) -> Result<(), CallFromThreadError> {
        self.mailbox.send(Box::new(f), usize::MAX)
    }

    /// [`Reactor::stop`] from another thread.
    ///
    /// # Errors
    /// As [`call_from_thread`](Self::call_from_thread).
    pub fn stop(&self) -> Result<(), CallFromThreadError> {
        self.call_from_thread(Reactor::stop)
    }
}

impl fmt::Debug for ReactorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReactorHandle")
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads for what blocks, made as they are needed; they end with the reactor, after the job at hand.
#[derive(Default)]
pub(crate) struct ThreadPool {
    state: RefCell<Option<PoolState>>,
}

struct PoolState {
    jobs: Sender<Job>,
    waiting: Arc<Mutex<Receiver<Job>>>,
    /// Threads less jobs: those at work and those that wait count both.
    free: Arc<AtomicIsize>,
    threads: usize,
}

impl ThreadPool {
    fn run(&self, job: Job) -> std::io::Result<()> {
        let mut state = self.state.borrow_mut();
        let pool = state.get_or_insert_with(|| {
            let (jobs, waiting) = channel();
            PoolState { jobs, waiting: Arc::new(Mutex::new(waiting)), free: Arc::default(), threads: 0 }
        });
        if pool.free.load(Ordering::Acquire) <= 0 && pool.threads < POOL_THREADS {
            let (waiting, free) = (pool.waiting.clone(), pool.free.clone());
            let spawned =
                std::thread::Builder::new().name("twistor-pool".to_owned()).spawn(move || work(&waiting, &free));
            match spawned {
                Ok(_) => {
                    pool.threads += 1;
                    pool.free.fetch_add(1, Ordering::AcqRel);
                }
                Err(error) if pool.threads == 0 => return Err(error),
                Err(error) => log::warn!("no further pool thread: {error}"),
            }
        }
        pool.free.fetch_sub(1, Ordering::AcqRel);
        pool.jobs.send(job).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, free: &AtomicIsize) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
        free.fetch_add(1, Ordering::AcqRel);
    }
}

pub(crate) fn defer_to_thread<T: Send + 'static>(
    reactor: &Reactor,
    f: impl FnOnce() -> T + Send + 'static,
) -> Deferred<T> {
    // The resolver stays in this thread: what crosses is the result alone, and a number to find the resolver by.
    let (resolver, deferred) = reactor.deferred();
    let slot = reactor.core.returns.add(Box::new(move |result| match result {
        Ok(value) => match value.downcast::<T>() {
            Ok(value) => resolver.resolve(*value),
            Err(_) => drop(resolver),
        },
        Err(failure) => resolver.fail(failure),
    }));
    let handle = reactor.handle();
    let job = move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        let result = match result {
            Ok(value) => Ok(Box::new(value) as Box<dyn std::any::Any + Send>),
            Err(payload) => Err(Failure::from_panic(&*payload)),
        };
        let delivered = handle.give_back(move |reactor| reactor.core.returns.finish(slot, result));
        if let Err(error) = delivered {
            log::debug!("a thread's result has nowhere to go: {error}");
        }
    };
    if let Err(error) = reactor.core.pool.run(Box::new(job)) {
        log::error!("no thread for a job: {error}");
        reactor.core.returns.finish(slot, Err(Failure::new(ReactorNotRunning::from(error))));
    }
    deferred
}

type Return = Box<dyn FnOnce(Result<Box<dyn std::any::Any + Send>, Failure>)>;

/// Jobs that are out in threads, and what is to be done with their results.
#[derive(Default)]
pub(crate) struct Returns {
    waiting: RefCell<slab::Slab<Return>>,
}

impl Returns {
    fn add(&self, then: Return) -> usize {
        self.waiting.borrow_mut().insert(then)
    }

    fn finish(&self, slot: usize, result: Result<Box<dyn std::any::Any + Send>, Failure>) {
        let then = self.waiting.borrow_mut().try_remove(slot);
        if let Some(then) = then {
            then(result);
        }
    }
}
