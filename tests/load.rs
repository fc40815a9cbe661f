//! The load generator against the real program: what it finds, and that it never flatters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "load/proxy.rs"]
mod proxy;
mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use loadgen::live::{Moment, Progress};
use loadgen::report::{Report, Wrong};
use loadgen::run::{self, Engine, Options, RunError};
use proxy::{Name, Proxy};
use support::Server;
use wire::Transport;

/// Shows nothing.
struct Silent;

impl Progress for Silent {
    fn second(&mut self, _moment: &Moment) {}
    fn finish(&mut self, _report: &Report) {}
}

/// A scenario file in its own folder.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn scenario(text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.toml");
    std::fs::write(&path, format!("name = \"test\"\nabout = \"a test\"\n{text}")).unwrap();
    File { _folder: folder, path }
}

fn options(server: &Server, target: String, file: &File) -> Options {
    Options {
        scenario: file.path.to_str().unwrap().to_owned(),
        target,
        auth_secret_file: Some(server.home.secret_file()),
        engine: Engine::Epoll,
        ..Options::default()
    }
}

fn play(options: &Options) -> Result<Report, RunError> {
    run::run(options, &mut |_| Box::new(Silent))
}

/// Few clients and many messages: 6,000 in two seconds.
const BUSY: &str = "
[clients]
sessions = 20
[[phases]]
name = \"all\"
seconds = 2
messages_per_second = 3000
[ending]
drain_seconds = 3
behind_p99_us_max = 10_000_000
";

/// Runs through a proxy that treats one delivery in 700 badly; what it did and what was found.
fn found(kind: Wrong, transport: Transport) -> (BTreeSet<Name>, Report) {
    let server = Server::start(2, &[]);
    let proxy = Proxy::start(&server.listen(), transport, kind, 700);
    let target = match transport {
        Transport::WebSocket => format!("ws://{}/v1/chat", proxy.listen),
        _ => format!("tcp://{}", proxy.listen),
    };
    let report = play(&options(&server, target, &scenario(BUSY))).unwrap();
    let done: BTreeSet<Name> = proxy.faults.lock().unwrap().done.iter().copied().collect();
    assert!(done.len() >= 6, "{done:?}");
    assert_eq!(report.messages.sent, 6_000);
    let examples = report.oracle.examples.iter().filter(|example| example.kind == kind);
    let names: BTreeSet<Name> = examples.map(|e| (e.from, e.to, e.sequence)).collect();
    assert_eq!(names, done, "every one is named, and nothing else: {:?}", report.messages);
    assert_eq!(report.messages.wrong(), done.len() as u64, "{:?}", report.messages);
    assert!(!run::command::passed(&report));
    (done, report)
}

#[test]
fn every_dropped_message_is_named() {
    let (done, report) = found(Wrong::Lost, Transport::Tcp);
    assert_eq!(report.messages.lost, done.len() as u64);
}

#[test]
fn every_doubled_message_is_named() {
    let (done, report) = found(Wrong::Duplicated, Transport::WebSocket);
    assert_eq!(report.messages.duplicated, done.len() as u64);
}

#[test]
fn every_swapped_message_is_named() {
    let (done, report) = found(Wrong::Reordered, Transport::Tcp);
    assert_eq!(report.messages.reordered, done.len() as u64);
}

#[test]
fn every_changed_message_is_named() {
    let (done, report) = found(Wrong::Corrupted, Transport::WebSocket);
    assert_eq!(report.messages.corrupted, done.len() as u64);
}

#[test]
fn both_engines_find_nothing_wrong_with_a_server_that_does_nothing_wrong() {
    let server = Server::start(2, &[]);
    let file = scenario(&BUSY.replace("[clients]", "[clients]\nread_percent = 100"));
    for engine in [Engine::Epoll, Engine::Uring] {
        let options = Options { engine, ..options(&server, server.url("ws"), &file) };
        let report = match play(&options) {
            Err(RunError::Engine(why)) if engine == Engine::Uring => {
                eprintln!("not tried: {why}");
                continue;
            }
            report => report.unwrap(),
        };
        let messages = report.messages;
        assert!(run::command::passed(&report), "{:?} {messages:?}", report.thresholds);
        assert_eq!(messages.sent, 6_000);
        assert_eq!([messages.acked, messages.delivered, messages.read], [6_000; 3]);
        assert_eq!(report.latency_us.delivered.count, 6_000);
        assert_eq!(report.sessions.established, 20);
    }
}

#[test]
fn slow_a_second_without_the_server_shows_in_the_latency() {
    let server = Server::start(1, &[]);
    let file = scenario(&BUSY.replace("seconds = 2", "seconds = 6").replace("3000", "200"));
    let options = options(&server, server.url("tcp"), &file);
    let pid = server.pid().to_string();
    let signal = move |name: &str| {
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    let pause = thread::spawn(move || {
        thread::sleep(Duration::from_secs(4));
        signal("-STOP");
        thread::sleep(Duration::from_secs(1));
        signal("-CONT");
    });
    let report = play(&options).unwrap();
    pause.join().unwrap();
    let delivered = &report.latency_us.delivered;
    assert_eq!(delivered.count, 1_200, "every message that was due was sent, late or not");
    let (p50, p999) = (delivered.p50.unwrap(), delivered.p999.unwrap());
    assert!(p999 >= 900_000, "p99.9 is {p999} us");
    // Those due in that second waited half of it on average: 200 of 1,200.
    let histogram = delivered.histogram().unwrap();
    let waited = histogram.len() - histogram.count_between(0, 250_000);
    assert!((100..600).contains(&waited), "{waited} waited, p50 {p50}");
}

#[test]
fn slow_nothing_is_lost_or_doubled_when_the_server_is_killed_and_comes_back() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut server = Server::start(2, &["--listen", &listen]);
    let text = BUSY.replace("seconds = 2", "seconds = 8").replace("3000", "300");
    let file = scenario(&format!("{text}[thresholds]\nfailed = 1_000_000\n"));
    let options = options(&server, server.url("ws"), &file);
    let run = thread::spawn(move || play(&options).unwrap());
    thread::sleep(Duration::from_secs(4));
    server.kill_and_restart();
    thread::sleep(Duration::from_secs(2));
    server.kill_and_restart();
    let report = run.join().unwrap();
    let messages = report.messages;
    assert_eq!(messages.wrong(), 0, "{messages:?} {:?}", report.oracle.examples);
    assert_eq!([messages.sent, messages.acked, messages.delivered], [2_400; 3], "{messages:?}");
    assert!(report.sessions.failed >= 40, "both kills were felt: {:?}", report.sessions);
}

#[test]
fn slow_a_server_that_goes_away_is_told_and_never_waited_for() {
    let mut server = Server::start(1, &[]);
    let file = scenario(&BUSY.replace("seconds = 2", "seconds = 4").replace("3000", "100"));
    let options = options(&server, server.url("tcp"), &file);
    let run = thread::spawn(move || play(&options).unwrap());
    thread::sleep(Duration::from_secs(3));
    server.kill();
    let report = run.join().unwrap();
    assert!(!run::command::passed(&report));
    let absent = report.thresholds.iter().find(|goal| goal.goal.starts_with("sessions.absent"));
    assert_eq!(absent.unwrap().measured, Some(20.0));
}

#[test]
fn a_wrong_secret_and_an_empty_port_are_one_clear_line() {
    let server = Server::start(1, &[]);
    let file = scenario(BUSY);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789012345678901234567890123456789").unwrap();
    let right = options(&server, server.url("ws"), &file);
    let wrong = Options { auth_secret_file: Some(secret), ..right.clone() };
    let error = play(&wrong).unwrap_err().to_string();
    assert!(error.contains("--auth-secret-file") && error.contains("token"), "{error}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = play(&Options { target: format!("tcp://{nobody}"), ..right.clone() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("connection refused"), "{error}");
    let error = play(&Options { target: "http://a".to_owned(), ..right }).unwrap_err();
    assert!(matches!(error, RunError::Arguments(_)), "{error}");
}

#[test]
fn slow_addresses_without_a_port_are_told_and_end_the_run() {
    let server = Server::start(1, &[]);
    let text = BUSY.replace("sessions = 20", "sessions = 20\nconnect_timeout_seconds = 2");
    let file = scenario(&text);
    // Of a network for documentation: no host has it.
    let sources = Some("192.0.2.1".to_owned());
    for engine in [Engine::Epoll, Engine::Uring] {
        let options = options(&server, server.url("tcp"), &file);
        let options = Options { sources: sources.clone(), engine, ..options };
        let report = match play(&options) {
            Err(RunError::Engine(_)) if engine == Engine::Uring => continue,
            report => report.unwrap(),
        };
        assert!(!run::command::passed(&report));
        assert!(report.sessions.failed >= 20 && report.sessions.established == 0);
    }
}
