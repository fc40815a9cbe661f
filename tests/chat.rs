//! The terminal client as a person or a script has it: lines in, lines out, against a real server.
//!
//! Deliberately not here: what the lines look like in colour, and the rules behind them
//! (`wire::client`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

mod support;

use std::path::Path;
use std::process::Command;

use support::Server;
use support::terminal::Terminal;

fn open(server: &Server, user: u64, to: u64, state: Option<&Path>) -> Terminal {
    let token = server.token(user, 1);
    open_at(&server.url("ws"), &token, to, state)
}

fn open_at(url: &str, token: &str, to: u64, state: Option<&Path>) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_myriad"));
    command.args(["chat", "--server", url, "--token", token, "--to", &to.to_string()]);
    if let Some(state) = state {
        command.arg("--state").arg(state);
    }
    Terminal::of(command)
}

#[test]
fn two_terminals_see_messages_ticks_typing_and_presence() {
    let server = Server::start(2, &[]);
    server.provision([1, 2]);
    let mut ann = open(&server, 1, 2, None);
    ann.expect("connected");
    let mut bob = open(&server, 2, 1, None);
    bob.expect("connected");
    bob.expect("1 is online");
    ann.expect("2 is online");
    bob.write("/typing");
    ann.expect("2 is typing");
    ann.write("hello bob");
    bob.expect("1: hello bob");
    for tick in ["✓ sent: hello bob", "✓✓ delivered: hello bob", "✓✓ read: hello bob"] {
        ann.expect(tick);
    }
    bob.write("/dance");
    bob.expect("no command /dance");
    bob.write("/quit");
    assert!(bob.end().success());
    ann.expect("2 was last seen");
    assert!(ann.end().success());
}

#[test]
fn what_was_written_while_the_server_was_away_leaves_later() {
    let mut server = Server::start(1, &[]);
    server.provision([1, 2]);
    let state = server.home.data().with_file_name("ann.json");
    let (url, token) = (server.url("tcp"), server.token(1, 1));
    server.stop();
    let mut ann = open_at(&url, &token, 2, Some(&state));
    ann.expect("can't connect");
    ann.write("first");
    ann.write("second");
    assert!(ann.end().success(), "it is kept, so nothing is lost");

    let again = server.start_another().unwrap();
    let mut bob = open_at(&again.url("ws"), &server.token(2, 1), 1, None);
    bob.expect("connected");
    let mut ann = open_at(&again.url("ws"), &token, 2, Some(&state));
    ann.expect("2 messages wait in the outbox");
    ann.expect("✓✓ read: second");
    assert!(ann.end().success());
    bob.expect("1: second");
    let place = |words: &str| bob.seen.iter().position(|line| line.contains(words));
    assert!(place("1: first") < place("1: second"), "{:#?}", bob.seen);
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    // A port of our own that the server can have twice.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut server = Server::start(1, &["--listen", &listen]);
    server.provision([2]);
    let mut ann = open(&server, 1, 2, None);
    ann.expect("connected");
    server.drain_and_restart();
    ann.expect("the server says goodbye: shutdown");
    ann.write("still there?");
    ann.expect("✓ sent: still there?");
    assert!(ann.end().success());
}

#[test]
fn a_token_nobody_accepts_ends_the_client_with_a_reason() {
    let server = Server::start(1, &[]);
    let token = support::token_signed(&[7; 32], 1, 1, support::now_s() + 3600);
    let ann = open_at(&server.url("ws"), &token, 2, None);
    assert_eq!(ann.ended().code(), Some(1), "though its input goes on");
}
