//! The rings of one driver and the memory their kernel side reads and writes: the only unsafe code
//! of this driver.
//!
//! Invariants, on which every SAFETY comment below rests: memory that an operation names is owned
//! here and neither moved, changed nor freed before that operation's completion was taken; if the
//! rings are dropped with operations under way, their memory is leaked.
//!
//! Every ring but the first is small and only found again by the first: it polls their
//! descriptors. Such a poll ends with its first report (the kernel ends it on purpose, so that
//! rings that watch each other can't go round in circles), so it is armed again before each sleep.
//! The first ring defers its work to the owner's own waiting; the others can't, because the kernel
//! wakes nobody who polls a ring that defers (seen on Linux 6.18).
//!
//! Deliberately not here: which connection has which slot, and what a completion means (`mod.rs`).

#![allow(unsafe_code, reason = "submissions have no safe form in the crate")]

use super::op::{Done, Op, name, named};
use crate::limits::{URING_AREAS_MAX, URING_COMPLETIONS, URING_SUBMISSIONS};
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

struct Ring {
    ring: IoUring,
    /// Entries that did not fit into the submission queue.
    waiting: VecDeque<squeue::Entry>,
    /// In the list of rings with something to submit.
    touched: bool,
    /// The first ring polls it.
    watched: bool,
}

/// A send: the buffer and how much of it has left.
#[derive(Debug, Default)]
struct Outgoing {
    buffer: Vec<u8>,
    offset: usize,
}

/// See the module.
pub(super) struct Rings {
    rings: Vec<Ring>,
    touched: Vec<u16>,
    areas: Vec<Box<[u8]>>,
    areas_free: Vec<u32>,
    area_bytes: usize,
    /// Where input goes that nobody wants; lives as long as the rings.
    scratch: Box<[u8]>,
    sends: Vec<Outgoing>,
    sends_free: Vec<u32>,
    /// Reads and sends whose completion is still to be taken.
    in_flight: usize,
    slots_per_ring: u32,
}

/// `SO_LINGER` with no time: a close resets.
static RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

impl Rings {
    /// The first ring, asleep until [`Rings::enable`]. Reads take `area_bytes` at the most.
    pub(super) fn new(slots_per_ring: u32, area_bytes: usize) -> io::Result<Self> {
        let mut rings = Self {
            rings: Vec::new(),
            touched: Vec::new(),
            areas: Vec::new(),
            areas_free: Vec::new(),
            area_bytes,
            scratch: vec![0; area_bytes].into_boxed_slice(),
            sends: Vec::new(),
            sends_free: Vec::new(),
            in_flight: 0,
            slots_per_ring,
        };
        rings.open(IoUring::builder().setup_defer_taskrun().setup_r_disabled())?;
        Ok(rings)
    }

    /// Gives the first ring to the calling thread: nobody else may use it from here on.
    pub(super) fn enable(&mut self) -> io::Result<()> {
        match self.rings[0].ring.submitter().register_enable_rings() {
            Err(error) if error.raw_os_error() != Some(libc::EBADFD) => Err(error),
            _ => Ok(()), // EBADFD: it is enabled
        }
    }

    /// One more ring.
    pub(super) fn grow(&mut self) -> io::Result<()> {
        self.open(IoUring::builder().setup_coop_taskrun())
    }

    fn open(&mut self, builder: &mut io_uring::Builder) -> io::Result<()> {
        // Few slots have few completions at a time; what does not fit is kept by the kernel.
        let completions = self.slots_per_ring.next_power_of_two().clamp(8, URING_COMPLETIONS);
        let ring = builder
            .setup_single_issuer()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions)
            .build(URING_SUBMISSIONS.min(completions))?;
        ring.submitter().register_files_sparse(self.slots_per_ring)?;
        // Shutting a stream down is left to a thread of the kernel's; one per kind is plenty.
        ring.submitter().register_iowq_max_workers(&mut [1, 1])?;
        self.rings.push(Ring { ring, waiting: VecDeque::new(), touched: false, watched: false });
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.rings.len()
    }

    /// Puts a socket into an empty slot. The table keeps it open from here on.
    pub(super) fn place(&self, ring: usize, slot: u32, socket: &TcpStream) -> io::Result<()> {
        let submitter = self.rings[ring].ring.submitter();
        submitter.register_files_update(slot, &[socket.as_raw_fd()]).map(|_| ())
    }

    /// Reports what there is to read, and the end, until cancelled.
    pub(super) fn watch(&mut self, ring: usize, slot: u32) {
        let events = libc::POLLIN | libc::POLLRDHUP;
        let entry = opcode::PollAdd::new(Fixed(slot), u32::from(events.cast_unsigned()));
        self.push(ring, &entry.multi(true).build().user_data(name(Op::Watch, slot, 0)));
    }

    /// Reports room to write, once.
    pub(super) fn watch_room(&mut self, ring: usize, slot: u32) {
        let events = u32::from(libc::POLLOUT.cast_unsigned());
        let entry = opcode::PollAdd::new(Fixed(slot), events).build();
        self.push(ring, &entry.user_data(name(Op::Room, slot, 0)));
    }

    /// Reports whenever a file of the driver's own becomes readable.
    pub(super) fn watch_file(&mut self, file: RawFd, which: u32) {
        let events = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(file), events).multi(true).build();
        self.push(0, &entry.user_data(name(Op::File, which, 0)));
    }

    /// Ends what [`Rings::watch`] or [`Rings::watch_room`] began; it completes with an error.
    pub(super) fn cancel(&mut self, ring: usize, op: Op, slot: u32) {
        let entry = opcode::AsyncCancel::new(name(op, slot, 0)).build();
        self.push(ring, &entry.user_data(name(Op::Other, slot, 0)));
    }

    /// Reads what is there. False: no area is free.
    pub(super) fn receive(&mut self, ring: usize, slot: u32) -> bool {
        let Some(area) = self.free_area() else { return false };
        let bytes = &mut self.areas[area as usize];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry =
            opcode::Recv::new(Fixed(slot), bytes.as_mut_ptr(), length).flags(libc::MSG_DONTWAIT);
        self.in_flight += 1;
        self.push(ring, &entry.build().user_data(name(Op::Receive, slot, area)));
        true
    }

    /// Takes input that is here, up to the size of an area, and throws it away uncopied.
    pub(super) fn discard(&mut self, ring: usize, slot: u32) {
        // Nothing is written with this flag, so all can share the memory.
        let length = u32::try_from(self.scratch.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fixed(slot), self.scratch.as_mut_ptr(), length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_TRUNC);
        self.push(ring, &entry.build().user_data(name(Op::Counted, slot, 0)));
    }

    /// What a finished read left in its area; [`Rings::give_area`] gives it back.
    pub(super) fn take_area(&mut self, area: u32) -> Box<[u8]> {
        self.in_flight -= 1;
        std::mem::take(&mut self.areas[area as usize])
    }

    pub(super) fn give_area(&mut self, area: u32, bytes: Box<[u8]>) {
        self.areas[area as usize] = bytes;
        self.areas_free.push(area);
    }

    /// Sends a buffer as far as there is room now.
    pub(super) fn send(&mut self, ring: usize, slot: u32, buffer: Vec<u8>) {
        let outgoing = Outgoing { buffer, offset: 0 };
        let number = match self.sends_free.pop() {
            Some(number) => {
                self.sends[number as usize] = outgoing;
                number
            }
            None => {
                self.sends.push(outgoing);
                u32::try_from(self.sends.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.send_rest(ring, slot, number);
    }

    /// Goes on with a send.
    pub(super) fn send_rest(&mut self, ring: usize, slot: u32, number: u32) {
        let outgoing = &self.sends[number as usize];
        let rest = &outgoing.buffer[outgoing.offset..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fixed(slot), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
            .build();
        self.in_flight += 1;
        self.push(ring, &entry.user_data(name(Op::Send, slot, number)));
    }

    /// A send completed and so much of it has left. True: that was all.
    pub(super) fn sent(&mut self, number: u32, bytes: usize) -> bool {
        self.in_flight -= 1;
        let outgoing = &mut self.sends[number as usize];
        outgoing.offset += bytes;
        outgoing.offset >= outgoing.buffer.len()
    }

    /// Takes the buffer of a send back that has no operation under way.
    pub(super) fn take_send(&mut self, number: u32) -> Vec<u8> {
        self.sends_free.push(number);
        std::mem::take(&mut self.sends[number as usize].buffer)
    }

    /// Ends the stream behind what was sent. A thread of the kernel's does it, and looks the slot
    /// up only then: until this has completed the slot must keep its tenant, or stay empty.
    pub(super) fn shutdown(&mut self, ring: usize, slot: u32) {
        let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build();
        self.push(ring, &entry.user_data(name(Op::Counted, slot, 0)));
    }

    /// Makes the close that follows a reset.
    pub(super) fn reset_on_close(&mut self, ring: usize, slot: u32) {
        let value = (&raw const RESET).cast();
        let length = u32::try_from(size_of::<libc::linger>()).unwrap_or(8);
        let (level, option) = (libc::SOL_SOCKET.cast_unsigned(), libc::SO_LINGER.cast_unsigned());
        let entry = opcode::SetSockOpt::new(Fixed(slot), level, option, value, length).build();
        self.push(ring, &entry.user_data(name(Op::Counted, slot, 0)));
    }

    /// Empties a slot.
    pub(super) fn close(&mut self, ring: usize, slot: u32) {
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(ring, &entry.user_data(name(Op::Close, slot, 0)));
    }

    /// Hands everything that was asked for to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        for at in (0..self.touched.len()).rev() {
            let ring = &mut self.rings[usize::from(self.touched[at])];
            ring.submit()?;
            if ring.is_told() {
                ring.touched = false;
                self.touched.swap_remove(at);
            }
        }
        Ok(())
    }

    /// The same, and waits until any ring has a completion or the time is over.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        for number in 1..self.rings.len() {
            let ring = &mut self.rings[number];
            if !std::mem::replace(&mut ring.watched, true) {
                let events = u32::from(libc::POLLIN.cast_unsigned());
                let file = types::Fd(ring.ring.as_raw_fd());
                let number = u32::try_from(number).unwrap_or(0);
                let entry = opcode::PollAdd::new(file, events).build();
                self.push(0, &entry.user_data(name(Op::Ring, 0, number)));
            }
        }
        self.submit_others()?;
        self.rings[0].fill();
        let submitter = self.rings[0].ring.submitter();
        let result = match timeout {
            None => submitter.submit_and_wait(1),
            Some(timeout) => {
                let time = Timespec::from(timeout);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        overlook(result)
    }

    /// The same without the first ring, which is told when it waits.
    fn submit_others(&mut self) -> io::Result<()> {
        if self.touched.iter().any(|ring| *ring != 0) { self.submit() } else { Ok(()) }
    }

    /// Lets the kernel do what it put off, if it says that there is something. True: there was.
    pub(super) fn run_deferred(&mut self) -> io::Result<bool> {
        let ring = &mut self.rings[0].ring;
        if !ring.submission().taskrun() {
            return Ok(false);
        }
        overlook(ring.submit())?;
        Ok(true)
    }

    /// Takes one completion of a ring.
    pub(super) fn next(&mut self, ring: usize) -> Option<Done> {
        let entry = self.rings[ring].next()?;
        let (op, slot, number) = named(entry.user_data());
        if op == Op::Ring {
            self.rings[number as usize].watched = false;
        }
        Some(Done { op, slot, number, result: entry.result(), more: cqueue::more(entry.flags()) })
    }

    fn free_area(&mut self) -> Option<u32> {
        if let Some(area) = self.areas_free.pop() {
            return Some(area);
        }
        if self.areas.len() >= URING_AREAS_MAX {
            return None;
        }
        self.areas.push(vec![0; self.area_bytes].into_boxed_slice());
        u32::try_from(self.areas.len() - 1).ok()
    }

    fn push(&mut self, number: usize, entry: &squeue::Entry) {
        let ring = &mut self.rings[number];
        if !ring.waiting.is_empty() || !ring.try_push(entry) {
            ring.waiting.push_back(entry.clone());
            let _tried_again_by_the_next_submission = ring.submit();
        }
        if !std::mem::replace(&mut ring.touched, true) {
            self.touched.push(u16::try_from(number).unwrap_or(0));
        }
    }
}

impl Ring {
    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry was made by `Rings` above and names memory that it owns and keeps as
        // it is until the completion was taken: areas between `receive` and `take_area`, sends
        // between `send` and `sent`, a static, and the scratch memory of discards, which complete
        // as they are submitted and write nothing.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves what waits into the submission queue, as far as it fits.
    fn fill(&mut self) {
        while let Some(entry) = self.waiting.pop_front() {
            if !self.try_push(&entry) {
                self.waiting.push_front(entry);
                return;
            }
        }
    }

    /// The next completion, also of those that the kernel kept because the queue was full: until
    /// they are fetched it reports nothing of this ring but that there are some.
    fn next(&mut self) -> Option<cqueue::Entry> {
        let entry = self.ring.completion().next();
        if entry.is_some() || !self.ring.submission().cq_overflow() {
            return entry;
        }
        overlook(self.ring.submit()).ok()?;
        self.ring.completion().next()
    }

    fn submit(&mut self) -> io::Result<()> {
        loop {
            self.fill();
            overlook(self.ring.submit())?;
            if self.waiting.is_empty() || !self.ring.submission().is_empty() {
                return Ok(());
            }
        }
    }

    /// The kernel has taken everything.
    fn is_told(&mut self) -> bool {
        self.waiting.is_empty() && self.ring.submission().is_empty()
    }
}

/// What ends a wait and is no failure: the time is over, a signal came, or completions have to be
/// taken before more can be done.
fn overlook(result: io::Result<usize>) -> io::Result<()> {
    match result.map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel cancels what is under way in its own time.
            std::mem::forget(std::mem::take(&mut self.areas));
            std::mem::forget(std::mem::take(&mut self.sends));
        }
    }
}
