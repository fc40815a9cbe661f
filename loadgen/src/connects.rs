//! The yardstick of logins: how fast two threads connect and accept, and nothing else.
//!
//! One thread connects, the other accepts; both keep what they get until all are there. What a
//! server does on top (reading a token, looking a user up, watching the socket) shows against it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::{Domain, SockRef, Socket, Type};

use crate::usage;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// Connections, all open at the same time.
    pub connections: usize,
    /// Until the last one was accepted.
    pub seconds: f64,
    /// Connections per second.
    pub per_second: f64,
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectsError {
    /// Each connection takes two files.
    #[error("{0} connections need {1} files and this process may have {2}; ask for fewer")]
    Files(usize, u64, u64),
    /// A socket failed.
    #[error("can't connect or accept: {0}")]
    Socket(#[from] io::Error),
    /// A thread ended without a result.
    #[error("the accepting thread stopped")]
    Stopped,
}

/// Connects so many times to itself.
///
/// # Errors
/// See [`ConnectsError`].
pub fn measure(connections: usize) -> Result<Report, ConnectsError> {
    let (needed, files) = (2 * connections as u64 + 16, usage::raise_file_limit());
    if needed > files {
        return Err(ConnectsError::Files(connections, needed, files));
    }
    let listener = listen()?;
    let address = listener.local_addr()?;
    let began = Instant::now();
    let accepting = thread::spawn(move || {
        let mut taken = Vec::with_capacity(connections);
        while taken.len() < connections {
            taken.push(listener.accept()?.0);
        }
        Ok::<_, io::Error>((taken, began.elapsed()))
    });
    let mut made = Vec::with_capacity(connections);
    while made.len() < connections {
        made.push(TcpStream::connect(address)?);
    }
    let (_taken, passed) = accepting.join().map_err(|_| ConnectsError::Stopped)??;
    for stream in &made {
        // A reset leaves no port behind that can't be used for a minute.
        SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    let seconds = passed.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let per_second = connections as f64 / seconds;
    Ok(Report { connections, seconds, per_second })
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::{ConnectsError, measure};

    #[test]
    fn connections_are_counted_and_too_many_refused() {
        let report = measure(50).unwrap();
        assert_eq!(report.connections, 50);
        assert!(report.per_second > 0.0);
        assert!(matches!(measure(1 << 40), Err(ConnectsError::Files(..))));
    }
}
