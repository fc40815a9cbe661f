//! A full disk: sends are refused by name, acks are still taken, recipients drain, the server stays
//! up, and nothing that was answered with `Sent` is lost, also across a kill -9 on the full disk
//! (I1, I5). Once acks have made room it goes on by itself.
//!
//! Full in two ways: the operator's own limit, and small file systems that really have no room, one
//! in memory and one on a loop device. Deliberately not here: a failing disk (the simulator's).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

mod support;

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use loadgen::process::Home;
use support::raw::{Got, Raw, hello, message};
use support::{QUIET, Server};
use wire::{Confirmed, Parting, Refusal};

const PAYLOAD_BYTES: usize = 64 * 1024;
const MIB: u64 = 1024 * 1024;
/// Longest wait for room after everything was acked.
const ROOM_TIMEOUT: Duration = Duration::from_secs(60);
/// Cursors reach the disk lazily, on a full one after a second, on a busy machine later.
const CURSORS_KEPT: Duration = Duration::from_secs(4);
/// Far more messages than fit.
const MESSAGES_MAX: u64 = 4_000;

/// What was answered with `Sent`: recipient, id.
type Stored = Vec<(u64, u64)>;

fn payload(id: u64) -> Vec<u8> {
    let mut payload = vec![0xa5; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&id.to_le_bytes());
    payload
}

/// Writes to both recipients in turn until the disk is full.
fn fill(ann: &mut Raw, recipients: [u64; 2]) -> (Stored, u64) {
    let mut stored = Vec::new();
    for id in 1..MESSAGES_MAX {
        let to = recipients[(id % 2) as usize];
        let confirmed = Confirmed { base: id - 1, map: 0 };
        let payload = payload(id);
        match ann.ask(wire::Send { confirmed, ..message(id, to, &payload) }) {
            Ok(_) => stored.push((to, id)),
            Err(refused) => {
                assert_eq!((refused.reason, refused.retriable), (Refusal::DiskFull, true));
                assert!(refused.retry_after_ms > 0);
                return (stored, id);
            }
        }
    }
    panic!("{MESSAGES_MAX} messages of {PAYLOAD_BYTES} bytes fit");
}

/// Reads and acks all that is stored for somebody.
fn drain(bob: &mut Raw, stored: &Stored, who: u64) {
    for (_, id) in stored.iter().filter(|(to, _)| *to == who) {
        let (position, got) = bob.delivered();
        assert_eq!(got, payload(*id), "everything that was answered, in order");
        bob.ack(position);
    }
    bob.settle();
    assert!(bob.collect(QUIET).is_empty());
}

/// Waits until the servers of this home have said something on standard error, and counts it.
fn said(server: &Server, what: &str) -> usize {
    let deadline = Instant::now() + ROOM_TIMEOUT;
    loop {
        let log = server.home.log_tail();
        let count = log.matches(what).count();
        if count > 0 {
            return count;
        }
        assert!(Instant::now() < deadline, "{what:?} is not in:\n{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where the operator is told that messages are refused.
const NO_ROOM: &str = "the log has no room: ";
/// And that they are not any more.
const ROOM_AGAIN: &str = "the log has room again";

/// The whole story on a folder that fills up: refused by name, killed on the full disk, drained;
/// `then` is what follows.
fn fills_up_and_survives(
    home: Home,
    shards: usize,
    arguments: &[&str],
    then: impl FnOnce(&Server, &Stored, u64),
) -> (Stored, u64) {
    let mut server = Server::start_in(home, shards, arguments);
    let (now, later) = (2, 3);
    server.provision([now, later, 4]);
    let mut ann = server.raw("ws", 1, 1);
    let (stored, refused_id) = fill(&mut ann, [now, later]);
    println!("{} messages were taken before the disk was full", stored.len());
    assert!(stored.len() > 20, "something fits before it is full");
    assert_eq!(said(&server, NO_ROOM), 1, "once, not with every refusal");
    // Refused for everybody, also small ones, and again.
    let again = payload(refused_id);
    let confirmed = Confirmed { base: refused_id - 1, map: 0 };
    let send = wire::Send { confirmed, ..message(refused_id, later, &again) };
    let to = if refused_id % 2 == 0 { now } else { later };
    assert_eq!(ann.refused(wire::Send { to: wire::Stream::User(to), ..send }), Refusal::DiskFull);
    let mut eve = server.raw("tcp", 4, 1);
    assert_eq!(eve.refused(message(1, now, &payload(1))), Refusal::DiskFull);
    // A device nobody knows has to be noted first: if there is no room for that, it hears so.
    let token = server.token(4, 7);
    let mut stranger = Raw::open(&server.listen(), "ws");
    stranger.send(&wire::ClientFrame::Hello(hello(&token)));
    let answer = stranger.expect("an answer", |_| true);
    let told = matches!(answer, Got::Welcome(_))
        || matches!(answer, Got::Goodbye { reason: Parting::Overloaded, .. });
    assert!(told, "{answer:?}");
    drop(stranger);
    // Acks are taken, and what was stored is read.
    let mut bob = server.raw("tcp", now, 1);
    drain(&mut bob, &stored, now);
    assert!(server.lives());
    bob.collect(CURSORS_KEPT);
    drop((ann, eve, bob));

    server.kill_and_restart();
    said(&server, "no further segment of the log can be had: ");
    let mut bob = server.raw("ws", now, 1);
    assert_eq!(bob.collect(QUIET), [], "acked on a full disk, and kept");
    let mut carl = server.raw("tcp", later, 1);
    drain(&mut carl, &stored, later);
    // A repeat of what was stored is answered with its position, full or not, or as one whose
    // answer was confirmed: the refused message confirmed it.
    let mut ann = server.raw("ws", 1, 1);
    let (to, id) = *stored.last().unwrap();
    let again = ann.ask(message(id, to, &payload(id)));
    let known = again.as_ref().is_err_and(|refused| refused.reason == Refusal::StaleId);
    assert!(again.is_ok() || known, "a repeat of message {id}: {again:?}");
    drop((ann, bob, carl));
    then(&server, &stored, refused_id);
    server.drain_and_restart();
    server.raw("tcp", later, 1).settle();
    assert!(server.lives());
    (stored, refused_id)
}

#[test]
fn slow_a_log_at_its_limit_refuses_by_name_drains_and_goes_on() {
    for shards in [1, 2] {
        let arguments = ["--log-bytes-max", "12582912"];
        fills_up_and_survives(Home::new().unwrap(), shards, &arguments, goes_on);
    }
}

/// A small file system, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
    /// Holds the image of one on a loop device.
    _image: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// In memory. `None`, with the reason printed, where this process may not mount.
    fn in_memory(path: PathBuf, bytes: u64) -> Option<Self> {
        let size = format!("size={bytes},mode=0700");
        Self::mount(path, &["-t", "tmpfs", "-o", &size, "tmpfs"].map(OsString::from), None)
    }

    /// An ext4 in a file. `None`, with the reason printed, where this process may not mount.
    fn on_a_loop_device(path: PathBuf, bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        // Nothing is kept for root: the server may run as root here.
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output();
        if !made.as_ref().is_ok_and(|made| made.status.success()) {
            not_run(&format!("mkfs.ext4 (Debian: e2fsprogs) gave {made:?}"));
            return None;
        }
        Self::mount(path, &["-o".into(), "loop".into(), image.into()], Some(folder))
    }

    fn mount(
        path: PathBuf,
        arguments: &[OsString],
        image: Option<tempfile::TempDir>,
    ) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(&path).output();
        if mounted.as_ref().is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { path, _image: image });
        }
        not_run(&format!("mount {arguments:?} gave {mounted:?}; it needs root"));
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left is about to be killed.
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path.display());
        }
    }
}

/// Says why a test proves nothing here. `MYRIAD_MUST_MOUNT=1` makes that a failure.
fn not_run(why: &str) {
    eprintln!("NOT RUN: no small disk can be mounted here: {why}");
    let must = std::env::var_os("MYRIAD_MUST_MOUNT").is_some_and(|value| value == "1");
    assert!(!must, "MYRIAD_MUST_MOUNT=1: {why}");
}

/// Set in the copy of this program that may mount.
const INSIDE: &str = "MYRIAD_INSIDE_NAMESPACE";

/// Who may not mount in memory may do so in a namespace of their own: plays the test `name` again
/// in one. False: it has to be played here.
fn played_in_a_namespace(name: &str) -> bool {
    let id = Command::new("id").arg("-u").output();
    let is_root = id.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if is_root || std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let here = std::env::current_exe().unwrap();
    let allowed = Command::new("unshare").args(["-rm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return false;
    }
    let played = Command::new("unshare")
        .arg("-rm")
        .arg(here)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(played.unwrap().success(), "{name} failed in a namespace of its own");
    true
}

/// Tries again what was refused until it is taken: acks make room, by themselves and soon.
fn sent_in_the_end(server: &Server, send: wire::Send<'_>) {
    let deadline = Instant::now() + ROOM_TIMEOUT;
    loop {
        // A connection of its own each time: it may be long until there is room.
        match server.raw("tcp", 1, 1).ask(send) {
            Ok(_) => return,
            Err(refused) => {
                let retriable = matches!(refused.reason, Refusal::DiskFull | Refusal::Overloaded);
                assert!(retriable && refused.retriable, "{refused:?}");
                assert!(Instant::now() < deadline, "no room {ROOM_TIMEOUT:?} after all was acked");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// Everything was acked: as much again as fitted is taken, read and acked, without a restart.
fn goes_on(server: &Server, stored: &Stored, first_id: u64) {
    for id in first_id..first_id + stored.len() as u64 {
        let to = stored[0].0;
        let payload = payload(id);
        let confirmed = Confirmed { base: id - 1, map: 0 };
        sent_in_the_end(server, wire::Send { confirmed, ..message(id, to, &payload) });
        let mut reader = server.raw("ws", to, 1);
        let (position, got) = reader.delivered();
        assert_eq!(got, payload);
        reader.ack(position);
        reader.settle();
    }
}

#[test]
fn slow_a_small_disk_fills_drains_and_goes_on_by_itself() {
    if played_in_a_namespace("slow_a_small_disk_fills_drains_and_goes_on_by_itself") {
        return;
    }
    for (shards, bytes) in [(1, 22 * MIB), (2, 30 * MIB)] {
        let home = Home::new().unwrap();
        // Declared before the server, so unmounted after it ended.
        let Some(disk) = SmallDisk::in_memory(home.data(), bytes) else { return };
        let mut server = Server::start_in(home, shards, &[]);
        let (now, later) = (2, 3);
        server.provision([now, later]);
        let mut ann = server.raw("ws", 1, 1);
        let (stored, refused_id) = fill(&mut ann, [now, later]);
        println!("{} messages were taken before the disk was full", stored.len());
        drop(ann);
        assert_eq!(said(&server, NO_ROOM), 1, "once, not with every refusal");
        for who in [now, later] {
            let mut reader = server.raw("tcp", who, 1);
            drain(&mut reader, &stored, who);
        }
        goes_on(&server, &stored, refused_id);
        assert!(server.lives());
        said(&server, ROOM_AGAIN);
        // What the reuse of the room left is a log like any other.
        std::thread::sleep(CURSORS_KEPT);
        server.kill_and_restart();
        for who in [now, later] {
            assert_eq!(server.raw("ws", who, 1).collect(QUIET), [], "acked, and kept");
        }
        drop((server, disk));
    }
}

#[test]
fn slow_a_full_disk_survives_a_kill_and_drains_and_goes_on() {
    for (shards, bytes) in [(1, 24 * MIB), (2, 36 * MIB)] {
        let home = Home::new().unwrap();
        let Some(disk) = SmallDisk::on_a_loop_device(home.data(), bytes) else { return };
        let (stored, refused_id) =
            fills_up_and_survives(home, shards, &[], |server, stored, id| {
                goes_on(server, stored, id);
            });
        println!("{} messages, {refused_id} was refused first", stored.len());
        drop(disk);
    }
}
