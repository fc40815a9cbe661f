//! The tuning kits: their files are those the table gives, and what `apply` changes `undo` puts
//! back exactly, however often it was run and wherever it was stopped.
//!
//! Settings are changed in a network of the test's own, where they can be; those of the whole host
//! (`fs`, `vm`) for a moment. Without root the tests print `NOT RUN`; `MYRIAD_MUST_UNSHARE=1` makes
//! that a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const MYRIAD: &str = env!("CARGO_BIN_EXE_myriad");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The files made of the table, and the names `doctor --print` has for them.
const PRINTED: [(&str, &str); 7] = [
    ("sysctl.d", "tuning/linux/50-myriad.conf"),
    ("limits.d", "tuning/linux/limits.conf"),
    ("systemd", "tuning/linux/myriad.service"),
    ("freebsd-loader", "tuning/freebsd/loader.conf"),
    ("freebsd-sysctl", "tuning/freebsd/sysctl.conf"),
    ("freebsd-login", "tuning/freebsd/login.conf"),
    ("loadgen-sysctl.d", "tuning/loadgen/50-myriad-loadgen.conf"),
];

#[test]
fn the_files_kept_are_those_the_table_gives() {
    for (name, path) in PRINTED {
        let arguments = ["doctor", "--print", name, "--connections", "1000000", "--shards", "16"];
        let printed = Command::new(MYRIAD).args(arguments).env_clear().output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let how = format!("myriad {} >{path}", arguments.join(" "));
        assert!(printed == text(path), "{path} is not what is printed now; run: {how}");
    }
}

/// Lines `name=value` of a file, without comments.
fn settings(path: &str) -> Vec<(String, String)> {
    let text = text(path);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    lines.map(pair).collect()
}

fn value(settings: &[(String, String)], name: &str) -> u64 {
    let found = settings.iter().find(|(known, _)| known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("{name} is missing"));
    value.trim_matches('"').parse().unwrap()
}

#[test]
fn files_for_freebsd_say_what_it_can_read_in_an_order_it_takes() {
    let loader = settings("tuning/freebsd/loader.conf");
    for (name, value) in &loader {
        let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        assert!(inside.is_some_and(|n| n.parse::<u64>().is_ok()), "{name}={value}");
    }
    let hash = value(&loader, "net.inet.tcp.tcbhashsize");
    assert!(hash.is_power_of_two() && hash >= 1_000_000 / 4, "{hash}");
    assert!(value(&loader, "net.inet.tcp.syncache.hashsize").is_power_of_two());

    let sysctl = settings("tuning/freebsd/sysctl.conf");
    let names: Vec<&str> = sysctl.iter().map(|(name, _)| name.as_str()).collect();
    let place = |name: &str| names.iter().position(|known| *known == name).unwrap();
    assert!(place("kern.maxfiles") < place("kern.maxfilesperproc"));
    assert!(place("kern.maxfiles") < place("kern.ipc.maxsockets"));
    let files = value(&sysctl, "kern.maxfiles");
    assert!(files > value(&sysctl, "kern.maxfilesperproc"));
    assert!(files >= value(&sysctl, "kern.ipc.maxsockets"), "EINVAL otherwise");
    // What is cut in loader.conf must not stand there.
    assert!(!loader.iter().any(|(name, _)| name.starts_with("kern.maxfiles")));
}

#[test]
fn the_login_class_has_the_files_of_the_kernel() {
    let login = text("tuning/freebsd/login.conf");
    let lines: Vec<&str> = login.lines().filter(|line| !line.starts_with('#')).collect();
    let entry: String =
        lines.iter().map(|line| line.trim().trim_end_matches('\\')).collect::<Vec<_>>().concat();
    let mut parts = entry.split(':').map(str::trim).filter(|part| !part.is_empty());
    assert_eq!(parts.next(), Some("myriad"));
    let capabilities: Vec<&str> = parts.collect();
    let files = capabilities.iter().find_map(|part| part.strip_prefix("openfiles=")).unwrap();
    let sysctl = settings("tuning/freebsd/sysctl.conf");
    assert_eq!(files.parse::<u64>().unwrap(), value(&sysctl, "kern.maxfilesperproc"));
    assert!(capabilities.iter().any(|part| part.starts_with("tc=")), "{capabilities:?}");
    // All lines but the last go on.
    let inner = lines.iter().filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let (last, before) = inner.split_last().unwrap();
    assert!(before.iter().all(|line| line.ends_with(":\\")) && last.ends_with(':'));
}

#[test]
fn the_script_of_rc_d_has_what_rc_needs() {
    let script = text("tuning/freebsd/myriad.rc");
    let lines: Vec<&str> = script.lines().collect();
    assert_eq!(lines[0], "#!/bin/sh");
    for needed in ["# PROVIDE: myriad", "# KEYWORD: shutdown", ". /etc/rc.subr"] {
        assert!(lines.contains(&needed), "{needed}");
    }
    assert!(lines.iter().any(|line| line.starts_with("# REQUIRE: ")));
    assert_eq!(lines.last(), Some(&"run_rc_command \"$1\""));
    let of = |name: &str| {
        let start = format!("{name}=");
        let line = lines.iter().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{name} is not set")).trim_matches('"')
    };
    assert_eq!(of("name"), "myriad");
    assert_eq!(of("rcvar"), "myriad_enable");
    let subr = lines.iter().position(|line| *line == ". /etc/rc.subr").unwrap();
    let load = lines.iter().position(|line| line.starts_with("load_rc_config")).unwrap();
    let name = lines.iter().position(|line| line.starts_with("name=")).unwrap();
    assert!(subr < name && name < load, "rc.subr, then the name, then its configuration");
    assert!(of("command_args").contains("$procname serve --config $myriad_config"));
}

#[test]
fn the_unit_has_the_files_of_the_limits_and_a_bound_above_the_need() {
    let unit = text("tuning/linux/myriad.service");
    let of = |name: &str| {
        let line = unit.lines().find_map(|line| line.trim_start_matches('#').strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing")).to_owned()
    };
    let sysctl = settings("tuning/linux/50-myriad.conf");
    assert_eq!(of("LimitNOFILE=").parse::<u64>().unwrap(), value(&sysctl, "fs.nr_open"));
    assert!(
        text("tuning/linux/limits.conf").contains(&format!("hard nofile {}", of("LimitNOFILE=")))
    );
    let most: u64 = of("MemoryMax=").trim_end_matches('M').parse().unwrap();
    assert!(most * 9 / 10 > 4_150, "{most} MiB for a million sessions, and it refuses at 90 %");
    assert!(value(&sysctl, "fs.file-max") > value(&sysctl, "fs.nr_open"));
}

#[test]
fn scripts_are_clean() {
    let mut command = Command::new("shellcheck");
    command.current_dir(root()).arg("-x");
    for folder in ["linux", "loadgen", "freebsd"] {
        for entry in fs::read_dir(root().join("tuning").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            if text.starts_with("#!/bin/sh") || text.starts_with("# shellcheck shell=sh") {
                command.arg(path.strip_prefix(root()).unwrap());
            }
        }
    }
    match command.output() {
        Ok(output) => assert!(output.status.success(), "{}", said(&output)),
        Err(error) => eprintln!("NOT RUN: shellcheck: {error}; scripts/tools installs it"),
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Defined for every piece of shell below: the scripts, and all settings that can be set.
const TOOLS: &str = r#"
set -u
tune() {
    [ "$1" = undo ] || set -- "$@" --shards 2
    "$KIT/linux/tune" "$@" --state "$FOLDER/state"
}
settings() {
    find /proc/sys -type f -perm -200 ! -name ns_last_pid -exec grep -H . {} + 2>/dev/null | sort
}
as_it_was() {
    settings >"$FOLDER/after"
    diff "$FOLDER/before" "$FOLDER/after" || { echo "NOT AS IT WAS"; exit 1; }
}
ip link set lo up
settings >"$FOLDER/before"
"#;

/// One at a time: settings of the host are for all.
fn alone() -> File {
    let file = File::create(std::env::temp_dir().join("myriad-tuning.lock")).unwrap();
    file.lock().unwrap();
    file
}

/// Plays shell in a network (and with `-m` mounts) of its own; what it said. `None`: not possible.
fn play(test: &str, namespaces: &[&str], script: &str) -> Option<(bool, String)> {
    let able = Command::new("unshare").args(namespaces).arg("true").output();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !is_root || !able.is_ok_and(|output| output.status.success()) {
        let must = std::env::var_os("MYRIAD_MUST_UNSHARE").is_some();
        assert!(!must, "no namespace for {test}");
        eprintln!("NOT RUN: {test}; needs root, unshare and ip");
        return None;
    }
    let _lock = alone();
    let folder = std::env::temp_dir().join(format!("myriad-tuning-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &format!("{TOOLS}\n{script}")])
        .env("KIT", root().join("tuning"))
        .env("FOLDER", &folder)
        .env("MYRIAD", MYRIAD)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let _gone_anyway = fs::remove_dir_all(PathBuf::from(&folder));
    Some((output.status.success(), said(&output)))
}

#[test]
fn apply_twice_and_undo_leave_every_setting_as_it_was() {
    let script = r#"
        tune apply --connections 20000 --load
        cp "$FOLDER/state" "$FOLDER/state.first"; settings >"$FOLDER/once"
        echo SECOND; tune apply --connections 20000 --load; echo DONE
        cmp "$FOLDER/state" "$FOLDER/state.first" || exit 1
        settings | diff "$FOLDER/once" - || exit 1
        # A larger one on top, and what was there first is still known.
        tune apply --connections 60000 | grep 'somaxconn: 10000 -> 30000' || exit 1
        cat /proc/sys/net/core/somaxconn
        tune undo || exit 1
        as_it_was
        tune undo
    "#;
    let Some((good, said)) = play("twice", &["-n"], script) else { return };
    assert!(good, "{said}");
    assert!(said.contains("net.ipv4.ip_local_port_range: 32768 60999 -> 1024 65535"), "{said}");
    assert!(said.contains("NOT SET net.ipv4.tcp_mem: there is no such setting here"), "{said}");
    let (_, second) = said.split_once("SECOND").unwrap();
    let (second, _) = second.split_once("DONE").unwrap();
    assert!(!second.contains(" -> "), "{second}");
    assert!(said.contains("all is as it was") && said.contains("nothing to undo"), "{said}");
}

#[test]
fn slow_killed_anywhere_apply_can_be_undone_exactly() {
    let script = r#"
        changed=0
        for tenths in 1 2 3 4 5 6 7 8 10 12 14 16 18 20 23 26 30; do
            setsid "$KIT/linux/tune" apply --connections 20000 --load --state "$FOLDER/state" \
                --file "$KIT/linux/50-myriad.conf" >/dev/null 2>&1 &
            sleep "$(awk "BEGIN { print $tenths / 100 }")"
            kill -9 -- "-$!" 2>/dev/null
            wait
            settings | cmp -s "$FOLDER/before" - || changed=$((changed + 1))
            # Undone in two goes, the first one killed, too.
            setsid "$KIT/linux/tune" undo --state "$FOLDER/state" >/dev/null 2>&1 &
            sleep "$(awk "BEGIN { print $tenths / 100 }")"
            kill -9 -- "-$!" 2>/dev/null
            wait
            tune undo || exit 1
            as_it_was
        done
        echo "changed by then: $changed"
    "#;
    let Some((good, said)) = play("killed", &["-n"], script) else { return };
    assert!(good, "{said}");
    assert!(!said.contains("changed by then: 0\n"), "no run came far enough: {said}");
}

#[test]
fn where_nothing_can_be_written_it_says_so_and_what_that_means() {
    let script = r#"
        mount --bind -o ro /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys || exit 9
        tune apply --connections 20000; echo "apply $?"
        as_it_was
        tune undo; echo "undo $?"
    "#;
    let Some((good, said)) = play("read-only", &["-n", "-m"], script) else { return };
    assert!(good, "{said}");
    assert!(said.contains("NOT SET net.core.somaxconn: it stays 4096, 10000 was wanted"), "{said}");
    assert!(said.contains("a storm of reconnects takes minutes"), "{said}");
    assert!(said.contains("apply 1\n") && said.contains("undo 0\n"), "{said}");
}

#[test]
fn on_a_full_disk_nothing_is_changed_and_nothing_kept_is_lost() {
    let script = r#"
        mkdir "$FOLDER/small"; mount -t tmpfs -o size=64k none "$FOLDER/small" || exit 9
        FOLDER_OF_STATE="$FOLDER/small"; state="$FOLDER_OF_STATE/state"
        fill() { head -c 100000 /dev/zero >"$FOLDER_OF_STATE/filling" 2>/dev/null; }
        small() { "$KIT/linux/tune" "$@" --shards 2 --state "$state"; }
        fill; small apply --connections 20000; echo "full $?"
        as_it_was
        rm "$FOLDER_OF_STATE/filling"
        small apply --connections 20000 >/dev/null
        cp "$state" "$FOLDER/kept"; settings >"$FOLDER/once"
        fill; small apply --connections 60000; echo "again $?"
        cmp "$state" "$FOLDER/kept" || exit 1
        settings | diff "$FOLDER/once" - || exit 1
        rm "$FOLDER_OF_STATE/filling"
        "$KIT/linux/tune" undo --state "$state" >/dev/null || exit 1
        as_it_was
    "#;
    let Some((good, said)) = play("full", &["-n", "-m"], script) else { return };
    assert!(good, "{said}");
    assert!(said.contains("full 2\n") && said.contains("again 2\n"), "{said}");
}

#[test]
fn a_damaged_state_is_kept_and_said() {
    let script = r#"
        : >"$FOLDER/state"; tune undo; echo "empty $?"
        echo nonsense >"$FOLDER/state"; tune apply --connections 20000; echo "other $?"
        as_it_was
        cat "$FOLDER/state"
    "#;
    let Some((good, said)) = play("damaged", &["-n"], script) else { return };
    assert!(good, "{said}");
    assert!(said.contains("empty 2\n") && said.contains("other 2\nnonsense"), "{said}");
}

#[test]
fn what_an_earlier_boot_left_is_not_put_back() {
    let script = r#"
        printf 'boot long-ago\n/proc/sys/net/core/somaxconn\t77\n' >"$FOLDER/state"
        tune undo || exit 1
        as_it_was
    "#;
    let Some((good, said)) = play("boot", &["-n"], script) else { return };
    assert!(good && said.contains("of an earlier boot"), "{said}");
}

#[test]
fn wrong_arguments_are_refused_and_change_nothing() {
    let script = r#"
        for wrong in "" dance "apply --connections" "apply --connections ten" "apply --colour" \
            "apply --file /nonexistent" "apply --connections 999999999"; do
            # shellcheck disable=SC2086
            "$KIT/linux/tune" $wrong >/dev/null 2>&1
            [ $? = 2 ] || echo "WRONG: $wrong"
        done
        "$KIT/linux/tune" apply --state /proc/nowhere/state; echo "state $?"
        as_it_was
    "#;
    let Some((good, said)) = play("arguments", &["-n"], script) else { return };
    assert!(good && !said.contains("WRONG") && said.contains("state 2"), "{said}");
}

#[test]
fn on_the_host_itself_it_is_put_back_too() {
    // In the network all of these tests run in: settings of the whole host are there, too.
    let script = r#"
        tune apply --connections 20000 || exit 1
        tune verify --connections 20000 || exit 1
        tune undo || exit 1
        as_it_was
    "#;
    let Some((good, said)) = play("host", &["-u"], script) else { return };
    assert!(good, "{said}");
    assert!(said.contains("all is as it should be for 20000 sessions"), "{said}");
}

/// A server whose limit on files is taken below what it has open.
#[test]
fn a_server_out_of_files_says_the_remedy_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Command::new(MYRIAD)
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--driver", "ready", "--shards", "1"])
        .args(["--segment-bytes", "4194304", "--data"])
        .arg(folder.path().join("data"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut hello = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut hello).unwrap();
    let hello: serde_json::Value = serde_json::from_str(&hello).unwrap();
    let mut told = BufReader::new(server.stderr.take().unwrap()).lines();
    let pid = server.id().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=5:5"]).status();
    if !lowered.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: there is no prlimit to take files away with");
    } else {
        let _refused_later = TcpStream::connect(hello["listen"].as_str().unwrap()).unwrap();
        let line = told.find_map(|line| line.ok().filter(|line| line.contains("(EMFILE)")));
        let line = line.expect("the server says what it is out of");
        assert!(line.contains(myriad::remedy::FILES), "{line}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn source_addresses_come_and_go() {
    let script = r#"
        before=$(ip -4 -o addr show lo)
        "$KIT/loadgen/sources" add lo 10.9.0.250 10.9.1.9 || exit 1
        ip -4 -o addr show lo | grep -c ' 10.9.'
        "$KIT/loadgen/sources" add lo 10.9.0.250 10.9.1.9 || exit 1
        "$KIT/loadgen/sources" remove lo 10.9.0.250 10.9.1.9 || exit 1
        [ "$before" = "$(ip -4 -o addr show lo)" ] || exit 1
        "$KIT/loadgen/sources" remove lo 10.9.0.250 10.9.1.9 && exit 1
        "$KIT/loadgen/sources" add lo 10.0.0.9 10.0.0.1; echo "refused $?"
        "$KIT/loadgen/sources" add lo 10.0.0.1 10.2.0.0; echo "refused $?"
        true
    "#;
    let Some((good, said)) = play("sources", &["-n"], script) else { return };
    assert!(good, "{said}");
    assert!(said.contains("\n16\n"), "{said}");
    assert_eq!(said.matches("refused 2").count(), 2, "{said}");
}
