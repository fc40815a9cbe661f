//! Which driver the shards get, and the one line that says why.
//!
//! `auto` decides by what was measured (docs/performance.md): readiness costs less per message as
//! long as a system call is cheap, and every session of it needs a descriptor; io_uring needs none
//! and pays off where system calls are dear.

use crate::config::{Config, Driver};
use crate::limits;

/// The decision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Never [`Driver::Auto`].
    pub(crate) driver: Driver,
    /// For the operator.
    pub(crate) why: String,
}

/// What the decision rests on.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) sessions_max: usize,
    pub(crate) files: u64,
    pub(crate) syscall_ns: u64,
    /// io_uring works here, or why it does not.
    pub(crate) uring: Result<(), String>,
}

/// Looks at the host and decides.
pub(crate) fn choose(config: &Config, files: u64) -> Choice {
    if config.driver == Driver::Ready {
        return Choice { driver: Driver::Ready, why: "as configured".to_owned() };
    }
    let (uring, syscall_ns) = look(files);
    let host = Host { sessions_max: config.sessions_max, files, syscall_ns, uring };
    decide(config.driver, &host)
}

/// Whether io_uring works with so many files, and what a system call costs in nanoseconds.
#[cfg(target_os = "linux")]
pub(crate) fn look(files: u64) -> (Result<(), String>, u64) {
    let slots = u32::try_from(files).unwrap_or(u32::MAX);
    (crate::io::uring::probe(slots), crate::io::uring::syscall_ns())
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub(crate) fn look(_files: u64) -> (Result<(), String>, u64) {
    (Err("io_uring is Linux's".to_owned()), 0)
}

/// The decision, of nothing but these.
pub(crate) fn decide(asked: Driver, host: &Host) -> Choice {
    let Host { sessions_max, files, syscall_ns, uring } = host;
    if let Err(why) = uring {
        return Choice { driver: Driver::Ready, why: format!("io_uring does not work: {why}") };
    }
    let (driver, why) = if asked == Driver::Uring {
        (Driver::Uring, "as configured".to_owned())
    } else if *files < needed(*sessions_max) {
        let why = format!("{sessions_max} sessions need more than the {files} files allowed");
        (Driver::Uring, why)
    } else if *syscall_ns >= limits::URING_SYSCALL_NS_MIN {
        (Driver::Uring, format!("a system call takes {syscall_ns} ns here, which is much"))
    } else {
        let why = format!("files suffice, and a system call takes only {syscall_ns} ns here");
        (Driver::Ready, why)
    };
    Choice { driver, why }
}

/// Files a process with so many sessions needs if each takes one.
fn needed(sessions: usize) -> u64 {
    sessions.saturating_add(limits::FILES_BESIDE_SESSIONS) as u64
}

#[cfg(test)]
mod tests {
    use super::{Choice, Driver, Host, decide};

    fn host() -> Host {
        Host { sessions_max: 100_000, files: 1_048_576, syscall_ns: 50, uring: Ok(()) }
    }

    #[test]
    fn auto_takes_what_the_host_is_good_at() {
        let pick = |host: &Host| decide(Driver::Auto, host).driver;
        assert_eq!(pick(&host()), Driver::Ready);
        assert_eq!(pick(&Host { files: 20_000, ..host() }), Driver::Uring);
        assert_eq!(pick(&Host { syscall_ns: 600, ..host() }), Driver::Uring);
    }

    #[test]
    fn where_io_uring_does_not_work_readiness_takes_over_and_says_why() {
        let broken = Host { uring: Err("no such call".to_owned()), files: 20, ..host() };
        for asked in [Driver::Auto, Driver::Uring] {
            let Choice { driver, why } = decide(asked, &broken);
            assert_eq!(driver, Driver::Ready);
            assert!(why.contains("no such call"));
        }
    }

    #[test]
    fn what_was_asked_for_is_taken() {
        let choice = decide(Driver::Uring, &host());
        assert_eq!(choice, Choice { driver: Driver::Uring, why: "as configured".to_owned() });
    }
}
