//! What another process uses: its CPU time and memory, as `/proc` tells.
//!
//! Deliberately not here: instruction counts (needs hardware counters), and other systems than
//! Linux, where every reading is `None`.

use std::fs;

/// `utime` and `stime` are in these: the kernel shows 100 per second to user space everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process with all its threads, in seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cpu {
    /// In user space, to 10 ms.
    pub user_s: f64,
    /// In the kernel, to 10 ms.
    pub system_s: f64,
    /// Both, to the nanosecond, of the threads alive now.
    pub scheduled_s: f64,
}

impl Cpu {
    /// What was used since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            scheduled_s: self.scheduled_s - earlier.scheduled_s,
        }
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Resident set (`VmRSS`).
    pub resident_bytes: u64,
    /// Of it anonymous memory (`RssAnon`): what the process allocated.
    pub anonymous_bytes: u64,
}

/// CPU time of a process so far.
#[must_use]
pub fn cpu(pid: u32) -> Option<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; fields are counted after its end.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let mut scheduled_s = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let first = text.split_ascii_whitespace().next();
        scheduled_s += first.and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
    }
    Some(Cpu { user_s: user / TICKS_PER_SECOND, system_s: system / TICKS_PER_SECOND, scheduled_s })
}

/// Memory of a process now.
#[must_use]
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory {
        resident_bytes: kib("VmRSS:")? * 1024,
        anonymous_bytes: kib("RssAnon:").unwrap_or(0) * 1024,
    })
}

/// Allows this process as many open files as the host does; returns how many that are.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum.unwrap_or(u64::MAX)
    } else {
        limit.current.unwrap_or(u64::MAX)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu(pid).is_some());
        assert!(memory(pid).unwrap().resident_bytes > 100_000);
        assert_eq!(memory(u32::MAX), None);
    }
}
