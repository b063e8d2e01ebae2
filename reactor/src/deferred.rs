//! `Deferred` and `Resolver`: the two ends of one result; and futures on the reactor.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::core::Core;
use crate::dispatch::guarded;
use crate::error::ResolverDropped;
use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::thread::ReactorHandle;

type Errback = Box<dyn FnOnce(Failure)>;
type Callback<T> = Box<dyn FnOnce(Result<T, Failure>)>;

enum State<T> {
    Pending {
        callback: Option<Callback<T>>,
        waker: Option<Waker>,
    },
    Fired(Result<T, Failure>),
    /// The result was handed on, or nobody wants it.
    Done,
}

struct Shared<T> {
    core: Weak<Core>,
    state: Cell<State<T>>,
}

impl<T: 'static> Shared<T> {
    fn fire(self: Rc<Self>, result: Result<T, Failure>) {
        match self.state.replace(State::Done) {
            State::Pending { callback: Some(callback), .. } => self.deliver(callback, result),
            State::Pending { waker, .. } => {
                self.state.set(State::Fired(result));
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Fired(_) => unreachable!("a Resolver is consumed by firing"),
            State::Done => {}
        }
    }

    /// From the queue: `resolve` and `add_callback` are handle methods, which run no user code.
    fn deliver(&self, callback: Callback<T>, result: Result<T, Failure>) {
        match self.core.upgrade() {
            Some(core) => core.call_soon(Box::new(move |_| callback(result))),
            None => drop((callback, result)),
        }
    }
}

/// A result that is not there yet: `twisted.internet.defer.Deferred`. Also a `Future<Output = Result<T, Failure>>`.
///
/// Callbacks run from the reactor's queue, never inside `resolve`. Each `add_*` consumes the Deferred and gives the
/// one for the callback's own result, so that a chain reads as in Twisted. A failure that reaches the end of its chain
/// unhandled is logged.
///
/// ```
/// use twistor_reactor::testing::MemoryReactor;
/// let reactor = MemoryReactor::new();
/// let (resolver, deferred) = reactor.deferred::<u32>();
/// let _ = deferred.add_callback(|n| n + 1).add_callback(|n| assert_eq!(n, 42));
/// resolver.resolve(41);
/// reactor.settle();
/// ```
#[must_use = "its result, or its failure, is lost otherwise; drop it if that is meant"]
pub struct Deferred<T: 'static> {
    shared: Option<Rc<Shared<T>>>,
}

/// The end that fires a [`Deferred`]; consumed by it, so that firing twice does not compile. Dropped unfired, it fails
/// its Deferred with [`ResolverDropped`].
pub struct Resolver<T: 'static> {
    shared: Option<Rc<Shared<T>>>,
}

impl<T: 'static> Deferred<T> {
    pub(crate) fn new(core: &Rc<Core>) -> (Resolver<T>, Self) {
        Self::with_core(Rc::downgrade(core))
    }

    fn with_core(core: Weak<Core>) -> (Resolver<T>, Self) {
        let state = Cell::new(State::Pending { callback: None, waker: None });
        let shared = Rc::new(Shared { core, state });
        (Resolver { shared: Some(shared.clone()) }, Self { shared: Some(shared) })
    }

    /// Calls `f` with the value, if there comes one.
    pub fn add_callback<U: 'static>(self, f: impl FnOnce(T) -> U + 'static) -> Deferred<U> {
        self.chain(move |result, resolver| match result {
            Ok(value) => resolver.resolve_with(|| f(value)),
            Err(failure) => resolver.fail(failure),
        })
    }

    /// Calls `f` with the failure, if there comes one; what it returns takes the value's place.
    pub fn add_errback(self, f: impl FnOnce(Failure) -> T + 'static) -> Self {
        self.chain(move |result, resolver| match result {
            Ok(value) => resolver.resolve(value),
            Err(failure) => resolver.resolve_with(|| f(failure)),
        })
    }

    /// Calls `f` with whatever comes.
    pub fn add_both<U: 'static>(self, f: impl FnOnce(Result<T, Failure>) -> U + 'static) -> Deferred<U> {
        self.chain(move |result, resolver| resolver.resolve_with(|| f(result)))
    }

    fn chain<U: 'static>(mut self, then: impl FnOnce(Result<T, Failure>, Resolver<U>) + 'static) -> Deferred<U> {
        let Some(shared) = self.shared.take() else { unreachable!("only dropping takes it") };
        let (resolver, next) = Deferred::with_core(shared.core.clone());
        let callback: Callback<T> = Box::new(move |result| then(result, resolver));
        match shared.state.replace(State::Done) {
            State::Fired(result) => shared.deliver(callback, result),
            State::Pending { .. } => shared.state.set(State::Pending { callback: Some(callback), waker: None }),
            State::Done => drop(callback),
        }
        next
    }
}

impl<T> Future for Deferred<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(shared) = &self.shared else {
            return Poll::Pending;
        };
        match shared.state.replace(State::Done) {
            State::Fired(result) => Poll::Ready(result),
            State::Pending { callback, .. } => {
                shared.state.set(State::Pending { callback, waker: Some(context.waker().clone()) });
                Poll::Pending
            }
            State::Done => Poll::Ready(Err(Failure::new(ResolverDropped::new()))),
        }
    }
}

impl<T> Drop for Deferred<T> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        match shared.state.replace(State::Done) {
            State::Fired(Err(failure)) => log::error!("Unhandled error in Deferred: {failure}"),
            State::Fired(Ok(_)) | State::Done => {}
            // nobody listens any more; a failure is still worth a line
            State::Pending { .. } => {
                let log = |result: Result<T, Failure>| {
                    if let Err(failure) = result {
                        log::error!("Unhandled error in Deferred: {failure}");
                    }
                };
                shared.state.set(State::Pending { callback: Some(Box::new(log)), waker: None });
            }
        }
    }
}

impl<T> Resolver<T> {
    /// Fires the Deferred with a value.
    pub fn resolve(self, value: T) {
        self.fire(Ok(value));
    }

    /// Fires the Deferred with a failure.
    pub fn fail(self, failure: Failure) {
        self.fire(Err(failure));
    }

    fn resolve_with(self, f: impl FnOnce() -> T) {
        let result = guarded("a Deferred's callback", f);
        self.fire(result);
    }

    fn fire(mut self, result: Result<T, Failure>) {
        if let Some(shared) = self.shared.take() {
            shared.fire(result);
        }
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.fire(Err(Failure::new(ResolverDropped::new())));
        }
    }
}

impl<T> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deferred")
    }
}

impl<T> fmt::Debug for Resolver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// A spawned future. Its wakers are numbers in other threads' hands; the future stays here.
pub(crate) struct Task {
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    /// Fails the Deferred of a future that panicked.
    fail: Cell<Option<Errback>>,
}

/// The spawned futures of a reactor.
pub(crate) type Tasks = RefCell<slab::Slab<Rc<Task>>>;

struct TaskWaker {
    key: usize,
    /// It has been woken, and is going to be polled.
    woken: AtomicBool,
    handle: ReactorHandle,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = self.clone();
        let woken = self.handle.give_back(move |reactor| poll_task(reactor, &this));
        if let Err(error) = woken {
            log::debug!("a spawned future cannot be woken: {error}");
        }
    }
}

pub(crate) fn spawn<T: 'static>(reactor: &Reactor, future: impl Future<Output = T> + 'static) -> Deferred<T> {
    let (resolver, deferred) = reactor.deferred();
    let resolver = Rc::new(Cell::new(Some(resolver)));
    let unfired = resolver.clone();
    let future = async move {
        let value = future.await;
        if let Some(resolver) = resolver.take() {
            resolver.resolve(value);
        }
    };
    let fail = move |failure| {
        if let Some(resolver) = unfired.take() {
            resolver.fail(failure);
        }
    };
    let task = Rc::new(Task { future: RefCell::new(Some(Box::pin(future))), fail: Cell::new(Some(Box::new(fail))) });
    let key = reactor.core.tasks.borrow_mut().insert(task);
    let waker = Arc::new(TaskWaker { key, woken: AtomicBool::new(false), handle: reactor.handle() });
    reactor.core.call_soon(Box::new(move |reactor| poll_task(reactor, &waker)));
    deferred
}

fn poll_task(reactor: &Reactor, waker: &Arc<TaskWaker>) {
    waker.woken.store(false, Ordering::Release);
    let task = reactor.core.tasks.borrow().get(waker.key).cloned();
    let Some(task) = task else { return };
    let Some(mut future) = task.future.borrow_mut().take() else {
        return;
    };
    let std_waker = Waker::from(waker.clone());
    let outcome = guarded("a spawned future", || future.as_mut().poll(&mut Context::from_waker(&std_waker)));
    match outcome {
        Ok(Poll::Pending) => *task.future.borrow_mut() = Some(future),
        Ok(Poll::Ready(())) => {}
        Err(failure) => {
            if let Some(fail) = task.fail.take() {
                fail(failure);
            }
        }
    }
    if task.future.borrow().is_none() {
        let done = reactor.core.tasks.borrow_mut().try_remove(waker.key);
        drop(done); // user code; nothing is borrowed
    }
}
