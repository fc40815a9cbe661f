//! Listening sockets and the options of accepted ones.
//!
//! Owner: the server at start. Each shard gets one listener of a group on the same address; the
//! kernel spreads connections over the group by a hash of the addresses (`SO_REUSEPORT` on Linux,
//! `SO_REUSEPORT_LB` on FreeBSD, whose plain variant does not spread). No steering by core: a
//! session moves to its user's home anyway.
//!
//! Options, set on the listener, from which the kernels copy them to accepted sockets (so a new
//! connection costs no system call for them):
//!
//! - `TCP_NODELAY` on: one send per connection and turn already holds all there is to send.
//! - `SO_KEEPALIVE` stays off: heartbeats of the protocol notice dead peers sooner, and for ten
//!   million idle sessions the kernel's timers and probes are not free.
//! - `TCP_USER_TIMEOUT` (Linux) is [`USER_TIMEOUT_MS`](crate::limits::USER_TIMEOUT_MS): bytes
//!   un-acknowledged for so long end the connection, even if no rule of the session does.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(target_os = "linux")]
use std::time::Duration;

/// Opens `n` non-blocking listeners on one address. With port 0 the first picks a free port and
/// the others share it. `backlog`: connections that may wait in each, capped by the system
/// (`net.core.somaxconn`, `kern.ipc.soacceptqueue`).
///
/// # Errors
/// What the system says, with the address and what to do about it. In particular an address on
/// which anybody listens already is refused, also where the system would let a second process of
/// the same user join in and take half of the connections.
pub fn bind_group(address: SocketAddr, n: usize, backlog: u32) -> io::Result<Vec<TcpListener>> {
    let explain = |error| explain(address, &error);
    if address.port() != 0 {
        // Without the sharing option the bind fails if anybody listens there.
        open(address, false, backlog).map_err(explain)?;
    }
    let mut listeners = Vec::with_capacity(n);
    let mut address = address;
    for _ in 0..n {
        let listener = open(address, true, backlog).map_err(explain)?;
        address.set_port(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Sets what accepted connections shall inherit.
///
/// # Errors
/// What the system says.
pub fn prepare_listener(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_millis(crate::limits::USER_TIMEOUT_MS)))?;
    Ok(())
}

fn open(address: SocketAddr, shared: bool, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?; // `[::]` means everybody; the systems' defaults differ
    }
    // Connections of an earlier process that linger must not keep the server from starting.
    socket.set_reuse_address(true)?;
    if shared {
        #[cfg(target_os = "freebsd")]
        socket.set_reuse_port_lb(true)?;
        #[cfg(not(target_os = "freebsd"))]
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from(socket);
    prepare_listener(&listener)?;
    Ok(listener)
}

/// The same error in words that help.
fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there: stop it (`ss -ltnp` or `sockstat -l` names it), choose \
             another port, or port 0 for a free one"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: choose a higher one, or give the program \
             cap_net_bind_service"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host does not have that address: choose one that `ip address` or `ifconfig` \
             shows, or 0.0.0.0 for all"
        }
        _ => return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::bind_group;
    use std::io::ErrorKind;

    #[test]
    fn a_group_shares_one_port() {
        let group = bind_group("127.0.0.1:0".parse().unwrap(), 3, 16).unwrap();
        let ports: Vec<_> = group.iter().map(|one| one.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn an_address_in_use_is_refused_with_advice_even_by_ourselves() {
        let group = bind_group("127.0.0.1:0".parse().unwrap(), 2, 16).unwrap();
        let error = bind_group(group[0].local_addr().unwrap(), 2, 16).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another process listens there"), "{error}");
        let port = group[0].local_addr().unwrap();
        drop(group);
        assert_eq!(bind_group(port, 2, 16).unwrap().len(), 2);
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_advice() {
        let error = bind_group("192.0.2.1:0".parse().unwrap(), 1, 16).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("does not have that address"), "{error}");
    }

    #[test]
    fn everybody_on_ipv6_includes_ipv4() {
        let Ok(group) = bind_group("[::]:0".parse().unwrap(), 1, 16) else {
            return; // a host without IPv6
        };
        let port = group[0].local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
