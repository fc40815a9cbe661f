//! What is left of an account that was deleted, also if the server dies meanwhile; and what the
//! operator sees of those who are there.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loadgen::Peer;
use serde_json::{Value, json};

use crate::street::{ADMIN, PASSWORD, Person, Street};
use crate::support::WAIT;

const KEEP_HISTORY: [&str; 5] =
    ["--registration", "open", "--history=true", "--history-default", "permanent"];

fn post(street: &Street, from: &Person, to: &str, client_id: u64, text: &str) {
    let body = json!({
        "to": {"user": to}, "client_id": client_id.to_string(), "payload": STANDARD.encode(text),
    });
    street.ask("POST", "/v1/messages", Some(&from.token), Some(&body)).is(201);
}

/// Whether a file in this folder, or below it, holds this text.
fn holds(folder: &Path, text: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        let bytes =
            if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap_or_default() };
        holds(&path, text) || bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < WAIT, "not {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_account_leaves_nothing_of_its_own_whenever_the_server_dies() {
    let mut street = Street::open_with(&KEEP_HISTORY);
    let payloads = street.server.home.data().join("history/payloads");
    let bob = street.person("bob");
    for (round, pause_ms) in [0, 3, 20, 200].into_iter().enumerate() {
        let ann = street.person("ann");
        let texts = ["own", "to bob", "from bob"].map(|what| format!("{what} <{round:06}>"));
        let [own, to_bob, from_bob] = &texts;
        post(&street, &ann, &ann.id, 1, own);
        post(&street, &ann, &bob.id, 2, to_bob);
        post(&street, &bob, &ann.id, 100 + round as u64, from_bob);
        wait_until("in history", || texts.iter().all(|text| holds(&payloads, text)));

        let body = json!({"password": PASSWORD}).to_string();
        let mut stream = street.connect();
        let request = format!(
            "DELETE /v1/accounts/me HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            ann.token,
            body.len()
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(pause_ms));
        street.kill_and_restart();
        // It happened, or it did not and can be asked again.
        let me = street.ask("GET", "/v1/accounts/me", Some(&ann.token), None).status;
        println!("killed after {pause_ms} ms: {me}");
        if me == 200 {
            let body = json!({"password": PASSWORD});
            street.ask("DELETE", "/v1/accounts/me", Some(&ann.token), Some(&body)).is(204);
        }
        wait_until("gone", || {
            let stats = street.ask("GET", "/v1/admin/stats", Some(ADMIN), None).is(200);
            stats.body["users"] == 1 // Bob
        });
        wait_until("off the disk", || !holds(&payloads, own));
        assert!(holds(&payloads, to_bob) && holds(&payloads, from_bob), "these are Bob's, too");
        let login = json!({"handle": ann.name, "password": PASSWORD});
        street.ask("POST", "/v1/sessions", None, Some(&login)).is(401);
    }
    assert!(street.server.stop().success());
    let data = street.server.home.data();
    let verify = std::process::Command::new(env!("CARGO_BIN_EXE_myriad"))
        .args(["log", "verify"])
        .arg(data)
        .output()
        .unwrap();
    let told = String::from_utf8(verify.stdout).unwrap();
    assert!(told.contains("4 records wait for 1 of"), "only Bob's mail waits: {told}");
}

#[test]
fn the_operator_sees_how_many_are_online_and_what_they_write() {
    let street = Street::open();
    let (ann, bob) = (street.person("ann"), street.person("bob"));
    let stats = || street.ask("GET", "/v1/admin/stats", Some(ADMIN), None).is(200).body;
    let number = |stats: &Value, name: &str| stats[name].as_u64().unwrap();
    let before = stats();
    for name in ["sessions", "messages_stored", "messages_delivered"] {
        assert_eq!(number(&before, name), 0, "{before}");
    }
    assert_eq!(number(&before, "users"), 2);
    let mut peers: Vec<_> = [&ann, &bob]
        .into_iter()
        .map(|person| Peer::login(&street.server.url("tcp"), &person.token).unwrap())
        .collect();
    wait_until("two sessions", || number(&stats(), "sessions") == 2);
    post(&street, &ann, &bob.id, 1, "hello");
    crate::support::next_message(&mut peers[1]);
    // Bob got it, and Ann's own device a copy.
    wait_until("counted", || {
        let stats = stats();
        (number(&stats, "messages_stored"), number(&stats, "messages_delivered")) == (1, 2)
    });
    drop(peers.pop());
    wait_until("one session", || number(&stats(), "sessions") == 1);
}
