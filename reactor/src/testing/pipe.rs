//! Byte streams in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use crate::address::Address;
use crate::conn::Readiness;
use crate::stream::Stream;

/// What one end has sent and the other has not read yet.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// How many bytes it holds before a write would block.
    room: usize,
    /// At most so many bytes a read.
    chunk: usize,
    finished: bool,
    reset: bool,
    /// The reading end is closed: writing to it breaks the connection.
    deaf: bool,
}

impl Pipe {
    fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { room: usize::MAX, chunk: usize::MAX, ..Self::default() }))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reset {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        let count = buffer.len().min(self.bytes.len()).min(self.chunk);
        if count == 0 {
            return if self.finished { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (slot, byte) in buffer.iter_mut().zip(self.bytes.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.deaf || self.reset {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        let count = data.len().min(self.room.saturating_sub(self.bytes.len()));
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.bytes.extend(&data[..count]);
        Ok(count)
    }
}

/// One end of a connection in memory.
pub(super) struct MemoryStream {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
    host: Address,
    abortive: bool,
    nodelay: bool,
    keepalive: bool,
    /// A write was not taken whole: it is worth an event when there is room, as with a poller.
    refused: Cell<bool>,
    /// Counts what moved, so that a test's reactor knows when it has settled.
    moved: Rc<Cell<u64>>,
}

/// Two ends, joined; each may be a transport's stream.
pub(super) fn pair(hosts: [Address; 2], moved: &Rc<Cell<u64>>) -> [MemoryStream; 2] {
    let pipes = [Pipe::new(), Pipe::new()];
    let [first, second] = hosts;
    let end = |incoming: usize, host| MemoryStream {
        incoming: pipes[incoming].clone(),
        outgoing: pipes[1 - incoming].clone(),
        host,
        abortive: false,
        nodelay: true,
        keepalive: false,
        refused: Cell::new(false),
        moved: moved.clone(),
    };
    [end(0, first), end(1, second)]
}

impl MemoryStream {
    pub(super) fn set_chunk(&self, bytes: usize) {
        self.incoming.borrow_mut().chunk = bytes.max(1);
    }

    /// Nothing written is ever taken.
    pub(super) fn block(&self) {
        self.outgoing.borrow_mut().room = 0;
    }

    fn count<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_ok() {
            self.moved.set(self.moved.get() + 1);
        }
        result
    }
}

impl Stream for MemoryStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.incoming.borrow_mut().read(buffer);
        self.count(result)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.outgoing.borrow_mut().write(data);
        self.refused.set(!matches!(&result, Ok(count) if *count == data.len()));
        self.count(result)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.outgoing.borrow_mut().finished = true;
        self.count(Ok(()))
    }

    fn end(&mut self) -> Option<io::Result<()>> {
        let pipe = self.incoming.borrow();
        if pipe.reset {
            return Some(Err(io::Error::from_raw_os_error(libc::ECONNRESET)));
        }
        (pipe.finished && pipe.bytes.is_empty()).then_some(Ok(()))
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.incoming.borrow().reset.then(|| io::Error::from_raw_os_error(libc::ECONNRESET))
    }

    fn set_abortive(&mut self) {
        self.abortive = true;
    }

    fn in_flight(&self) -> usize {
        self.outgoing.borrow().bytes.len()
    }

    fn host(&self) -> io::Result<Address> {
        Ok(self.host.clone())
    }

    fn nodelay(&self) -> io::Result<bool> {
        Ok(self.nodelay)
    }

    fn set_nodelay(&mut self, on: bool) -> io::Result<()> {
        self.nodelay = on;
        Ok(())
    }

    fn keepalive(&self) -> io::Result<bool> {
        Ok(self.keepalive)
    }

    fn set_keepalive(&mut self, on: bool) -> io::Result<()> {
        self.keepalive = on;
        Ok(())
    }

    fn readiness(&self) -> Readiness {
        let (incoming, outgoing) = (self.incoming.borrow(), self.outgoing.borrow());
        let ended = incoming.finished || incoming.reset;
        let writable = (outgoing.bytes.len() < outgoing.room || outgoing.deaf) && self.refused.replace(false);
        Readiness { readable: ended || !incoming.bytes.is_empty(), writable, ended, error: incoming.reset }
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.moved.set(self.moved.get() + 1);
        let mut outgoing = self.outgoing.borrow_mut();
        if self.abortive {
            outgoing.reset = true;
        } else {
            outgoing.finished = true;
        }
        self.incoming.borrow_mut().deaf = true;
    }
}

/// The far end of a connection in memory, in a test's hands. What it does is seen after
/// [`MemoryReactor::settle`](super::MemoryReactor::settle). Dropping it closes it.
pub struct MemoryPeer {
    stream: RefCell<Option<MemoryStream>>,
    received: RefCell<Vec<u8>>,
}

impl MemoryPeer {
    pub(super) fn new(stream: MemoryStream) -> Self {
        Self { stream: RefCell::new(Some(stream)), received: RefCell::default() }
    }

    /// Sends bytes; ignored once the connection is gone.
    pub fn send(&self, data: impl AsRef<[u8]>) {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            let _ = stream.write(data.as_ref());
        }
    }

    /// Takes what has come since the last call.
    pub fn received(&self) -> Vec<u8> {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                self.received.borrow_mut().extend_from_slice(&buffer[..count]);
            }
        }
        self.received.take()
    }

    /// From now on at most `bytes` unread ones are taken: a peer that does not read. `usize::MAX` takes all again.
    pub fn set_room(&self, bytes: usize) {
        if let Some(stream) = &*self.stream.borrow() {
            stream.incoming.borrow_mut().room = bytes;
        }
    }

    /// At most `bytes` of what this peer sends arrive in one read.
    pub fn set_chunk(&self, bytes: usize) {
        if let Some(stream) = &*self.stream.borrow() {
            stream.outgoing.borrow_mut().chunk = bytes.max(1);
        }
    }

    /// Closes the sending half (FIN).
    pub fn finish(&self) {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            let _ = stream.shutdown_write();
        }
    }

    /// Closes (FIN, and what comes is not read).
    pub fn close(&self) {
        drop(self.stream.take());
    }

    /// Resets the connection (RST).
    pub fn reset(&self) {
        let stream = self.stream.take();
        if let Some(mut stream) = stream {
            stream.set_abortive();
        }
    }

    /// Whether the other side has closed (FIN), all it sent having been received.
    pub fn saw_end(&self) -> bool {
        let stream = self.stream.borrow();
        stream.as_ref().is_some_and(|stream| {
            let pipe = stream.incoming.borrow();
            pipe.finished && pipe.bytes.is_empty() && !pipe.reset
        })
    }

    /// Whether the other side has reset the connection (RST).
    pub fn saw_reset(&self) -> bool {
        self.stream.borrow().as_ref().is_some_and(|stream| stream.incoming.borrow().reset)
    }
}

impl fmt::Debug for MemoryPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryPeer(open: {})", self.stream.borrow().is_some())
    }
}
