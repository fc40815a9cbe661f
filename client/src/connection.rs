//! One socket that carries frames: connecting, the WebSocket upgrade, reading, writing.
//!
//! Invariants: bytes that were read and not yet understood are at most one frame; nothing is
//! written out of order. The stream may be blocking (with timeouts) or not; both kinds of "not
//! now" look the same to the caller. Deliberately not here: what frames mean.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use wire::{ClientFrame, DecodeError, Event, Parser, Policy, ServerFrame, Transport};

use crate::address::{Address, AddressError, Scheme};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Largest frame taken from a server: the largest payload and a generous head.
const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Largest answer to an upgrade.
const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;
/// A drained output buffer larger than this is given back.
const OUTPUT_KEPT_BYTES: usize = 64 * 1024;
/// Random bytes fetched from the host at a time, four per frame.
const MASK_POOL_BYTES: usize = 64;

/// Why a connection can't be had, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody answers there.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The answer to the upgrade is no Myriad server's.
    #[error("{address} refused the upgrade: {reason}")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server sent what is no frame.
    #[error("the server sent what can't be read: {0}")]
    Frame(#[from] wire::FrameError),
    /// The server sent a frame that can't be understood.
    #[error("the server sent a frame that can't be read: {0}")]
    Decode(#[from] DecodeError),
}

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Nothing now.
    Idle,
    /// Bytes. `full`: there may well be more.
    Bytes {
        /// The whole read area was filled.
        full: bool,
    },
    /// The server closed, in WebSocket's way or TCP's.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    transport: Transport,
    parser: Parser,
    /// The head of a frame whose rest has not come.
    input: Vec<u8>,
    assembly: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    close_seen: bool,
    masks: Masks,
}

impl Connection {
    /// Connects and, on WebSocket, upgrades. The stream is left blocking, without timeouts.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub fn connect(url: &str, timeout: Duration) -> Result<Self, ConnectionError> {
        Self::connect_from(&Address::parse(url)?, None, timeout)
    }

    /// As [`Connection::connect`], from the given local address.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub fn connect_from(
        address: &Address,
        source: Option<IpAddr>,
        timeout: Duration,
    ) -> Result<Self, ConnectionError> {
        let stream = open(address, source, timeout)
            .map_err(|source| ConnectionError::Connect { address: address.to_string(), source })?;
        let transport = match address.scheme {
            Scheme::Tcp => Transport::Tcp,
            Scheme::WebSocket => Transport::WebSocket,
        };
        let mut connection = Self {
            stream,
            transport,
            parser: Parser::client(transport),
            input: Vec::new(),
            assembly: Vec::new(),
            output: Vec::new(),
            written: 0,
            close_seen: false,
            masks: Masks::default(),
        };
        match address.scheme {
            Scheme::Tcp => connection.output.extend_from_slice(&wire::TCP_PREAMBLE),
            Scheme::WebSocket => connection.upgrade(address, timeout)?,
        }
        Ok(connection)
    }

    /// Adds a frame to what is to be written.
    pub fn queue(&mut self, frame: &ClientFrame<'_>) {
        wire::write_client_frame(self.transport, self.masks.next(), frame, &mut self.output);
    }

    /// Adds bytes as they are: for tests of what a server does with them.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes what is waiting. Returns whether all of it is written.
    ///
    /// # Errors
    /// The socket failed.
    pub fn flush(&mut self) -> Result<bool, ConnectionError> {
        while let Some(rest) = self.output.get(self.written..)
            && !rest.is_empty()
        {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_not_now(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.written = 0;
        self.output.clear();
        if self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = Vec::new();
        }
        Ok(true)
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Reads once and hands out every whole frame. Answers to WebSocket pings and closes are
    /// queued: flush afterwards.
    ///
    /// # Errors
    /// The socket failed, or the server sent what can't be read; the connection is of no use then.
    pub fn receive(
        &mut self,
        each: &mut dyn FnMut(&ServerFrame<'_>),
    ) -> Result<Received, ConnectionError> {
        let mut area = [0; READ_BYTES];
        if !self.input.is_empty() {
            // Left over from the upgrade, or the head of a frame.
            let mut input = std::mem::take(&mut self.input);
            let used = self.parse(&mut input, each)?;
            input.drain(..used);
            self.input = input;
        }
        if self.close_seen {
            return Ok(Received::Closed);
        }
        let count = match self.stream.read(&mut area) {
            Ok(0) => return Ok(Received::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Received::Idle),
            Err(error) if is_not_now(&error) => return Ok(Received::Idle),
            Err(error) => return Err(error.into()),
        };
        let fresh = area.get_mut(..count).unwrap_or_default();
        if self.input.is_empty() {
            let used = self.parse(fresh, each)?;
            self.input.extend_from_slice(fresh.get(used..).unwrap_or_default());
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(fresh);
            let used = self.parse(&mut input, each)?;
            input.drain(..used);
            self.input = input;
        }
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = Vec::new(); // thousands of idle connections share this process
        }
        if self.close_seen {
            Ok(Received::Closed)
        } else {
            Ok(Received::Bytes { full: count == READ_BYTES })
        }
    }

    /// Says goodbye in WebSocket's way, if that is the transport, and ends the writing half.
    pub fn close(&mut self) {
        if self.transport == Transport::WebSocket && !self.close_seen {
            let mask = self.masks.next();
            let close = wire::Control::Close { code: 1000, reason: "" };
            wire::write_control(close, Some(mask), &mut self.output);
        }
        // The server may be gone already: there is nobody left to tell.
        let _ = self.flush();
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The socket: timeouts, blocking or not, addresses.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn upgrade(&mut self, address: &Address, timeout: Duration) -> Result<(), ConnectionError> {
        let refused =
            |reason: String| ConnectionError::Handshake { address: address.to_string(), reason };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| refused(error.to_string()))?;
        let mut request = Vec::with_capacity(256);
        wire::client_handshake(&address.authority(), &address.path, nonce, &mut request);
        self.stream.write_all(&request)?;
        let deadline = Instant::now() + timeout;
        let mut area = [0; 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(refused("no answer in time".to_owned()));
            }
            self.stream.set_read_timeout(Some(left))?;
            let count = match self.stream.read(&mut area) {
                Ok(0) => return Err(refused(first_line(&self.input))),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted || is_not_now(&error) => {
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.input.extend_from_slice(area.get(..count).unwrap_or_default());
            match wire::check_handshake_response(nonce, &self.input) {
                Ok(Some(used)) => {
                    self.input.drain(..used);
                    break;
                }
                Ok(None) if self.input.len() < HANDSHAKE_BYTES_MAX => {}
                Ok(None) => return Err(refused("its answer is too long".to_owned())),
                Err(error) => return Err(refused(error.to_string())),
            }
        }
        self.stream.set_read_timeout(None)?;
        Ok(())
    }

    fn parse(
        &mut self,
        input: &mut [u8],
        each: &mut dyn FnMut(&ServerFrame<'_>),
    ) -> Result<usize, ConnectionError> {
        let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
        let mut used = 0;
        while let Some(rest) = input.get_mut(used..)
            && !rest.is_empty()
            && !self.close_seen
        {
            let (count, event) = self.parser.next(rest, &mut self.assembly, &policy)?;
            used += count;
            match event {
                Event::More { .. } => break,
                Event::Frame(bytes) => match ServerFrame::decode(bytes) {
                    Ok(frame) => each(&frame),
                    Err(DecodeError::UnknownFrame) => {} // of a newer server
                    Err(error) => return Err(error.into()),
                },
                Event::Ping(payload) => {
                    let mask = self.masks.next();
                    wire::write_control(wire::Control::Pong(payload), Some(mask), &mut self.output);
                }
                Event::Close { code } => {
                    self.close_seen = true;
                    let mask = self.masks.next();
                    let close = wire::Control::Close { code, reason: "" };
                    wire::write_control(close, Some(mask), &mut self.output);
                }
                Event::Pong | Event::Skip | Event::Opened | Event::Upgraded(_) => {}
            }
        }
        Ok(used)
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Masks for the frames of a WebSocket client: not to be guessed by whoever chose the payload.
#[derive(Debug)]
struct Masks {
    pool: [u8; MASK_POOL_BYTES],
    used: usize,
}

impl Default for Masks {
    fn default() -> Self {
        Self { pool: [0; MASK_POOL_BYTES], used: MASK_POOL_BYTES }
    }
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        if self.used >= MASK_POOL_BYTES {
            // Without randomness the old bytes serve again: masking protects proxies from
            // hostile pages, and there is no page here.
            let _ = getrandom::fill(&mut self.pool);
            self.used = 0;
        }
        let mask = self.pool.get(self.used..).and_then(|rest| rest.first_chunk().copied());
        self.used += 4;
        mask.unwrap_or_default()
    }
}

fn open(address: &Address, source: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for target in (address.host.as_str(), address.port).to_socket_addrs()? {
        match open_one(target, source, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_one(
    target: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&target.into(), timeout)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// A timeout of a blocking socket and "would block" of the other kind both mean: later.
fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if line.is_empty() {
        "it closed without an answer".to_owned()
    } else {
        String::from_utf8_lossy(line).into_owned()
    }
}
