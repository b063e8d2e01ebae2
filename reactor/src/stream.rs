//! What lies under a transport: a socket, or a pipe in memory.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::address::Address;
use crate::conn::Readiness;
use crate::failure::Failure;

/// A peer that is gone is an error, not a SIGPIPE: std's own `write` says so, its `write_vectored` does not. Apple has an
/// option of the socket for it, which std sets.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: libc::c_int = 0;

/// A non-blocking byte stream. `WouldBlock` means that an event will come when it is worth another try.
pub(crate) trait Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, data: &[u8]) -> io::Result<usize>;
    /// For a stream that has no call for several at once: one after the other.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for slice in slices {
            match self.write(slice) {
                Ok(count) => total += count,
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(total)
    }
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// What the next read would say of the end, if no data is before that.
    fn end(&mut self) -> Option<io::Result<()>>;
    /// An error that waits on the socket, though nobody reads.
    fn take_error(&mut self) -> Option<io::Error>;
    /// Why it broke, where that is more than an error of the system.
    fn reason(&mut self) -> Option<Failure> {
        None
    }
    /// Whether what is written at once arrives as such, and must not be put together with other writes.
    fn keeps_records(&self) -> bool {
        false
    }
    /// Closing it from now on resets the connection (TCP: RST instead of FIN).
    fn set_abortive(&mut self);
    /// It is dropped now, the reactor being there still: for what does not close by that alone.
    fn closed(&mut self) {}
    /// Bytes written that the peer has not taken yet, as far as is known.
    fn in_flight(&self) -> usize;
    fn host(&self) -> io::Result<Address>;
    fn nodelay(&self) -> io::Result<bool>;
    fn set_nodelay(&mut self, on: bool) -> io::Result<()>;
    fn keepalive(&self) -> io::Result<bool>;
    fn set_keepalive(&mut self, on: bool) -> io::Result<()>;
    /// What a poller would say, for a stream that has none.
    fn readiness(&self) -> Readiness {
        Readiness::default()
    }
}

impl Stream for TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    #[inline]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Write::write(self, data)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_io(|| SockRef::from(&*self).send_vectored_with_flags(slices, NO_SIGNAL))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }

    fn end(&mut self) -> Option<io::Result<()>> {
        match self.peek(&mut [0]) {
            Ok(count) => (count == 0).then_some(Ok(())),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn take_error(&mut self) -> Option<io::Error> {
        Self::take_error(self).ok().flatten()
    }

    fn set_abortive(&mut self) {
        if let Err(error) = SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO)) {
            log::debug!("SO_LINGER: {error}");
        }
    }

    fn in_flight(&self) -> usize {
        crate::sys::unacknowledged(self.as_fd()).unwrap_or(0)
    }

    fn host(&self) -> io::Result<Address> {
        self.local_addr().map(Address::from)
    }

    fn nodelay(&self) -> io::Result<bool> {
        Self::nodelay(self)
    }

    fn set_nodelay(&mut self, on: bool) -> io::Result<()> {
        Self::set_nodelay(self, on)
    }

    fn keepalive(&self) -> io::Result<bool> {
        SockRef::from(self).keepalive()
    }

    fn set_keepalive(&mut self, on: bool) -> io::Result<()> {
        SockRef::from(&*self).set_keepalive(on)
    }
}
