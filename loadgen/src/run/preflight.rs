//! One login before the run, so that a wrong address or token is one clear line.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::RunError;
use super::host::explain;
use super::sockets::socket;
use crate::interrupt;
use crate::protocol::{Event, Protocol};

/// Longest wait of one read or for a call that blocks, so that an interruption is noticed.
const READ_WAIT: Duration = Duration::from_millis(100);

/// The address of a target.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, RunError> {
    let failed = |why: String| RunError::Target(format!("can't find {host}: {why}"));
    let name = host.to_owned();
    let found = aside(move || (name.as_str(), port).to_socket_addrs())?;
    let mut addresses = found.map_err(|error| failed(error.to_string()))?;
    addresses.next().ok_or_else(|| failed("the name has no address".to_owned()))
}

/// Logs client 0 in, from a source address if there is one, and leaves again.
pub(crate) fn check(
    protocol: &dyn Protocol,
    target: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> Result<(), RunError> {
    let failed = |why: String| RunError::Target(format!("can't log in at {target}: {why}"));
    let io = |error: std::io::Error| failed(explain(&error));
    let mut stream = aside(move || connect(target, source, timeout))?.map_err(io)?;
    stream.set_read_timeout(Some(READ_WAIT)).map_err(io)?;
    stream.set_write_timeout(Some(timeout)).map_err(io)?;
    let mut speaker = protocol.speaker(0).map_err(RunError::Arguments)?;
    speaker.connected(0);
    let started = Instant::now();
    let mut area = vec![0; 16 * 1024];
    let mut out = Vec::new();
    loop {
        speaker.take_output(&mut out);
        stream.write_all(&out).map_err(io)?;
        out.clear();
        if interrupt::requested() {
            return Err(RunError::Interrupted);
        }
        if started.elapsed() > timeout {
            return Err(failed(format!("no answer to the login within {timeout:?}")));
        }
        let count = match stream.read(&mut area) {
            Ok(0) => return Err(failed("the server closed the connection".to_owned())),
            Ok(count) => count,
            Err(error) if is_not_now(error.kind()) => continue,
            Err(error) => return Err(io(error)),
        };
        let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut ready = false;
        let mut goodbye = None;
        let bytes = area.get_mut(..count).unwrap_or_default();
        let result = speaker.receive(bytes, now_ms, &mut |event| match event {
            Event::Ready => ready = true,
            Event::Goodbye { reason, hopeless, .. } => goodbye = Some((reason, hopeless)),
            _ => {}
        });
        match (goodbye, result) {
            (Some((reason, true)), _) => {
                return Err(failed(format!(
                    "the server refused the token ({reason}): is --auth-secret-file the secret \
                     that server runs with?"
                )));
            }
            (Some((reason, false)), _) => return Err(failed(reason)),
            (None, Err(why)) => return Err(failed(why)),
            (None, Ok(())) if ready => break,
            (None, Ok(())) => {}
        }
    }
    speaker.close(&mut out);
    // The login was all that was wanted.
    let _ = stream.write_all(&out);
    Ok(())
}

fn connect(
    target: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> std::io::Result<TcpStream> {
    let socket = socket(target, source)?;
    socket.connect_timeout(&target.into(), timeout)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// Does what may block for long on a thread of its own. After an interruption nobody waits for it:
/// it ends with the process, or by itself.
fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    let (sender, receiver) = channel();
    let body = move || {
        let _ = sender.send(work()); // nobody listens after an interruption
    };
    let spawned = thread::Builder::new().name("preflight".to_owned()).spawn(body);
    spawned.map_err(|error| RunError::Engine(format!("no thread: {error}")))?;
    loop {
        match receiver.recv_timeout(READ_WAIT) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) if interrupt::requested() => {
                return Err(RunError::Interrupted);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(RunError::Engine("a thread of the preflight panicked".to_owned()));
            }
        }
    }
}

fn is_not_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
