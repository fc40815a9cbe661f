//! The yardstick: Redis with `appendfsync always` takes the same payloads, a list per recipient.
//!
//! `RPUSH`, the cheapest command that keeps them in order; pipelined, with as many commands under
//! way per connection as the server under test has messages. Redis answers after the sync.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{Cost, DurableError, Options, cost};
use crate::{interrupt, usage};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 * 1024;
const EVENTS_PER_TURN: usize = 4_096;
/// Commands per connection before measuring.
const WARM_UP: u64 = 64;

/// Starts a Redis of our own, fills it, ends it.
pub(super) fn measure(options: &Options) -> Result<Cost, DurableError> {
    let failed = |error| DurableError::Io("redis", error);
    let folder = tempfile::Builder::new().prefix("myriad-redis-").tempdir().map_err(failed)?;
    let server = Server::start(&options.redis_binary, folder.path()).map_err(failed)?;
    let mut pushers = Pushers::connect(server.address, options).map_err(failed)?;
    pushers.push(WARM_UP * options.senders as u64).map_err(failed)?;
    let before = usage::cpu(server.child.id()).unwrap_or_default();
    let started = Instant::now();
    pushers.push(options.messages).map_err(failed)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = usage::cpu(server.child.id()).unwrap_or_default().since(before);
    Ok(cost(options.messages, seconds, cpu))
}

/// Killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(binary: &Path, folder: &Path) -> io::Result<Self> {
        // The port may be taken in between; then Redis says so and ends, and so does the bench.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let said = folder.join("log");
        let child = Command::new(binary)
            .args(["--port", &free.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            // A rewrite in the middle would be counted or not by chance.
            .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Self { child, address: free };
        let deadline = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(free).is_err() {
            if server.child.try_wait()?.is_some() || Instant::now() >= deadline {
                let said = std::fs::read_to_string(&said).unwrap_or_default();
                return Err(io::Error::other(format!("redis did not start: {said}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Pusher {
    stream: TcpStream,
    /// Not written yet.
    waiting: Vec<u8>,
    /// Commands begun ever.
    begun: u64,
}

struct Pushers {
    poll: Poll,
    pushers: Vec<Pusher>,
    in_flight: u64,
    payload: Vec<u8>,
    recipients: u64,
    left: u64,
    done: u64,
}

impl Pushers {
    fn connect(address: SocketAddr, options: &Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut pushers = Vec::with_capacity(options.senders);
        for index in 0..options.senders {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), interest)?;
            pushers.push(Pusher { stream, waiting: Vec::new(), begun: 0 });
        }
        Ok(Self {
            poll,
            pushers,
            in_flight: options.in_flight as u64,
            payload: vec![b'm'; options.payload_bytes],
            recipients: options.recipients.max(1),
            left: 0,
            done: 0,
        })
    }

    /// Pushes so many payloads and waits for all answers.
    fn push(&mut self, messages: u64) -> io::Result<()> {
        (self.left, self.done) = (messages, 0);
        for index in 0..self.pushers.len() {
            self.begin(index, self.in_flight);
            self.flush(index)?;
        }
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut area = vec![0; READ_BYTES];
        let mut deadline = Instant::now() + STALL_TIMEOUT;
        while self.done < messages {
            if interrupt::requested() {
                return Err(ErrorKind::Interrupted.into());
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            let done = self.done;
            for event in &events {
                let Token(index) = event.token();
                let answers = self.read(index, &mut area)?;
                self.done += answers;
                self.begin(index, answers);
                self.flush(index)?;
            }
            if self.done > done {
                deadline = Instant::now() + STALL_TIMEOUT;
            } else if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, count: u64) {
        let Some(pusher) = self.pushers.get_mut(index) else { return };
        for _ in 0..count.min(self.left) {
            let to = index as u64 * self.recipients + pusher.begun % self.recipients;
            let key = format!("inbox:{to:010}");
            let head = format!(
                "*3\r\n$5\r\nRPUSH\r\n${}\r\n{key}\r\n${}\r\n",
                key.len(),
                self.payload.len()
            );
            pusher.waiting.extend_from_slice(head.as_bytes());
            pusher.waiting.extend_from_slice(&self.payload);
            pusher.waiting.extend_from_slice(b"\r\n");
            pusher.begun += 1;
            self.left -= 1;
        }
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let Some(pusher) = self.pushers.get_mut(index) else { return Ok(()) };
        while !pusher.waiting.is_empty() {
            match pusher.stream.write(&pusher.waiting) {
                Ok(count) => drop(pusher.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers that came: each is one line with a length (`:12`).
    fn read(&mut self, index: usize, area: &mut [u8]) -> io::Result<u64> {
        let Some(pusher) = self.pushers.get_mut(index) else { return Ok(0) };
        let mut answers = 0;
        loop {
            match pusher.stream.read(area) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let got = area.get(..count).unwrap_or_default();
                    if got.contains(&b'-') {
                        let said = String::from_utf8_lossy(got).into_owned();
                        return Err(io::Error::other(format!("redis answered {said}")));
                    }
                    answers += got.iter().filter(|byte| **byte == b'\n').count() as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            }
        }
    }
}
