//! The load generator against the real program: what it finds, and that it never flatters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "load/aside.rs"]
mod aside;
#[path = "load/groups.rs"]
mod groups;
#[path = "load/proxy.rs"]
mod proxy;
mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use aside::{PORTS, has_own_network, inside, play_aside, signal};
use loadgen::interrupt;
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

/// Notes what is told on the way.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Progress for Noting {
    fn second(&mut self, moment: &Moment) {
        self.0.lock().unwrap().extend(moment.news.iter().cloned());
    }
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

/// In a copy of a test: listens for signals, plays what was told, leaves the report. Where the
/// engine does not work there is none.
fn play_inside(options: &Options, file: &Path) {
    interrupt::listen().unwrap();
    match play(options) {
        Err(RunError::Engine(why)) if options.engine == Engine::Uring => {
            eprintln!("not tried: {why}");
        }
        report => report.unwrap().write(file).unwrap(),
    }
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

/// Runs through a proxy that treats one delivery in `one_in` badly, in the `kinds` in turn. Every
/// one is named by the oracle, each by what was done to it, and nothing else is.
fn found(text: &str, kinds: &[Wrong], transport: Transport, one_in: u64) -> Report {
    let server = Server::start(2, &[]);
    let proxy = Proxy::start(&server.listen(), transport, kinds, one_in);
    let target = match transport {
        Transport::WebSocket => format!("ws://{}/v1/chat", proxy.listen),
        _ => format!("tcp://{}", proxy.listen),
    };
    let report = play(&options(&server, target, &scenario(text))).unwrap();
    let mut done = proxy.faults.lock().unwrap().done.clone();
    let examples = report.oracle.examples.iter();
    let mut named: Vec<(Wrong, Name)> =
        examples.map(|e| (e.kind, (e.from, e.to, e.sequence))).collect();
    for list in [&mut done, &mut named] {
        list.sort_by_key(|(kind, name)| (kind.name(), *name));
    }
    assert_eq!(named, done, "{:?}", report.messages);
    let count = |wanted: Wrong| done.iter().filter(|(kind, _)| *kind == wanted).count() as u64;
    let messages = &report.messages;
    assert_eq!(messages.lost, count(Wrong::Lost));
    assert_eq!(messages.duplicated, count(Wrong::Duplicated));
    assert_eq!(messages.reordered, count(Wrong::Reordered));
    assert_eq!(messages.corrupted, count(Wrong::Corrupted));
    assert!(kinds.iter().all(|kind| count(*kind) > 0), "{done:?}");
    assert_eq!([report.oracle.left_out, report.sessions.failed], [0, 0]);
    assert!(!run::command::passed(&report));
    report
}

#[test]
fn every_dropped_and_every_changed_message_is_named() {
    let kinds = [Wrong::Lost, Wrong::Corrupted];
    let messages = found(BUSY, &kinds, Transport::Tcp, 700).messages;
    assert_eq!(messages.sent, 6_000);
    assert!(messages.wrong() >= 6, "{messages:?}");
}

#[test]
fn every_doubled_and_every_swapped_message_is_named() {
    let kinds = [Wrong::Duplicated, Wrong::Reordered];
    let messages = found(BUSY, &kinds, Transport::WebSocket, 700).messages;
    assert_eq!(messages.sent, 6_000);
    assert!(messages.wrong() >= 6, "{messages:?}");
}

/// As many messages as half a minute allows: 1,300,000 if the host keeps up, and a third will do.
const MANY: &str = "
[clients]
sessions = 64
payload_bytes = 37
[[phases]]
name = \"all\"
seconds = 25
messages_per_second = 52_000
[ending]
drain_seconds = 3
behind_p99_us_max = 60_000_000
";

#[test]
fn slow_one_wrong_message_in_100_000_is_named_whatever_its_kind() {
    let kinds = [Wrong::Lost, Wrong::Duplicated, Wrong::Reordered, Wrong::Corrupted];
    let report = found(MANY, &kinds, Transport::Tcp, 100_000);
    let messages = &report.messages;
    assert!(messages.sent >= 400_000 && messages.wrong() >= 4, "{messages:?}");
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
    let pid = server.pid();
    let pause = thread::spawn(move || {
        thread::sleep(Duration::from_secs(4));
        signal("-STOP", pid);
        thread::sleep(Duration::from_secs(1));
        signal("-CONT", pid);
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

/// Many times what a server on this host can take.
const FAR_TOO_MUCH: &str = "
[clients]
sessions = 1000
[[phases]]
name = \"all\"
seconds = 600
messages_per_second = 10_000_000
traffic = \"random\"
[ending]
drain_seconds = 600
";
/// Longest wait for the end of a run that was asked to end; docs/loadgen.md promises it.
const END_MAX: Duration = Duration::from_secs(10);

#[test]
fn slow_an_overloaded_run_ends_soon_after_it_was_asked_to() {
    if let Some((options, file)) = inside() {
        return play_inside(&options, &file);
    }
    let name = "slow_an_overloaded_run_ends_soon_after_it_was_asked_to";
    let file = scenario(FAR_TOO_MUCH);
    let folder = tempfile::tempdir().unwrap();
    for engine in [Engine::Epoll, Engine::Uring] {
        for stopped in [false, true] {
            let server = Server::start(1, &[]);
            let options = Options { engine, ..options(&server, server.url("tcp"), &file) };
            let report = folder.path().join(format!("{engine:?}-{stopped}.json"));
            let mut copy = play_aside(name, &options, &report);
            thread::sleep(Duration::from_secs(4));
            if stopped {
                signal("-STOP", server.pid());
                thread::sleep(Duration::from_secs(2));
            }
            copy.terminate();
            let (took, well) = copy.ended(END_MAX);
            if stopped {
                signal("-CONT", server.pid());
            }
            assert!(well);
            if engine == Engine::Uring && !report.exists() {
                continue;
            }
            let report = Report::read(&report).unwrap();
            let messages = &report.messages;
            println!("{engine:?}, server stopped: {stopped}: {took:?}, {messages:?}");
            assert!(messages.sent > 10_000, "{messages:?}");
            assert!(messages.waiting + messages.unanswered > 0, "{messages:?}");
            assert_eq!(messages.wrong(), 0, "what was under way is not lost: {messages:?}");
            let why = report.invalid_because.join("; ");
            assert!(!report.valid && why.contains("it was interrupted"), "{why}");
        }
    }
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
fn an_address_of_another_host_is_one_clear_line() {
    let server = Server::start(1, &[]);
    let file = scenario(BUSY);
    // Of a network for documentation: no host has it.
    let sources = Some("192.0.2.1".to_owned());
    let options = Options { sources, ..options(&server, server.url("tcp"), &file) };
    let error = play(&options).unwrap_err().to_string();
    assert!(error.contains("not of this host") && error.contains("--sources"), "{error}");
}

#[test]
fn slow_ports_that_run_out_are_foreseen_and_named() {
    if !has_own_network("slow_ports_that_run_out_are_foreseen_and_named") {
        return;
    }
    let text = BUSY.replace("sessions = 20", "sessions = 1000\nconnect_timeout_seconds = 3");
    let file = scenario(&text);
    for (engine, port) in [(Engine::Epoll, 7878), (Engine::Uring, 7879)] {
        // Of a port of its own: the ports of the run before stay taken for a minute.
        let server = Server::start(1, &["--listen", &format!("127.0.0.1:{port}")]);
        let sources = Some("127.0.0.1".to_owned());
        let options = options(&server, server.url("tcp"), &file);
        let options = Options { sources, engine, ..options };
        let (started, notes) = (Instant::now(), Noting::default());
        let report = match run::run(&options, &mut |_| Box::new(notes.clone())) {
            Err(RunError::Engine(why)) if engine == Engine::Uring => {
                eprintln!("not tried: {why}");
                continue;
            }
            report => report.unwrap(),
        };
        assert!(started.elapsed() < Duration::from_secs(60));
        let notes = notes.0.lock().unwrap().join("\n");
        let foreseen = format!("this host stops at {PORTS} sessions: {PORTS} ports x 1 source");
        assert!(notes.contains(&foreseen), "{notes}");
        let named = report.failures.first().expect("a reason");
        for part in ["no free port", "net.ipv4.ip_local_port_range", "--sources"] {
            assert!(named.reason.contains(part) && notes.contains(part), "{named:?} {notes}");
        }
        // One port is still the first login's, and what was tried again counts again.
        assert!((PORTS / 2..=PORTS).contains(&report.sessions.established), "{report:?}");
        assert!(named.count >= 1_000 - PORTS, "{named:?}");
        assert!(!run::command::passed(&report));
        let error = run::run(&options, &mut |_| Box::new(Silent)).unwrap_err().to_string();
        assert!(error.contains("no free port"), "they are taken still: {error}");
    }
}
