//! Who is here, who was, who types.

use std::time::Duration;

use loadgen::{ClientEvent, Peer};

use crate::support::{QUIET, Server, WAIT, now_s};

/// What the server says next about this user: online, and last seen in seconds since 1970.
fn presence_of(peer: &mut Peer, user: u64) -> (bool, u64) {
    let is_it = |event: &ClientEvent| match event {
        ClientEvent::Presence { user: about, .. } => *about == user,
        _ => false,
    };
    match peer.wait_for(is_it, WAIT).unwrap() {
        ClientEvent::Presence { online, last_seen_ms, .. } => (online, last_seen_ms / 1000),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn who_comes_goes_and_was_seen_is_told_to_who_watches() {
    for (shards, transport) in [(1, "ws"), (2, "tcp"), (2, "ws")] {
        let mut server = Server::start(shards, &[]);
        let mut ann = server.peer(transport, 1, 1);
        ann.watch(&[2, 3]).unwrap();
        assert_eq!(presence_of(&mut ann, 2), (false, 0), "nobody yet");
        let began = now_s();
        let mut bob = server.peer(transport, 2, 1);
        ann.watch(&[2]).unwrap();
        assert!(presence_of(&mut ann, 2).0, "bob is here");
        bob.client.close();
        let (online, seen) = presence_of(&mut ann, 2);
        assert!(!online, "bob went away");
        assert!((began..=now_s()).contains(&seen), "seen at {seen}, between {began} and now");
        drop(ann);
        // Kept over an orderly end exactly, over a kill to within 30 s.
        server.drain_and_restart();
        let mut ann = server.peer(transport, 1, 1);
        ann.watch(&[2]).unwrap();
        assert_eq!(presence_of(&mut ann, 2), (false, seen));
        server.kill_and_restart();
        let mut ann = server.peer(transport, 1, 1);
        ann.watch(&[2]).unwrap();
        let (online, after_kill) = presence_of(&mut ann, 2);
        assert!(!online && after_kill.abs_diff(seen) <= 30, "{after_kill}, not about {seen}");
    }
}

#[test]
fn slow_who_only_keeps_the_app_open_is_not_online_for_long() {
    let server = Server::start(2, &["--heartbeat-ms", "1000"]);
    let mut ann = server.peer("ws", 1, 1);
    let mut bob = server.peer("tcp", 2, 1);
    ann.watch(&[2]).unwrap();
    assert!(presence_of(&mut ann, 2).0);
    bob.client.session.set_active(false);
    let bob = std::thread::spawn(move || {
        bob.quiet(Duration::from_secs(9)).unwrap();
        bob.typing(1, false).unwrap();
        bob.quiet(QUIET).unwrap();
        bob
    });
    // 5 s and one and a half intervals after the last deed.
    assert!(!presence_of(&mut ann, 2).0);
    assert!(presence_of(&mut ann, 2).0, "a deed");
    bob.join().unwrap();
}

#[test]
fn typing_is_shown_at_once_and_never_stored() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &[]);
        let mut bob = server.peer(transport, 2, 1);
        let mut ann = server.peer(transport, 1, 1);
        for stopped in [false, true] {
            ann.typing(2, stopped).unwrap();
            let event = ClientEvent::Typing { user: 1, stopped };
            bob.wait_for(|it| *it == event, WAIT).unwrap();
        }
        bob.client.close();
        ann.typing(2, false).unwrap();
        ann.quiet(QUIET).unwrap();
        let mut bob = server.peer(transport, 2, 1);
        bob.quiet(QUIET).unwrap();
        assert!(bob.take_events().is_empty());
    }
}
