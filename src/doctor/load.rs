//! What the load generator's side needs: ports.

use super::facts::Host;
use super::plan::Plan;
use super::table::{FREEBSD_SYSCTL, Kit, KitFile, LINUX_SYSCTL, Rule, Setting, Weight};

/// Source addresses the load generator takes on loopback at the most.
const SOURCES_MAX: u64 = 65_536;
/// Ports a kit gives: all that are no well-known ones.
const PORTS: u64 = 65_535 - 1_024 + 1;

const PORTS_ROW: Setting = Setting {
    rule: Rule::Range,
    need: |plan| plan.sessions().div_ceil(plan.sources.unwrap_or(SOURCES_MAX).max(1)),
    formula: "N / source addresses; the load generator fills half of each by itself, because \
              finding a free one gets slow",
    applies: loading,
    breaks: "connect fails with EADDRNOTAVAIL: no port is left on a source address",
    counter: "the load generator's line `no free port left`; EADDRNOTAVAIL",
    remedy: "more source addresses (--sources of myriad-loadgen, 127.0.0.0/8 on loopback), or a \
             wider range of ports",
    ..LINUX_SYSCTL
};

/// See the module.
pub(super) const ROWS: [Setting; 4] = [
    Setting {
        name: "net.ipv4.ip_local_port_range",
        default: "32768 60999: 28,232 ports",
        kit: Some(Kit { file: KitFile::LoadSysctl, value: |_| "1024 65535".to_owned() }),
        cost: "ports of services above 1,024 may be taken: keep them out with \
               net.ipv4.ip_local_reserved_ports",
        source: "ip(7)",
        ..PORTS_ROW
    },
    Setting {
        name: "net.ipv4.tcp_tw_reuse",
        weight: Weight::Slows,
        default: "2: on loopback only",
        need: |_| 1,
        formula: "1 (everywhere) or 2 (loopback)",
        kit: Some(Kit { file: KitFile::LoadSysctl, value: |_| "1".to_owned() }),
        applies: loading,
        breaks: "ports of ended connections stay taken for a minute: storms run out of them",
        counter: "tw in /proc/net/sockstat",
        remedy: "net.ipv4.tcp_tw_reuse = 1 on the load generator's host",
        source: "tcp(7)",
        ..LINUX_SYSCTL
    },
    Setting {
        name: "net.inet.ip.portrange.first",
        rule: Rule::AtMost,
        default: "49152, with portrange.last 65535: 16,384 ports",
        need: |plan| {
            let sources = plan.sources.unwrap_or(SOURCES_MAX).max(1);
            65_536_u64.saturating_sub(plan.sessions().div_ceil(sources).min(PORTS))
        },
        applies: loading,
        kit: None,
        breaks: PORTS_ROW.breaks,
        counter: PORTS_ROW.counter,
        formula: "65,536 - N / source addresses",
        remedy: PORTS_ROW.remedy,
        source: "ip(4) and tuning(7) of FreeBSD",
        ..FREEBSD_SYSCTL
    },
    Setting {
        name: "net.inet.ip.portrange.randomized",
        rule: Rule::AtMost,
        weight: Weight::Slows,
        default: "1",
        need: |_| 0,
        formula: "0",
        applies: loading,
        breaks: "finding a free port takes more tries as they get fewer",
        counter: "CPU of the load generator",
        remedy: "net.inet.ip.portrange.randomized = 0 on the load generator's host",
        source: "ip(4) of FreeBSD",
        ..FREEBSD_SYSCTL
    },
];

fn loading(plan: &Plan, _: &Host) -> Result<(), &'static str> {
    if plan.load { Ok(()) } else { Err("the load generator runs elsewhere (see --load)") }
}
