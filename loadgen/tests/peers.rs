//! Other servers, on real sockets: every message arrives once and in order, and the report says so.
//!
//! Each test starts its server on a free loopback port with its files in a temporary folder, and
//! skips with a printed reason if it is not installed. `PEERS_MUST_RUN=1` makes that a failure.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::live::{Progress, Title, lines::Lines};
use loadgen::report::Report;
use loadgen::run;

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Killed when dropped.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server that is told its port and folder; `None`, with a printed reason, if it is not
/// installed.
fn start(program: &str, prepare: impl Fn(&mut Command, u16, &std::path::Path)) -> Option<Server> {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let said = folder.path().join("said");
    let mut command = Command::new(program);
    prepare(&mut command, port, folder.path());
    let output = File::create(&said).unwrap();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("PEERS_MUST_RUN").is_none(), "{program} is not installed");
            println!("NOT RUN: {program} is not installed");
            return None;
        }
        child => child.unwrap(),
    };
    let mut server = Server { child, port, folder };
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let ended = server.child.try_wait().unwrap();
        let said = || fs::read_to_string(&said).unwrap_or_default();
        assert!(ended.is_none() && Instant::now() < deadline, "{program}: {ended:?}: {}", said());
        thread::sleep(Duration::from_millis(20));
    }
    Some(server)
}

/// Twenty clients in pairs, 400 messages.
fn play(target: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    let scenario = "name = \"small\"\nabout = \"for tests\"\n[clients]\nsessions = 20\n\
        [[phases]]\nname = \"hold\"\nseconds = 2\nmessages_per_second = 200\n";
    fs::write(&file, scenario).unwrap();
    let options = run::Options {
        scenario: file.display().to_string(),
        target: target.to_owned(),
        threads: Some(1),
        ..run::Options::default()
    };
    let view = &mut |name: &str| -> Box<dyn Progress> {
        let title = Title { scenario: name.to_owned(), target: target.to_owned() };
        Box::new(Lines::new(&title, Box::new(std::io::stdout())))
    };
    run::run(&options, view).unwrap()
}

fn expect_all(report: &Report) {
    let messages = &report.messages;
    assert_eq!(report.sessions.established, 20, "{:?}", report.invalid_because);
    assert!(messages.sent >= 390, "{messages:?}");
    assert_eq!(messages.delivered, messages.sent, "{messages:?}");
    assert_eq!(messages.acked, messages.sent, "{messages:?}");
    assert_eq!(messages.wrong(), 0, "{messages:?}");
    assert!(report.latency_us.delivered.p99.is_some());
}

#[test]
fn nats_delivers() {
    let server = start("nats-server", |command, port, _| {
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    });
    let Some(server) = server else { return };
    let report = play(&format!("nats://127.0.0.1:{}", server.port));
    expect_all(&report);
    assert_eq!(report.target.protocol, "NATS core");
}

#[test]
fn redis_delivers_and_answers() {
    let server = start("redis-server", |command, port, folder| {
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(folder);
    });
    let Some(server) = server else { return };
    let report = play(&format!("redis://127.0.0.1:{}", server.port));
    expect_all(&report);
    assert!(report.latency_us.sent.p50.is_some(), "publishes are answered");
}

/// Listens on loopback only, for anybody.
fn mosquitto() -> Option<Server> {
    start("mosquitto", |command, port, folder| {
        let file = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
        fs::write(&file, text).unwrap();
        command.arg("-c").arg(file);
    })
}

#[test]
fn mqtt_delivers_at_both_qualities() {
    let Some(server) = mosquitto() else { return };
    for qos in [0, 1] {
        let report = play(&format!("mqtt://127.0.0.1:{}?qos={qos}", server.port));
        expect_all(&report);
        assert_eq!(report.latency_us.sent.p50.is_some(), qos == 1, "only quality 1 is answered");
    }
    assert!(server.folder.path().exists());
}

#[test]
fn an_echo_comes_back_to_its_sender() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || echo(stream));
        }
    });
    let report = play(&format!("echo+ws://127.0.0.1:{port}/"));
    expect_all(&report);
}

/// Grants the upgrade and sends every message back; ends with its client.
fn echo(mut stream: TcpStream) -> Option<()> {
    let mut input = Vec::new();
    let mut area = [0; 4_096];
    let mut is_open = false;
    loop {
        let count = stream.read(&mut area).ok().filter(|count| *count > 0)?;
        input.extend_from_slice(&area[..count]);
        if !is_open && let Some(at) = input.windows(4).position(|end| end == b"\r\n\r\n") {
            input.drain(..at + 4);
            let granted = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(granted).ok()?;
            is_open = true;
        }
        while is_open && input.len() >= 2 {
            let head = match input[1] & 0x7f {
                126 => 4,
                127 => return None, // nobody sends that much here
                _ => 2,
            };
            if input.len() < head {
                break;
            }
            let length = match head {
                4 => usize::from(u16::from_be_bytes([input[2], input[3]])),
                _ => usize::from(input[1] & 0x7f),
            };
            if input.len() < head + 4 + length {
                break;
            }
            let frame: Vec<u8> = input.drain(..head + 4 + length).collect();
            let (mask, payload) = frame[head..].split_at(4);
            let mut answer = frame[..head].to_vec();
            answer[1] &= 0x7f;
            answer.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            stream.write_all(&answer).ok()?;
        }
    }
}

#[test]
fn the_echo_of_our_own_sends_every_message_back() {
    let server = start(env!("CARGO_BIN_EXE_myriad-loadgen"), |command, port, _| {
        command.args(["echo-server", "--websocket", "--listen", &format!("127.0.0.1:{port}")]);
    });
    let server = server.unwrap();
    expect_all(&play(&format!("echo+ws://127.0.0.1:{}/", server.port)));
}

#[test]
fn addresses_nobody_understands_are_refused_with_those_that_are() {
    for (target, expected) in [
        ("amqp://h:1", "nats://"),
        ("mqtt://h:1?qos=2", "qos is 0 or 1"),
        ("nats://", "nats://HOST:PORT"),
        ("redis://me:secret@h", "not supported"),
    ] {
        let options = run::Options {
            scenario: "chat".to_owned(),
            target: target.to_owned(),
            ..run::Options::default()
        };
        let view = &mut |_: &str| -> Box<dyn Progress> { unreachable!("nothing is played") };
        let error = run::run(&options, view).unwrap_err().to_string();
        assert!(error.contains(expected), "{target}: {error}");
    }
}

/// `survive STEP` against a target; its exit code and what it printed.
fn survive(step: &str, target: &str) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_myriad-loadgen"))
        .args(["survive", step, "--target", target, "--messages", "500", "--recipients", "5"])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn what_a_server_that_lives_on_has_kept_comes_back() {
    let Some(server) = mosquitto() else { return };
    let target = format!("mqtt://127.0.0.1:{}?qos=1", server.port);
    let (filled, said) = survive("fill", &target);
    assert!(filled && said.contains("\"acked\": 500"), "{said}");
    let (counted, said) = survive("count", &target);
    assert!(counted && said.contains("\"survived\": 500"), "{said}");
    assert!(said.contains("\"duplicated\": 0"), "{said}");
    // Nothing is left, so nothing comes again.
    let (_, said) = survive("count", &target);
    assert!(said.contains("\"survived\": 0"), "{said}");
}

#[test]
fn a_protocol_that_keeps_nothing_says_so() {
    for target in ["nats://127.0.0.1:1", "redis://127.0.0.1:1", "mqtt://127.0.0.1:1?qos=0"] {
        let (held, said) = survive("fill", target);
        assert!(!held && said.contains("by design"), "{said}");
    }
    let (held, said) = survive("fill", "mqtt://127.0.0.1:1?qos=1");
    assert!(!held && said.contains("can't connect to 127.0.0.1:1"), "{said}");
}
