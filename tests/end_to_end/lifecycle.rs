//! The life of a server as its operator sees it: starts, refuses to start, drains, checks keys.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use loadgen::process::{Home, ServerProcess};
use loadgen::{ClientEvent, Peer, PeerError, TickMark};
use wire::Parting;

use crate::support::raw::{Got, Raw, hello};
use crate::support::{Pair, QUIET, Server, TRANSPORTS, WAIT, next_message, now_s, options};

/// Made for these tests and used nowhere else.
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIPaaSrcycwaLVtFFXX0zNaCS42ymBb0ViFd1wLaDV1Ae\n\
    -----END PRIVATE KEY-----\n";
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAyER7MxX4DSrr70aSJwBtBnMqc/Q6eu4mnO0uvWJ8oNw=\n\
    -----END PUBLIC KEY-----\n";

/// Sends until the server says goodbye; gives what was answered with `Sent`.
fn chatter(mut ann: Peer, to: u64) -> Vec<u64> {
    let mut sent = Vec::new();
    let mut goodbye = None;
    while ann.client.is_connected() {
        while goodbye.is_none() && ann.client.session.unanswered() < 8 {
            let number = ann.client.session.next_client_id();
            match ann.send(to, number.to_le_bytes()) {
                Ok(_) | Err(PeerError::Connection(_)) => {}
                Err(error) => panic!("{error}"),
            }
            if !ann.client.is_connected() {
                break;
            }
        }
        let _ends_with_the_connection = ann.pump(Duration::from_millis(20));
        for event in ann.take_events() {
            match event {
                ClientEvent::Tick { client_id, mark: TickMark::Sent, .. } => sent.push(client_id),
                ClientEvent::Goodbye { reason, .. } => goodbye = Some(reason),
                ClientEvent::Refused { reason, .. } => panic!("refused: {reason}"),
                _ => {}
            }
        }
    }
    assert_eq!(goodbye, Some(Parting::Shutdown), "everybody hears why");
    sent
}

#[test]
fn an_orderly_end_tells_everybody_and_loses_nothing() {
    for shards in [1, 2] {
        let mut server = Server::start(shards, &[]);
        server.provision([100, 101]);
        let mut threads = Vec::new();
        for user in 1..=8 {
            let ann = server.peer(TRANSPORTS[user as usize % 2], user, 1);
            threads.push((user, thread::spawn(move || chatter(ann, 100 + user % 2))));
        }
        let mut idle = server.raw("ws", 50, 1);
        let mut stranger = Raw::open(&server.listen(), "tcp");
        thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        server.terminate();
        idle.ends_with(Parting::Shutdown);
        stranger.ends_with(Parting::Shutdown);
        drop((idle, stranger));
        let sent: Vec<(u64, Vec<u64>)> =
            threads.into_iter().map(|(user, thread)| (user, thread.join().unwrap())).collect();
        let status = server.ended();
        assert_eq!(status.code(), Some(0), "{}", server.home.log_tail());
        println!("ended {:?} after SIGTERM", began.elapsed());
        let server = Server::start_in(server.home, shards, &[]);
        for reader in [100, 101] {
            let mut left: Vec<(u64, u64)> = sent
                .iter()
                .filter(|(user, _)| 100 + user % 2 == reader)
                .flat_map(|(user, ids)| ids.iter().map(|id| (*user, *id)))
                .collect();
            assert!(!left.is_empty(), "there was load");
            let mut bob = server.peer("tcp", reader, 1);
            while !left.is_empty() {
                let is_message = |event: &ClientEvent| matches!(event, ClientEvent::Message { .. });
                let event = bob.wait_for(is_message, WAIT).expect("a message is lost");
                let ClientEvent::Message { id, payload, .. } = event else { unreachable!() };
                assert_eq!(payload, id.client_id.to_le_bytes());
                left.retain(|&(user, client_id)| (user, client_id) != (id.sender, id.client_id));
            }
        }
    }
}

/// Runs `serve` until it ends by itself, which it must.
fn refused(arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_myriad"))
        .arg("serve")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + WAIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it serves with {arguments:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn is_refused_with(arguments: &[&str], words: &str) {
    let output = refused(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} announced itself");
    assert!(said.contains(words), "{arguments:?}: {said:?} has no {words:?}");
}

#[test]
fn what_cannot_be_served_safely_is_refused_at_the_start() {
    let server = Server::start(1, &[]);
    let folder = server.home.data();
    let secret = server.home.secret_file();
    let (data, secret) = (folder.to_str().unwrap(), secret.to_str().unwrap());
    let home = Home::new().unwrap();
    let (empty, short) = (home.data(), home.secret_file());
    let (empty, short) = (empty.to_str().unwrap(), short.to_str().unwrap());
    fs::write(short, b"too short").unwrap();
    let listen = server.listen();
    let any = "127.0.0.1:0";
    let base = |listen, data, secret| {
        ["--listen", listen, "--data", data, "--auth-secret-file", secret, "--shards", "1"]
    };
    is_refused_with(&base(any, data, secret), data);
    is_refused_with(&base(&listen, empty, secret), &listen);
    is_refused_with(&base(any, empty, short), "32");
    is_refused_with(&base(any, empty, "/nowhere/secret"), "/nowhere/secret");
    is_refused_with(&base("0.0.0.0:0", empty, secret), "--allow-plaintext");
    is_refused_with(&base(any, secret, secret), secret); // a file is no folder
    // The first one did not notice.
    server.raw("tcp", 1, 1).settle();
    assert!(server.start_another().is_err());
}

fn ed_token(user: u64, device: u32, exp: u64) -> String {
    let claims = serde_json::json!({ "sub": user.to_string(), "device": device, "exp": exp });
    let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
}

#[test]
fn tokens_of_another_issuer_are_checked_with_its_key() {
    for shards in [1, 2] {
        let home = Home::new().unwrap();
        let file = home.secret_file().with_file_name("issuer.pem");
        fs::write(&file, ED_PUBLIC).unwrap();
        let key = format!("EdDSA:{}", file.display());
        let server = Server::start_in(home, shards, &["--auth-keys", &key]);
        let pair = Pair::start(&server, 900); // with HS256, beside it
        let soon = now_s() + 600;
        for transport in TRANSPORTS {
            let mut bob = Raw::login(&server.listen(), transport, &ed_token(2, 1, soon));
            let mut ann = Peer::login(&server.url(transport), &ed_token(1, 1, soon)).unwrap();
            let client_id = ann.send(2, b"signed elsewhere").unwrap();
            ticked_and_delivered(&mut ann, client_id, &mut bob);
            bob.send(&wire::ClientFrame::Renew(wire::Renew { token: &ed_token(2, 1, soon + 1) }));
            bob.settle();
            let mut forged = ed_token(2, 1, soon);
            forged.replace_range(forged.len() - 8.., "AAAAAAAA");
            for (token, reason) in [
                (forged, Parting::TokenInvalid),
                (ed_token(2, 1, now_s() - 600), Parting::TokenExpired),
            ] {
                let mut raw = Raw::open(&server.listen(), transport);
                raw.send(&wire::ClientFrame::Hello(hello(&token)));
                raw.ends_with(reason);
            }
            bob.send(&wire::ClientFrame::Renew(wire::Renew { token: &ed_token(3, 1, soon) }));
            bob.ends_with(Parting::TokenInvalid);
        }
        pair.finish();
    }
}

fn ticked_and_delivered(ann: &mut Peer, client_id: u64, bob: &mut Raw) {
    let position = crate::support::ticked(ann, client_id, TickMark::Sent);
    assert_eq!(bob.delivered().0, position);
    bob.ack(position);
}

#[test]
fn a_crowd_of_signatures_is_checked_off_the_shard() {
    let home = Home::new().unwrap();
    let file = home.secret_file().with_file_name("issuer.pem");
    fs::write(&file, ED_PUBLIC).unwrap();
    let key = format!("EdDSA:{}", file.display());
    let server = Server::start_in(home, 1, &["--auth-keys", &key]);
    let pair = Pair::start(&server, 900);
    let token = ed_token(1, 1, now_s() + 600);
    let mut strangers: Vec<Raw> = (0..500)
        .map(|_| {
            let mut raw = Raw::open(&server.listen(), "tcp");
            raw.send(&wire::ClientFrame::Hello(hello(&token)));
            raw
        })
        .collect();
    for raw in &mut strangers {
        raw.expect("a Welcome", |got| matches!(got, Got::Welcome(_)));
    }
    // One token, one device: one stays, each of the others heard why.
    let told = strangers.iter_mut().map(replaced).filter(|it| *it).count();
    assert_eq!(told, 499);
    pair.finish();
    let mut alone = server.peer("ws", 5, 1);
    let client_id = alone.send(5, b"fine").unwrap();
    crate::support::ticked(&mut alone, client_id, TickMark::Sent);
    assert_eq!(next_message(&mut alone).0, b"fine");
}

fn replaced(raw: &mut Raw) -> bool {
    let is_it = |got: &Got| matches!(got, Got::Goodbye { reason: Parting::Replaced, .. });
    raw.wait(QUIET, is_it).is_some()
}

/// Where io_uring does not work the server says why and runs with the other driver.
#[test]
#[cfg(target_os = "linux")]
fn the_driver_asked_for_runs_or_the_reason_is_told() {
    for (asked, reasons) in [
        ("ready", ["driver ready: as configured"; 2]),
        ("uring", ["driver uring: as configured", "driver ready: io_uring does not work: "]),
        ("auto", ["driver ready: ", "driver uring: "]),
    ] {
        let home = Home::new().unwrap();
        let mut serve = options(1, &[]);
        asked.clone_into(&mut serve.driver);
        let server = ServerProcess::start(&serve, &home).unwrap();
        let first: serde_json::Value = serde_json::from_str(server.first_line()).unwrap();
        let end = Instant::now() + WAIT; // it is told right behind the line that was read
        let told = loop {
            let said = home.log_tail();
            match reasons.iter().find(|reason| said.contains(**reason)) {
                Some(told) => break told,
                None if Instant::now() > end => panic!("{asked}: {said}"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let runs = format!("driver {}: ", first["driver"].as_str().unwrap());
        assert!(told.starts_with(&runs), "{told} {first}");
        server.terminate().unwrap();
        assert!(server.wait(WAIT, &home).unwrap().success());
    }
}

/// An idle server leaves a record without a time; that is no reason to doubt the clock.
#[test]
fn a_server_that_only_started_believes_its_clock() {
    let mut server = Server::start(1, &[]);
    server.drain_and_restart();
    assert!(!server.home.log_tail().contains("--clock-confirmed"), "{}", server.home.log_tail());
}
