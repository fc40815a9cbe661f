//! The bytes of every frame are kept for ever in `tests/golden/frames/`: one `.bin` and the same
//! frame in protobuf's text format, which other implementations can encode themselves.
//!
//! `WRITE_GOLDEN=1 cargo nextest run -p myriad-wire golden` writes them anew; a change to an
//! existing file is a change of the protocol.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wire::*;

const CONFIRMED: Confirmed = Confirmed { base: 300, map: 0b1011_0000 };
const ID: MessageId = MessageId { sender: 42, device: 1, client_id: 301 };
const POSITION: u64 = 58_060_800 << 32 | 77;
const TIME_MS: u64 = 1_793_664_000_123;

#[allow(clippy::too_many_lines, reason = "a table")]
fn client_frames() -> Vec<(&'static str, ClientFrame<'static>, &'static str)> {
    let relation = Some(Relation { kind: 1, target: ID });
    vec![
        (
            "client_hello",
            ClientFrame::Hello(Hello {
                token: "header.claims.signature",
                resume_after: POSITION,
                confirmed: CONFIRMED,
                active: true,
            }),
            "hello { token: 'header.claims.signature' resume_after: 249369237179596877 \
             confirmed { base: 300 map: 176 } active: true }",
        ),
        (
            "client_renew",
            ClientFrame::Renew(Renew { token: "header.claims.signature" }),
            "renew { token: 'header.claims.signature' }",
        ),
        (
            "client_send",
            ClientFrame::Send(Send {
                client_id: 309,
                confirmed: CONFIRMED,
                to: Stream::User(u64::MAX),
                payload: b"hello, \x00\xff",
                ttl_seconds: 86_400,
                kind: 7,
                relation,
                automatic: true,
            }),
            "send { client_id: 309 confirmed { base: 300 map: 176 } user: 18446744073709551615 \
             payload: 'hello, \\000\\377' ttl_seconds: 86400 kind: 7 automatic: true \
             relation { kind: 1 target { sender: 42 device: 1 client_id: 301 } } }",
        ),
        (
            "client_send_small",
            ClientFrame::Send(Send {
                client_id: 1,
                confirmed: Confirmed::default(),
                to: Stream::Group(2),
                payload: b"",
                ttl_seconds: 0,
                kind: 0,
                relation: None,
                automatic: false,
            }),
            "send { client_id: 1 group: 2 }",
        ),
        (
            "client_ack",
            ClientFrame::Ack(Ack { stream: None, up_to: POSITION }),
            "ack { up_to: 249369237179596877 }",
        ),
        (
            "client_ack_group",
            ClientFrame::Ack(Ack { stream: Some(Stream::Group(9)), up_to: 1 }),
            "ack { stream { group: 9 } up_to: 1 }",
        ),
        (
            "client_read",
            ClientFrame::Read(Read {
                stream: Some(Stream::User(42)),
                up_to: POSITION,
                automatic: true,
            }),
            "read { stream { user: 42 } up_to: 249369237179596877 automatic: true }",
        ),
        (
            "client_ping",
            ClientFrame::Ping(Ping { active: true, confirmed: CONFIRMED, answer: true }),
            "ping { active: true confirmed { base: 300 map: 176 } answer: true }",
        ),
        ("client_ping_empty", ClientFrame::Ping(Ping::default()), "ping { }"),
        (
            "client_typing",
            ClientFrame::Typing(Typing { to: Stream::User(42), stopped: true }),
            "typing { user: 42 stopped: true }",
        ),
        (
            "client_watch_presence",
            ClientFrame::WatchPresence(WatchPresence { users: vec![1, 300, u64::MAX] }),
            "watch_presence { users: [1, 300, 18446744073709551615] }",
        ),
        (
            "client_ask_receipts",
            ClientFrame::AskReceipts(AskReceipts { peers: vec![42], groups: false }),
            "ask_receipts { peers: 42 }",
        ),
        (
            "client_ask_receipts_groups",
            ClientFrame::AskReceipts(AskReceipts { peers: vec![9, 300], groups: true }),
            "ask_receipts { peers: [9, 300] groups: true }",
        ),
        (
            "client_fetch_group",
            ClientFrame::Fetch(Fetch {
                request: 10,
                stream: Stream::Group(9),
                from: POSITION,
                forwards: true,
                limit: 0,
            }),
            "fetch { request: 10 stream { group: 9 } from: 249369237179596877 forwards: true }",
        ),
        (
            "client_fetch",
            ClientFrame::Fetch(Fetch {
                request: 7,
                stream: Stream::User(42),
                from: 300,
                forwards: true,
                limit: 100,
            }),
            "fetch { request: 7 stream { user: 42 } from: 300 forwards: true limit: 100 }",
        ),
        (
            "client_list_conversations",
            ClientFrame::ListConversations(ListConversations { request: 8, after: 42, limit: 20 }),
            "list_conversations { request: 8 after: 42 limit: 20 }",
        ),
        (
            "client_set_retention",
            ClientFrame::SetRetention(SetRetention {
                request: 9,
                stream: Stream::User(42),
                retention: Retention::Seconds(86_400),
            }),
            "set_retention { request: 9 stream { user: 42 } retention: RETENTION_SECONDS \
             keep_seconds: 86400 }",
        ),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn server_frames() -> Vec<(&'static str, ServerFrame<'static>, &'static str)> {
    vec![
        (
            "server_welcome",
            ServerFrame::Welcome(Welcome {
                user: 42,
                device: 1,
                next_client_id: 310,
                heartbeat_ms: 5_000,
                limits: Limits {
                    payload_bytes_max: 65_536,
                    unacked_messages_max: 64,
                    unacked_bytes_max: 65_536,
                    unconfirmed_ids_max: 64,
                    watched_users_max: 64,
                    asked_peers_max: 256,
                },
                server_time_ms: TIME_MS,
                cursor: POSITION,
            }),
            "welcome { user: 42 device: 1 next_client_id: 310 heartbeat_ms: 5000 \
             limits { payload_bytes_max: 65536 unacked_messages_max: 64 unacked_bytes_max: 65536 \
             unconfirmed_ids_max: 64 watched_users_max: 64 asked_peers_max: 256 } \
             server_time_ms: 1793664000123 cursor: 249369237179596877 }",
        ),
        (
            "server_sent",
            ServerFrame::Sent(Sent { client_id: 309, position: POSITION, time_ms: TIME_MS }),
            "sent { client_id: 309 position: 249369237179596877 time_ms: 1793664000123 }",
        ),
        (
            "server_refused",
            ServerFrame::Refused(Refused {
                client_id: 309,
                reason: Refusal::IdReused,
                retriable: false,
                retry_after_ms: 1_000,
                next_client_id: 310,
            }),
            "refused { client_id: 309 reason: REFUSAL_ID_REUSED retry_after_ms: 1000 \
             next_client_id: 310 }",
        ),
        (
            "server_deliver",
            ServerFrame::Deliver(Deliver {
                stream: None,
                position: POSITION,
                id: ID,
                time_ms: TIME_MS,
                kind: 7,
                payload: b"hello, \x00\xff",
                relation: Some(Relation { kind: 3, target: ID }),
                to: Some(Stream::User(43)),
                to_position: 5,
                change: None,
                request: false,
            }),
            "deliver { position: 249369237179596877 time_ms: 1793664000123 kind: 7 \
             id { sender: 42 device: 1 client_id: 301 } payload: 'hello, \\000\\377' \
             relation { kind: 3 target { sender: 42 device: 1 client_id: 301 } } \
             to { user: 43 } to_position: 5 }",
        ),
        (
            "server_receipt",
            ServerFrame::Receipt(Receipt {
                stream: Some(Stream::User(43)),
                after: 0,
                up_to: POSITION,
                mark: Mark::Read,
            }),
            "receipt { stream { user: 43 } up_to: 249369237179596877 mark: MARK_READ }",
        ),
        (
            "server_expired",
            ServerFrame::Expired(Expired {
                id: ID,
                position: POSITION,
                to: Some(Stream::User(43)),
                to_position: 5,
            }),
            "expired { id { sender: 42 device: 1 client_id: 301 } \
             position: 249369237179596877 to { user: 43 } to_position: 5 }",
        ),
        (
            "server_pong",
            ServerFrame::Pong(Pong { server_time_ms: TIME_MS, heartbeat_ms: 0 }),
            "pong { server_time_ms: 1793664000123 }",
        ),
        (
            "server_pong_heartbeat",
            ServerFrame::Pong(Pong { server_time_ms: TIME_MS, heartbeat_ms: 20_000 }),
            "pong { server_time_ms: 1793664000123 heartbeat_ms: 20000 }",
        ),
        (
            "server_goodbye",
            ServerFrame::Goodbye(Goodbye {
                reason: Parting::TooManyFrames,
                retry_after_ms: 1_000,
                detail: "slow down, \u{1f40c}",
            }),
            "goodbye { reason: PARTING_TOO_MANY_FRAMES retry_after_ms: 1000 \
             detail: 'slow down, \\360\\237\\220\\214' }",
        ),
        (
            "server_typing",
            ServerFrame::Typing(TypingFrom { user: 43, stopped: true, group: 0 }),
            "typing { user: 43 stopped: true }",
        ),
        (
            "server_presence",
            ServerFrame::Presence(Presence { user: 43, online: true, last_seen_ms: TIME_MS }),
            "presence { user: 43 online: true last_seen_ms: 1793664000123 }",
        ),
        (
            "server_read_sync",
            ServerFrame::ReadSync(ReadSync { stream: Some(Stream::User(43)), up_to: 7 }),
            "read_sync { stream { user: 43 } up_to: 7 }",
        ),
        (
            "server_device_event",
            ServerFrame::DeviceEvent(DeviceEvent { device: 2, added: true }),
            "device_event { device: 2 added: true }",
        ),
        (
            "server_item",
            ServerFrame::Item(Item {
                request: 7,
                number: 301,
                id: ID,
                position: POSITION,
                time_ms: TIME_MS,
                kind: 7,
                payload: b"hello, \x00\xff",
                relation: Some(Relation { kind: 1, target: ID }),
                deleted: false,
                change: None,
            }),
            "item { request: 7 number: 301 id { sender: 42 device: 1 client_id: 301 } \
             position: 249369237179596877 time_ms: 1793664000123 kind: 7 \
             payload: 'hello, \\000\\377' \
             relation { kind: 1 target { sender: 42 device: 1 client_id: 301 } } }",
        ),
        (
            "server_item_deleted",
            ServerFrame::Item(Item {
                request: 7,
                number: 302,
                id: ID,
                position: 0,
                time_ms: TIME_MS,
                kind: 0,
                payload: b"",
                relation: None,
                deleted: true,
                change: None,
            }),
            "item { request: 7 number: 302 id { sender: 42 device: 1 client_id: 301 } \
             time_ms: 1793664000123 deleted: true }",
        ),
        (
            "server_fetched",
            ServerFrame::Fetched(Fetched { request: 7, count: 2, more: true, up_to: 0 }),
            "fetched { request: 7 count: 2 more: true }",
        ),
        (
            "server_conversation",
            ServerFrame::Conversation(Conversation {
                request: 8,
                stream: Stream::User(43),
                last: 302,
                unread: 5,
                time_ms: TIME_MS,
                retention: Retention::Permanent,
            }),
            "conversation { request: 8 stream { user: 43 } last: 302 unread: 5 \
             time_ms: 1793664000123 retention: RETENTION_PERMANENT }",
        ),
        (
            "server_conversations",
            ServerFrame::Conversations(Conversations { request: 8, count: 1, more: false }),
            "conversations { request: 8 count: 1 }",
        ),
        (
            "server_request_refused",
            ServerFrame::RequestRefused(RequestRefused {
                request: 9,
                reason: Refusal::Overloaded,
                retriable: true,
                retry_after_ms: 1_000,
            }),
            "request_refused { request: 9 reason: REFUSAL_OVERLOADED retriable: true \
             retry_after_ms: 1000 }",
        ),
    ]
}

/// What the server says of groups.
#[allow(clippy::too_many_lines, reason = "a table")]
fn group_frames() -> Vec<(&'static str, ServerFrame<'static>, &'static str)> {
    let by = MessageId { device: 0, client_id: 0, ..ID };
    let message = Deliver {
        stream: Some(Stream::Group(9)),
        position: POSITION,
        id: ID,
        time_ms: TIME_MS,
        kind: 7,
        payload: b"hello, all",
        relation: None,
        to: None,
        to_position: 0,
        change: None,
        request: false,
    };
    let added = GroupChange { what: Change::Added, user: 43, role: Role::Member };
    let promoted = GroupChange { what: Change::Role, user: 43, role: Role::Admin };
    let created = GroupChange { what: Change::Created, user: 42, role: Role::Owner };
    let renamed = GroupChange { what: Change::Renamed, user: 0, role: Role::Member };
    let change = |id, payload, change| {
        ServerFrame::Deliver(Deliver { id, kind: 0, payload, change: Some(change), ..message })
    };
    vec![
        (
            "server_deliver_group",
            ServerFrame::Deliver(message),
            "deliver { stream { group: 9 } position: 249369237179596877 \
             id { sender: 42 device: 1 client_id: 301 } time_ms: 1793664000123 kind: 7 \
             payload: 'hello, all' }",
        ),
        (
            "server_deliver_request",
            ServerFrame::Deliver(Deliver { stream: None, request: true, ..message }),
            "deliver { position: 249369237179596877 \
             id { sender: 42 device: 1 client_id: 301 } time_ms: 1793664000123 kind: 7 \
             payload: 'hello, all' request: true }",
        ),
        (
            "server_deliver_created",
            change(by, b"Weekend", created),
            "deliver { stream { group: 9 } position: 249369237179596877 id { sender: 42 } \
             time_ms: 1793664000123 payload: 'Weekend' \
             change { what: CHANGE_CREATED user: 42 role: ROLE_OWNER } }",
        ),
        (
            "server_deliver_promoted_by_operator",
            change(MessageId { sender: 0, ..by }, b"", promoted),
            "deliver { stream { group: 9 } position: 249369237179596877 id { } \
             time_ms: 1793664000123 change { what: CHANGE_ROLE user: 43 role: ROLE_ADMIN } }",
        ),
        (
            "server_deliver_renamed",
            change(by, b"Mountains", renamed),
            "deliver { stream { group: 9 } position: 249369237179596877 id { sender: 42 } \
             time_ms: 1793664000123 payload: 'Mountains' change { what: CHANGE_RENAMED } }",
        ),
        (
            "server_item_added",
            ServerFrame::Item(Item {
                request: 10,
                number: POSITION,
                id: by,
                position: POSITION,
                time_ms: TIME_MS,
                kind: 0,
                payload: b"",
                relation: None,
                deleted: false,
                change: Some(added),
            }),
            "item { request: 10 number: 249369237179596877 id { sender: 42 } \
             position: 249369237179596877 time_ms: 1793664000123 \
             change { what: CHANGE_ADDED user: 43 } }",
        ),
        (
            "server_fetched_group",
            ServerFrame::Fetched(Fetched { request: 10, count: 1, more: false, up_to: POSITION }),
            "fetched { request: 10 count: 1 up_to: 249369237179596877 }",
        ),
        (
            "server_group_news",
            ServerFrame::GroupNews(GroupNews { group: 9, head: POSITION, cursor: 7, left: true }),
            "group_news { group: 9 head: 249369237179596877 cursor: 7 left: true }",
        ),
        (
            "server_receipt_group",
            ServerFrame::Receipt(Receipt {
                stream: Some(Stream::Group(9)),
                after: 7,
                up_to: POSITION,
                mark: Mark::Has,
            }),
            "receipt { stream { group: 9 } after: 7 up_to: 249369237179596877 mark: MARK_HAS }",
        ),
        (
            "server_typing_group",
            ServerFrame::Typing(TypingFrom { user: 43, stopped: false, group: 9 }),
            "typing { user: 43 group: 9 }",
        ),
    ]
}

/// Name, bytes as encoded now, text.
fn all() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let client = client_frames().into_iter().map(|(name, frame, text)| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(ClientFrame::decode(&bytes), Ok(frame), "{name}");
        (name, bytes, text)
    });
    let server = server_frames().into_iter().chain(group_frames()).map(|(name, frame, text)| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(ServerFrame::decode(&bytes), Ok(frame), "{name}");
        (name, bytes, text)
    });
    client.chain(server).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/frames")
}

#[test]
fn golden_bytes_stay_as_they_are() {
    let write = std::env::var_os("WRITE_GOLDEN").is_some();
    for (name, bytes, text) in all() {
        let file = folder().join(format!("{name}.bin"));
        let text_file = folder().join(format!("{name}.txtpb"));
        if write {
            std::fs::write(&file, &bytes).unwrap();
            std::fs::write(&text_file, format!("{text}\n")).unwrap();
        }
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{name}");
        assert_eq!(std::fs::read_to_string(&text_file).unwrap().trim_end(), text, "{name}");
    }
    let files = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(files, 2 * all().len(), "a golden file without a frame");
}

/// Where the official compiler is installed it must write the very same bytes.
#[test]
fn golden_bytes_are_those_of_protoc() {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    for (name, bytes, text) in all() {
        let kind = if name.starts_with("client") { "ClientFrame" } else { "ServerFrame" };
        let spawned = Command::new("protoc")
            .arg(format!("--encode=myriad.v1.{kind}"))
            .arg(format!("--proto_path={}", proto.display()))
            .arg("myriad.proto")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut protoc) = spawned else {
            eprintln!("skipped: protoc is not installed");
            return;
        };
        protoc.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = protoc.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}");
        assert_eq!(output.stdout, bytes, "{name}");
    }
}
