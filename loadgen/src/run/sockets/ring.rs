//! One io_uring and the memory its kernel side reads and writes: the only unsafe code here.
//!
//! Invariants, on which every SAFETY comment below rests: a buffer that the kernel was told of is
//! owned by this ring and neither moved, changed nor freed before its completion was taken; if the
//! ring is dropped with operations under way, their buffers are leaked. Linux only.
//!
//! Deliberately not here: which socket does what (`uring.rs`).

#![allow(unsafe_code, reason = "submissions and a socket option have no safe form in the crates")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::{SockAddr, Socket};

/// Entries of the submission queue.
const SUBMISSIONS: u32 = 512;
/// Entries of the completion queue; what does not fit is kept by the kernel.
const COMPLETIONS: u32 = 8_192;
/// Bytes of one read. Frames of a chat are small, and every ring has areas of its own.
pub(super) const AREA_BYTES: usize = 4 * 1024;
/// Reads under way at one time.
const AREAS: usize = 64;

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) user_data: u64,
    /// Bytes, or a negated error.
    pub(super) result: i32,
    /// The operation goes on.
    pub(super) more: bool,
}

/// See the module.
pub(super) struct Ring {
    ring: IoUring,
    targets: Vec<SockAddr>,
    /// Where reads go, one each.
    areas: Vec<Vec<u8>>,
    areas_free: Vec<u32>,
    /// What is being sent, and from where on.
    sends: Vec<(Vec<u8>, usize)>,
    sends_free: Vec<u32>,
}

impl Ring {
    /// With a table of so many sockets.
    pub(super) fn new(targets: &[SocketAddr], slots: u32) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        ring.submitter().register_files_sparse(slots)?;
        Ok(Self {
            ring,
            targets: targets.iter().map(|target| SockAddr::from(*target)).collect(),
            areas: Vec::new(),
            areas_free: Vec::new(),
            sends: Vec::new(),
            sends_free: Vec::new(),
        })
    }

    /// Puts a socket into the table, in the place of what was there.
    pub(super) fn place(&self, slot: u32, socket: &Socket) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(|_| ())
    }

    /// Empties a place of the table. Operations under way keep their socket.
    pub(super) fn clear(&self, slot: u32) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[-1]).map(|_| ())
    }

    pub(super) fn connect(&mut self, slot: u32, target: usize, user_data: u64) -> io::Result<()> {
        let target = self.targets.get(target).ok_or(io::ErrorKind::InvalidInput)?;
        let (address, length) = (target.as_ptr(), target.len());
        let entry = opcode::Connect::new(Fixed(slot), address.cast(), length).build();
        self.push(&entry.user_data(user_data))
    }

    /// Tells of everything that can be read from now on, without holding a buffer.
    pub(super) fn watch(&mut self, slot: u32, user_data: u64) -> io::Result<()> {
        let flags = u32::from(libc::POLLIN.cast_unsigned() | libc::POLLRDHUP.cast_unsigned());
        let entry = opcode::PollAdd::new(Fixed(slot), flags).multi(true).build();
        self.push(&entry.user_data(user_data))
    }

    /// Tells once that another ring has something. The kernel ends every watch of a ring with its
    /// first report, so it has to be asked again.
    pub(super) fn watch_ring(&mut self, other: RawFd, user_data: u64) -> io::Result<()> {
        let flags = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(other), flags).build();
        self.push(&entry.user_data(user_data))
    }

    /// Ends the operation with this name, if it is under way.
    pub(super) fn cancel(&mut self, name: u64, user_data: u64) -> io::Result<()> {
        self.push(&opcode::AsyncCancel::new(name).build().user_data(user_data))
    }

    /// Reads what is there; `name` makes the user data of the area. `false`: no area is free.
    pub(super) fn receive(
        &mut self,
        slot: u32,
        bytes_max: usize,
        name: impl Fn(u32) -> u64,
    ) -> io::Result<bool> {
        let Some(area) = self.free_area() else { return Ok(false) };
        let Some(bytes) = self.areas.get_mut(area as usize) else { return Ok(false) };
        let length = u32::try_from(bytes_max.min(AREA_BYTES)).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fixed(slot), bytes.as_mut_ptr(), length)
            .flags(libc::MSG_DONTWAIT)
            .build();
        self.push(&entry.user_data(name(area)))?;
        Ok(true)
    }

    /// What was read into an area; give it back afterwards.
    pub(super) fn take_area(&mut self, area: u32) -> Vec<u8> {
        self.areas.get_mut(area as usize).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn give_area(&mut self, area: u32, bytes: Vec<u8>) {
        if let Some(place) = self.areas.get_mut(area as usize) {
            *place = bytes;
            self.areas_free.push(area);
        }
    }

    /// Sends all of a buffer; returns its number.
    pub(super) fn send(
        &mut self,
        slot: u32,
        bytes: Vec<u8>,
        name: impl Fn(u32) -> u64,
    ) -> io::Result<u32> {
        let number = match self.sends_free.pop() {
            Some(number) => number,
            None => {
                self.sends.push((Vec::new(), 0));
                u32::try_from(self.sends.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.sends.get_mut(number as usize) {
            *place = (bytes, 0);
        }
        self.send_rest(slot, number, 0, name(number))?;
        Ok(number)
    }

    /// Goes on with a send of which so much was written; whether something was left.
    pub(super) fn send_rest(
        &mut self,
        slot: u32,
        number: u32,
        written: usize,
        user_data: u64,
    ) -> io::Result<bool> {
        let Some((bytes, done)) = self.sends.get_mut(number as usize) else { return Ok(false) };
        *done += written;
        let rest = bytes.get(*done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fixed(slot), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(&entry.user_data(user_data))?;
        Ok(true)
    }

    /// Takes the buffer of a send back whose completion came.
    pub(super) fn take_send(&mut self, number: u32) -> Vec<u8> {
        let Some((bytes, _)) = self.sends.get_mut(number as usize) else { return Vec::new() };
        self.sends_free.push(number);
        std::mem::take(bytes)
    }

    /// Submits; with `wait`, waits so long for a completion of this ring.
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let result = match wait.filter(|wait| !wait.is_zero()) {
            None => self.ring.submit(),
            Some(wait) => {
                let time = Timespec::from(wait);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => Ok(()),
            // Time is over, a signal came, or completions have to be taken first.
            Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Whether the kernel has to be told or asked something.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.cq_overflow() || queue.taskrun()
    }

    /// Takes one completion.
    pub(super) fn next_done(&mut self) -> Option<Done> {
        let entry = self.ring.completion().next()?;
        Some(Done {
            user_data: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    fn free_area(&mut self) -> Option<u32> {
        if let Some(area) = self.areas_free.pop() {
            return Some(area);
        }
        if self.areas.len() >= AREAS {
            return None;
        }
        self.areas.push(vec![0; AREA_BYTES]);
        u32::try_from(self.areas.len() - 1).ok()
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        for _ in 0..2 {
            // SAFETY: every buffer an entry names is owned by this ring and stays as it is until
            // the completion was taken: the targets for ever (their list never changes), an area
            // between `receive` and `take_area`, a send between `send` and `take_send`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter(None)?;
        }
        Err(io::Error::other("the submission queue stays full"))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // What is under way when the ring closes is cancelled by the kernel in its own time.
        std::mem::forget(std::mem::take(&mut self.areas));
        std::mem::forget(std::mem::take(&mut self.sends));
    }
}

/// Lets the kernel choose the port when the socket connects, not when it is bound: then only the
/// whole pair of addresses has to be free.
pub(super) fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open while `socket` is borrowed, and the value is a whole `c_int`
    // whose length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
