//! What sessions need on FreeBSD. None of it has been run: the rows are from its manual pages and
//! source, and from what others published.

use super::facts::System;
use super::linux;
use super::plan::Plan;
use super::table::{FREEBSD_SYSCTL, Kit, KitFile, Place, Rule, Setting, Weight};
use crate::remedy;

const fn loader(value: fn(&Plan) -> String) -> Option<Kit> {
    Some(Kit { file: KitFile::FreeBsdLoader, value })
}

const fn sysctl(value: fn(&Plan) -> String) -> Option<Kit> {
    Some(Kit { file: KitFile::FreeBsdSysctl, value })
}

const BOOT: Setting = Setting { place: Place::Boot, weight: Weight::Slows, ..FREEBSD_SYSCTL };

/// See the module.
pub(super) const ROWS: [Setting; 14] = [
    Setting {
        name: "RLIMIT_NOFILE",
        read: "getrlimit, the hard limit; the server raises the soft one to it",
        place: Place::Limits,
        default: "kern.maxfilesperproc",
        need: Plan::files,
        formula: "a file per session, room for strangers and 256 of the server's own",
        breaks: "sessions beyond are told that the server is full; accepting rests (EMFILE)",
        counter: "the server's lines `files are the limit` and `EMFILE` on stderr",
        remedy: remedy::FILES,
        source: "login.conf(5), limits(1)",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "kern.maxfiles",
        default: "by memory; a value in loader.conf is cut to a file per 16 KiB of memory",
        need: host_files,
        formula: "1.1 N, or the files of the server if they are more, and 4,096; in sysctl.conf, \
                  where nothing cuts it",
        kit: sysctl(|plan| host_files(plan).to_string()),
        breaks: "ENFILE; accepting rests",
        counter: "`kern.maxfiles limit exceeded` in the kernel's log; kern.openfiles",
        remedy: "raise kern.maxfiles, before kern.ipc.maxsockets",
        source: "tuning(7); sys/kern/subr_param.c, init_param2",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "kern.maxfilesperproc",
        default: "nine tenths of kern.maxfiles",
        need: Plan::files,
        formula: "as RLIMIT_NOFILE",
        kit: sysctl(|plan| plan.files().to_string()),
        breaks: "EMFILE, whatever login.conf says",
        counter: "EMFILE on the server's stderr",
        remedy: "raise kern.maxfilesperproc",
        source: "tuning(7)",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "kern.ipc.maxsockets",
        default: "kern.maxfiles at the boot",
        need: host_files,
        formula: "as kern.maxfiles, and after it: it can't be raised beyond it",
        kit: sysctl(|plan| host_files(plan).to_string()),
        breaks: "ENOBUFS; accepting rests",
        counter: "`kern.ipc.maxsockets limit reached` in the kernel's log; vmstat -z, socket",
        remedy: "raise kern.ipc.maxsockets, after kern.maxfiles",
        source: "sys/kern/uipc_socket.c",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "memory",
        read: "hw.usermem",
        place: Place::Machine,
        default: "what is built in",
        need: |plan| plan.memory().host(),
        formula: "what is drawn below as memory, and 256 MiB to stay free",
        breaks: "processes are killed, or sockets refused (ENOBUFS)",
        counter: "`out of swap space` in the kernel's log; vmstat -z, failures",
        cost: "itself",
        remedy: "more memory, or fewer sessions on this host",
        source: "computed from what was published (docs/tuning.md)",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "kern.ipc.soacceptqueue",
        weight: Weight::Slows,
        default: "128",
        need: |plan| plan.backlog().min(u64::from(u16::MAX)),
        formula: "N / shards, 65,535 at the most",
        kit: sysctl(|plan| plan.backlog().to_string()),
        breaks: "a storm of reconnects: whoever finds the queue full is dropped and tries again",
        counter: "netstat -Lan; `listen queue overflow` in the kernel's log",
        cost: "a socket for each that waits",
        remedy: "raise kern.ipc.soacceptqueue",
        source: "listen(2) of FreeBSD",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "net.inet.tcp.finwait2_timeout",
        weight: Weight::Slows,
        rule: Rule::AtMost,
        default: "60000 ms",
        need: |_| 15_000,
        formula: "15 s",
        kit: sysctl(|_| "15000".to_owned()),
        breaks: "connections whose peer went away keep their memory for a minute",
        counter: "netstat -an, FIN_WAIT_2",
        remedy: "net.inet.tcp.finwait2_timeout = 15000",
        source: "tcp(4) of FreeBSD",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "net.inet.tcp.tcbhashsize",
        default: "maxsockets / 4 at the boot, at least 512",
        need: hash,
        formula: "N / 4, as a power of two",
        kit: loader(|plan| hash(plan).to_string()),
        breaks: "each packet looks at ever more connections in its bucket",
        counter: "CPU in the network's threads",
        cost: "8 B per bucket",
        remedy: "net.inet.tcp.tcbhashsize in loader.conf: it does not follow maxsockets later",
        source: "sys/netinet/tcp_subr.c",
        ..BOOT
    },
    Setting {
        name: "net.inet.tcp.syncache.hashsize",
        default: "512",
        need: |plan| (plan.backlog() / 2).clamp(512, 32_768).next_power_of_two(),
        formula: "half of the connections that may come at once, a power of two up to 32,768",
        kit: loader(|plan| (plan.backlog() / 2).clamp(512, 32_768).next_power_of_two().to_string()),
        breaks: "in a storm the oldest half-open connections are dropped, or cookies are sent",
        counter: "netstat -s -p tcp, syncache: bucket overflow",
        cost: "about 200 B per half-open connection",
        remedy: "net.inet.tcp.syncache.hashsize in loader.conf",
        source: "sys/netinet/tcp_syncache.c",
        ..BOOT
    },
    Setting {
        name: "net.inet.tcp.syncache.cachelimit",
        default: "15360",
        need: |plan| plan.backlog() * plan.shards(),
        formula: "as many as may come at once: N, 65,535 per shard at the most",
        kit: loader(|plan| (plan.backlog() * plan.shards()).to_string()),
        breaks: "as above",
        counter: "netstat -s -p tcp, syncache: cache overflow",
        cost: "about 200 B per half-open connection",
        remedy: "net.inet.tcp.syncache.cachelimit in loader.conf",
        source: "sys/netinet/tcp_syncache.c",
        ..BOOT
    },
    Setting {
        name: "kern.ipc.nmbclusters",
        default: "by memory",
        need: |plan| plan.sessions() / 20 * 2,
        formula: "2 for each of the 5 % of sessions that have something queued",
        breaks: "sends and receives stall for lack of buffers",
        counter: "netstat -m, requests denied",
        cost: "2 KiB each in use",
        remedy: "raise kern.ipc.nmbclusters",
        source: "tuning(7); sys/kern/kern_mbuf.c",
        place: Place::Sysctl,
        ..BOOT
    },
    Setting { system: System::FreeBsd, ..linux::SESSIONS_MAX },
    Setting { system: System::FreeBsd, ..linux::USERS_MAX },
    Setting { system: System::FreeBsd, ..linux::SESSIONS_SETTING },
];

fn host_files(plan: &Plan) -> u64 {
    plan.files().max(plan.sessions() * 11 / 10) + 4_096
}

fn hash(plan: &Plan) -> u64 {
    (plan.sessions() / 4).max(512).next_power_of_two()
}
