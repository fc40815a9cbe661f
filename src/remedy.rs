//! What the host can run out of, and the words that say what to do about it: the same at run time
//! and in `myriad doctor`.
//!
//! Owner: whoever meets such an error calls [`note`], which only counts; the main thread tells the
//! operator ([`News`]), once a minute at the most for each kind, because a host that is out of
//! something says so with every connection. Not here: how much is needed (`doctor`).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::SCARCE_SILENCE_MS;

/// What to do about files of the process.
pub const FILES: &str = "raise the limit on open files: LimitNOFILE= of the service, nofile in \
                         limits.d (ulimit -Hn shows it; openfiles in login.conf on FreeBSD), or \
                         take --driver uring, whose sessions need no files";
/// What to do about files of the whole host.
pub const FILES_OF_HOST: &str = "raise fs.file-max (kern.maxfiles on FreeBSD)";
/// What to do about epoll watches.
pub const WATCHES: &str =
    "raise fs.epoll.max_user_watches, or take --driver uring, whose sessions need none";
/// What to do about memory of the kernel.
pub const MEMORY: &str = "give the host or the service's control group (MemoryMax=) more memory, \
                          raise net.ipv4.tcp_mem (kern.ipc.maxsockets and kern.ipc.nmbclusters on \
                          FreeBSD), or lower --sessions-max";

/// Something a host runs out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// `EMFILE`.
    Files,
    /// `ENFILE`.
    FilesOfHost,
    /// `ENOSPC` from epoll.
    Watches,
    /// `ENOMEM`, `ENOBUFS`.
    Memory,
}

impl Scarce {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Files, Self::FilesOfHost, Self::Watches, Self::Memory];

    /// What an error of accepting or watching a socket says the host has too little of.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE => Some(Self::Files),
            libc::ENFILE => Some(Self::FilesOfHost),
            libc::ENOSPC => Some(Self::Watches),
            libc::ENOMEM | libc::ENOBUFS => Some(Self::Memory),
            _ => None,
        }
    }

    /// What happened, in the operator's words.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Files => "this process may open no more files (EMFILE)",
            Self::FilesOfHost => "this host may open no more files (ENFILE)",
            Self::Watches => "this user may watch no more sockets with epoll (ENOSPC)",
            Self::Memory => "the kernel has no memory for another socket (ENOMEM, ENOBUFS)",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Files => FILES,
            Self::FilesOfHost => FILES_OF_HOST,
            Self::Watches => WATCHES,
            Self::Memory => MEMORY,
        }
    }
}

/// How often each was met, in the order of [`Scarce::ALL`].
static MET: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Counts what the host has too little of. Any thread, any time, no waiting.
pub fn note(scarce: Scarce) {
    // Only a count: nothing else is published with it.
    MET[scarce as usize].fetch_add(1, Ordering::Relaxed);
}

/// [`note`] if the error says so.
pub fn note_error(error: &io::Error) {
    if let Some(scarce) = Scarce::of(error) {
        note(scarce);
    }
}

/// What was told so far; the main thread's.
#[derive(Debug, Default)]
pub struct News {
    told: [u64; 4],
    again_ms: [u64; 4],
}

impl News {
    /// Sentences for the operator, of what was met since. `now_ms` is of a monotonic clock.
    pub fn look(&mut self, now_ms: u64) -> Vec<String> {
        let met = std::array::from_fn(|at| MET[at].load(Ordering::Relaxed));
        self.judge(met, now_ms)
    }

    fn judge(&mut self, met: [u64; 4], now_ms: u64) -> Vec<String> {
        let mut news = Vec::new();
        for (at, scarce) in Scarce::ALL.into_iter().enumerate() {
            if met[at] == self.told[at] || now_ms < self.again_ms[at] {
                continue;
            }
            let times = met[at] - self.told[at];
            self.told[at] = met[at];
            self.again_ms[at] = now_ms + SCARCE_SILENCE_MS;
            news.push(format!(
                "{}, {times} times since it was last said: connections wait, are closed, or are \
                 told that the server is full. To have more, {}. `myriad doctor` says how much is \
                 needed",
                scarce.what(),
                scarce.remedy()
            ));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::{News, Scarce};
    use crate::limits::SCARCE_SILENCE_MS;
    use std::io;

    #[test]
    fn errors_of_the_system_name_what_is_scarce() {
        let of = |code| Scarce::of(&io::Error::from_raw_os_error(code));
        assert_eq!(of(libc::EMFILE), Some(Scarce::Files));
        assert_eq!(of(libc::ENFILE), Some(Scarce::FilesOfHost));
        assert_eq!(of(libc::ENOSPC), Some(Scarce::Watches));
        assert_eq!(of(libc::ENOBUFS), Some(Scarce::Memory));
        assert_eq!(of(libc::ECONNRESET), None);
        assert_eq!(Scarce::of(&io::Error::other("ours")), None);
    }

    #[test]
    fn the_order_of_all_is_the_order_of_the_counts() {
        for (at, scarce) in Scarce::ALL.into_iter().enumerate() {
            assert_eq!(scarce as usize, at);
        }
    }

    #[test]
    fn what_goes_on_is_told_once_a_minute() {
        let mut news = News::default();
        assert!(news.judge([0; 4], 0).is_empty());
        let said = news.judge([3, 0, 1, 0], 10);
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("EMFILE") && said[0].contains("3 times"), "{}", said[0]);
        assert!(said[1].contains("fs.epoll.max_user_watches"), "{}", said[1]);
        assert!(news.judge([9, 0, 1, 0], 20).is_empty());
        let said = news.judge([9, 0, 1, 0], 10 + SCARCE_SILENCE_MS);
        assert!(said.len() == 1 && said[0].contains("6 times"), "{said:?}");
    }
}
