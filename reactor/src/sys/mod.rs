//! What the system tells only through unsafe calls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that were written to a socket and that its peer has not acknowledged yet.
#[allow(unsafe_code)] // no crate in use wraps this ioctl
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCOUTQ (Linux's SIOCOUTQ) writes one int
    // to where the pointer points, which is a live one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}
