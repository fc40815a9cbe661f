//! The command line of `run`: what is wrong with the arguments is one line, and exit code 2.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test")]

use std::io::Read as _;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const TARGET: [&str; 2] = ["--target", "tcp://127.0.0.1:9"];

/// Runs it; gives its exit code and standard error.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_myriad-loadgen"))
        .arg("run")
        .args(arguments)
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn with(first: &[&str]) -> (i32, String) {
    run(&[first, &TARGET].concat())
}

#[test]
fn wrong_arguments_say_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "name = \"a\"\nabout = \"b\"\n[[phases]]\nsecs = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789012345678901234567890123456789").unwrap();
    let secret = secret.to_str().unwrap();
    for (arguments, parts) in [
        (&["no-such"][..], &["`no-such`", "storm"][..]),
        (&["no-such.toml"], &["can't read no-such.toml"]),
        (&[file], &["wrong.toml:4:", "`secs`", "`seconds`"]),
        (&["chat", "--rate=-1"], &["--rate"]),
        (&["chat", "--sessions", "1"], &["at least 2"]),
        (&["chat", "--sessions", "-1"], &["--sessions", "1.."]),
        (&["chat", "--server-pid", "999999999"], &["--server-pid", "no such process"]),
        (&["chat", "--json", "no/such/a.json"], &["--json no/such/a.json can't be written"]),
        (&["chat", "--html", "."], &["--html . can't be written"]),
        (&["chat", "--json", "a", "--html", "a"], &["the same file"]),
        (&["chat"], &["--auth-secret-file"]),
        (&["chat", "--auth-secret-file", "no-such"], &["can't read the secret no-such"]),
        (&["group", "--auth-secret-file", secret], &["--api-listen", "give --api http://"]),
        (&["group", "--sessions", "20"], &["groups.members = 25: 2 to 20"]),
    ] {
        let (code, said) = with(arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {said} lacks {part}");
        }
    }
}

#[test]
fn a_server_that_never_answers_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789012345678901234567890123456789").unwrap();
    let scenario = folder.path().join("short.toml");
    let text = "name = \"a\"\nabout = \"b\"\nphases = [{ name = \"p\", seconds = 1 }]\n\
                [clients]\nconnect_timeout_seconds = 1\n";
    std::fs::write(&scenario, text).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("ws://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read_to_end(&mut Vec::new()); // hears all and says nothing
    });
    let started = Instant::now();
    let (code, said) = run(&[
        scenario.to_str().unwrap(),
        "--target",
        &target,
        "--auth-secret-file",
        secret.to_str().unwrap(),
    ]);
    assert_eq!(code, 1, "{said}");
    let words = "no answer to the login within 1s: is what listens there a server of myriad";
    assert!(said.contains(words), "{said}");
    assert!(started.elapsed() < Duration::from_secs(10));
}
