//! Reads a Linux host. Each fact is what a file or a call said, or why there is none.
//!
//! The files are read below a root, so that tests can make a host up as files. Nothing is changed;
//! only io_uring is tried, with a ring that lives for a moment.

use std::fs;
use std::path::{Path, PathBuf};

use super::facts::{Fact, Host, System};
use super::table::{Place, Rule, rows};
use crate::server::driver;
use crate::server::memory::{self, Names};
use crate::sys;

/// Counters of the kernel that tell of what has happened already.
pub(super) const COUNTERS: [&str; 7] = [
    "ListenOverflows",
    "ListenDrops",
    "SyncookiesSent",
    "TCPReqQFullDrop",
    "TCPMemoryPressures",
    "TCPAbortOnMemory",
    "TCPTimeWaitOverflow",
];
/// A limit of a control group from which on it is none.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// This host.
#[must_use]
pub fn read() -> Host {
    let mut host = read_below(Path::new("/"));
    let files = sys::nofile().map(|(_, hard)| hard).map_err(|error| error.to_string());
    let (uring, syscall_ns) = driver::look(files.clone().unwrap_or(u64::MAX));
    host.set("io_uring", Fact::Text(uring.err().unwrap_or_else(|| "works".to_owned())));
    host.set("syscall_ns", Fact::Number(syscall_ns));
    host.set_number("RLIMIT_NOFILE", files);
    let cores = sys::cores().map(|cores| cores.len() as u64);
    host.set_number("processors", cores.map_err(|error| error.to_string()));
    host
}

/// All that files say.
#[must_use]
pub fn read_below(root: &Path) -> Host {
    let files = Files(root.to_owned());
    let mut host = Host::new(System::Linux);
    let sysctls = rows().filter(|row| row.system == System::Linux && row.read == "/proc/sys");
    for row in sysctls {
        let values = files.sysctl(row.name);
        let number = match row.rule {
            Rule::Range => values.and_then(|values| match values[..] {
                [first, last] if last >= first => Ok(last - first + 1),
                _ => Err("it is no range".to_owned()),
            }),
            _ => values.and_then(|values| {
                values.get(row.column).copied().ok_or_else(|| "it has fewer numbers".to_owned())
            }),
        };
        debug_assert!(matches!(row.place, Place::Sysctl | Place::Boot), "{}", row.name);
        host.set_number(row.name, number);
    }
    // Without the module there is no file, and nothing is tracked.
    let count = "net.netfilter.nf_conntrack_count";
    let tracked = if files.exists("proc/sys/net/netfilter/nf_conntrack_count") {
        files.sysctl(count).map(|values| values[0])
    } else {
        Ok(0)
    };
    host.set_number(count, tracked);
    host.set_number("memory", files.meminfo("MemAvailable:"));
    host.set_number("memory.total", files.meminfo("MemTotal:"));
    host.set_number("swap", files.meminfo("SwapTotal:"));
    let (left, version) = files.cgroup();
    host.set("memory.cgroup", left);
    host.set("memory.cgroup.version", Fact::Number(version));
    host.set("sessions_max", Fact::Text("not given".to_owned()));
    host.set("memory_max_bytes", Fact::Text("not given".to_owned()));
    host.set("users_max", Fact::Text("not given".to_owned()));
    host.set("SESSIONS_SETTING_MAX", Fact::Number(crate::limits::SESSIONS_SETTING_MAX as u64));
    host.set_text("kernel", files.text("proc/sys/kernel/osrelease"));
    host.set_text("nodes", files.text("sys/devices/system/node/online"));
    let huge = files.text("sys/kernel/mm/transparent_hugepage/enabled");
    host.set_text("huge pages", huge.map(|text| chosen(&text)));
    host.set_text("queues", files.queues());
    files.counters(&mut host);
    host
}

/// The word in brackets.
fn chosen(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(word, _)| word).to_owned()
}

/// Files below a root.
struct Files(PathBuf);

impl Files {
    fn exists(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    fn text(&self, path: &str) -> Result<String, String> {
        let text = fs::read_to_string(self.0.join(path));
        text.map(|text| text.trim().to_owned()).map_err(|error| format!("/{path}: {error}"))
    }

    /// The numbers of a sysctl, at least one.
    fn sysctl(&self, name: &str) -> Result<Vec<u64>, String> {
        let path = format!("proc/sys/{}", name.replace('.', "/"));
        let text = self.text(&path)?;
        let values: Result<Vec<u64>, _> = text.split_ascii_whitespace().map(str::parse).collect();
        match values {
            Ok(values) if !values.is_empty() => Ok(values),
            _ => Err(format!("/{path}: `{text}` is no number")),
        }
    }

    fn meminfo(&self, name: &str) -> Result<u64, String> {
        self.kib("proc/meminfo", name)
    }

    /// A line such as `name 12 kB`, in bytes.
    fn kib(&self, path: &str, name: &str) -> Result<u64, String> {
        let text = self.text(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib.saturating_mul(1024)).ok_or_else(|| format!("/{path} has no {name}"))
    }

    /// What the narrowest group above this process leaves, in bytes, or "none"; and its version.
    fn cgroup(&self) -> (Fact, u64) {
        let text = match self.text("proc/self/cgroup") {
            Ok(text) => text,
            Err(why) => return (Fact::Unknown(why), 2),
        };
        let mut least: Option<(u64, u64)> = None;
        let mut looked = false;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else { continue };
            let (mounts, names, version): (&[&str], _, _) = if kinds.is_empty() {
                (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], &memory::SECOND, 2)
            } else if kinds.split(',').any(|kind| kind == "memory") {
                (&["sys/fs/cgroup/memory"], &memory::FIRST, 1)
            } else {
                continue;
            };
            for mount in mounts.iter().filter(|mount| self.exists(mount)) {
                looked = true;
                // In a namespace of groups the path may lead nowhere: the mount is the group then.
                for folder in Path::new(path.trim_start_matches('/')).ancestors() {
                    let folder = format!("{mount}/{}", folder.display());
                    let left = self.room(&folder, names).map(|bytes| (bytes, version));
                    least = least.into_iter().chain(left).min();
                }
            }
        }
        match least {
            Some((bytes, version)) => (Fact::Number(bytes), version),
            None if looked => (Fact::Text("none".to_owned()), 2),
            None => {
                (Fact::Unknown("no control groups are mounted at /sys/fs/cgroup".to_owned()), 2)
            }
        }
    }

    /// What one group leaves; `None` if it has no limit. Pages of files can be dropped, so they do
    /// not count, as they do not for the server's own ceiling.
    fn room(&self, folder: &str, names: &Names) -> Option<u64> {
        let limit: u64 = self.text(&format!("{folder}/{}", names.limit)).ok()?.parse().ok()?;
        let used: u64 = self.text(&format!("{folder}/{}", names.used)).ok()?.parse().ok()?;
        let stat = self.text(&format!("{folder}/memory.stat")).unwrap_or_default();
        let used = used.saturating_sub(memory::files_bytes(&stat, names));
        // What this process takes itself is free again when the server runs.
        let own = self.kib("proc/self/status", "RssAnon:").unwrap_or(0).min(used);
        (limit < UNLIMITED_BYTES).then(|| limit.saturating_sub(used - own))
    }

    /// Network devices with their queues, interrupts and where those are served.
    fn queues(&self) -> Result<String, String> {
        let class = "sys/class/net";
        let entries = fs::read_dir(self.0.join(class));
        let entries = entries.map_err(|error| format!("/{class}: {error}"))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let mut told = Vec::new();
        for name in names {
            let device = format!("{class}/{name}/device");
            if !self.exists(&device) {
                continue; // no hardware behind it
            }
            let count = |prefix: &str| {
                let queues = fs::read_dir(self.0.join(class).join(&name).join("queues"));
                let queues = queues.into_iter().flatten().flatten();
                queues.filter(|q| q.file_name().to_string_lossy().starts_with(prefix)).count()
            };
            let steering = self.text(&format!("{class}/{name}/queues/rx-0/rps_cpus"));
            let rps = match steering {
                Ok(mask) if mask.chars().all(|c| c == '0' || c == ',') => "no RPS",
                Ok(_) => "RPS",
                Err(_) => "RPS unknown",
            };
            told.push(format!(
                "{name}: {} receive and {} send queues, {rps}, interrupts on {}",
                count("rx-"),
                count("tx-"),
                self.interrupts(&device),
            ));
        }
        if told.is_empty() { Err("no network hardware".to_owned()) } else { Ok(told.join("; ")) }
    }

    /// The processors that serve a device's interrupts, one word each.
    fn interrupts(&self, device: &str) -> String {
        let folders = [format!("{device}/msi_irqs"), format!("{device}/../msi_irqs")];
        let found = folders.iter().find_map(|folder| fs::read_dir(self.0.join(folder)).ok());
        let Some(entries) = found else { return "unknown processors".to_owned() };
        let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        let of = |number: &u32| {
            let path = format!("proc/irq/{number}/smp_affinity_list");
            format!("{number} on {}", self.text(&path).unwrap_or_else(|_| "?".to_owned()))
        };
        numbers.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// What has gone wrong since the host started.
    fn counters(&self, host: &mut Host) {
        let text = self.text("proc/net/netstat").unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let names = lines.next().unwrap_or_default().split_ascii_whitespace();
        let values = lines.next().unwrap_or_default().split_ascii_whitespace();
        let pairs: Vec<(&str, &str)> = names.zip(values).collect();
        for name in COUNTERS {
            let value = pairs.iter().find(|(known, _)| *known == name);
            let value = value.and_then(|(_, value)| value.parse().ok());
            host.set_number(name, value.ok_or_else(|| "/proc/net/netstat lacks it".to_owned()));
        }
    }
}
