//! Bytes that sessions take: what the code says of itself, and what was measured of kernels.
//!
//! Waiting mail and history are not in it (docs/budgets.md says what they take), nor the log's
//! pages in the cache, which the system takes back when it needs them.

use super::facts::System;
use super::plan::Plan;
use crate::config::Driver;
use crate::limits;
use crate::state::SESSION_BYTES;

/// Linux, an idle connection's end at the server: socket, inode, file and directory entry, their
/// security labels, with the rounding of slabs. Measured on Linux 6.18 as the growth of
/// /proc/slabinfo over 9,500 connections.
const LINUX_SOCKET_BYTES: u64 = 3_810;
/// The other end of it: the port it is bound to comes on top.
const LINUX_LOAD_SOCKET_BYTES: u64 = 4_070;
/// Epoll's records of a socket, and its place in the table of descriptors (measured the same way).
const EPOLL_BYTES: u64 = 208 + 16;
/// A multishot poll and a place in a ring's table (measured the same way).
const URING_BYTES: u64 = 256 + 40;
/// Of an end at the server so much is charged to a control group of version 1: the kernel's records
/// of file, inode and watch, but not the socket itself (measured with either driver).
const CGROUP_1_BYTES: u64 = 1_530;
/// FreeBSD: not measured here. 18 GB wired for 2,277,845 sockets were published
/// (<https://blog.whatsapp.com/1-million-is-so-2011>), all of it counted as theirs.
const FREEBSD_SOCKET_BYTES: u64 = 7_900;
/// One kqueue filter per session, and a descriptor; besides, each shard's kqueue has a list head
/// per descriptor.
const KQUEUE_BYTES: u64 = 128 + 48;
const KQUEUE_HEAD_BYTES: u64 = 8;

/// What a session takes in a driver's own tables (docs/budgets.md draws it; asserted there).
const READY_ENTRY_BYTES: u64 = 12;
const URING_ENTRY_BYTES: u64 = 16;
/// What `scripts/scale` finds above these sums: records of conversations, checkpoints, pages that
/// are not full.
const BESIDE_BYTES: u64 = 45;
/// Resident memory of a server with no session, and of each shard in it (measured).
const BASE_BYTES: u64 = 8 * 1024 * 1024;
const BASE_SHARD_BYTES: u64 = 2 * 1024 * 1024;
/// Of that the program's own file: its pages are taken back before a control group is short.
const BASE_FILE_BYTES: u64 = 2 * 1024 * 1024;
/// A place in the index of users, all of which are there from the start.
const INDEX_PLACE_BYTES: u64 = 5;
/// A client in the load generator (`scripts/scale` prints it).
const LOAD_CLIENT_BYTES: u64 = 1_000;
/// rustls, idle, TLS 1.3 with its unbuffered connection (measured as bytes on the heap). The server
/// does not speak TLS yet: this is for planning.
pub(super) const TLS_BYTES: u64 = 3_354;
/// Kept free beside everything: the rest of the system has to live, too.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// See the module. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The server before anybody comes: program, queues, indices.
    pub base: u64,
    /// The server's own memory per session.
    pub user_each: u64,
    /// The kernel's, of the server's end.
    pub kernel_each: u64,
    /// Of the kernel's, what a control group is charged for.
    pub charged_each: u64,
    /// TLS per session, averaged over all of them.
    pub tls_each: u64,
    /// The other end, if it is here: kernel and client.
    pub load_each: u64,
    /// The kernel's part of that.
    pub load_kernel_each: u64,
    /// Sessions.
    pub sessions: u64,
}

impl Memory {
    pub(super) fn of(plan: &Plan) -> Self {
        let (driver_user, driver_kernel) = match (plan.system, plan.driver) {
            (System::Linux, Driver::Uring) => (URING_ENTRY_BYTES, URING_BYTES),
            (System::Linux, _) => (READY_ENTRY_BYTES, EPOLL_BYTES),
            (System::FreeBsd, _) => {
                (READY_ENTRY_BYTES, KQUEUE_BYTES + KQUEUE_HEAD_BYTES * plan.shards())
            }
        };
        let socket = match plan.system {
            System::Linux => LINUX_SOCKET_BYTES,
            System::FreeBsd => FREEBSD_SOCKET_BYTES,
        };
        let load_kernel_each = match (plan.load, plan.system) {
            (false, _) => 0,
            (true, System::Linux) => LINUX_LOAD_SOCKET_BYTES + driver_kernel,
            (true, System::FreeBsd) => FREEBSD_SOCKET_BYTES + KQUEUE_BYTES,
        };
        let load_user_each = if plan.load { LOAD_CLIENT_BYTES } else { 0 };
        Self {
            base: base(plan),
            user_each: SESSION_BYTES as u64 + driver_user + BESIDE_BYTES,
            kernel_each: socket + driver_kernel,
            charged_each: if plan.cgroup_version == 1 {
                CGROUP_1_BYTES
            } else {
                socket + driver_kernel
            },
            tls_each: TLS_BYTES * u64::from(plan.tls_percent) / 100,
            load_each: load_kernel_each + load_user_each,
            load_kernel_each,
            sessions: plan.sessions(),
        }
    }

    /// What the server and the kernel's side of it take.
    #[must_use]
    pub fn server(&self) -> u64 {
        self.base + self.sessions * (self.user_each + self.kernel_each + self.tls_each)
    }

    /// What the server's control group is charged for.
    #[must_use]
    pub fn charged(&self) -> u64 {
        let each = self.user_each + self.charged_each + self.tls_each;
        self.base - BASE_FILE_BYTES + self.sessions * each
    }

    /// All that runs on this host, and what is to stay free.
    #[must_use]
    pub fn host(&self) -> u64 {
        self.server() + self.sessions * self.load_each + SPARE_BYTES
    }
}

/// A server without sessions.
fn base(plan: &Plan) -> u64 {
    // Homes are dealt by hash, and an index is a power of two that is at most 7/8 full.
    let share = (plan.config.users_max as u64).max(plan.sessions()).div_ceil(plan.shards()) * 9 / 8;
    let places = (share * 8 / 7 + 1).next_power_of_two();
    let index = places * INDEX_PLACE_BYTES * plan.shards();
    let history = if plan.config.history { limits::HISTORY_CACHE_BYTES as u64 } else { 0 };
    BASE_BYTES + plan.shards() * BASE_SHARD_BYTES + index + history
}
