//! What goes badly on Linux without stopping sessions.

use super::linux::sysctl;
use super::plan::Plan;
use super::table::{LINUX_SYSCTL, Place, Rule, Setting, Weight};
use crate::config::Driver;
use crate::limits;

const SLOW: Setting = Setting { weight: Weight::Slows, ..LINUX_SYSCTL };

/// Of bytes that wait to be written to disk.
const DIRTY_BACKGROUND_BYTES: u64 = 128 * 1024 * 1024;
const DIRTY_BYTES: u64 = 512 * 1024 * 1024;
const SWAPPINESS: u64 = 10;

/// See the module.
pub(super) const SLOWS: [Setting; 11] = [
    Setting {
        name: "net.core.somaxconn",
        default: "4,096 (128 before Linux 5.4)",
        need: Plan::backlog,
        formula: "N / shards, 65,535 at the most (the server asks for so many)",
        kit: sysctl(|plan| plan.backlog().to_string()),
        breaks: "when more than somaxconn + 1 per shard come while a shard is busy, the others \
                 are dropped and try again after 1, 3, 7 s: a storm of reconnects takes minutes",
        counter: "TcpExt ListenOverflows and ListenDrops (nstat -az)",
        cost: "a socket (3.8 kB) for each that waits",
        remedy: "raise net.core.somaxconn",
        source: "listen(2); docs/performance.md",
        ..SLOW
    },
    Setting {
        name: "net.ipv4.tcp_max_syn_backlog",
        default: "128 to 4,096, by memory",
        need: Plan::backlog,
        formula: "as somaxconn",
        kit: sysctl(|plan| plan.backlog().to_string()),
        breaks: "cookies take over in a storm (tcp_syncookies 1), without window scaling; with \
                 tcp_syncookies 0 connections are dropped",
        counter: "TcpExt SyncookiesSent, TCPReqQFullDrop",
        cost: "320 B for each that is half open",
        remedy: "raise net.ipv4.tcp_max_syn_backlog",
        source: "tcp(7)",
        ..SLOW
    },
    Setting {
        name: "net.core.netdev_max_backlog",
        default: "1,000",
        need: |plan| (plan.sessions() / 16).clamp(1_000, 65_536),
        formula: "N / 16, from 1,000 to 65,536 packets",
        kit: sysctl(|plan| (plan.sessions() / 16).clamp(1_000, 65_536).to_string()),
        breaks: "packets are dropped before TCP sees them, on loopback above all",
        counter: "the second column of /proc/net/softnet_stat",
        cost: "up to 1 kB per packet that waits",
        remedy: "raise net.core.netdev_max_backlog",
        source: "Documentation/admin-guide/sysctl/net.rst of Linux",
        ..SLOW
    },
    Setting {
        name: "net.ipv4.tcp_max_orphans",
        default: "4,096 to 262,144, by memory",
        need: |plan| plan.sessions() / 4,
        formula: "N / 4: connections that end at once with something unsent",
        kit: sysctl(|plan| (plan.sessions() / 4).to_string()),
        breaks: "a mass of closes ends in resets instead of an orderly end",
        counter: "TcpExt TCPAbortOnMemory; `too many orphaned sockets` in the kernel's log; \
                  orphan in /proc/net/sockstat",
        cost: "up to 64 KiB for each that has something unsent",
        remedy: "raise net.ipv4.tcp_max_orphans",
        source: "tcp(7)",
        ..SLOW
    },
    Setting {
        name: "net.ipv4.tcp_ehash_entries",
        place: Place::Boot,
        default: "up to 524,288, by memory",
        need: |plan| plan.sessions() * ends(plan) / 8,
        formula: "a bucket for 8 ends",
        breaks: "each packet looks at ever more sockets in its bucket: CPU, not failures",
        counter: "CPU in softirq",
        cost: "8 B per bucket",
        remedy: "thash_entries= on the kernel's command line, a power of two",
        source: "Documentation/admin-guide/kernel-parameters.txt of Linux",
        ..SLOW
    },
    Setting {
        name: "kernel.io_uring_disabled",
        rule: Rule::AtMost,
        default: "0",
        need: |_| 0,
        formula: "0, if sessions are to need no files",
        applies: |plan, _| match plan.config.driver {
            Driver::Ready => Err("the driver asked for is epoll"),
            _ => Ok(()),
        },
        breaks: "the server runs with epoll, which needs a file per session",
        counter: "the server's line `driver ready: io_uring does not work`",
        remedy: "kernel.io_uring_disabled = 0",
        source: "Documentation/admin-guide/sysctl/kernel.rst of Linux",
        ..SLOW
    },
    Setting {
        name: "vm.max_map_count",
        default: "65,530",
        need: maps,
        formula: "1,024 segments of the log per shard, and 4,096",
        kit: sysctl(|plan| maps(plan).to_string()),
        breaks: "what waits in old segments can't be read back",
        counter: "counter unreadable, printed when the server drains",
        remedy: "raise vm.max_map_count",
        source: "proc_sys_vm(5)",
        ..SLOW
    },
    Setting {
        name: "vm.overcommit_memory",
        rule: Rule::AtMost,
        default: "0",
        need: |_| 1,
        formula: "0 or 1: tables reserve address space for sessions_max and fill it as they come",
        breaks: "the server may not start: it is refused address space that it would not fill",
        counter: "`memory allocation failed` on stderr",
        remedy: "vm.overcommit_memory = 0",
        source: "proc_sys_vm(5)",
        ..SLOW
    },
    Setting {
        name: "vm.swappiness",
        rule: Rule::AtMost,
        default: "60",
        need: |_| SWAPPINESS,
        formula: "10 or less; better no swap at all",
        applies: |_, host| match host.number("swap") {
            Ok(0) => Err("there is no swap"),
            _ => Ok(()),
        },
        kit: sysctl(|_| SWAPPINESS.to_string()),
        breaks: "tables of idle users are swapped out (the kernel's sockets can't be), and the \
                 next message waits for the disk",
        counter: "pswpin in /proc/vmstat",
        cost: "less page cache",
        remedy: "lower vm.swappiness, or switch swap off",
        source: "proc_sys_vm(5)",
        ..SLOW
    },
    Setting {
        name: "vm.dirty_background_bytes",
        rule: Rule::AtMostNotZero,
        default: "0: vm.dirty_background_ratio counts, 10 % of memory",
        need: |_| DIRTY_BACKGROUND_BYTES,
        formula: "128 MiB",
        kit: sysctl(|_| DIRTY_BACKGROUND_BYTES.to_string()),
        breaks: "what other programs wrote is written back late and all at once, and the log's \
                 syncs wait for it",
        counter: "Dirty in /proc/meminfo; Sent p99",
        cost: "writes begin sooner",
        remedy: "lower vm.dirty_background_bytes",
        source: "proc_sys_vm(5)",
        ..SLOW
    },
    Setting {
        name: "vm.dirty_bytes",
        rule: Rule::AtMostNotZero,
        default: "0: vm.dirty_ratio counts, 20 % of memory",
        need: |_| DIRTY_BYTES,
        formula: "512 MiB",
        kit: sysctl(|_| DIRTY_BYTES.to_string()),
        breaks: "as above, up to stalls of seconds",
        counter: "Dirty in /proc/meminfo; Sent p99",
        cost: "programs that write much wait sooner",
        remedy: "lower vm.dirty_bytes",
        source: "proc_sys_vm(5)",
        ..SLOW
    },
];

fn ends(plan: &Plan) -> u64 {
    if plan.load { 2 } else { 1 }
}

fn maps(plan: &Plan) -> u64 {
    plan.shards() * limits::MAPPED_SEGMENTS_MAX as u64 + 4_096
}
