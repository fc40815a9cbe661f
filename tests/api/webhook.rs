//! The webhook tells what happened, signed, and again until it is heard.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::street::{ADMIN, Street};
use crate::support::WAIT;

const SECRET: &str = "a webhook secret of these tests, long enough";

/// What was posted: signature and body.
type Heard = (String, String);

/// Hears events, and gives each the next of these answers; the last one goes on. The connection
/// ends with its answer.
fn listen(answers: &'static [&'static str]) -> (String, mpsc::Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let last = answers.last().copied().unwrap();
        let answers = answers.iter().copied().chain(std::iter::repeat(last));
        for (stream, answer) in listener.incoming().zip(answers) {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut signature, mut length, mut line) = (String::new(), 0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                match name.to_ascii_lowercase().as_str() {
                    "x-myriad-signature" => signature = value.trim().to_owned(),
                    "content-length" => length = value.trim().parse().unwrap(),
                    _ => {}
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            if tell.send((signature, String::from_utf8(body).unwrap())).is_err() {
                return;
            }
        }
    });
    (url, told)
}

/// A server where anybody may register, which tells events there.
fn street_that_tells(url: &str) -> Street {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let arguments = ["--webhook-url", url, "--webhook-secret-file", secret.to_str().unwrap()];
    Street::open_with(&[&["--registration", "open"][..], &arguments].concat())
}

#[test]
fn an_event_is_told_once_to_a_listener_that_closes_with_its_answer() {
    const PEOPLE: usize = 10;
    let (url, told) = listen(&["HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n"]);
    let street = street_that_tells(&url);
    for nth in 0..PEOPLE {
        street.person(&format!("person{nth}"));
    }
    let id = |heard: Heard| serde_json::from_str::<Value>(&heard.1).unwrap()["id"].clone();
    let mut ids: Vec<Value> =
        (0..PEOPLE).map(|_| id(told.recv_timeout(WAIT).expect("an event"))).collect();
    // What failed would come again a second later.
    while let Ok(again) = told.recv_timeout(Duration::from_millis(2_500)) {
        ids.push(id(again));
    }
    let all = ids.len();
    ids.sort_by_key(ToString::to_string);
    ids.dedup();
    assert_eq!((ids.len(), all), (PEOPLE, PEOPLE), "each once: {ids:?}");
}

#[test]
fn events_are_told_signed_and_again_until_they_are_heard() {
    const HEARD: &str = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";
    const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
    let (url, told) = listen(&[FAILED, HEARD]);
    let street = street_that_tells(&url);
    let ann = street.person("ann");
    let path = format!("/v1/admin/users/{}", ann.id);
    street.ask("DELETE", &path, Some(ADMIN), None).is(204);
    let (mut registered, mut deleted) = (Vec::new(), Vec::new());
    while registered.len() < 2 || deleted.is_empty() {
        let (signature, body) = told.recv_timeout(WAIT).expect("an event");
        let (time, hex) = signature.split_once(",v1=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.{body}", time.strip_prefix("t=").unwrap()).as_bytes());
        let proof = mac.finalize().into_bytes();
        assert_eq!(hex, proof.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let event: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(event["user"], ann.id.as_str(), "{body}");
        match event["type"].as_str().unwrap() {
            "user.registered" => registered.push(event["id"].clone()),
            "user.deleted" => deleted.push(event["id"].clone()),
            other => panic!("{other}"),
        }
    }
    assert_eq!(registered[0], registered[1], "the one that failed comes again as itself");
    assert!(!street.said().contains(SECRET));
}
