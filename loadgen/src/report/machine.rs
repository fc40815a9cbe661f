//! The host of a run: what a number means nothing without. Linux and FreeBSD.
//!
//! What can't be read says so and why; no reading fails a run. Deliberately not here: judging the
//! settings (that is `myriad doctor`).

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// What stands in the place of what could not be read, followed by why.
pub const NOT_READABLE: &str = "not readable";
/// What else the host did; the one entry of the settings that is none.
pub const LOAD_AVERAGE: &str = "load average at the start";
/// Longest value that is kept.
const VALUE_CHARS_MAX: usize = 200;

/// The host of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name and release of the kernel.
    pub kernel: String,
    /// `x86_64` and the like.
    pub architecture: String,
    /// The processor, as it calls itself.
    pub cpu_model: String,
    /// Processors this program may use.
    pub cpu_count: u64,
    /// Memory of the host; `null` if it is not readable.
    pub memory_bytes: Option<u64>,
    /// Settings of kernel and process that decide how far a server gets.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name on that system.
    pub name: String,
    /// Its value, or [`NOT_READABLE`] and why.
    pub value: String,
}

impl Machine {
    /// Reads this host.
    #[must_use]
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| tidy(&text.to_string_lossy());
        let mut settings: Vec<Setting> =
            system::SETTINGS.iter().map(|name| setting(name)).collect();
        settings.push(file_limit());
        settings.extend(system::more());
        Self {
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            architecture: text(uname.machine()),
            cpu_model: system::cpu_model(),
            cpu_count: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: system::memory_bytes(),
            settings,
        }
    }
}

fn setting(name: &str) -> Setting {
    let value = system::sysctl(name).map_or_else(|why| not_readable(&why), |value| tidy(&value));
    Setting { name: name.to_owned(), value }
}

fn not_readable(why: &str) -> String {
    tidy(&format!("{NOT_READABLE}: {why}"))
}

/// One line of plain text, not too long.
fn tidy(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(VALUE_CHARS_MAX).collect()
}

fn file_limit() -> Setting {
    let limit = getrlimit(Resource::Nofile);
    let word = |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |v| v.to_string());
    let value = format!("soft {}, hard {}", word(limit.current), word(limit.maximum));
    Setting { name: "open files of this process".to_owned(), value }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    use super::{Setting, not_readable, tidy};

    pub(super) const SETTINGS: &[&str] = &[
        "fs.file-max",
        "fs.nr_open",
        "kernel.io_uring_disabled",
        "net.core.netdev_max_backlog",
        "net.core.rmem_max",
        "net.core.somaxconn",
        "net.core.wmem_max",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_congestion_control",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_max_syn_backlog",
        "net.ipv4.tcp_max_tw_buckets",
        "net.ipv4.tcp_mem",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_tw_reuse",
        "net.ipv4.tcp_wmem",
        "net.netfilter.nf_conntrack_max",
        "vm.max_map_count",
        "vm.overcommit_memory",
        "vm.swappiness",
    ];
    /// Files that are no sysctl.
    const FILES: &[(&str, &str)] = &[
        ("cpu governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        ("transparent huge pages", "/sys/kernel/mm/transparent_hugepage/enabled"),
        ("cgroup cpu.max", "/sys/fs/cgroup/cpu.max"),
        ("cgroup memory.max", "/sys/fs/cgroup/memory.max"),
        (super::LOAD_AVERAGE, "/proc/loadavg"),
    ];

    pub(super) fn sysctl(name: &str) -> Result<String, String> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::read_to_string(path).map_err(|error| error.to_string())
    }

    pub(super) fn more() -> Vec<Setting> {
        let read = |&(name, path): &(&str, &str)| {
            let text = fs::read_to_string(path);
            let value = text.map_or_else(|why| not_readable(&why.to_string()), |text| tidy(&text));
            Setting { name: name.to_owned(), value }
        };
        FILES.iter().map(read).collect()
    }

    pub(super) fn cpu_model() -> String {
        let text = match fs::read_to_string("/proc/cpuinfo") {
            Ok(text) => text,
            Err(error) => return not_readable(&error.to_string()),
        };
        // x86 has a name; Arm has numbers.
        let value = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_once(':').map(|(_, value)| tidy(value))
        };
        let by_numbers = || {
            let (by, part) = (value("CPU implementer")?, value("CPU part")?);
            Some(format!("implementer {by}, part {part}"))
        };
        value("model name")
            .or_else(by_numbers)
            .unwrap_or_else(|| not_readable("/proc/cpuinfo names no model"))
    }

    pub(super) fn memory_bytes() -> Option<u64> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::Command;

    use super::{Setting, not_readable, tidy};

    pub(super) const SETTINGS: &[&str] = &[
        "kern.ipc.maxsockbuf",
        "kern.ipc.maxsockets",
        "kern.ipc.nmbclusters",
        "kern.ipc.soacceptqueue",
        "kern.maxfiles",
        "kern.maxfilesperproc",
        "net.inet.ip.portrange.first",
        "net.inet.ip.portrange.last",
        "net.inet.tcp.cc.algorithm",
        "net.inet.tcp.maxtcptw",
        "net.inet.tcp.msl",
        "net.inet.tcp.recvspace",
        "net.inet.tcp.sendspace",
        "net.inet.tcp.syncache.cachelimit",
    ];

    pub(super) fn sysctl(name: &str) -> Result<String, String> {
        let output = Command::new("sysctl")
            .args(["-n", name])
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(tidy(&String::from_utf8_lossy(&output.stderr)))
    }

    pub(super) fn more() -> Vec<Setting> {
        let value = sysctl("vm.loadavg").map_or_else(|why| not_readable(&why), |text| tidy(&text));
        vec![Setting { name: super::LOAD_AVERAGE.to_owned(), value }]
    }

    pub(super) fn cpu_model() -> String {
        sysctl("hw.model").map_or_else(|why| not_readable(&why), |text| tidy(&text))
    }

    pub(super) fn memory_bytes() -> Option<u64> {
        sysctl("hw.physmem").ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_told() {
        let machine = Machine::read();
        assert!(machine.kernel.len() > 3 && machine.cpu_count >= 1, "{machine:?}");
        assert!(machine.settings.len() > 5);
        for setting in &machine.settings {
            assert!(!setting.value.is_empty(), "{setting:?}");
        }
    }

    #[test]
    fn what_is_not_there_says_why() {
        let setting = setting("net.no.such.setting");
        assert!(setting.value.starts_with("not readable: "), "{setting:?}");
    }

    #[test]
    fn values_are_one_short_line() {
        assert_eq!(tidy("4096\t131072\n 6291456\n"), "4096 131072 6291456");
        assert_eq!(tidy(&"x".repeat(5_000)).len(), VALUE_CHARS_MAX);
    }
}
