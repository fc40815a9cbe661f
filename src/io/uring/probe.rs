//! Whether `io_uring` does here what the driver needs: tried, not asked for.
//!
//! Version numbers and feature bits say what a kernel was built with; containers forbid the system
//! calls, distributions take patches back. So every operation the driver relies on is done once,
//! on rings made as the driver makes them, before a session depends on it.

use super::op::{Done, Op};
use super::rings::Rings;
use crate::limits::URING_SLOTS_MAX;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Tries everything the driver needs, with so many connections per ring, in a few system calls on
/// loopback and under a second.
///
/// # Errors
/// What failed first and what the system said, in words for an operator.
pub fn probe(slots_per_ring: u32) -> Result<(), String> {
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut rings =
        Rings::new(slots_per_ring.min(URING_SLOTS_MAX), 64).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EPERM) => {
                    "the system does not permit io_uring (kernel.io_uring_disabled, or a \
                              container's list of system calls)"
                        .to_owned()
                }
                Some(libc::ENOSYS) => "this kernel has no io_uring".to_owned(),
                _ => format!("making a ring: {error}; Linux 6.1 or later is needed"),
            }
        })?;
    rings.enable().map_err(step("enabling a ring"))?;
    rings.grow().map_err(step("making a second ring"))?;
    for ring in 0..rings.count() {
        let (mut client, server) = pair().map_err(step("a connection on loopback"))?;
        rings.place(ring, 1, &server).map_err(step("putting a socket into a ring's table"))?;
        drop(server);
        try_socket(&mut rings, ring, &mut client)
            .map_err(|what| format!("{what} (ring {ring})"))?;
    }
    Ok(())
}

/// Watch, read, write, stop, reset: what happens to a session.
fn try_socket(rings: &mut Rings, ring: usize, client: &mut TcpStream) -> Result<(), String> {
    let fail = |what: &str, done: Option<Done>| match done {
        Some(done) if done.result < 0 => {
            format!("{what}: {}", io::Error::from_raw_os_error(-done.result))
        }
        Some(done) => format!("{what}: it answered {}", done.result),
        None => format!("{what}: no answer"),
    };
    rings.watch(ring, 1);
    rings.submit().map_err(|error| format!("submitting: {error}"))?;
    client.write_all(b"hear").map_err(|error| format!("writing on loopback: {error}"))?;
    let done = next(rings, ring, Op::Watch);
    if !done.is_some_and(|done| done.result > 0 && done.more) {
        return Err(fail("watching a socket (multishot poll)", done));
    }
    if !rings.receive(ring, 1) {
        return Err("there is no room for a read".to_owned());
    }
    let done = next(rings, ring, Op::Receive);
    let Some(Done { result: 4, number, .. }) = done else {
        return Err(fail("reading", done));
    };
    let area = rings.take_area(number);
    rings.give_area(number, area);
    rings.send(ring, 1, b"said".to_vec());
    let done = next(rings, ring, Op::Send);
    let Some(Done { result: 4, number, .. }) = done else {
        return Err(fail("writing", done));
    };
    rings.sent(number, 4);
    drop(rings.take_send(number));
    rings.cancel(ring, Op::Watch, 1);
    rings.reset_on_close(ring, 1);
    rings.close(ring, 1);
    let done = next(rings, ring, Op::Close);
    if done.is_none_or(|done| done.result < 0) {
        return Err(fail("emptying a place of a ring's table", done));
    }
    let mut heard = Vec::new();
    match client.read_to_end(&mut heard) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && heard == b"said" => Ok(()),
        Ok(_) => Err("setting a socket's options (Linux 6.7 or later): no effect".to_owned()),
        Err(error) => Err(format!("what was written did not arrive: {error}")),
    }
}

/// The next completion of this kind, within a second.
fn next(rings: &mut Rings, ring: usize, op: Op) -> Option<Done> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        rings.wait(Some(Duration::from_millis(20))).ok()?;
        for number in 0..rings.count() {
            while let Some(done) = rings.next(number) {
                if number == ring && done.op == op {
                    return Some(done);
                }
            }
        }
    }
    None
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (server, _) = listener.accept()?;
    server.set_nonblocking(true)?;
    Ok((client, server))
}

/// What a system call that does nothing costs here, in nanoseconds: the best of several rounds.
#[must_use]
pub fn syscall_ns() -> u64 {
    const CALLS: u32 = 1_000;
    let Ok(file) = std::fs::File::open("/dev/null") else { return 0 };
    let round = || {
        let start = Instant::now();
        for _ in 0..CALLS {
            let _ = std::hint::black_box(rustix::io::fcntl_getfd(&file));
        }
        start.elapsed() / CALLS
    };
    let best = (0..10).map(|_| round()).min().unwrap_or_default();
    u64::try_from(best.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{probe, syscall_ns};

    #[test]
    fn this_kernel_is_judged_in_words() {
        if let Err(why) = probe(64) {
            assert!(why.len() > 10, "{why}");
        }
    }

    #[test]
    fn a_system_call_costs_something() {
        assert!((1..1_000_000).contains(&syscall_ns()));
    }
}
