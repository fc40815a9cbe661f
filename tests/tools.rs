//! The operator's tools end to end: the steps of `docs/operations.md`, with the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use loadgen::{ClientEvent, Peer, TickMark};
use support::{Pair, QUIET, Server, next_message, ticked};

const ANN: u64 = 71;
const BOB: u64 = 72;
const CAROL: u64 = 73;
const LARGE_BYTES: usize = 60_000;

/// Runs the program; gives its exit code and what it printed, both streams.
fn myriad(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_myriad")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), text.concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A message of some size that says its number.
fn numbered(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = format!("number {number:06} ").into_bytes();
    payload.resize(bytes, b'.');
    payload
}

fn number_of(payload: &[u8]) -> u32 {
    String::from_utf8_lossy(&payload[7..13]).parse().unwrap()
}

/// Sends and waits for `Sent`.
fn send(from: &mut Peer, to: u64, payload: Vec<u8>) {
    let id = from.send(to, payload).unwrap();
    ticked(from, id, TickMark::Sent);
}

/// Everything that waits for a peer: numbers and positions.
fn mailbox(peer: &mut Peer, count: usize) -> Vec<(u32, u64)> {
    let mail = (0..count).map(|_| next_message(peer));
    mail.map(|(payload, position)| (number_of(&payload), position)).collect()
}

fn nothing_more(peer: &mut Peer) {
    let is_message = |event: &ClientEvent| matches!(event, ClientEvent::Message { .. });
    let more = peer.wait_for(is_message, QUIET);
    assert!(more.is_err(), "one message too many: {more:?}");
}

/// The runbook of a lost disk: backup while messages flow, kill -9, restore, start.
#[test]
fn slow_a_lost_folder_is_restored_from_a_backup_of_the_running_server() {
    let history = ["--history", "--history-default", "permanent"];
    let mut server = Server::start(2, &history);
    server.provision([BOB]);
    let pair = Pair::start(&server, 500);
    let mut ann = server.peer("ws", ANN, 1);
    for number in 0..150 {
        send(&mut ann, BOB, numbered(number, LARGE_BYTES));
    }
    let data = server.home.data();
    let folder = data.parent().unwrap().join("backup");
    let making = std::thread::spawn({
        let (data, folder) = (data.clone(), folder.clone());
        move || myriad(&["backup", text(&folder), "--data", text(&data)])
    });
    for number in 150..200 {
        send(&mut ann, BOB, numbered(number, LARGE_BYTES));
    }
    let (code, told) = making.join().unwrap();
    assert_eq!(code, 0, "{told}");
    for number in 200..220 {
        send(&mut ann, BOB, numbered(number, 100));
    }
    drop(ann);
    pair.finish();
    server.kill();
    fs::remove_dir_all(&data).unwrap();

    let (code, told) = myriad(&["restore", text(&folder), "--data", text(&data)]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("whole") && told.contains("UTC"), "{told}");
    server.start_again();
    let mut bob = server.peer("tcp", BOB, 1);
    let mail = mailbox(&mut bob, 150);
    let mut numbers: Vec<u32> = mail.iter().map(|(number, _)| *number).collect();
    let is_message = |event: &ClientEvent| matches!(event, ClientEvent::Message { .. });
    let mut newest = mail[149].1;
    while let Ok(ClientEvent::Message { payload, position, .. }) = bob.wait_for(is_message, QUIET) {
        numbers.push(number_of(&payload));
        newest = position;
    }
    let count = u32::try_from(numbers.len()).unwrap();
    assert!((150..220).contains(&count), "what was sent before the backup, and not all after");
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "in order, each once");
    let mut ann = server.peer("tcp", ANN, 1);
    send(&mut ann, BOB, numbered(900, 100));
    let (payload, position) = next_message(&mut bob);
    assert_eq!(number_of(&payload), 900);
    assert!(position >> 32 > newest >> 32, "an epoch of its own: no number is given out again");
    assert!(data.join("history/tables.redb").is_file());
    assert!(server.stop().success());
    let (code, told) = myriad(&["log", "verify", text(&data)]);
    assert_eq!(code, 0, "{told}");
}

/// A backup of a stopped folder, and what is refused.
#[test]
fn what_would_overwrite_or_mislead_is_refused() {
    let mut server = Server::start(1, &[]);
    server.provision([BOB]);
    let mut ann = server.peer("tcp", ANN, 1);
    send(&mut ann, BOB, numbered(1, 100));
    drop(ann);
    let data = server.home.data();
    let inside = data.join("backup");
    let (code, told) = myriad(&["backup", text(&inside), "--data", text(&data)]);
    assert!(code == 2 && told.contains("name one outside"), "{told}");
    let mode = fs::metadata(data.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (line, answer) in [
        ("{\"restore\":\"x\"}\n".to_owned(), "not a request"),
        ("{\"backup\":\"relative\"}\n".to_owned(), "full path"),
        ("x".repeat(20_000), "at most 8192 bytes"),
        (String::new(), "a line of JSON"),
    ] {
        let mut socket = UnixStream::connect(data.join("control.sock")).unwrap();
        let _refused_early_is_fine = socket.write_all(line.as_bytes());
        let _closed_already = socket.shutdown(std::net::Shutdown::Write);
        let mut told = String::new();
        let _reset_after_the_answer = socket.read_to_string(&mut told);
        assert!(told.contains(answer), "{line:.30}: {told}");
    }
    assert!(server.stop().success());
    assert!(!data.join("control.sock").exists());

    let folder = data.parent().unwrap().join("backup");
    let (code, told) = myriad(&["backup", text(&folder), "--data", text(&data)]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = myriad(&["backup", text(&folder), "--data", text(&data)]);
    assert!(code == 2 && told.contains("exists"), "{told}");
    let (code, told) = myriad(&["restore", text(&folder), "--data", text(&data)]);
    assert!(code == 2 && told.contains("not empty"), "{told}");
    let copy = data.parent().unwrap().join("copy");
    let segment = fs::read_dir(folder.join("log")).unwrap().next().unwrap().unwrap().path();
    flip(&segment, 5000);
    let (code, told) = myriad(&["restore", text(&folder), "--data", text(&copy)]);
    assert!(code == 1 && told.contains("size or checksum"), "{told}");
    assert!(!copy.exists(), "checked before anything is made");
    flip(&segment, 5000);
    let (code, told) = myriad(&["restore", text(&folder), "--data", text(&copy)]);
    assert!(code == 0 && told.contains("1 records wait for 1 of"), "{told}");
    flip(&folder.join("manifest"), 30);
    let (code, told) = myriad(&["restore", text(&folder), "--data", text(&data.join("new"))]);
    assert!(code == 1 && told.contains("damaged"), "{told}");
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Every place in the log where a text stands.
fn places(data: &Path, what: &[u8]) -> Vec<(PathBuf, u64)> {
    let mut places = Vec::new();
    for entry in fs::read_dir(data.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let hits = bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what);
        places.extend(hits.map(|(at, _)| (path.clone(), at as u64)));
    }
    places
}

/// The runbook of a damaged log: verify, repair into a copy, start; who lost what.
#[test]
fn slow_a_damaged_log_is_repaired_in_a_copy() {
    let mut server = Server::start(2, &[]);
    server.provision([BOB, CAROL]);
    let mut ann = server.peer("tcp", ANN, 1);
    for number in 0..20 {
        send(&mut ann, BOB, numbered(number, 3000));
    }
    // Enough for a checkpoint, acked at once: what waits for Bob lies in an old segment then.
    let mut carol = server.peer("tcp", CAROL, 1);
    for number in 0..450 {
        send(&mut ann, CAROL, numbered(1000 + number, LARGE_BYTES));
        next_message(&mut carol);
    }
    for number in 20..40 {
        send(&mut ann, BOB, numbered(number, 3000));
    }
    drop((ann, carol));
    assert!(server.stop().success());
    let data = server.home.data();
    let (code, told) = myriad(&["log", "verify", text(&data)]);
    assert!(code == 0 && told.contains("40 records wait for 1 of"), "{told}");
    let (_, lines) = myriad(&["log", "inspect", text(&data)]);
    for part in [" begin, 2 shards", " image of shard ", " end of shard ", " complete, 2 shards"] {
        assert!(lines.contains(part), "{part} is not shown");
    }

    let new = data.parent().unwrap().join("repaired");
    an_image_is_beyond_repair(&data, &new, &lines);
    an_old_segment_is_left_out(&data, &new);
    for number in [3_u32, 31] {
        let hits = places(&data, format!("number {number:06} ").as_bytes());
        assert!(!hits.is_empty());
        hits.iter().for_each(|(path, at)| flip(path, *at + 20));
    }
    let before = places(&data, b"MYRIADLG").len();
    let (code, told) = myriad(&["log", "verify", text(&data)]);
    assert!(code == 1 && told.contains(&format!("users concerned: {BOB}")), "{told}");
    let (code, told) = myriad(&["log", "verify", text(&data), "--repair", text(&data)]);
    assert!(code == 2 && told.contains("not empty"), "{told}");
    let (code, told) = myriad(&["log", "verify", text(&data), "--repair", text(&new)]);
    assert!(code == 0 && told.ends_with("whole\n"), "{told}");
    assert_eq!(places(&data, b"MYRIADLG").len(), before, "the original is as it was");
    let list = fs::read_to_string(new.join("repair.txt")).unwrap();
    assert!(list.contains(&format!("of user {BOB}")), "{list}");
    let (code, told) = myriad(&["log", "verify", text(&new)]);
    assert!(code == 0 && told.contains("38 records wait for 1 of"), "{told}");

    fs::remove_dir_all(&data).unwrap();
    fs::rename(&new, &data).unwrap();
    server.start_again();
    let mut bob = server.peer("tcp", BOB, 1);
    let numbers: BTreeSet<u32> =
        mailbox(&mut bob, 38).into_iter().map(|(number, _)| number).collect();
    let expected: BTreeSet<u32> = (0..40).filter(|number| ![3, 31].contains(number)).collect();
    assert_eq!(numbers, expected);
    nothing_more(&mut bob);
    assert!(server.stop().success());
}

/// A piece of the checkpoint a restart begins with can't be guessed: that is said, and no copy
/// passes for a repaired one.
fn an_image_is_beyond_repair(data: &Path, new: &Path, lines: &str) {
    let complete = lines.lines().rfind(|line| line.contains(" complete, ")).unwrap();
    let checkpoint = complete.split(' ').nth(2).unwrap();
    let piece = format!(" checkpoint {checkpoint} image of shard ");
    let piece = lines.lines().rfind(|line| line.contains(&piece)).unwrap();
    let (segment, offset) = piece.split(' ').next().unwrap().split_once(':').unwrap();
    let path = data.join("log").join(format!("log-{:010}.seg", segment.parse::<u32>().unwrap()));
    let offset: u64 = offset.parse().unwrap();
    flip(&path, offset + 100);
    let (code, told) = myriad(&["log", "verify", text(data)]);
    assert!(code == 1 && told.contains("what waits is not known"), "{told}");
    let (code, told) = myriad(&["log", "verify", text(data), "--repair", text(new)]);
    assert!(code == 1 && told.contains("can't be repaired: restore a backup"), "{told}");
    assert!(!new.join("repair.txt").exists());
    fs::remove_dir_all(new).unwrap();
    flip(&path, offset + 100);
    let (code, told) = myriad(&["log", "verify", text(data)]);
    assert_eq!(code, 0, "{told}");
}

/// An old segment whose head is damaged costs what waits in it, and every such message is named.
fn an_old_segment_is_left_out(data: &Path, new: &Path) {
    let (path, _) = places(data, b"number 000003 ").into_iter().max().unwrap();
    flip(&path, 24);
    let (code, told) = myriad(&["log", "verify", text(data)]);
    assert!(code == 1 && told.contains("its head is damaged"), "{told}");
    let (code, told) = myriad(&["log", "verify", text(data), "--repair", text(new)]);
    assert!(code == 0 && told.ends_with("whole\n"), "{told}");
    assert!(told.contains("was left out"), "{told}");
    let lost = told.matches(&format!(" of user {BOB}, from user {ANN}")).count();
    assert_eq!(lost, 20, "{told}");
    assert!(told.contains("20 records wait for 1 of"), "{told}");
    fs::remove_dir_all(new).unwrap();
    flip(&path, 24);
}

/// A program of tomorrow wrote the log: nothing is touched, and the message says what to do.
#[test]
fn a_newer_format_is_refused_with_a_clear_message() {
    let mut server = Server::start(1, &[]);
    assert!(server.stop().success());
    let data = server.home.data();
    for (path, _) in places(&data, b"MYRIADLG") {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&2_u32.to_le_bytes(), 8).unwrap();
    }
    let (code, told) = myriad(&["log", "verify", text(&data)]);
    assert!(code == 2 && told.contains("format version 2"), "{told}");
    assert!(told.contains("use the program that wrote it"), "{told}");
    assert!(server.start_another().is_err());
}
