//! Who keeps to the letter of the protocol and abuses it: ids of dropped devices, copies for
//! devices that never come, marks without end, too much behind a `Hello`.

use std::process::Command;

use wire::{ClientFrame, Confirmed, Parting, Ping, Read, Refusal, Stream};

use crate::support::raw::{Got, Raw, hello, message};
use crate::support::{Server, TRANSPORTS};

#[test]
fn a_dropped_device_that_returns_never_uses_an_id_again() {
    for shards in [1, 2] {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut first = server.raw("tcp", 1, 1);
        for client_id in 1..=3 {
            first.ask(message(client_id, 2, b"said once")).unwrap();
        }
        drop(first);
        for device in 2..=9 {
            server.raw("tcp", 1, device).settle();
        }
        let token = server.token(1, 1);
        for again in 0..2 {
            let (mut back, welcome) = Raw::login_with(&server.listen(), "tcp", &hello(&token));
            assert!(welcome.next_client_id > 3, "{welcome:?}");
            assert_eq!(back.refused(message(1, 2, b"said once")), Refusal::StaleId);
            if again == 0 {
                server.kill_and_restart();
            }
        }
    }
}

#[test]
fn copies_for_an_abandoned_device_are_bounded_and_keep_nobody_out() {
    let server = Server::start(1, &["--inbox-messages-max", "20"]);
    server.provision([1, 2]);
    server.raw("tcp", 1, 2).settle(); // once, and never again
    let mut writer = server.raw("tcp", 1, 1);
    let mut peer = server.raw("ws", 2, 1);
    for client_id in 1..=60 {
        let confirmed = Confirmed { base: client_id - 1, map: 0 };
        writer.ask(wire::Send { confirmed, ..message(client_id, 2, b"copied") }).unwrap();
        let (position, _) = peer.delivered();
        peer.ack(position);
    }
    peer.ask(message(1, 1, b"you are still reachable")).unwrap();
    let mut abandoned = server.raw("tcp", 1, 2);
    let copies = (0..21).map(|_| abandoned.delivered().1).filter(|it| it == b"copied").count();
    assert_eq!(copies, 20);
}

#[test]
fn marks_without_end_do_not_eat_the_log() {
    const MARKS: u64 = 5_000;
    let mut server = Server::start(1, &[]);
    server.provision([1, 2]);
    let mut reader = server.raw("tcp", 1, 1);
    let mut writer = server.raw("tcp", 2, 1);
    writer.ask(message(1, 1, b"read me")).unwrap();
    let (position, _) = reader.delivered();
    let stream = Some(Stream::User(2));
    for step in (0..MARKS).rev() {
        let up_to = position - step;
        reader.send(&ClientFrame::Read(Read { stream, up_to, automatic: true }));
    }
    reader.settle();
    drop((reader, writer));
    assert!(server.stop().success());
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_myriad"));
    let inspected = inspect.args(["log", "inspect"]).arg(server.home.data()).output().unwrap();
    let lines = String::from_utf8(inspected.stdout).unwrap();
    let marks = lines.lines().filter(|line| line.contains("read-mark")).count() as u64;
    assert!((1..MARKS / 20).contains(&marks), "{marks} records for {MARKS} marks");
}

#[test]
fn too_much_behind_a_hello_ends_the_session_wherever_its_home_is() {
    let server = Server::start(2, &[]);
    for transport in TRANSPORTS {
        for user in 500..508 {
            let token = server.token(user, 1);
            let mut raw = Raw::open(&server.listen(), transport);
            let mut bytes = raw.framed(&ClientFrame::Hello(hello(&token)));
            let ping = Ping { active: false, confirmed: Confirmed::default(), answer: true };
            while bytes.len() < 6_000 {
                bytes.extend(raw.framed(&ClientFrame::Ping(ping)));
            }
            raw.write(&bytes);
            let ending = raw.ending(crate::support::WAIT);
            assert_eq!(ending.reason, Some(Parting::HelloExpected), "user {user}");
            assert!(!ending.before.iter().any(|got| matches!(got, Got::Pong)), "user {user}");
        }
    }
}
