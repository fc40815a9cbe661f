//! A full disk: sends are refused by name, acks are still taken, recipients drain, the server stays
//! up, and after a restart nothing that was answered with `Sent` is lost (I1, I5).
//!
//! Full in two ways: the operator's own limit, and a small file system that really has no room.
//! Deliberately not here: a failing disk (the simulator's), and freeing space (a later issue).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

mod support;

use std::path::PathBuf;
use std::process::Command;

use loadgen::process::Home;
use support::raw::{Got, Raw, hello, message};
use support::{QUIET, Server};
use wire::{Confirmed, Parting, Refusal};

const PAYLOAD_BYTES: usize = 64 * 1024;
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

/// The whole story on a folder that fills up.
fn fills_up_and_goes_on(home: Home, shards: usize, arguments: &[&str]) {
    let mut server = Server::start_in(home, shards, arguments);
    let (now, later) = (2, 3);
    server.provision([now, later, 4]);
    let mut ann = server.raw("ws", 1, 1);
    let (stored, refused_id) = fill(&mut ann, [now, later]);
    println!("{} messages were taken before the disk was full", stored.len());
    assert!(stored.len() > 20, "something fits before it is full");
    // Refused for everybody, also small ones, and again.
    let again = payload(refused_id);
    let confirmed = Confirmed { base: refused_id - 1, map: 0 };
    let send = wire::Send { confirmed, ..message(refused_id, later, &again) };
    let to = if refused_id % 2 == 0 { now } else { later };
    assert_eq!(ann.refused(wire::Send { to: wire::Stream::User(to), ..send }), Refusal::DiskFull);
    let mut eve = server.raw("tcp", 4, 1);
    assert_eq!(eve.refused(message(1, now, &payload(1))), Refusal::DiskFull);
    // A device nobody knows has to be noted first: if there is no room for that, it hears so.
    let token = server.token(1, 7);
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
    bob.collect(QUIET); // cursors reach the disk within a moment
    bob.collect(3 * QUIET);
    drop((ann, eve, bob));

    server.kill_and_restart();
    let mut bob = server.raw("ws", now, 1);
    assert_eq!(bob.collect(QUIET), [], "acked on a full disk, and kept");
    let mut carl = server.raw("tcp", later, 1);
    drain(&mut carl, &stored, later);
    // A repeat of what was stored is answered with its position, full or not.
    let mut ann = server.raw("ws", 1, 1);
    let (to, id) = *stored.last().unwrap();
    assert!(ann.ask(message(id, to, &payload(id))).is_ok());
    drop((ann, bob, carl));
    server.drain_and_restart();
    server.raw("tcp", later, 1).settle();
    assert!(server.lives());
}

#[test]
fn a_log_at_its_limit_refuses_by_name_and_drains() {
    for shards in [1, 2] {
        let arguments = ["--log-bytes-max", "12582912"];
        fills_up_and_goes_on(Home::new().unwrap(), shards, &arguments);
    }
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None`, with the reason printed, where this process may not mount.
    fn mount(path: PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={bytes},mode=0700");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { path }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("skipped: no small disk can be mounted here: {said}");
                None
            }
            Err(error) => {
                println!("skipped: no small disk can be mounted here: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left is about to be killed.
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("{} is still mounted", self.path.display());
        }
    }
}

#[test]
fn a_disk_without_room_refuses_by_name_and_drains() {
    for (shards, bytes) in [(1, 15 * 1024 * 1024), (2, 22 * 1024 * 1024)] {
        let home = Home::new().unwrap();
        // Declared before the server, so unmounted after it ended.
        let Some(disk) = SmallDisk::mount(home.data(), bytes) else { return };
        fills_up_and_goes_on(home, shards, &[]);
        drop(disk);
    }
}
