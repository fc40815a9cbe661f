//! How many sessions are asked about, and what they need that the server itself decides: files and
//! watches, by the server's own arithmetic.

use super::facts::{Host, System};
use super::memory::Memory;
use crate::config::{Config, Driver};
use crate::limits;
use crate::server::driver::{self, Choice};
use crate::server::sizes::Sizes;

/// Of files a shard can't do without when sessions take none: those who have not logged in yet.
const FILES_PER_URING_SHARD: u64 = 1_024;
/// Of all sessions so many in a hundred have something on its way in the kernel at a time.
pub(super) const ACTIVE_PERCENT: u64 = 5;
/// Pages of `tcp_mem` each of those holds: what is queued to read and to send, two pages each.
pub(super) const PAGES_PER_ACTIVE: u64 = 4;
/// For a hundred sessions so many connections have not logged in yet, or not closed yet.
const ARRIVING_PERCENT: u64 = 3;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the server would be started; its `sessions_max` is what is asked about.
    pub config: Config,
    /// Of a hundred sessions so many come over TLS.
    pub tls_percent: u8,
    /// The load generator runs on this host too.
    pub load: bool,
    /// Source addresses of the load generator; `None`: as many as it takes by itself on loopback.
    pub sources: Option<u64>,
    /// The driver the server takes, never [`Driver::Auto`].
    pub driver: Driver,
    /// The version of control groups the server runs under: they charge sockets differently.
    pub cgroup_version: u64,
    /// The system it is for.
    pub system: System,
}

impl Plan {
    /// Sessions asked about.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.config.sessions_max as u64
    }

    /// Shards.
    #[must_use]
    pub fn shards(&self) -> u64 {
        self.config.shards as u64
    }

    /// The same for another number of sessions. The driver stays.
    #[must_use]
    pub fn with_sessions(&self, sessions: u64) -> Self {
        let mut other = self.clone();
        other.config.sessions_max = usize::try_from(sessions).unwrap_or(usize::MAX).max(1);
        other
    }

    /// The ceiling that so many bytes need: the server refuses sessions when it uses nine tenths of
    /// it. One that the operator set is a row of its own.
    #[must_use]
    pub fn below_ceiling(&self, bytes: u64) -> u64 {
        if self.config.memory_max_bytes == 0 {
            bytes * 100 / limits::MEMORY_FULL_PERCENT
        } else {
            bytes
        }
    }

    /// Files the server's process needs: by `Sizes`, as the server itself counts them.
    #[must_use]
    pub fn files(&self) -> u64 {
        if self.driver == Driver::Uring {
            return self.shards() * FILES_PER_URING_SHARD + limits::FILES_BESIDE_SESSIONS as u64;
        }
        let suffice = |files| {
            let sizes = Sizes::of(&self.config, files, self.driver);
            sizes.short_of_files(&self.config).is_none()
        };
        // Everybody a file, an eighth and some more: surely enough.
        let most = self.sessions() * 2 + 64 * 1024 * (self.shards() + 1);
        least(most, suffice)
    }

    /// Sockets the server watches with epoll or kqueue.
    #[must_use]
    pub fn watches(&self) -> u64 {
        let sessions = if self.driver == Driver::Uring { 0 } else { self.sessions() };
        sessions + sessions * ARRIVING_PERCENT / 100 + 2 * self.shards()
    }

    /// Memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory::of(self)
    }

    /// Pages of `tcp_mem`.
    #[must_use]
    pub fn tcp_pages(&self) -> u64 {
        let ends = if self.load { 2 } else { 1 };
        self.sessions() * ends * ACTIVE_PERCENT / 100 * PAGES_PER_ACTIVE
    }

    /// Connections that may wait at one shard when everybody comes back in the same moment.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.sessions().div_ceil(self.shards()).min(u64::from(limits::LISTEN_BACKLOG))
    }
}

/// The smallest number up to `most` that suffices, given that larger ones do, too.
fn least(most: u64, suffices: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low.midpoint(high);
        if suffices(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

/// The driver the server would take for this configuration on this host.
///
/// # Errors
/// What decides and is not known.
pub(crate) fn driver_of(config: &Config, host: &Host) -> Result<Choice, String> {
    if config.driver == Driver::Ready || host.system == System::FreeBsd {
        let why = if host.system == System::FreeBsd { "kqueue is FreeBSD's" } else { "as asked" };
        return Ok(Choice { driver: Driver::Ready, why: why.to_owned() });
    }
    let uring = match host.text("io_uring")?.as_str() {
        "works" => Ok(()),
        why => Err(why.to_owned()),
    };
    let known = driver::Host {
        sessions_max: config.sessions_max,
        files: host.number("RLIMIT_NOFILE")?,
        syscall_ns: host.number("syscall_ns")?,
        uring,
    };
    Ok(driver::decide(config.driver, &known))
}
