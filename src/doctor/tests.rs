//! Made-up hosts, and what is said of them.

use super::facts::{Fact, Host, System};
use super::judge::{Judgement, Verdict, judge};
use super::plan::{Plan, driver_of};
use super::table::{Place, Rule, Weight, rows};
use super::{Print, json, print, told};
use crate::config::{Config, Driver, Settings};

fn plan(sessions: usize, system: System) -> Plan {
    let settings = Settings {
        dev: Some(true),
        shards: Some(2),
        sessions_max: Some(sessions),
        users_max: Some(sessions),
        ..Settings::default()
    };
    let config = Config::from_settings(&settings).unwrap();
    Plan {
        config,
        tls_percent: 0,
        load: false,
        sources: None,
        driver: Driver::Ready,
        cgroup_version: 2,
        system,
    }
}

/// A host that has plenty of everything.
fn rich(system: System) -> Host {
    let mut host = Host::new(system);
    for row in rows().filter(|row| row.system == system) {
        let much = match row.rule {
            Rule::AtLeast | Rule::Range => u64::MAX / 2,
            Rule::AtMost => 0,
            Rule::AtMostNotZero => 1,
        };
        host.set(row.name, Fact::Number(much));
    }
    host.set("net.netfilter.nf_conntrack_count", Fact::Number(7));
    host.set("swap", Fact::Number(1));
    host.set("io_uring", Fact::Text("works".to_owned()));
    host.set("syscall_ns", Fact::Number(60));
    host
}

fn with(name: &'static str, value: u64) -> Host {
    let mut host = rich(System::Linux);
    host.set(name, Fact::Number(value));
    host
}

fn first(judgement: &Judgement) -> (u64, &'static str) {
    let (sessions, setting) = judgement.limit().unwrap();
    (sessions, setting.name)
}

#[test]
fn a_host_with_plenty_stops_nobody() {
    for system in [System::Linux, System::FreeBsd] {
        let mut plan = plan(1_000_000, system);
        plan.load = true;
        let judgement = judge(&plan, &rich(system));
        assert!(!judgement.stops() && !judgement.is_blind(), "{judgement:?}");
        assert!(judgement.with(|verdict| *verdict == Verdict::Slows).next().is_none());
        assert!(told(&judgement, &rich(system), "").contains("\nYES: "));
    }
}

#[test]
fn each_row_stops_or_slows_alone_at_the_number_it_names() {
    for system in [System::Linux, System::FreeBsd] {
        let mut plan = plan(100_000, system);
        plan.load = true;
        plan.sources = Some(10);
        for row in rows().filter(|row| row.system == system) {
            // The ceiling of memory is a row of its own when it is set, and in others when not.
            plan.config.memory_max_bytes = u64::from(row.name == "memory_max_bytes");
            let need = (row.need)(&plan);
            let mut host = rich(system);
            let short = match row.rule {
                Rule::AtLeast | Rule::Range => need - 1,
                Rule::AtMost => need + 1,
                Rule::AtMostNotZero => 0,
            };
            host.set(row.name, Fact::Number(short));
            if row.name == "fs.nr_open" {
                host.set("RLIMIT_NOFILE", Fact::Number(1_000)); // it matters only then
            }
            let judgement = judge(&plan, &host);
            let found = judgement.findings.iter().find(|f| f.setting.name == row.name).unwrap();
            let expected =
                if row.weight == Weight::Stops { Verdict::Stops } else { Verdict::Slows };
            assert_eq!(found.verdict, expected, "{}", row.name);
            let sessions = found.sessions.unwrap_or(0);
            assert!(sessions < 100_000, "{}: {sessions}", row.name);
            if sessions > 0 {
                let fewer = judge(&plan.with_sessions(sessions), &host);
                let found = fewer.findings.iter().find(|f| f.setting.name == row.name).unwrap();
                assert!(found.verdict == Verdict::Enough, "{}: {found:?}", row.name);
            }
        }
    }
}

#[test]
fn what_stops_first_is_named_first() {
    let mut host = with("fs.epoll.max_user_watches", 60_000);
    host.set("RLIMIT_NOFILE", Fact::Number(50_000));
    host.set("memory", Fact::Number(1 << 30));
    let judgement = judge(&plan(1_000_000, System::Linux), &host);
    let named: Vec<&str> =
        judgement.with(|v| *v == Verdict::Stops).map(|found| found.setting.name).collect();
    assert_eq!(named, ["RLIMIT_NOFILE", "fs.epoll.max_user_watches", "memory"]);
    let (sessions, name) = first(&judgement);
    assert_eq!(name, "RLIMIT_NOFILE");
    assert!((40_000..50_000).contains(&sessions), "{sessions}");
    let text = told(&judgement, &host, "as asked");
    assert!(text.contains("NO: 1,000,000 sessions stop at 4"), "{text}");
    assert!(text.contains("raise the limit on open files"), "{text}");
    assert!(text.contains("shards: 2, on how many processors is not known"), "{text}");
}

#[test]
fn with_io_uring_files_and_watches_are_no_limit() {
    let mut host = with("RLIMIT_NOFILE", 20_000);
    host.set("fs.epoll.max_user_watches", Fact::Number(50_000));
    let mut plan = plan(1_000_000, System::Linux);
    let choice = driver_of(&plan.config, &host).unwrap();
    assert_eq!(choice.driver, Driver::Uring);
    plan.driver = choice.driver;
    assert!(!judge(&plan, &host).stops());
    host.set("io_uring", Fact::Text("the system does not permit io_uring".to_owned()));
    assert_eq!(driver_of(&plan.config, &host).unwrap().driver, Driver::Ready);
    host.set("io_uring", Fact::Unknown("nobody may look".to_owned()));
    assert!(driver_of(&plan.config, &host).is_err());
}

#[test]
fn what_can_not_be_read_is_said_and_never_guessed() {
    let mut host = rich(System::Linux);
    host.set("fs.file-max", Fact::Unknown("permission denied".to_owned()));
    let judgement = judge(&plan(1_000, System::Linux), &host);
    assert!(!judgement.stops() && judgement.is_blind());
    let text = told(&judgement, &host, "");
    assert!(text.contains("fs.file-max (permission denied)") && text.contains("\nUNKNOWN: "));
    let nobody_looked = judge(&plan(1_000, System::Linux), &Host::new(System::Linux));
    assert!(!nobody_looked.stops() && nobody_looked.is_blind());
}

#[test]
fn connections_that_nobody_tracks_need_no_table() {
    let mut host = with("net.netfilter.nf_conntrack_max", 1_000);
    assert_eq!(
        first(&judge(&plan(100_000, System::Linux), &host)).1,
        "net.netfilter.nf_conntrack_max"
    );
    host.set("net.netfilter.nf_conntrack_count", Fact::Number(0));
    assert!(!judge(&plan(100_000, System::Linux), &host).stops());
}

#[test]
fn tls_and_the_other_end_cost_memory() {
    let plain = plan(1_000_000, System::Linux);
    let secret = Plan { tls_percent: 50, ..plain.clone() };
    let both = Plan { load: true, ..plain.clone() };
    let server = |plan: &Plan| plan.memory().server();
    assert_eq!(server(&secret) - server(&plain), 1_000_000 * 3_354 / 2);
    assert_eq!(server(&both), server(&plain));
    assert!(both.memory().host() > plain.memory().host() + 4_000_000_000);
}

/// The table of docs/performance.md: sessions, user and kernel bytes that were measured.
fn measured() -> Vec<(usize, f64, f64)> {
    let document = include_str!("../../docs/performance.md");
    let (_, table) = document.split_once("| sessions | logged in | user B").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let number = |cell: &str| cell.trim().replace(',', "").parse::<f64>().unwrap();
    let cells = rows.map(|row| row.trim_matches('|').split('|').collect::<Vec<_>>());
    let rows = cells.map(|cells| {
        let sessions = cells[0].trim().replace(',', "").parse().unwrap();
        (sessions, number(cells[2]), number(cells[3]))
    });
    rows.collect()
}

#[test]
fn memory_is_predicted_within_five_percent_of_what_was_measured() {
    let rows = measured();
    for wanted in [100_000, 500_000, 1_000_000, 2_000_000] {
        let (_, user, kernel) = rows.iter().find(|(sessions, ..)| *sessions == wanted).unwrap();
        let mut plan = plan(wanted, System::Linux);
        plan.driver = Driver::Uring; // 20,000 files were allowed there
        plan.load = true;
        let memory = plan.memory();
        let near = |predicted: f64, measured: f64, what: &str| {
            let off = (predicted - measured) / measured;
            assert!(off.abs() < 0.05, "{wanted}: {what} {predicted:.0} against {measured:.0}");
        };
        #[allow(clippy::cast_precision_loss, reason = "thousands")]
        let float = |bytes: u64| bytes as f64;
        let both_ends = float(memory.kernel_each + memory.load_kernel_each);
        near(both_ends / 2.0, *kernel, "kernel, each end");
        let server = float(memory.user_each + memory.kernel_each);
        near(server, user + kernel, "server and its end");
        near(float(memory.user_each) + both_ends, user + 2.0 * kernel, "all of it");
    }
}

#[test]
fn the_report_for_programs_has_what_the_documentation_names() {
    let host = with("RLIMIT_NOFILE", 10_000);
    let judgement = judge(&plan(100_000, System::Linux), &host);
    let value = json(&judgement, &host, "as asked");
    assert_eq!(value["version"], 1);
    assert_eq!(value["verdict"], "no");
    assert_eq!(value["stopped_by"], "RLIMIT_NOFILE");
    assert_eq!(value["connections"], 100_000);
    let checks = value["checks"].as_array().unwrap();
    assert_eq!(checks.len(), rows().filter(|row| row.system == System::Linux).count());
    let first = checks[0].as_object().unwrap();
    let document = include_str!("../../docs/tuning.md");
    for key in value.as_object().unwrap().keys().chain(first.keys()) {
        assert!(document.contains(&format!("`{key}`")), "docs/tuning.md does not explain {key}");
    }
}

#[test]
fn every_row_says_all_of_it() {
    for row in rows() {
        for text in [
            row.name,
            row.read,
            row.default,
            row.formula,
            row.breaks,
            row.counter,
            row.cost,
            row.remedy,
            row.source,
        ] {
            assert!(!text.is_empty() && !text.contains("  "), "{}: `{text}`", row.name);
        }
        let can_be_printed = matches!(row.place, Place::Sysctl | Place::Boot);
        assert!(row.kit.is_none() || can_be_printed, "{}", row.name);
    }
}

#[test]
fn what_a_kit_sets_is_enough_for_what_it_was_printed_for() {
    for sessions in [10_000, 1_000_000, 10_000_000] {
        for system in [System::Linux, System::FreeBsd] {
            let plan = plan(sessions, system);
            for row in rows().filter(|row| row.system == system) {
                let Some(kit) = row.kit else { continue };
                let text = (kit.value)(&plan);
                let numbers: Vec<u64> =
                    text.split(' ').map(|number| number.parse().unwrap()).collect();
                let value = match row.rule {
                    Rule::Range => numbers[1] - numbers[0] + 1,
                    _ => numbers[row.column],
                };
                assert!(row.rule.holds(value, (row.need)(&plan)), "{} = {text}", row.name);
                assert!(numbers.is_sorted(), "{} = {text}", row.name);
            }
        }
    }
}

#[test]
fn files_of_the_kits_name_how_they_were_printed() {
    let tables = [Print::Sizing, Print::Settings];
    for (name, what) in Print::ALL.into_iter().filter(|(_, what)| !tables.contains(what)) {
        let text = print(what, &plan(1_000, System::Linux));
        let said = format!("myriad doctor --print {name} --connections 1000 --shards 2\n");
        assert!(text.contains(&said), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn the_documentation_has_the_tables_that_are_printed() {
    let document = include_str!("../../docs/tuning.md");
    let mut plan = plan(1_000_000, System::Linux);
    plan.config.shards = 16;
    for what in [Print::Sizing, Print::Settings] {
        for table in print(what, &plan).split("\n\n") {
            let (name, head) = (what.name(), table.lines().next().unwrap());
            let how = format!("myriad doctor --print {name} --shards 16");
            assert!(
                document.contains(table.trim()),
                "docs/tuning.md lacks what {how} says: {head}"
            );
            assert!(document.contains(&how), "{how}");
        }
    }
}

#[cfg(not(target_os = "freebsd"))]
mod files {
    use crate::doctor::read_below;
    use std::fs;
    use std::path::Path;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_empty_host_is_unknown_and_nothing_panics() {
        let root = tempfile::tempdir().unwrap();
        let host = read_below(root.path());
        assert!(host.number("memory").unwrap_err().contains("/proc/meminfo"));
        assert!(host.number("fs.file-max").unwrap_err().contains("/proc/sys/fs/file-max"));
        assert_eq!(host.number("net.netfilter.nf_conntrack_count"), Ok(0));
        assert!(host.text("memory.cgroup").unwrap_err().contains("/proc/self/cgroup"));
    }

    #[test]
    fn files_of_a_made_up_host_are_read() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "proc/meminfo", "MemTotal: 2048 kB\nMemAvailable:  1024 kB\nSwapTotal: 0 kB\n");
        write(root, "proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n");
        write(root, "proc/sys/net/ipv4/ip_local_port_range", "1000\t1999\n");
        write(root, "proc/sys/net/core/somaxconn", "many\n");
        write(root, "proc/net/netstat", "TcpExt: A ListenDrops\nTcpExt: 1 5\nIpExt: X\n");
        write(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        let host = read_below(root);
        assert_eq!(host.number("memory"), Ok(1 << 20));
        assert_eq!(host.number("net.ipv4.tcp_mem"), Ok(3));
        assert_eq!(host.number("net.ipv4.ip_local_port_range"), Ok(1_000));
        assert!(host.number("net.core.somaxconn").unwrap_err().contains("`many` is no number"));
        assert_eq!(host.number("ListenDrops"), Ok(5));
        assert_eq!(host.text("huge pages").unwrap(), "madvise");
    }

    #[test]
    fn the_narrowest_control_group_counts_in_either_version() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "proc/self/cgroup", "4:memory:/a/b\n0::/c\n");
        write(root, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n");
        write(root, "sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n");
        write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
        assert_eq!(read_below(root).number("memory.cgroup"), Ok(4_000));
        write(root, "sys/fs/cgroup/c/memory.max", "3000\n");
        write(root, "sys/fs/cgroup/c/memory.current", "1\n");
        assert_eq!(read_below(root).number("memory.cgroup"), Ok(2_999));
        // Pages of files can be dropped.
        write(root, "sys/fs/cgroup/c/memory.current", "2001\n");
        write(root, "sys/fs/cgroup/c/memory.stat", "anon 1\ninactive_file 1500\nactive_file 500\n");
        assert_eq!(read_below(root).number("memory.cgroup"), Ok(2_999));
        write(root, "sys/fs/cgroup/c/memory.max", "max\n");
        write(root, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(read_below(root).text("memory.cgroup").unwrap(), "none");
    }
}
