//! A test played again in a process of its own: for what concerns a whole process (signals) or a
//! whole network (ports).
//!
//! Deliberately not here: what is played.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::run::{Engine, Options};

/// Set in the copy; what it is to play.
const INSIDE: &str = "MYRIAD_LOAD_INSIDE";

/// What the copy of this test is to play, a line each: scenario, target, secret, engine, report.
pub(crate) fn inside() -> Option<(Options, PathBuf)> {
    let told = std::env::var(INSIDE).ok()?;
    let [scenario, target, secret, engine, report] =
        told.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let options = Options {
        scenario: scenario.to_owned(),
        target: target.to_owned(),
        auth_secret_file: Some(secret.into()),
        engine: if engine == "uring" { Engine::Uring } else { Engine::Epoll },
        ..Options::default()
    };
    Some((options, report.into()))
}

/// A copy that plays this; its report goes to a file.
pub(crate) fn play_aside(test: &str, options: &Options, report: &Path) -> Copy {
    let told = [
        options.scenario.clone(),
        options.target.clone(),
        options.auth_secret_file.clone().unwrap().display().to_string(),
        if options.engine == Engine::Uring { "uring" } else { "epoll" }.to_owned(),
        report.display().to_string(),
    ];
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, told.join("\n"))
        .stdin(Stdio::null())
        .spawn();
    Copy { child: child.unwrap() }
}

/// A running copy: killed when dropped.
pub(crate) struct Copy {
    child: Child,
}

impl Copy {
    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        signal("-TERM", self.child.id());
    }

    /// Waits for its end; how long that took, and whether it went well.
    pub(crate) fn ended(&mut self, most: Duration) -> (Duration, bool) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (started.elapsed(), status.success());
            }
            assert!(started.elapsed() < most, "it has not ended after {most:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name, such as `-STOP`.
pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Set in the copy that has a network of its own.
const NETWORK: &str = "MYRIAD_LOAD_NETWORK";
/// Ports of one address in that network.
pub(crate) const PORTS: u64 = 200;

/// Whether this is the copy with a network of its own: loopback alone, with few ports. If not, the
/// test is played again in one, which goes with its last process.
pub(crate) fn has_own_network(test: &str) -> bool {
    let range = format!("40000 {}", 40_000 + PORTS - 1);
    let prepare = format!(
        "ip link set lo up && echo {range} >/proc/sys/net/ipv4/ip_local_port_range && exec \"$@\""
    );
    if std::env::var_os(NETWORK).is_some() {
        return true;
    }
    let id = Command::new("id").arg("-u").output();
    let is_root = id.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let unshare = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg(if is_root { "-n" } else { "-rn" }).args(["sh", "-ec", &prepare, "sh"]);
        command.arg(program).args(arguments).env(NETWORK, "1").stdin(Stdio::null());
        command.output()
    };
    let tried = unshare(Path::new("true"), &[]);
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        let why = format!("no network of its own can be made here: {tried:?}");
        eprintln!("NOT RUN: {why}; it needs root or user namespaces, unshare and ip");
        let must = std::env::var_os("MYRIAD_MUST_UNSHARE").is_some_and(|value| value == "1");
        assert!(!must, "MYRIAD_MUST_UNSHARE=1: {why}");
        return false;
    }
    let here = std::env::current_exe().unwrap();
    let played = unshare(&here, &["--exact", test, "--nocapture"]).unwrap();
    let said = [played.stdout, played.stderr].concat();
    println!("{}", String::from_utf8_lossy(&said));
    assert!(played.status.success(), "{test} failed in a network of its own");
    false
}
