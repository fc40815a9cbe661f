//! Keeps the process below a ceiling of memory, before the kernel ends it: near the ceiling new
//! sessions are refused, at it idle ones are let go, a few at a time.
//!
//! The ceiling is a setting, or the limit of the control group, or the host's memory. What counts
//! against a group's limit is what the group uses, files that the kernel may drop left out: sockets
//! are in that. Against the others counts what the process allocated and what the kernel keeps for
//! its connections (it tells nobody whose they are; a measured figure per connection stands for
//! them). Where the process's own part of it is small, letting its sessions go would not help, and
//! it does nothing.
//!
//! Owner: the main thread, which looks once a second. Only on Linux; elsewhere nothing is known of
//! the own use, and a setting is answered with a line that says so.

use crate::limits;
use crate::shard::{Level, Pressure};
use crate::sys;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";
/// Limits from here on are none: the first version of control groups writes so.
const NO_LIMIT_BYTES: u64 = 1 << 60;
const MIB: u64 = 1024 * 1024;

/// What a ceiling is one of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    /// The operator's, of the process.
    Setting,
    /// A control group's, found in this folder.
    Group { folder: PathBuf, names: &'static Names },
    /// The host's.
    Host,
}

/// How a version of control groups calls what is needed here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) limit: &'static str,
    pub(crate) used: &'static str,
    /// In `memory.stat`: pages of files, which the kernel may drop.
    files: [&'static str; 2],
}

pub(crate) static SECOND: Names = Names {
    limit: "memory.max",
    used: "memory.current",
    files: ["inactive_file ", "active_file "],
};
pub(crate) static FIRST: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: ["total_inactive_file ", "total_active_file "],
};

/// See the module.
#[derive(Debug)]
pub(super) struct Guard {
    ceiling: Option<(u64, Whose)>,
    due_ms: u64,
    state: State,
    told_ms: Option<u64>,
    told_full: bool,
}

/// What the shards are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// No new sessions.
    full: bool,
    /// Idle ones go.
    sheds: bool,
}

impl State {
    /// The state for so much of the ceiling, given the state before.
    fn next(self, percent: u64) -> Self {
        let over = |was: bool, from: u64, until: u64| percent >= if was { until } else { from };
        Self {
            full: over(self.full, limits::MEMORY_FULL_PERCENT, limits::MEMORY_EASED_PERCENT),
            sheds: over(self.sheds, limits::MEMORY_SHED_PERCENT, limits::MEMORY_SHED_UNTIL_PERCENT),
        }
    }
}

impl Guard {
    /// Finds the ceiling; `setting_bytes` is the operator's, 0 for none. Says what it found.
    pub(super) fn find(setting_bytes: u64) -> Self {
        let ceiling = ceiling(setting_bytes);
        match &ceiling {
            _ if own_bytes(0).is_none() && setting_bytes > 0 => eprintln!(
                "myriad: memory_max_bytes has no effect here: this system does not say what a \
                 process uses. Lower sessions_max instead"
            ),
            Some((bytes, whose)) => {
                let of = match whose {
                    Whose::Setting => "memory_max_bytes".to_owned(),
                    Whose::Group { folder, .. } => format!("the limit in {}", folder.display()),
                    Whose::Host => "the memory of this host".to_owned(),
                };
                eprintln!("myriad: sessions are refused near {} MiB of memory: {of}", bytes / MIB);
            }
            None => {}
        }
        Self { ceiling, due_ms: 0, state: State::default(), told_ms: None, told_full: false }
    }

    /// Looks, if it is time, and tells the shards and the operator. `now_ms` is of a monotonic
    /// clock.
    pub(super) fn look(&mut self, pressures: &[Arc<Pressure>], now_ms: u64) {
        if now_ms < self.due_ms {
            return;
        }
        self.due_ms = now_ms + limits::MEMORY_LOOK_MS;
        let Some((ceiling_bytes, whose)) = &self.ceiling else { return };
        let conns = pressures.iter().map(|shard| shard.conns()).sum();
        let Some(own_bytes) = own_bytes(conns) else { return };
        let used_bytes = match whose {
            Whose::Group { folder, names } => group_bytes(folder, names).unwrap_or(own_bytes),
            Whose::Setting | Whose::Host => own_bytes,
        };
        let percent = |bytes: u64| bytes.saturating_mul(100) / (*ceiling_bytes).max(1);
        let is_ours = percent(own_bytes) >= limits::MEMORY_OWN_PERCENT_MIN;
        let state = self.state.next(if is_ours { percent(used_bytes) } else { 0 });
        if state != self.state {
            self.state = state;
            for shard in pressures {
                shard.set_floor(if state.full { Level::Full } else { Level::Normal });
                shard.set_shedding(state.sheds);
            }
        }
        let told_soon = self.told_ms.is_some_and(|told| now_ms < told + limits::LEVEL_TELL_MS);
        if state.full != self.told_full && !told_soon {
            (self.told_full, self.told_ms) = (state.full, Some(now_ms));
            tell(state.full, used_bytes, *ceiling_bytes);
        }
    }
}

fn tell(full: bool, used_bytes: u64, ceiling_bytes: u64) {
    let (used, ceiling) = (used_bytes / MIB, ceiling_bytes / MIB);
    if full {
        eprintln!(
            "myriad: {used} MiB of {ceiling} MiB of memory are in use: new sessions are told to \
             come back later, and above {} % idle ones are let go. Messages are taken. Give the \
             server more memory, or lower sessions_max; it goes on by itself below {} %",
            limits::MEMORY_SHED_PERCENT,
            limits::MEMORY_EASED_PERCENT
        );
    } else {
        eprintln!("myriad: {used} MiB of {ceiling} MiB of memory are in use: sessions are taken");
    }
}

/// The ceiling, and whose it is.
fn ceiling(setting_bytes: u64) -> Option<(u64, Whose)> {
    if setting_bytes > 0 {
        return Some((setting_bytes, Whose::Setting));
    }
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| host_bytes(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let found = group_folders(&groups, Path::new(GROUPS)).into_iter().filter_map(limit_of);
    let group = found.min_by_key(|(bytes, ..)| *bytes);
    match (group, host) {
        (Some((bytes, folder, names)), host) if host.is_none_or(|host| bytes < host) => {
            Some((bytes, Whose::Group { folder, names }))
        }
        (_, host) => host.map(|bytes| (bytes, Whose::Host)),
    }
}

/// Folders that may hold a limit of the group the process is in, or of one around it. In a
/// container the path is often the host's and the own group's files are at the top.
fn group_folders(groups: &str, top: &Path) -> Vec<(PathBuf, &'static Names)> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (top, names) = match controllers {
            "" => (top.to_owned(), &SECOND),
            _ if controllers.split(',').any(|it| it == "memory") => (top.join("memory"), &FIRST),
            _ => continue,
        };
        let inner = top.join(path.trim_start_matches('/'));
        let around = inner.ancestors().take_while(|folder| folder.starts_with(&top));
        folders.extend(around.map(|folder| (folder.to_owned(), names)));
    }
    folders
}

type Limit = (u64, PathBuf, &'static Names);

fn limit_of((folder, names): (PathBuf, &'static Names)) -> Option<Limit> {
    let bytes = number_in(&folder.join(names.limit))?;
    (bytes < NO_LIMIT_BYTES).then_some((bytes, folder, names))
}

/// What a group uses, but for pages of files.
fn group_bytes(folder: &Path, names: &Names) -> Option<u64> {
    let used = number_in(&folder.join(names.used))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    Some(used.saturating_sub(files_bytes(&stat, names)))
}

/// Pages of files that a group is charged for, by its `memory.stat`.
pub(crate) fn files_bytes(stat: &str, names: &Names) -> u64 {
    let of = |line: &str| {
        let number = names.files.iter().find_map(|name| line.strip_prefix(name))?;
        number.trim().parse::<u64>().ok()
    };
    stat.lines().filter_map(of).sum()
}

fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn host_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// What the process allocated, and what the kernel keeps for so many connections.
fn own_bytes(conns: u64) -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages = anonymous_pages(&statm)?;
    Some(pages * sys::page_bytes() as u64 + conns * limits::KERNEL_BYTES_PER_SESSION)
}

/// Resident pages but for those of files.
fn anonymous_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_ascii_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let of_files: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(of_files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_left_alone_until_it_is_near_and_has_to_be_left_well_behind() {
        let mut state = State::default();
        let mut through = |percents: &[u64]| -> Vec<(bool, bool)> {
            let mut of = |percent: &u64| {
                state = state.next(*percent);
                (state.full, state.sheds)
            };
            percents.iter().map(&mut of).collect()
        };
        let (no, full, sheds) = ((false, false), (true, false), (true, true));
        assert_eq!(through(&[0, 89, 90, 96, 97, 200]), [no, no, full, full, sheds, sheds]);
        assert_eq!(through(&[96, 95, 94, 96, 85, 84]), [sheds, sheds, full, full, full, no]);
        assert_eq!(through(&[89, 97, 84]), [no, sheds, no]);
    }

    #[test]
    fn the_limit_of_any_group_around_the_process_counts() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir_all(top.join("memory/x")).unwrap();
        fs::write(top.join("a/b/memory.max"), "max\n").unwrap();
        fs::write(top.join("a/memory.max"), "3000\n").unwrap();
        fs::write(top.join("memory/x/memory.limit_in_bytes"), "2000\n").unwrap();
        fs::write(top.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        let limits_of = |groups: &str| -> Vec<u64> {
            group_folders(groups, top).into_iter().filter_map(limit_of).map(|it| it.0).collect()
        };
        assert_eq!(limits_of("0::/a/b\n"), [3_000], "the one around it; `max` is none");
        assert_eq!(limits_of("4:memory:/x\n3:cpu:/y\n0::/\n"), [2_000]);
        assert_eq!(limits_of("4:cpu,memory:/of/the/host\n"), [0; 0], "no limit in sight");
        assert_eq!(limits_of("nonsense\n\n1:\n"), [0; 0]);
    }

    #[test]
    fn pages_of_files_are_not_counted() {
        let stat = "anon 5\ninactive_file 300\nactive_file 40\ntotal_active_file 7\n";
        assert_eq!(files_bytes(stat, &SECOND), 340);
        assert_eq!(files_bytes(stat, &FIRST), 7);
        assert_eq!(anonymous_pages("900 500 120 1 0 300 0\n"), Some(380));
        assert_eq!(anonymous_pages("900"), None);
        assert_eq!(
            host_bytes("MemTotal:       24684084 kB\nMemFree: 1 kB\n"),
            Some(25_276_502_016)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_and_its_connections_are_counted() {
        let alone = own_bytes(0).unwrap();
        assert!(alone > 64 * 1024 && alone < 1 << 40, "{alone} bytes");
        assert!(own_bytes(1_000_000).unwrap() >= 1_000_000 * limits::KERNEL_BYTES_PER_SESSION);
        let (bytes, _) = ceiling(0).unwrap();
        assert!(bytes > alone);
        assert_eq!(ceiling(7), Some((7, Whose::Setting)));
    }
}
