//! Many client sockets of one thread, behind one contract in completion terms.
//!
//! What an engine promises:
//! - after `connect` one `Connected` or one `Ended` comes; after `Ended` nothing more of that slot;
//! - one write may be under way per slot; its `Written` comes when all of it is with the kernel,
//!   unless `write` says that it is already;
//! - `Data` is valid during the call only, and comes in order;
//! - after `close` no completion of that connection comes, and the slot is free at once;
//! - a held slot is read only by `read`, once per call.
//!
//! A slot is a number from 0 that its owner chooses, below the capacity asked for. Deliberately
//! not here: what bytes mean, when to connect.

mod ready;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(target_os = "linux")]
mod uring;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// A buffer larger than this is not kept for the next write.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// The name of the engine that takes no files of the process.
pub(crate) const URING: &str = "io_uring";

/// What happened to a socket.
#[derive(Debug)]
pub(crate) enum Completion<'a> {
    /// It stands.
    Connected,
    /// Bytes came; they may be changed in place.
    Data(&'a mut [u8]),
    /// All that was given to `write` is with the kernel.
    Written,
    /// It is gone: closed by the server (`None`) or failed.
    Ended(Option<io::Error>),
}

/// See the module.
pub(crate) trait Sockets {
    /// Name for the report.
    fn name(&self) -> &'static str;

    /// Begins to connect to one of the targets, from a source address if one is given.
    ///
    /// # Errors
    /// The host has no socket to give, or no port.
    fn connect(&mut self, slot: u32, target: usize, source: Option<IpAddr>) -> io::Result<()>;

    /// Writes; `true`: all is with the kernel, and no `Written` comes.
    fn write(&mut self, slot: u32, bytes: Vec<u8>) -> bool;

    /// Whether the slot is read only by [`Sockets::read`] from now on.
    fn hold(&mut self, slot: u32, held: bool);

    /// Reads a held slot once, at most so many bytes, if something came.
    fn read(&mut self, slot: u32, bytes_max: usize);

    /// Closes at once, with what was written being sent still.
    fn close(&mut self, slot: u32);

    /// Those to fill for `write`; what was not needed goes back there.
    fn buffers(&mut self) -> &mut Buffers;

    /// Waits at most so long for completions and hands them out.
    ///
    /// # Errors
    /// The engine itself failed.
    fn wait(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) -> io::Result<()>;
}

/// Buffers for writing, used again and again.
#[derive(Debug)]
pub(crate) struct Buffers {
    kept: Vec<Vec<u8>>,
    most: usize,
}

impl Buffers {
    /// Keeps so many at the most.
    fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most }
    }

    /// An empty one.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.kept.pop().unwrap_or_default()
    }

    /// Takes one back, whatever is in it.
    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.kept.len() < self.most && buffer.capacity() <= BUFFER_KEPT_BYTES {
            buffer.clear();
            self.kept.push(buffer);
        }
    }
}

/// Which engine to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Engine {
    /// io_uring if it works here, else epoll.
    #[default]
    Auto,
    /// Readiness: epoll, kqueue.
    Epoll,
    /// io_uring with direct descriptors.
    Uring,
}

/// Opens the engine of one thread for `slots` clients; `Err` says why not in words. With
/// [`Engine::Auto`] the second value says why it is not io_uring.
pub(crate) fn open(
    engine: Engine,
    targets: &[SocketAddr],
    slots: u32,
) -> Result<(Box<dyn Sockets>, Option<String>), String> {
    let ready = || -> Result<Box<dyn Sockets>, String> {
        let sockets = ready::Ready::new(targets, slots);
        Ok(Box::new(sockets.map_err(|error| format!("no epoll: {error}"))?))
    };
    match engine {
        Engine::Epoll => Ok((ready()?, None)),
        Engine::Uring => open_uring(targets, slots).map(|sockets| (sockets, None)),
        Engine::Auto => match open_uring(targets, slots) {
            Ok(sockets) => Ok((sockets, None)),
            Err(why) => Ok((ready()?, Some(why))),
        },
    }
}

#[cfg(target_os = "linux")]
fn open_uring(targets: &[SocketAddr], slots: u32) -> Result<Box<dyn Sockets>, String> {
    let sockets = uring::Uring::new(targets, slots);
    Ok(Box::new(sockets.map_err(|error| format!("io_uring does not work here: {error}"))?))
}

#[cfg(not(target_os = "linux"))]
fn open_uring(_targets: &[SocketAddr], _slots: u32) -> Result<Box<dyn Sockets>, String> {
    Err("io_uring is of Linux".to_owned())
}

/// A socket that can connect: bound to its source, not blocking, without Nagle's delay.
pub(crate) fn socket(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        #[cfg(target_os = "linux")]
        ring::bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    /// What a server says last and its end may be one event.
    #[test]
    fn an_end_that_comes_with_bytes_is_heard_at_once() {
        for engine in [Engine::Epoll, Engine::Uring] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let Ok((mut sockets, _)) = open(engine, &[listener.local_addr().unwrap()], 1) else {
                assert_ne!(engine, Engine::Epoll, "it works everywhere");
                continue;
            };
            sockets.connect(0, 0, None).unwrap();
            let server = std::thread::spawn(move || {
                let (mut accepted, _) = listener.accept().unwrap();
                accepted.write_all(b"bye").unwrap();
            });
            let (mut heard, mut ended, mut server) = (Vec::new(), false, Some(server));
            let began = Instant::now();
            while !ended && began.elapsed() < Duration::from_secs(20) {
                let mut each = |_, completion: Completion<'_>| match completion {
                    Completion::Data(bytes) => heard.extend_from_slice(bytes),
                    Completion::Ended(error) => {
                        assert!(error.is_none(), "{engine:?}: {error:?}");
                        ended = true;
                    }
                    Completion::Connected | Completion::Written => {}
                };
                sockets.wait(Duration::from_millis(1), &mut each).unwrap();
                // The connection is on its way; the next wait finds all there is at once.
                if let Some(server) = server.take() {
                    server.join().unwrap();
                }
            }
            assert!(ended, "{engine:?} did not hear the end");
            assert_eq!(heard, b"bye", "{engine:?}");
        }
    }
}
