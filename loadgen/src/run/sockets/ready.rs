//! The engine that works everywhere: readiness (epoll, kqueue) by `mio`, edge-triggered.
//!
//! Deliberately not here: more sockets than the process may have files; see `uring.rs`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{Buffers, Completion, READ_BYTES, Sockets};

/// Events taken per wait.
const EVENTS_PER_WAIT: usize = 4_096;
/// Reads of one socket in a row, so that one does not starve the others.
const READS_IN_A_ROW: usize = 16;
/// Buffers kept for the next write.
const BUFFERS_KEPT: usize = 64;
/// Waits shorter than this are timed by a timer of the kernel: `epoll` counts milliseconds only.
#[cfg(target_os = "linux")]
const FINE_WAIT: Duration = Duration::from_millis(20);
/// The token of that timer; no slot is so large.
const TIMER: Token = Token(usize::MAX);

#[derive(Debug)]
struct Conn {
    stream: TcpStream,
    /// What the kernel has not taken yet.
    rest: Vec<u8>,
    written: usize,
    connected: bool,
    held: bool,
    /// Something may be there that no further event will tell of.
    readable: bool,
    /// The end was reported, together with what lies before it: reads go on until they find it.
    ending: bool,
}

/// See the module.
pub(super) struct Ready {
    poll: Poll,
    events: Events,
    targets: Vec<SocketAddr>,
    conns: Vec<Option<Conn>>,
    /// Slots with something to read that no event will tell of.
    again: Vec<u32>,
    /// Reads of held slots that were asked for.
    asked: Vec<(u32, usize)>,
    /// Slots that failed while writing.
    failed: Vec<(u32, io::Error)>,
    buffers: Buffers,
    area: Vec<u8>,
    #[cfg(target_os = "linux")]
    timer: std::os::fd::OwnedFd,
}

impl Ready {
    pub(super) fn new(targets: &[SocketAddr], slots: u32) -> io::Result<Self> {
        let mut conns = Vec::new();
        conns.resize_with(slots as usize, || None);
        let poll = Poll::new()?;
        #[cfg(target_os = "linux")]
        let timer = fine_timer(&poll)?;
        Ok(Self {
            poll,
            #[cfg(target_os = "linux")]
            timer,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            targets: targets.to_vec(),
            conns,
            again: Vec::new(),
            asked: Vec::new(),
            failed: Vec::new(),
            buffers: Buffers::new(BUFFERS_KEPT),
            area: vec![0; READ_BYTES],
        })
    }

    fn conn(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot as usize)?.as_mut()
    }

    /// One event: what can be done with the socket, and whether its end is there to be read.
    fn serve(
        &mut self,
        slot: u32,
        (writable, readable, ending): (bool, bool, bool),
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) {
        let Some(conn) = self.conn(slot) else { return };
        if !conn.connected {
            match settle(&conn.stream) {
                Ok(false) => return,
                Ok(true) => conn.connected = true,
                Err(error) => return self.end(slot, Some(error), each),
            }
            each(slot, Completion::Connected);
        }
        if writable {
            match self.conn(slot).map(flush) {
                Some(Ok(true)) => {
                    let rest = self.conn(slot).map(|conn| std::mem::take(&mut conn.rest));
                    self.buffers.keep(rest.unwrap_or_default());
                    each(slot, Completion::Written);
                }
                Some(Err(error)) => return self.end(slot, Some(error), each),
                Some(Ok(false)) | None => {}
            }
        }
        if readable && let Some(conn) = self.conn(slot) {
            conn.readable = true;
            conn.ending |= ending;
            if !conn.held {
                self.drain(slot, each);
            }
        }
    }

    fn drain(&mut self, slot: u32, each: &mut dyn FnMut(u32, Completion<'_>)) {
        for _ in 0..READS_IN_A_ROW {
            if !self.read_once(slot, READ_BYTES, each) {
                return;
            }
        }
        self.again.push(slot);
    }

    /// Reads once; whether there may be more.
    fn read_once(
        &mut self,
        slot: u32,
        bytes_max: usize,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) -> bool {
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        let bytes_max = bytes_max.min(READ_BYTES);
        let area = self.area.get_mut(..bytes_max).unwrap_or_default();
        loop {
            match conn.stream.read(area) {
                Ok(0) => {
                    self.end(slot, None, each);
                    return false;
                }
                Ok(count) => {
                    let more = count == bytes_max || conn.ending;
                    conn.readable = more;
                    each(slot, Completion::Data(area.get_mut(..count).unwrap_or_default()));
                    return more;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.readable = false;
                    return false;
                }
                Err(error) => {
                    self.end(slot, Some(error), each);
                    return false;
                }
            }
        }
    }

    fn end(
        &mut self,
        slot: u32,
        error: Option<io::Error>,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) {
        self.close(slot);
        each(slot, Completion::Ended(error));
    }
}

impl Sockets for Ready {
    fn name(&self) -> &'static str {
        if cfg!(target_os = "linux") { "epoll" } else { "kqueue" }
    }

    fn connect(&mut self, slot: u32, target: usize, source: Option<IpAddr>) -> io::Result<()> {
        self.close(slot);
        let target = *self.targets.get(target).ok_or(ErrorKind::InvalidInput)?;
        let socket = super::socket(target, source)?;
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if in_progress(&error) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(slot as usize), interest)?;
        if let Some(place) = self.conns.get_mut(slot as usize) {
            *place = Some(Conn {
                stream,
                rest: Vec::new(),
                written: 0,
                connected: false,
                held: false,
                readable: false,
                ending: false,
            });
        }
        Ok(())
    }

    fn write(&mut self, slot: u32, bytes: Vec<u8>) -> bool {
        let Some(conn) = self.conn(slot) else { return true };
        conn.rest = bytes;
        conn.written = 0;
        match flush(conn) {
            Ok(true) => {
                let rest = std::mem::take(&mut conn.rest);
                self.buffers.keep(rest);
                true
            }
            Ok(false) => conn.rest.is_empty(),
            Err(error) => {
                self.failed.push((slot, error));
                false
            }
        }
    }

    fn hold(&mut self, slot: u32, held: bool) {
        let Some(conn) = self.conn(slot) else { return };
        conn.held = held;
        if !held && conn.readable {
            self.again.push(slot);
        }
    }

    fn read(&mut self, slot: u32, bytes_max: usize) {
        if self.conn(slot).is_some_and(|conn| conn.readable) {
            self.asked.push((slot, bytes_max));
        }
    }

    fn close(&mut self, slot: u32) {
        // Dropping the stream closes it, and that takes it out of the poll.
        if let Some(place) = self.conns.get_mut(slot as usize) {
            *place = None;
        }
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn wait(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) -> io::Result<()> {
        let has_work = !(self.again.is_empty() && self.asked.is_empty() && self.failed.is_empty());
        let timeout = if has_work { Duration::ZERO } else { timeout };
        #[cfg(target_os = "linux")]
        if !timeout.is_zero() && timeout < FINE_WAIT {
            set_timer(&self.timer, timeout)?;
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for (slot, error) in std::mem::take(&mut self.failed) {
            if self.conn(slot).is_some() {
                self.end(slot, Some(error), each);
            }
        }
        for slot in std::mem::take(&mut self.again) {
            if self.conn(slot).is_some_and(|conn| !conn.held) {
                self.drain(slot, each);
            }
        }
        for (slot, bytes_max) in std::mem::take(&mut self.asked) {
            self.read_once(slot, bytes_max, each);
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == TIMER {
                continue; // its time is over, which is all it says; the next set arms it anew
            }
            let Ok(slot) = u32::try_from(event.token().0) else { continue };
            let ending = event.is_read_closed() || event.is_error();
            let readable = event.is_readable() || ending;
            self.serve(slot, (event.is_writable(), readable, ending), each);
        }
        self.events = events;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn fine_timer(poll: &Poll) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    use std::os::fd::AsRawFd;
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let mut source = mio::unix::SourceFd(&timer.as_raw_fd());
    poll.registry().register(&mut source, TIMER, Interest::READABLE)?;
    Ok(timer)
}

#[cfg(target_os = "linux")]
fn set_timer(timer: &std::os::fd::OwnedFd, after: Duration) -> io::Result<()> {
    use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
    let time = |duration: Duration| Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    };
    let once = Itimerspec { it_interval: time(Duration::ZERO), it_value: time(after) };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

/// Whether a connection stands; an error if it never will.
fn settle(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes what waits. `true`: something waited, and all of it is written.
fn flush(conn: &mut Conn) -> io::Result<bool> {
    if conn.rest.is_empty() {
        return Ok(false);
    }
    while let Some(rest) = conn.rest.get(conn.written..)
        && !rest.is_empty()
    {
        match conn.stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => conn.written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    conn.written = 0;
    Ok(true)
}

fn in_progress(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}
