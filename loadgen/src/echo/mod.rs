//! The yardstick: a bare echo over epoll, and the CPU it costs per round trip.
//!
//! What a chat server costs is only comparable between machines next to what the same machine
//! takes for the least a server can do: read 150 bytes, write them back, one thread, no protocol.
//! The same over WebSocket is the floor under the servers of `scripts/bench-peers`.
//! Deliberately not here: judging the ratio.

mod websocket;

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::usage::{self, Cpu};
use crate::{interrupt, process};
use websocket::Speech;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Events taken per turn.
const EVENTS_PER_TURN: usize = 4_096;
/// A connection whose peer does not read is closed beyond this.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// One connection and what could not be written to it yet.
#[derive(Debug)]
struct Link {
    stream: TcpStream,
    waiting: Vec<u8>,
    /// With WebSocket.
    speech: Option<Box<Speech>>,
}

impl Link {
    /// Writes what waits; `Ok(false)`: not all of it.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Serves until interrupted, bytes as they come or messages of WebSockets; prints where it listens
/// as a JSON object first.
///
/// # Errors
/// It can't listen there, or `poll` fails.
pub fn serve(listen: SocketAddr, websocket: bool) -> io::Result<()> {
    usage::raise_file_limit();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let first = serde_json::json!({
        "listen": listener.local_addr()?.to_string(),
        "driver": "echo",
        "shards": 1,
        "pid": std::process::id(),
    });
    crate::say!("{first}");
    let mut links: Vec<Option<Link>> = Vec::new();
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let mut area = vec![0; READ_BYTES];
    while !interrupt::requested() {
        match poll.poll(&mut events, Some(Duration::from_millis(500))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, &poll, &mut links, websocket)?;
            } else if let Some(link) = links.get_mut(event.token().0)
                && let Some(open) = link
                && echo(open, &mut area).is_err()
            {
                *link = None;
            }
        }
    }
    Ok(())
}

fn accept_all(
    listener: &TcpListener,
    poll: &Poll,
    links: &mut Vec<Option<Link>>,
    websocket: bool,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let token = Token(links.len());
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, token, interest)?;
                let speech = websocket.then(Box::default);
                links.push(Some(Link { stream, waiting: Vec::new(), speech }));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads until a short read and writes all of it back.
fn echo(link: &mut Link, area: &mut [u8]) -> io::Result<()> {
    loop {
        link.flush()?;
        if link.waiting.len() > WAITING_BYTES_MAX {
            return Err(ErrorKind::OutOfMemory.into());
        }
        match link.stream.read(area) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let bytes = area.get_mut(..count).unwrap_or_default();
                match &mut link.speech {
                    None => link.waiting.extend_from_slice(bytes),
                    Some(speech) => speech.hear(bytes, &mut link.waiting)?,
                }
                if link.flush()? && link.speech.is_some() {
                    link.waiting = Vec::new(); // the table of peers tells what an idle one takes
                }
                if count < area.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections.
    pub sessions: usize,
    /// Round trips under way per connection.
    pub in_flight: usize,
    /// Round trips in all.
    pub round_trips: u64,
    /// Bytes of each.
    pub payload_bytes: usize,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// Connections.
    pub sessions: usize,
    /// Round trips under way per connection.
    pub in_flight: usize,
    /// Round trips done.
    pub round_trips: u64,
    /// How long they took.
    pub seconds: f64,
    /// CPU of the server in all, seconds.
    pub server_cpu_s: f64,
    /// CPU of the server per round trip, microseconds.
    pub server_cpu_us_per_round_trip: f64,
}

/// Starts an echo server as a child process and measures it.
///
/// # Errors
/// It can't be started, or a connection failed.
pub fn measure(options: &Options) -> io::Result<Report> {
    usage::raise_file_limit();
    let mut child = process::EchoProcess::start()?;
    let address = child.listen()?;
    let mut runner = Runner::connect(address, options)?;
    let before = usage::cpu(child.pid()).unwrap_or_default();
    let started = Instant::now();
    runner.run(options)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = usage::cpu(child.pid()).unwrap_or_default().since(before);
    Ok(report(options, runner.done, seconds, cpu))
}

fn report(options: &Options, round_trips: u64, seconds: f64, cpu: Cpu) -> Report {
    Report {
        sessions: options.sessions,
        in_flight: options.in_flight,
        round_trips,
        seconds,
        server_cpu_s: cpu.scheduled_s,
        server_cpu_us_per_round_trip: cpu.scheduled_s * 1e6 / round_trips.max(1) as f64,
    }
}

struct Runner {
    poll: Poll,
    streams: Vec<(TcpStream, usize)>,
    started: u64,
    done: u64,
}

impl Runner {
    fn connect(address: SocketAddr, options: &Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut streams = Vec::with_capacity(options.sessions);
        for index in 0..options.sessions {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            streams.push((stream, 0));
        }
        Ok(Self { poll, streams, started: 0, done: 0 })
    }

    /// Keeps every connection busy; a batch of requests leaves in one write, as a client of the
    /// chat server writes what a read allowed.
    fn run(&mut self, options: &Options) -> io::Result<()> {
        let request = vec![7; options.payload_bytes * options.in_flight];
        for (stream, _) in &mut self.streams {
            stream.write_all(&request)?;
            self.started += options.in_flight as u64;
        }
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut area = vec![0; READ_BYTES];
        while self.done < self.started {
            if interrupt::requested() {
                return Err(ErrorKind::Interrupted.into());
            }
            self.poll.poll(&mut events, Some(Duration::from_secs(5)))?;
            if events.is_empty() {
                return Err(ErrorKind::TimedOut.into());
            }
            for event in &events {
                let Some((stream, partial)) = self.streams.get_mut(event.token().0) else {
                    continue;
                };
                let mut bytes = *partial;
                loop {
                    match stream.read(&mut area) {
                        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                        Ok(count) => bytes += count,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
                let finished = bytes / options.payload_bytes;
                *partial = bytes % options.payload_bytes;
                self.done += finished as u64;
                let left = options.round_trips.saturating_sub(self.started);
                let next = finished.min(usize::try_from(left).unwrap_or(usize::MAX));
                if next > 0 {
                    stream.write_all(request.get(..next * options.payload_bytes).unwrap_or(&[]))?;
                    self.started += next as u64;
                }
            }
        }
        Ok(())
    }
}
