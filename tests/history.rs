//! History end to end: a real server, real sockets, real files.
//!
//! What a test says is gone is looked for in every file of the folder of history.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use loadgen::process::Home;
use loadgen::{ClientEvent, Peer, TickMark};
use myriad::limits::HISTORY_SWEEP_MS;
use myriad::log::{FileStore, Kind, Lane, Record, Settings, Step, Wake, next_epoch, recover};
use myriad::path::STREAM_USER;
use support::{Server, TRANSPORTS, WAIT, next_message, now_s, ticked};
use wire::client::Outgoing;
use wire::{Conversation, MessageId, RELATION_DELETE, Refusal, Relation, Retention, Stream};

const ANN: u64 = 71;
const BOB: u64 = 72;
/// How soon a payload must be gone (`docs/protocol.md`, "Gone from the disk").
const GONE: Duration = Duration::from_secs(10);

const PERMANENT: [&str; 3] = ["--history", "--history-default", "permanent"];

/// An item as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    number: u64,
    id: MessageId,
    position: u64,
    payload: Vec<u8>,
    deleted: bool,
}

/// Asks for one page.
fn page(peer: &mut Peer, with: u64, from: u64, forwards: bool, limit: u32) -> (Vec<Kept>, bool) {
    let session = &mut peer.client.session;
    let asked = session.fetch(Stream::User(with), from, forwards, limit).unwrap();
    peer.client.flush().unwrap();
    let mut items = Vec::new();
    loop {
        let answer = peer.wait_for(is_history, WAIT).unwrap();
        match answer {
            ClientEvent::Item { request, number, id, position, payload, deleted, .. } => {
                assert_eq!(request, asked);
                items.push(Kept { number, id, position, payload, deleted });
            }
            ClientEvent::Fetched(fetched) => {
                assert_eq!((fetched.request, fetched.count as usize), (asked, items.len()));
                return (items, fetched.more);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn is_history(event: &ClientEvent) -> bool {
    matches!(
        event,
        ClientEvent::Item { .. } | ClientEvent::Fetched(_) | ClientEvent::RequestRefused(_)
    )
}

/// The whole conversation, oldest first.
fn all(peer: &mut Peer, with: u64) -> Vec<Kept> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let (items, more) = page(peer, with, from, true, 0);
        from = items.last().map_or(from, |item| item.number);
        all.extend(items);
        if !more {
            return all;
        }
    }
}

/// History follows a moment later: asks until `wanted` is true.
fn until(peer: &mut Peer, with: u64, wanted: impl Fn(&[Kept]) -> bool) -> Vec<Kept> {
    let deadline = Instant::now() + WAIT;
    loop {
        let items = all(peer, with);
        if wanted(&items) {
            return items;
        }
        assert!(Instant::now() < deadline, "history holds {items:?}");
        peer.quiet(Duration::from_millis(50)).unwrap();
    }
}

fn conversations(peer: &mut Peer) -> Vec<Conversation> {
    let asked = peer.client.session.list_conversations(0, 0).unwrap();
    peer.client.flush().unwrap();
    let mut list = Vec::new();
    loop {
        let is_list = |event: &ClientEvent| {
            matches!(event, ClientEvent::Conversation(_) | ClientEvent::Conversations(_))
        };
        match peer.wait_for(is_list, WAIT).unwrap() {
            ClientEvent::Conversation(conversation) if conversation.request == asked => {
                list.push(conversation);
            }
            ClientEvent::Conversations(end) => {
                assert_eq!((end.request, end.count as usize), (asked, list.len()));
                return list;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Waits for a state of the conversation with a peer.
fn conversation(
    peer: &mut Peer,
    with: u64,
    wanted: impl Fn(&Conversation) -> bool,
) -> Conversation {
    let deadline = Instant::now() + WAIT;
    loop {
        let list = conversations(peer);
        let found = list.iter().find(|c| c.stream == Stream::User(with));
        if let Some(found) = found.filter(|found| wanted(found)) {
            return *found;
        }
        assert!(Instant::now() < deadline, "the conversations are {list:?}");
        peer.quiet(Duration::from_millis(50)).unwrap();
    }
}

/// Chooses a retention and waits for the answer.
fn retain(peer: &mut Peer, with: u64, retention: Retention) {
    let asked = peer.client.session.set_retention(Stream::User(with), retention).unwrap();
    peer.client.flush().unwrap();
    let is_it =
        |event: &ClientEvent| matches!(event, ClientEvent::Conversation(c) if c.request == asked);
    match peer.wait_for(is_it, WAIT).unwrap() {
        ClientEvent::Conversation(state) => assert_eq!(state.retention, retention),
        other => panic!("{other:?}"),
    }
}

/// Sends, waits until both have it durably and acked.
fn say(from: &mut Peer, to: &mut Peer, to_user: u64, payload: &str) -> u64 {
    let client_id = from.send(to_user, payload).unwrap();
    assert_eq!(next_message(to).0, payload.as_bytes());
    ticked(from, client_id, TickMark::Sent);
    ticked(from, client_id, TickMark::Has);
    client_id
}

/// The author deletes a message for everybody.
fn delete(author: &mut Peer, to: u64, sender: u64, client_id: u64) -> u64 {
    let target = MessageId { sender, device: 1, client_id };
    let outgoing = Outgoing {
        to: Stream::User(to),
        payload: Vec::new(),
        kind: 0,
        ttl_seconds: 0,
        relation: Some(Relation { kind: RELATION_DELETE, target }),
        automatic: false,
    };
    let id = author.client.session.send_message(outgoing).unwrap();
    author.client.flush().unwrap();
    ticked(author, id, TickMark::Sent);
    id
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Files of history in which this text can be found.
fn holds(server: &Server, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&server.home.data().join("history"), &mut found);
    assert!(found.len() >= 2, "{found:?}");
    found.retain(|path| {
        // A file may go between the listing and the reading.
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    });
    found
}

/// Waits until no file of history holds this text.
fn gone(server: &Server, text: &str) {
    let deadline = Instant::now() + GONE;
    while !holds(server, text).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", holds(server, text));
        thread::sleep(Duration::from_millis(50));
    }
}

fn texts(items: &[Kept]) -> Vec<String> {
    items.iter().map(|item| String::from_utf8_lossy(&item.payload).into_owned()).collect()
}

#[test]
fn what_everybody_acked_can_be_read_again_in_pages_both_ways() {
    for (shards, transport) in [1, 2].into_iter().zip(TRANSPORTS) {
        let server = Server::start(shards, &PERMANENT);
        let mut ann = server.peer(transport, ANN, 1);
        let mut bob = server.peer(transport, BOB, 1);
        let mut said = Vec::new();
        for n in 0..7 {
            let text = format!("message {n}");
            if n % 2 == 0 {
                say(&mut ann, &mut bob, BOB, &text);
            } else {
                say(&mut bob, &mut ann, ANN, &text);
            }
            said.push(text);
        }
        for (peer, with) in [(&mut ann, BOB), (&mut bob, ANN)] {
            let items = until(peer, with, |items| items.len() == 7);
            assert_eq!(texts(&items), said);
            let numbers: Vec<u64> = items.iter().map(|item| item.number).collect();
            assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
            assert!(items.iter().enumerate().all(|(n, item)| {
                item.id.sender == if n % 2 == 0 { ANN } else { BOB } && item.position > 0
            }));
            let (newest, more) = page(peer, with, 0, false, 3);
            assert_eq!((texts(&newest), more), (rev(&said[4..]), true));
            let (older, more) = page(peer, with, newest[2].number, false, 100);
            assert_eq!((texts(&older), more), (rev(&said[..4]), false));
            let (forwards, more) = page(peer, with, 2, true, 2);
            assert_eq!((texts(&forwards), more), (said[2..4].to_vec(), true));
        }
        assert_eq!(all(&mut ann, 99), [], "nobody wrote there");
    }
}

fn rev(texts: &[String]) -> Vec<String> {
    texts.iter().rev().cloned().collect()
}

#[test]
fn a_page_ends_at_its_bytes_and_a_large_message_still_comes() {
    let server = Server::start(1, &PERMANENT);
    let mut ann = server.peer("tcp", ANN, 1);
    let mut bob = server.peer("tcp", BOB, 1);
    let large = "x".repeat(60_000);
    for _ in 0..3 {
        say(&mut ann, &mut bob, BOB, &large);
    }
    until(&mut bob, ANN, |items| items.len() == 3);
    let (items, more) = page(&mut bob, ANN, 0, true, 100);
    assert_eq!((items.len(), more), (1, true));
}

#[test]
fn unread_messages_are_counted_after_a_login_and_after_reading() {
    let server = Server::start(2, &PERMANENT);
    server.provision([BOB]);
    let mut ann = server.peer("ws", ANN, 1);
    for n in 0..5 {
        let id = ann.send(BOB, format!("unread {n}")).unwrap();
        ticked(&mut ann, id, TickMark::Sent);
    }
    let mut bob = server.peer("ws", BOB, 1);
    let state = conversation(&mut bob, ANN, |state| state.last == 5);
    assert_eq!((state.unread, state.retention), (5, Retention::Permanent));
    assert!(state.time_ms > 0);
    let positions: Vec<u64> = (0..5).map(|_| next_message(&mut bob).1).collect();
    bob.read(ANN, positions[2]).unwrap();
    conversation(&mut bob, ANN, |state| state.unread == 2);
    bob.read(ANN, positions[4]).unwrap();
    conversation(&mut bob, ANN, |state| state.unread == 0);
    let own = conversation(&mut ann, BOB, |state| state.last == 5);
    assert_eq!(own.unread, 0, "what one wrote oneself is read");
}

#[test]
fn a_temporary_conversation_ends_and_its_payloads_are_gone_from_the_files() {
    let server = Server::start(1, &PERMANENT);
    let mut ann = server.peer("ws", ANN, 1);
    let mut bob = server.peer("tcp", BOB, 1);
    // On both sides: who keeps a copy keeps it.
    retain(&mut ann, BOB, Retention::Seconds(4));
    retain(&mut bob, ANN, Retention::Seconds(4));
    say(&mut ann, &mut bob, BOB, "gone-with-the-time");
    let items = until(&mut bob, ANN, |items| items.len() == 1);
    assert_eq!(texts(&items), ["gone-with-the-time"]);
    assert_ne!(holds(&server, "gone-with-the-time"), Vec::<PathBuf>::new());
    thread::sleep(Duration::from_secs(4));
    assert_eq!(all(&mut bob, ANN), [], "nobody is told what ended");
    gone(&server, "gone-with-the-time");
    assert_eq!(conversation(&mut bob, ANN, |_| true).unread, 0);
}

#[test]
fn the_others_side_is_the_others_business() {
    let server = Server::start(1, &PERMANENT);
    let mut ann = server.peer("ws", ANN, 1);
    let mut bob = server.peer("tcp", BOB, 1);
    say(&mut ann, &mut bob, BOB, "one-side-only");
    until(&mut bob, ANN, |items| items.len() == 1);
    retain(&mut ann, BOB, Retention::UntilAcked);
    assert_eq!(all(&mut ann, BOB), [], "a shorter retention removes at once");
    assert_eq!(texts(&all(&mut bob, ANN)), ["one-side-only"]);
    assert_ne!(holds(&server, "one-side-only"), Vec::<PathBuf>::new());
    retain(&mut bob, ANN, Retention::UntilAcked);
    gone(&server, "one-side-only");
}

#[test]
fn a_change_of_retention_is_told_to_the_other_devices_and_survives_a_crash() {
    let mut server = Server::start(2, &["--history"]);
    let mut phone = server.peer("ws", ANN, 1);
    let mut tablet = server.peer("ws", ANN, 2);
    retain(&mut phone, BOB, Retention::Seconds(86_400));
    let is_news = |event: &ClientEvent| matches!(event, ClientEvent::Conversation(_));
    match tablet.wait_for(is_news, WAIT).unwrap() {
        ClientEvent::Conversation(state) => {
            assert_eq!((state.request, state.retention), (0, Retention::Seconds(86_400)));
        }
        other => panic!("{other:?}"),
    }
    server.kill_and_restart();
    phone.reconnect_to(&server.url("ws")).unwrap();
    let state = conversation(&mut phone, BOB, |_| true);
    assert_eq!(state.retention, Retention::Seconds(86_400));
}

#[test]
fn nothing_is_kept_beyond_the_acks_unless_somebody_chose_so() {
    let server = Server::start(1, &["--history"]);
    let mut ann = server.peer("ws", ANN, 1);
    let mut bob = server.peer("tcp", BOB, 1);
    retain(&mut bob, ANN, Retention::Permanent);
    say(&mut ann, &mut bob, BOB, "kept by bob");
    until(&mut bob, ANN, |items| items.len() == 1);
    assert_eq!(all(&mut ann, BOB), []);
    assert_eq!(conversations(&mut ann), []);
}

#[test]
fn what_its_author_deletes_is_gone_on_both_sides_and_from_the_files() {
    let server = Server::start(2, &PERMANENT);
    let mut ann = server.peer("ws", ANN, 1);
    let mut bob = server.peer("tcp", BOB, 1);
    let first = say(&mut ann, &mut bob, BOB, "never-said-that");
    say(&mut ann, &mut bob, BOB, "said-that");
    until(&mut bob, ANN, |items| items.len() == 2);
    assert_ne!(holds(&server, "never-said-that"), Vec::<PathBuf>::new());
    // Not the author: a message like others.
    delete(&mut bob, ANN, ANN, first);
    let items = until(&mut bob, ANN, |items| items.len() == 3);
    assert!(items.iter().all(|item| !item.deleted));
    delete(&mut ann, BOB, ANN, first);
    for (peer, with) in [(&mut ann, BOB), (&mut bob, ANN)] {
        let items = until(peer, with, |items| items.iter().any(|item| item.deleted));
        assert_eq!(items.len(), 3, "the deletion itself is no item");
        assert_eq!((items[0].deleted, items[0].payload.len()), (true, 0));
        assert_eq!(items[0].id, MessageId { sender: ANN, device: 1, client_id: first });
        assert_eq!(texts(&items)[1], "said-that");
    }
    gone(&server, "never-said-that");
    assert_ne!(holds(&server, "said-that"), Vec::<PathBuf>::new());
}

#[test]
fn a_killed_server_keeps_everything_exactly_once() {
    let mut server = Server::start(2, &PERMANENT);
    server.provision([BOB]);
    let mut ann = server.peer("tcp", ANN, 1);
    let mut said = Vec::new();
    for round in 0..6 {
        for n in 0..200 {
            let text = format!("round {round} message {n}");
            let id = ann.send(BOB, &text).unwrap();
            said.push(text);
            if n % 50 == 49 {
                ticked(&mut ann, id, TickMark::Sent);
            }
        }
        // Anywhere: while it reads, writes, or between.
        thread::sleep(Duration::from_millis(round * 37));
        server.kill_and_restart();
        ann.reconnect_to(&server.url("tcp")).unwrap();
    }
    let items = until(&mut ann, BOB, |items| items.len() >= said.len());
    assert_eq!(texts(&items), said);
    let mut bob = server.peer("tcp", BOB, 1);
    let items = until(&mut bob, ANN, |items| items.len() >= said.len());
    assert_eq!(texts(&items), said);
    let numbers: Vec<u64> = items.iter().map(|item| item.number).collect();
    assert_eq!(numbers, (1..=said.len() as u64).collect::<Vec<_>>());
}

#[test]
fn history_that_is_switched_on_later_begins_with_what_the_log_has() {
    let mut server = Server::start(1, &[]);
    let mut ann = server.peer("ws", ANN, 1);
    server.provision([BOB]);
    let id = ann.send(BOB, "from before").unwrap();
    ticked(&mut ann, id, TickMark::Sent);
    server.restart_with_arguments(&PERMANENT);
    ann.reconnect_to(&server.url("ws")).unwrap();
    let items = until(&mut ann, BOB, |items| items.len() == 1);
    assert_eq!(texts(&items), ["from before"]);
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Writes a log as a server left it so long ago: Ann wrote to Bob.
fn write_old_log(data: &Path, age: Duration, text: &str) {
    let time_ms = now_s() * 1000 - u64::try_from(age.as_millis()).unwrap();
    let settings = Settings { segment_bytes: 4 * 1024 * 1024, ..Settings::default() };
    let store = FileStore::open(data).unwrap();
    let (recovered, _) = recover(store, &settings, &mut |_, _| {}).unwrap();
    let epoch = next_epoch(recovered.highest_epoch, time_ms);
    let (mut stages, mut committer) = recovered.start(epoch, vec![Arc::new(NoWake)]).unwrap();
    let record = Record {
        stream_kind: STREAM_USER,
        stream: BOB,
        sender: ANN,
        device: 1,
        client_id: 1,
        position: u64::from(epoch) << 32 | 1,
        time_ms,
        payload: text.as_bytes(),
        ..Record::blank(Kind::Message)
    };
    stages[0].append(Lane::Message, &record).unwrap();
    stages[0].flush();
    assert!(matches!(committer.step(10_000_000), Step::Committed { .. }));
    stages[0].committed().unwrap();
}

#[test]
fn a_clock_that_is_far_ahead_at_the_start_erases_no_history_until_it_is_confirmed() {
    let keeps = ["--history", "--history-default", "30d"];
    let day = Duration::from_secs(24 * 3_600);
    let text = "from long ago";
    let home = Home::new().unwrap();
    // For the server it is the same whether its clock is 40 days ahead or its log 40 days old.
    write_old_log(&home.data(), 40 * day, text);
    let untouched = home.data().with_extension("copy");
    copy_folder(&home.data(), &untouched);
    let mut server = Server::start_in(home, 1, &keeps);
    assert!(server.home.log_tail().contains("Nothing expires"), "{}", server.home.log_tail());
    let mut ann = server.peer("tcp", ANN, 1);
    let items = until(&mut ann, BOB, |items| items.len() == 1);
    assert_eq!(texts(&items), [text]);
    thread::sleep(3 * Duration::from_millis(HISTORY_SWEEP_MS));
    assert_eq!(texts(&all(&mut ann, BOB)), [text]);
    assert_ne!(holds(&server, text), Vec::<PathBuf>::new());
    // What was stored since has the time of that clock, and does not vouch for it.
    server.kill_and_restart();
    ann.reconnect_to(&server.url("tcp")).unwrap();
    thread::sleep(3 * Duration::from_millis(HISTORY_SWEEP_MS));
    assert_eq!(texts(&all(&mut ann, BOB)), [text]);
    drop(ann);
    // Held by nothing but that: the same log, and an operator who says the clock is right.
    server.kill();
    std::fs::remove_dir_all(server.home.data()).unwrap();
    std::fs::rename(&untouched, server.home.data()).unwrap();
    server.start_again_with(&[&keeps[..], &["--clock-confirmed"]].concat());
    let mut ann = server.peer("tcp", ANN, 1);
    conversation(&mut ann, BOB, |state| state.last == 1);
    assert_eq!(all(&mut ann, BOB), [], "it had ended before history read it");
    gone(&server, text);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn without_history_questions_are_refused_for_good() {
    let server = Server::start(1, &[]);
    let mut ann = server.peer("ws", ANN, 1);
    let session = &mut ann.client.session;
    let asked = [
        session.fetch(Stream::User(BOB), 0, false, 0).unwrap(),
        session.list_conversations(0, 0).unwrap(),
        session.set_retention(Stream::User(BOB), Retention::Permanent).unwrap(),
    ];
    ann.client.flush().unwrap();
    for request in asked {
        match ann.wait_for(is_history, WAIT).unwrap() {
            ClientEvent::RequestRefused(refused) => {
                assert_eq!((refused.request, refused.reason), (request, Refusal::NotSupported));
                assert!(!refused.retriable);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!server.home.data().join("history").exists());
}

#[test]
fn groups_and_wild_retentions_are_refused_and_too_many_questions_end_the_session() {
    let server = Server::start(1, &PERMANENT);
    let mut ann = server.peer("ws", ANN, 1);
    let session = &mut ann.client.session;
    session.fetch(Stream::Group(5), 0, false, 0).unwrap();
    session.set_retention(Stream::User(BOB), Retention::Seconds(u32::MAX)).unwrap();
    ann.client.flush().unwrap();
    for reason in [Refusal::NotMember, Refusal::Invalid] {
        match ann.wait_for(is_history, WAIT).unwrap() {
            ClientEvent::RequestRefused(refused) => assert_eq!(refused.reason, reason),
            other => panic!("{other:?}"),
        }
    }
    let mut asked = 0;
    while ann.client.is_connected() && asked < 10_000 {
        while ann.client.session.list_conversations(0, 0).is_ok() {
            asked += 1;
        }
        if ann.pump(Duration::from_millis(1)).is_err() {
            break;
        }
    }
    let is_goodbye = |event: &ClientEvent| matches!(event, ClientEvent::Goodbye { .. });
    let goodbye = ann.take_events().into_iter().find(is_goodbye);
    let Some(ClientEvent::Goodbye { reason, .. }) = goodbye else { panic!("asked {asked}") };
    assert_eq!(reason, wire::Parting::TooManyFrames);
}
