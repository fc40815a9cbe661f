//! The few calls of the io_uring engine that have no safe form. Linux only.

#![allow(
    unsafe_code,
    reason = "socket options and submissions that the crates offer no safe form of"
)]

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Lets the kernel choose the port when the socket connects, not when it is bound: then only the
/// whole pair of addresses has to be free.
pub(super) fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open while `socket` is borrowed, and the value is a whole `c_int`
    // whose length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
