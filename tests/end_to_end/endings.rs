//! Messages that end before everybody has them: their time is over, or their author deletes them.

use std::path::Path;
use std::time::{Duration, Instant};

use loadgen::client::Outgoing;
use loadgen::{ClientEvent, Peer, TickMark};
use wire::{MessageId, RELATION_DELETE, Relation, Stream};

use crate::support::{QUIET, Server, WAIT, next_message, ticked};

/// How long a payload that nobody waits for may stay on the disk once it was deleted or has
/// expired: what docs/operations.md promises.
const SCRUBBED: Duration = Duration::from_secs(5 * 60);

fn outgoing(payload: &[u8]) -> Outgoing {
    Outgoing {
        to: Stream::User(2),
        payload: payload.to_vec(),
        kind: 0,
        ttl_seconds: 0,
        relation: None,
        automatic: false,
    }
}

fn send(peer: &mut Peer, message: Outgoing) -> u64 {
    let client_id = peer.client.session.send_message(message).unwrap();
    ticked(peer, client_id, TickMark::Sent);
    client_id
}

fn expired(peer: &mut Peer) -> MessageId {
    let is_end = |event: &ClientEvent| matches!(event, ClientEvent::Expired { .. });
    match peer.wait_for(is_end, WAIT).unwrap() {
        ClientEvent::Expired { id } => id,
        _ => unreachable!(),
    }
}

/// Whether any file of the log holds these bytes.
fn is_on_disk(data: &Path, bytes: &[u8]) -> bool {
    let files = std::fs::read_dir(data.join("log")).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

fn wait_until_scrubbed(server: &Server, bytes: &[u8]) {
    let begin = Instant::now();
    while is_on_disk(&server.home.data(), bytes) {
        assert!(begin.elapsed() < SCRUBBED, "still on the disk: {}", server.home.log_tail());
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn slow_what_nobody_fetched_in_time_expires_and_its_sender_is_told_once() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.peer(transport, 1, 1);
        let short = send(&mut ann, Outgoing { ttl_seconds: 1, ..outgoing(b"soon over") });
        let long = send(&mut ann, outgoing(b"stays"));
        let id = expired(&mut ann);
        assert_eq!(id, MessageId { sender: 1, device: 1, client_id: short });
        ann.quiet(QUIET).unwrap();
        // One that ends while its sender is away, and the server dies besides.
        send(&mut ann, Outgoing { ttl_seconds: 2, ..outgoing(b"over while away") });
        ann.drop_connection();
        std::thread::sleep(Duration::from_millis(3_500));
        server.kill_and_restart();
        let mut bob = server.peer(transport, 2, 1);
        assert_eq!(next_message(&mut bob).0, b"stays");
        bob.quiet(QUIET).unwrap();
        assert!(!bob.take_events().iter().any(|it| matches!(it, ClientEvent::Message { .. })));
        ann.reconnect_to(&server.url(transport)).unwrap();
        assert_eq!(expired(&mut ann).client_id, long + 1);
        // Acked: it is not told again.
        ann.quiet(QUIET).unwrap();
        ann.reconnect().unwrap();
        ann.quiet(QUIET).unwrap();
        let again = |event: &ClientEvent| matches!(event, ClientEvent::Expired { .. });
        assert!(!ann.take_events().iter().any(again));
    }
}

#[test]
fn slow_a_deleted_message_reaches_nobody_and_leaves_the_disk() {
    let server = Server::start(2, &[]);
    server.provision([2]);
    let mut ann = server.peer("tcp", 1, 1);
    let secret = b"a secret that Ann regrets: 7f3a91";
    let client_id = send(&mut ann, outgoing(secret));
    let target = MessageId { sender: 1, device: 1, client_id };
    assert!(is_on_disk(&server.home.data(), secret));
    let relation = Some(Relation { kind: RELATION_DELETE, target });
    send(&mut ann, Outgoing { relation, ..outgoing(b"") });
    let mut bob = server.peer("tcp", 2, 1);
    let (payload, _) = next_message(&mut bob);
    assert_eq!(payload, b"", "only the word that it was deleted");
    bob.quiet(QUIET).unwrap();
    assert!(!bob.take_events().iter().any(|it| matches!(it, ClientEvent::Message { .. })));
    wait_until_scrubbed(&server, secret);
    // And what stood beside it is whole.
    let client_id = bob.send(1, b"understood").unwrap();
    ticked(&mut bob, client_id, TickMark::Sent);
    assert_eq!(next_message(&mut ann).0, b"understood");
}

/// The segment holds mail of both shards, and the server forgets what it was about to do.
#[test]
fn slow_a_deletion_outlives_a_restart_and_mail_that_others_wait_for() {
    let mut server = Server::start(2, &[]);
    server.provision(2..12);
    let mut ann = server.peer("tcp", 1, 1);
    for user in 3..12 {
        send(&mut ann, Outgoing { to: Stream::User(user), ..outgoing(b"somebody waits for this") });
    }
    let secret = b"a secret that Ann regrets: 0b51c2";
    let client_id = send(&mut ann, outgoing(secret));
    let target = MessageId { sender: 1, device: 1, client_id };
    let relation = Some(Relation { kind: RELATION_DELETE, target });
    send(&mut ann, Outgoing { relation, ..outgoing(b"") });
    drop(ann);
    server.kill_and_restart();
    wait_until_scrubbed(&server, secret);
    for user in 3..12 {
        let mut reader = server.peer("ws", user, 1);
        assert_eq!(next_message(&mut reader).0, b"somebody waits for this");
    }
}

/// An offline queue sends both at once: what is to be deleted is not durable yet.
#[test]
fn a_deletion_right_behind_its_message_finds_it() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.peer(transport, 1, 1);
        for _ in 0..20 {
            let session = &mut ann.client.session;
            let client_id = session.send_message(outgoing(b"said too soon")).unwrap();
            let target = MessageId { sender: 1, device: 1, client_id };
            let relation = Some(Relation { kind: RELATION_DELETE, target });
            let last = session.send_message(Outgoing { relation, ..outgoing(b"") }).unwrap();
            ticked(&mut ann, last, TickMark::Sent);
        }
        let mut bob = server.peer(transport, 2, 1);
        for _ in 0..20 {
            assert_eq!(next_message(&mut bob).0, b"", "only the word that it was deleted");
        }
        bob.quiet(QUIET).unwrap();
        assert!(!bob.take_events().iter().any(|it| matches!(it, ClientEvent::Message { .. })));
    }
}

#[test]
fn only_its_author_deletes_a_message() {
    let server = Server::start(1, &[]);
    server.provision([2]);
    let mut ann = server.peer("tcp", 1, 1);
    let mut eve = server.peer("tcp", 3, 1);
    let client_id = send(&mut ann, outgoing(b"from Ann"));
    let target = MessageId { sender: 1, device: 1, client_id };
    let relation = Some(Relation { kind: RELATION_DELETE, target });
    send(&mut eve, Outgoing { relation, ..outgoing(b"away with it") });
    let mut bob = server.peer("tcp", 2, 1);
    assert_eq!(next_message(&mut bob).0, b"from Ann");
    assert_eq!(next_message(&mut bob).0, b"away with it");
}
