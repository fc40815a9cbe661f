//! What this host allows a run: ports, files, memory, connection tracking; and what to set.
//!
//! Deliberately not here: the server's host, and tuning (that is `myriad doctor`).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Ports of a source address that are used up to this share; beyond it finding one gets slow.
const PORT_SHARE: f64 = 0.5;
/// Memory of one session on its own host: a socket of the kernel and the client.
const SESSION_BYTES: u64 = 5 * 1024;
/// Files of this process that are no sockets.
const FILES_OWN: u64 = 64;
/// Most source addresses of one run.
const SOURCES_MAX: u32 = 65_536;

/// One limit of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    /// Sessions it allows.
    pub(crate) sessions: u64,
    /// What it is.
    pub(crate) what: String,
    /// What to set for more.
    pub(crate) remedy: &'static str,
}

/// Every limit that can be read here, the narrowest first. `files`: whether each session takes a
/// file of this process.
pub(crate) fn limits(sources: usize, server_is_here: bool, files: bool) -> Vec<Limit> {
    let mut limits = Vec::new();
    let ports = u64::from(ports());
    let addresses = sources.max(1) as u64;
    limits.push(Limit {
        sessions: ports.saturating_mul(addresses),
        what: format!("{ports} ports x {addresses} source addresses"),
        remedy: "widen net.ipv4.ip_local_port_range, or give more addresses with --sources",
    });
    if files {
        let count = crate::usage::raise_file_limit();
        limits.push(Limit {
            sessions: count.saturating_sub(FILES_OWN),
            what: format!("{count} open files of this process"),
            remedy: "raise it (`ulimit -n`, LimitNOFILE=), or take --engine uring, whose sockets \
                     are not counted",
        });
    }
    if let Some(bytes) = meminfo("MemAvailable:") {
        let each = if server_is_here { 2 * SESSION_BYTES } else { SESSION_BYTES };
        limits.push(Limit {
            sessions: bytes / each,
            what: format!("{} MiB of memory at {each} B per session", bytes >> 20),
            remedy: "use a host with more memory, or several hosts",
        });
    }
    if let (Some(used), Some(most)) = (conntrack("count"), conntrack("max"))
        && used > 0
    {
        limits.push(Limit {
            sessions: most.saturating_sub(used),
            what: format!("{most} tracked connections"),
            remedy: "raise net.netfilter.nf_conntrack_max, or exempt the port (NOTRACK)",
        });
    }
    limits.sort_by_key(|limit| limit.sessions);
    limits
}

/// The words for what stops a run first.
pub(crate) fn first_limit(limits: &[Limit], sessions: u64) -> Option<String> {
    let first = limits.first()?;
    let (most, what) = (first.sessions, &first.what);
    Some(if most < sessions {
        format!("this host stops at {most} sessions: {what}; {}", first.remedy)
    } else {
        format!("this host allows {most} sessions ({what})")
    })
}

/// Source addresses: those of a list such as `10.0.0.1-10.0.0.9,10.0.1.1`; without one as many of
/// 127.0.0.0/8 as a target there needs, and the host's own choice otherwise.
pub(crate) fn sources(
    list: Option<&str>,
    target: IpAddr,
    sessions: u32,
) -> Result<Vec<IpAddr>, String> {
    if let Some(list) = list {
        let mut sources = Vec::new();
        for part in list.split(',') {
            let wrong = |_| format!("`{part}` in --sources is no address and no range of IPv4");
            let Some((first, last)) = part.split_once('-') else {
                sources.push(part.trim().parse().map_err(wrong)?);
                continue;
            };
            let first = u32::from(first.trim().parse::<Ipv4Addr>().map_err(wrong)?);
            let last = u32::from(last.trim().parse::<Ipv4Addr>().map_err(wrong)?);
            if last < first || last - first >= SOURCES_MAX {
                return Err(format!("`{part}` in --sources: 1 to {SOURCES_MAX} addresses"));
            }
            sources.extend((first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from(bits))));
        }
        return Ok(sources);
    }
    let each = f64::from(ports()) * PORT_SHARE;
    if !matches!(target, IpAddr::V4(address) if address.is_loopback()) {
        return Ok(Vec::new());
    }
    let needed = (f64::from(sessions) / each).ceil();
    if needed <= 1.0 {
        return Ok(Vec::new());
    }
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    let addresses = (0..SOURCES_MAX).take_while(|index| f64::from(*index) < needed);
    Ok(addresses.map(|index| IpAddr::V4(Ipv4Addr::from(first + index))).collect())
}

/// Why a connection failed, and what to do where that is known.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => {
            "no free port left on a source address (those of closed connections stay taken for a \
             minute), or the address is not of this host: give more or others with --sources, or \
             widen net.ipv4.ip_local_port_range"
                .to_owned()
        }
        io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens there (any more)".to_owned()
        }
        io::ErrorKind::ConnectionReset => "the server reset the connection".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "this process may open no more files: raise `ulimit -n`, or take --engine uring"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Memory of the kernel's own structures on this host.
pub(crate) fn slab_bytes() -> Option<u64> {
    meminfo("Slab:")
}

/// Ports that connections of one address may have.
fn ports() -> u32 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_ascii_whitespace().filter_map(|end| end.parse::<u32>().ok());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => 16_384, // the IANA range, as FreeBSD has it
    }
}

fn conntrack(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sources_is_read_and_bounded() {
        let target = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let read = |list: &str| sources(Some(list), target, 1);
        assert_eq!(read("10.0.0.1-10.0.0.3,::1").unwrap().len(), 4);
        for wrong in ["", "a", "10.0.0.9-10.0.0.1", "0.0.0.0-255.255.255.255", "::1-::2"] {
            assert!(read(wrong).unwrap_err().contains("--sources"), "{wrong}");
        }
    }

    #[test]
    fn many_sessions_on_loopback_get_addresses_of_their_own() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(sources(None, loopback, 100).unwrap().is_empty());
        let many = sources(None, loopback, 1_000_000).unwrap();
        assert!(many.len() > 10 && many.iter().all(IpAddr::is_loopback), "{}", many.len());
        let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert!(sources(None, elsewhere, 1_000_000).unwrap().is_empty());
    }

    #[test]
    fn the_narrowest_limit_is_named_with_its_remedy() {
        let limits = limits(0, true, true);
        assert!(limits.windows(2).all(|pair| pair[0].sessions <= pair[1].sessions));
        let words = first_limit(&limits, u64::MAX).unwrap();
        assert!(words.contains(&limits[0].what) && words.contains(limits[0].remedy));
    }
}
