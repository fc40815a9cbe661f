//! Clients over plain sockets, one thread for all: what `fill` and `count` speak through.
//!
//! Deliberately not here: what is said.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{STALL_TIMEOUT, SurviveError};
use crate::interrupt;
use crate::protocol::{Event, Protocol, Speaker};

const READ_BYTES: usize = 64 * 1024;
const EVENTS_PER_TURN: usize = 1_024;
const TICK: Duration = Duration::from_millis(250);

/// A client and its socket.
pub(super) struct Link {
    stream: TcpStream,
    pub(super) speaker: Box<dyn Speaker>,
    /// Not written yet.
    waiting: Vec<u8>,
}

impl Link {
    fn flush(&mut self) -> io::Result<()> {
        loop {
            if self.waiting.is_empty() {
                self.speaker.take_output(&mut self.waiting);
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            match self.stream.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Clients of one thread.
pub(super) struct Links {
    poll: Poll,
    events: Events,
    pub(super) links: Vec<Link>,
    area: Vec<u8>,
    began: Instant,
    ticked: Instant,
}

fn failed(what: &str) -> impl Fn(io::Error) -> SurviveError {
    let what = what.to_owned();
    move |source| SurviveError::Io { what: what.clone(), source }
}

impl Links {
    /// Connects clients and waits until all are logged in.
    pub(super) fn open(protocol: &dyn Protocol, numbers: Range<u32>) -> Result<Self, SurviveError> {
        let mut links = Self::connect(protocol, numbers)?;
        links.wait_ready(&mut |_| {})?;
        Ok(links)
    }

    pub(super) fn connect(
        protocol: &dyn Protocol,
        numbers: Range<u32>,
    ) -> Result<Self, SurviveError> {
        crate::usage::raise_file_limit();
        let poll = Poll::new().map_err(failed("no poll"))?;
        let what = format!("can't connect to {}:{}", protocol.target().0, protocol.target().1);
        let connect_failed = failed(&what);
        let mut links = Vec::new();
        for (index, number) in numbers.enumerate() {
            let mut speaker = protocol.speaker(number).map_err(SurviveError::Arguments)?;
            let stream =
                std::net::TcpStream::connect(protocol.target()).map_err(&connect_failed)?;
            stream.set_nodelay(true).map_err(&connect_failed)?;
            stream.set_nonblocking(true).map_err(&connect_failed)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered = poll.registry().register(&mut stream, Token(index), interest);
            registered.map_err(&connect_failed)?;
            speaker.connected(0);
            links.push(Link { stream, speaker, waiting: Vec::new() });
        }
        let (began, ticked) = (Instant::now(), Instant::now());
        let (events, area) = (Events::with_capacity(EVENTS_PER_TURN), vec![0; READ_BYTES]);
        let mut links = Self { poll, events, links, area, began, ticked };
        links.flush_all()?;
        Ok(links)
    }

    pub(super) fn wait_ready(
        &mut self,
        hear: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), SurviveError> {
        let deadline = Instant::now() + STALL_TIMEOUT;
        while !self.links.iter().all(|link| link.speaker.is_ready()) {
            self.turn(hear)?;
            self.flush_all()?;
            if Instant::now() >= deadline {
                return Err(SurviveError::Stalled("logins".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn flush_all(&mut self) -> Result<(), SurviveError> {
        self.links.iter_mut().try_for_each(Link::flush).map_err(failed("the connection failed"))
    }

    /// Waits a little and takes in what came. Nothing is written: whoever heard the last answer may
    /// want to be the next to act.
    pub(super) fn turn(&mut self, hear: &mut dyn FnMut(Event<'_>)) -> Result<(), SurviveError> {
        if interrupt::requested() {
            return Err(SurviveError::Interrupted);
        }
        match self.poll.poll(&mut self.events, Some(TICK)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(failed("no poll")(error));
            }
            _ => {}
        }
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for event in &self.events {
            if let Some(link) = self.links.get_mut(event.token().0) {
                read(link, &mut self.area, now_ms, hear)?;
            }
        }
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            for link in &mut self.links {
                link.speaker.tick(now_ms).map_err(SurviveError::Server)?;
            }
        }
        Ok(())
    }

    /// Says goodbye and closes.
    pub(super) fn leave(mut self) {
        for link in &mut self.links {
            link.speaker.close(&mut link.waiting);
            // What can't be said now is not worth waiting for.
            let _ = link.flush();
        }
    }
}

fn read(
    link: &mut Link,
    area: &mut [u8],
    now_ms: u64,
    hear: &mut dyn FnMut(Event<'_>),
) -> Result<(), SurviveError> {
    let mut goodbye = None;
    let mut events = |event: Event<'_>| {
        if let Event::Goodbye { reason, .. } = &event {
            goodbye = Some(reason.clone());
        }
        hear(event);
    };
    loop {
        match link.stream.read(area) {
            Ok(0) => break,
            Ok(count) => {
                let bytes = area.get_mut(..count).unwrap_or_default();
                if let Err(why) = link.speaker.receive(bytes, now_ms, &mut events) {
                    return Err(SurviveError::Server(why));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("the connection failed")(error)),
        }
    }
    let why = goodbye.unwrap_or_else(|| "the server closed a connection".to_owned());
    Err(SurviveError::Server(why))
}
