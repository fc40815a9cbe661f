//! What stops sessions on Linux.

use super::facts::Host;
use super::plan::Plan;
use super::table::{Kit, KitFile, LINUX_SYSCTL, Place, Setting};
use crate::config::Driver;
use crate::limits;
use crate::remedy;

/// A line of the sysctl file.
pub(super) const fn sysctl(value: fn(&Plan) -> String) -> Option<Kit> {
    Some(Kit { file: KitFile::LinuxSysctl, value })
}

/// Rows whose lack means that there are no more sessions.
// Settings of the server itself, wherever it runs.
pub(super) const SESSIONS_MAX: Setting = Setting {
    name: "sessions_max",
    read: "the configuration given",
    place: Place::Server,
    default: "100,000",
    need: Plan::sessions,
    formula: "N",
    applies: configured,
    breaks: "sessions beyond are told that the server is full",
    counter: "clients are told `Full`; counter goodbyes, printed when the server drains",
    cost: "no memory before they come",
    remedy: "raise sessions_max (--sessions-max)",
    source: "myriad config example",
    ..LINUX_SYSCTL
};

pub(super) const USERS_MAX: Setting = Setting {
    name: "users_max",
    read: "the configuration given",
    place: Place::Server,
    default: "1,000,000",
    need: Plan::sessions,
    formula: "at least a user per session; all who ever logged in count",
    applies: configured,
    breaks: "users beyond can't log in",
    counter: "clients are told `Full`; counter goodbyes, printed when the server drains",
    cost: "5.7 to 11.4 B each from the start",
    remedy: "raise users_max (--users-max)",
    source: "myriad config example",
    ..LINUX_SYSCTL
};

pub(super) const SESSIONS_SETTING: Setting = Setting {
    name: "SESSIONS_SETTING_MAX",
    read: "the program",
    place: Place::Server,
    default: "16,777,216",
    need: Plan::sessions,
    formula: "N",
    breaks: "the server refuses a larger sessions_max at its start",
    counter: "exit code 2",
    cost: "-",
    remedy: "share the sessions among hosts",
    source: "src/limits.rs",
    ..LINUX_SYSCTL
};

pub(super) const STOPS: [Setting; 12] = [
    Setting {
        name: "RLIMIT_NOFILE",
        read: "getrlimit, the hard limit; the server raises the soft one to it",
        place: Place::Limits,
        default: "1,024 soft, 4,096 to 1,048,576 hard (524,288 by systemd)",
        need: Plan::files,
        formula: "epoll: a file per session, room for strangers and 256 of the server's own; \
                  io_uring: 1,024 per shard and 256",
        breaks: "sessions beyond are told that the server is full; accepting rests (EMFILE)",
        counter: "the server's lines `files are the limit` and `EMFILE` on stderr",
        cost: "16 B per file in use; a limit by itself costs nothing",
        remedy: remedy::FILES,
        source: "getrlimit(2), systemd.exec(5)",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "fs.nr_open",
        default: "1,048,576",
        need: |plan| plan.files().max(1_048_576),
        formula: "as many as RLIMIT_NOFILE is to be",
        applies: files_are_short,
        kit: sysctl(|plan| plan.files().max(1_048_576).to_string()),
        breaks: "LimitNOFILE= or ulimit -Hn above it fails with EPERM",
        counter: "the service does not start; `ulimit` says `Operation not permitted`",
        remedy: "raise fs.nr_open before the limit on files",
        source: "proc_sys_fs(5)",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "fs.file-max",
        default: "a tenth of memory in KiB",
        need: files_of_host,
        formula: "1.1 for each end of a session here, and 4,096 for the rest; files in io_uring's \
                  tables count, too",
        kit: sysctl(|plan| files_of_host(&loaded(plan)).to_string()),
        breaks: "ENFILE for whoever is not root; accepting rests",
        counter: "`VFS: file-max limit` in the kernel's log; /proc/sys/fs/file-nr; ENFILE on \
                  stderr",
        remedy: remedy::FILES_OF_HOST,
        source: "proc_sys_fs(5)",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "fs.epoll.max_user_watches",
        default: "4 % of memory, about 233,000 per GiB",
        need: Plan::watches,
        formula: "epoll: one per session, 3 % for those coming and going, 2 per shard; counted per \
                  user of the system",
        applies: |plan, _| match plan.driver {
            Driver::Uring => Err("io_uring needs none per session"),
            _ => Ok(()),
        },
        kit: sysctl(|plan| plan.watches().to_string()),
        breaks: "epoll_ctl fails with ENOSPC: who connects is closed before the login",
        counter: "ENOSPC on the server's stderr",
        cost: "208 B per watch in use",
        remedy: remedy::WATCHES,
        source: "epoll(7); fs/eventpoll.c of Linux, EP_ITEM_COST",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "memory",
        read: "/proc/meminfo, MemAvailable",
        place: Place::Machine,
        default: "what is built in",
        need: |plan| plan.memory().host().max(plan.below_ceiling(plan.memory().server())),
        formula: "what is drawn below as memory, and 256 MiB or a tenth of it to stay free",
        breaks: "the server refuses sessions; or the kernel kills processes or refuses sockets \
                 (ENOMEM)",
        counter: "the server's line about memory; `Out of memory` in the kernel's log; ENOMEM on \
                  stderr",
        cost: "itself",
        remedy: "more memory, or fewer sessions on this host",
        source: "measured; docs/tuning.md",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "memory.cgroup",
        read: "memory.max less memory.current (version 2) or memory.limit_in_bytes less \
               memory.usage_in_bytes (version 1), the narrowest up to the root; pages of files and \
               what doctor itself takes are not counted",
        place: Place::Machine,
        default: "no limit",
        need: |plan| plan.below_ceiling(plan.memory().charged()),
        formula: "the server's part of memory and a ninth, because it refuses sessions from 90 % \
                  on: sockets are charged to the service's group (under version 1 only 1,530 B of \
                  each)",
        applies: |_, host| match host.text("memory.cgroup").as_deref() {
            Ok("none") => Err("the control group has no limit"),
            _ => Ok(()),
        },
        breaks: "the server refuses sessions; with memory_max_bytes too high it is killed, or \
                 accept fails with ENOMEM, while the host has memory",
        counter: "the server's line about memory; oom_kill in memory.events or memory.oom_control \
                  of the group; ENOMEM on stderr",
        cost: "itself",
        remedy: "raise MemoryMax= of the service, or --memory of the container",
        source: "Documentation/admin-guide/cgroup-v2.rst of Linux",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "net.ipv4.tcp_mem",
        column: 2,
        default: "9.4 % of memory, in pages, the third of three numbers",
        need: Plan::tcp_pages,
        formula: "4 pages for each of the 5 % of sessions that have something queued; idle ones \
                  hold none",
        kit: sysctl(|plan| {
            let most = plan.tcp_pages();
            format!("{} {} {most}", most / 2, most / 4 * 3)
        }),
        breaks: "windows shrink from the second number on; beyond the third segments are dropped \
                 and connections stall or are reset",
        counter: "TcpExt TCPMemoryPressures, TCPAbortOnMemory; mem in /proc/net/sockstat",
        cost: "4 KiB per page in use",
        remedy: "raise all three numbers of net.ipv4.tcp_mem",
        source: "tcp(7); measured: an idle socket holds 0 pages, one with something unread 1",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "net.netfilter.nf_conntrack_max",
        default: "262,144 from 4 GiB of memory on",
        need: tracked,
        formula: "1.03 per session, if a rule tracks connections: ended ones stay for minutes",
        applies: |_, host| match host.number("net.netfilter.nf_conntrack_count") {
            Ok(0) => Err("nothing is tracked here (nf_conntrack_count is 0)"),
            _ => Ok(()),
        },
        kit: sysctl(|plan| tracked(plan).to_string()),
        breaks: "packets of new connections are dropped: they time out while old ones go on",
        counter: "`nf_conntrack: table full` in the kernel's log; nf_conntrack_count; drop in \
                  /proc/net/stat/nf_conntrack",
        cost: "256 B and 8 B of hash per connection tracked",
        remedy: "exempt the server's port (NOTRACK), unload nf_conntrack, or raise \
                 net.netfilter.nf_conntrack_max",
        source: "Documentation/networking/nf_conntrack-sysctl.rst of Linux",
        ..LINUX_SYSCTL
    },
    SESSIONS_MAX,
    Setting {
        name: "memory_max_bytes",
        read: "the configuration given",
        place: Place::Server,
        default: "0: what the host or the service's group allows",
        need: |plan| plan.memory().server() * 100 / limits::MEMORY_FULL_PERCENT,
        formula: "the server's part of memory and a ninth: it refuses sessions from 90 % on",
        applies: |plan, host| match plan.config.memory_max_bytes {
            0 => Err("the rows of memory say what the host and the group allow"),
            _ => configured(plan, host),
        },
        breaks: "the server refuses sessions, and lets idle ones go above 97 %",
        counter: "the server's line about memory; counter turned_away",
        cost: "no memory before they come",
        remedy: "raise memory_max_bytes (--memory-max-bytes)",
        source: "myriad config example",
        ..LINUX_SYSCTL
    },
    USERS_MAX,
    SESSIONS_SETTING,
];

/// The kit is for hosts on which a trial runs both ends, too.
fn loaded(plan: &Plan) -> Plan {
    Plan { load: true, ..plan.clone() }
}

fn tracked(plan: &Plan) -> u64 {
    plan.sessions() * 103 / 100
}

fn files_of_host(plan: &Plan) -> u64 {
    let ends = if plan.load { 2 } else { 1 };
    let files = if plan.driver == Driver::Ready { plan.files() } else { 0 };
    files.max(plan.sessions() * ends * 11 / 10) + 4_096
}

fn files_are_short(plan: &Plan, host: &Host) -> Result<(), &'static str> {
    match host.number("RLIMIT_NOFILE") {
        Ok(files) if files >= plan.files() => Err("the limit on files suffices"),
        _ => Ok(()),
    }
}

pub(super) fn configured(_: &Plan, host: &Host) -> Result<(), &'static str> {
    match host.text("sessions_max").as_deref() {
        Ok("not given") => Err("no configuration was given (--config)"),
        _ => Ok(()),
    }
}

const _: () = assert!(limits::SESSIONS_SETTING_MAX == 16_777_216, "the row above says so");
