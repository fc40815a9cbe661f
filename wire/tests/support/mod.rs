//! Strategies and samples for the tests of the wire.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use proptest::prelude::*;
use wire::*;

/// An owned model of the borrowed parts of a frame; the frames are built from it in the test.
#[derive(Clone, Debug)]
pub struct Parts {
    pub text: String,
    pub payload: Vec<u8>,
    pub client: ClientKind,
    pub server: ServerKind,
}

#[derive(Clone, Debug)]
pub enum ClientKind {
    Hello {
        resume_after: u64,
        confirmed: Confirmed,
        active: bool,
    },
    Renew,
    Send {
        client_id: u64,
        confirmed: Confirmed,
        to: Stream,
        numbers: [u32; 2],
        relation: Option<Relation>,
        automatic: bool,
    },
    Plain(ClientFrame<'static>),
}

#[derive(Clone, Debug)]
pub enum ServerKind {
    Deliver {
        stream: Option<Stream>,
        positions: [u64; 2],
        id: MessageId,
        time_ms: u64,
        kind: u32,
        relation: Option<Relation>,
        to: Option<Stream>,
        change: Option<GroupChange>,
        request: bool,
    },
    Goodbye {
        reason: Parting,
        retry_after_ms: u32,
    },
    Item {
        numbers: [u64; 4],
        id: MessageId,
        kind: u32,
        relation: Option<Relation>,
        deleted: bool,
        change: Option<GroupChange>,
    },
    Plain(ServerFrame<'static>),
}

impl Parts {
    pub fn client_frame(&self) -> ClientFrame<'_> {
        let token = if self.text.is_empty() { "t" } else { &self.text };
        match self.client.clone() {
            ClientKind::Hello { resume_after, confirmed, active } => {
                ClientFrame::Hello(Hello { token, resume_after, confirmed, active })
            }
            ClientKind::Renew => ClientFrame::Renew(Renew { token }),
            ClientKind::Send { client_id, confirmed, to, numbers, relation, automatic } => {
                ClientFrame::Send(Send {
                    client_id,
                    confirmed,
                    to,
                    payload: &self.payload,
                    ttl_seconds: numbers[0],
                    kind: numbers[1],
                    relation,
                    automatic,
                })
            }
            ClientKind::Plain(frame) => frame,
        }
    }

    pub fn server_frame(&self) -> ServerFrame<'_> {
        match self.server {
            ServerKind::Deliver {
                stream,
                positions,
                id,
                time_ms,
                kind,
                relation,
                to,
                change,
                request,
            } => ServerFrame::Deliver(Deliver {
                stream,
                position: positions[0],
                id,
                time_ms,
                kind,
                payload: &self.payload,
                relation,
                to,
                to_position: positions[1],
                change,
                request,
            }),
            ServerKind::Goodbye { reason, retry_after_ms } => {
                ServerFrame::Goodbye(Goodbye { reason, retry_after_ms, detail: &self.text })
            }
            ServerKind::Item { numbers, id, kind, relation, deleted, change } => {
                ServerFrame::Item(Item {
                    request: numbers[0].max(1),
                    number: numbers[1].max(1),
                    id,
                    position: numbers[2],
                    time_ms: numbers[3],
                    kind,
                    payload: &self.payload,
                    relation,
                    deleted,
                    change,
                })
            }
            ServerKind::Plain(frame) => frame,
        }
    }
}

/// Numbers of every encoded length, with the ends more likely than chance.
pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        (0_u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift),
    ]
}

pub fn number32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), (0_u32..32, any::<u32>()).prop_map(|(s, v)| v >> s)]
}

pub fn id64() -> impl Strategy<Value = u64> {
    number().prop_map(|value| value.max(1))
}

pub fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![id64().prop_map(Stream::User), id64().prop_map(Stream::Group)]
}

pub fn message_id() -> impl Strategy<Value = MessageId> {
    (id64(), number32(), id64()).prop_map(|(sender, device, client_id)| MessageId {
        sender,
        device: device.max(1),
        client_id,
    })
}

pub fn relation() -> impl Strategy<Value = Option<Relation>> {
    proptest::option::of(
        (number32(), message_id()).prop_map(|(kind, target)| Relation { kind, target }),
    )
}

pub fn retention() -> impl Strategy<Value = Retention> {
    prop_oneof![
        Just(Retention::UntilAcked),
        number32().prop_map(|seconds| Retention::Seconds(seconds.max(1))),
        Just(Retention::Permanent),
    ]
}

pub fn confirmed() -> impl Strategy<Value = Confirmed> {
    (number(), number()).prop_map(|(base, map)| Confirmed { base, map })
}

fn client_kind() -> impl Strategy<Value = ClientKind> {
    let plain = prop_oneof![
        (proptest::option::of(stream()), number())
            .prop_map(|(stream, up_to)| ClientFrame::Ack(Ack { stream, up_to })),
        (proptest::option::of(stream()), number(), any::<bool>()).prop_map(
            |(stream, up_to, automatic)| ClientFrame::Read(Read { stream, up_to, automatic })
        ),
        (any::<bool>(), confirmed(), any::<bool>()).prop_map(|(active, confirmed, answer)| {
            ClientFrame::Ping(Ping { active, confirmed, answer })
        }),
        (stream(), any::<bool>())
            .prop_map(|(to, stopped)| ClientFrame::Typing(Typing { to, stopped })),
        proptest::collection::vec(id64(), 0..=WATCHED_USERS_MAX)
            .prop_map(|users| ClientFrame::WatchPresence(WatchPresence { users })),
        (proptest::collection::vec(id64(), 0..=ASKED_PEERS_MAX), any::<bool>())
            .prop_map(|(peers, groups)| ClientFrame::AskReceipts(AskReceipts { peers, groups })),
        (id64(), stream(), number(), any::<bool>(), number32()).prop_map(
            |(request, stream, from, forwards, limit)| {
                ClientFrame::Fetch(Fetch { request, stream, from, forwards, limit })
            }
        ),
        (id64(), number(), number32()).prop_map(|(request, after, limit)| {
            ClientFrame::ListConversations(ListConversations { request, after, limit })
        }),
        (id64(), stream(), retention()).prop_map(|(request, stream, retention)| {
            ClientFrame::SetRetention(SetRetention { request, stream, retention })
        }),
    ];
    prop_oneof![
        (number(), confirmed(), any::<bool>()).prop_map(|(resume_after, confirmed, active)| {
            ClientKind::Hello { resume_after, confirmed, active }
        }),
        Just(ClientKind::Renew),
        (id64(), confirmed(), stream(), [number32(), number32()], relation(), any::<bool>())
            .prop_map(|(client_id, confirmed, to, numbers, relation, automatic)| {
                ClientKind::Send { client_id, confirmed, to, numbers, relation, automatic }
            }),
        plain.prop_map(ClientKind::Plain),
    ]
}

fn server_kind() -> impl Strategy<Value = ServerKind> {
    prop_oneof![
        (
            proptest::option::of(stream()),
            [number(), number()],
            message_id(),
            number(),
            number32(),
            relation(),
            proptest::option::of(stream()),
            (record_change(), any::<bool>()),
        )
            .prop_map(|(stream, positions, id, time_ms, kind, relation, to, rest)| {
                let (change, request) = rest;
                let id = named(id, change);
                ServerKind::Deliver {
                    stream,
                    positions,
                    id,
                    time_ms,
                    kind,
                    relation,
                    to,
                    change,
                    request,
                }
            }),
        (proptest::sample::select(Parting::ALL), number32())
            .prop_map(|(reason, retry_after_ms)| ServerKind::Goodbye { reason, retry_after_ms }),
        (
            [number(), number(), number(), number()],
            message_id(),
            number32(),
            relation(),
            any::<bool>(),
            record_change()
        )
            .prop_map(|(numbers, id, kind, relation, deleted, change)| {
                let id = named(id, change);
                ServerKind::Item { numbers, id, kind, relation, deleted, change }
            }),
        server_plain().prop_map(ServerKind::Plain),
        history_plain().prop_map(ServerKind::Plain),
    ]
}

/// A change of a group, or none.
fn record_change() -> impl Strategy<Value = Option<GroupChange>> {
    proptest::option::of((1..=7_u8, number(), 0..=2_u8).prop_filter_map(
        "a code of the schema",
        |(what, user, role)| {
            let (what, role) = (Change::from_code(what)?, Role::from_code(role)?);
            Some(GroupChange { what, user, role })
        },
    ))
}

/// A change has no device and no number; who did it may be nobody.
fn named(id: MessageId, change: Option<GroupChange>) -> MessageId {
    match change {
        Some(change) if change.user % 3 == 0 => MessageId { sender: 0, device: 0, client_id: 0 },
        Some(_) => MessageId { device: 0, client_id: 0, ..id },
        None => id,
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    [number32(), number32(), number32(), number32(), number32(), number32()].prop_map(|n| Limits {
        payload_bytes_max: n[0],
        unacked_messages_max: n[1],
        unacked_bytes_max: n[2],
        unconfirmed_ids_max: n[3],
        watched_users_max: n[4],
        asked_peers_max: n[5],
    })
}

fn server_plain() -> impl Strategy<Value = ServerFrame<'static>> {
    prop_oneof![
        (id64(), number32(), id64(), number32(), limits(), number(), number()).prop_map(
            |(user, device, next_client_id, heartbeat_ms, limits, server_time_ms, cursor)| {
                let device = device.max(1);
                ServerFrame::Welcome(Welcome {
                    user,
                    device,
                    next_client_id,
                    heartbeat_ms,
                    limits,
                    server_time_ms,
                    cursor,
                })
            }
        ),
        (id64(), number(), number()).prop_map(|(client_id, position, time_ms)| {
            ServerFrame::Sent(Sent { client_id, position, time_ms })
        }),
        (id64(), proptest::sample::select(Refusal::ALL), any::<bool>(), number32(), number())
            .prop_map(|(client_id, reason, retriable, retry_after_ms, next_client_id)| {
                ServerFrame::Refused(Refused {
                    client_id,
                    reason,
                    retriable,
                    retry_after_ms,
                    next_client_id,
                })
            }),
        (stream(), number(), number(), any::<bool>()).prop_map(|(stream, after, up_to, read)| {
            let mark = if read { Mark::Read } else { Mark::Has };
            ServerFrame::Receipt(Receipt { stream: Some(stream), after, up_to, mark })
        }),
        (message_id(), any::<u64>(), proptest::option::of(stream()), any::<u64>()).prop_map(
            |(id, position, to, to_position)| {
                ServerFrame::Expired(Expired { id, position, to, to_position })
            }
        ),
        (number(), any::<u32>()).prop_map(|(server_time_ms, heartbeat_ms)| {
            ServerFrame::Pong(Pong { server_time_ms, heartbeat_ms })
        }),
        (id64(), any::<bool>(), number()).prop_map(|(user, stopped, group)| {
            ServerFrame::Typing(TypingFrom { user, stopped, group })
        }),
        (id64(), number(), number(), any::<bool>()).prop_map(|(group, head, cursor, left)| {
            ServerFrame::GroupNews(GroupNews { group, head, cursor, left })
        }),
        (id64(), any::<bool>(), number()).prop_map(|(user, online, last_seen_ms)| {
            ServerFrame::Presence(Presence { user, online, last_seen_ms })
        }),
        (proptest::option::of(stream()), number())
            .prop_map(|(stream, up_to)| ServerFrame::ReadSync(ReadSync { stream, up_to })),
        (number32(), any::<bool>()).prop_map(|(device, added)| {
            ServerFrame::DeviceEvent(DeviceEvent { device: device.max(1), added })
        }),
    ]
}

fn history_plain() -> impl Strategy<Value = ServerFrame<'static>> {
    prop_oneof![
        (id64(), number32(), any::<bool>(), number()).prop_map(|(request, count, more, up_to)| {
            ServerFrame::Fetched(Fetched { request, count, more, up_to })
        }),
        (id64(), number32(), any::<bool>()).prop_map(|(request, count, more)| {
            ServerFrame::Conversations(Conversations { request, count, more })
        }),
        (number(), stream(), number(), number32(), number(), retention()).prop_map(
            |(request, stream, last, unread, time_ms, retention)| {
                let state = Conversation { request, stream, last, unread, time_ms, retention };
                ServerFrame::Conversation(state)
            }
        ),
        (id64(), proptest::sample::select(Refusal::ALL), any::<bool>(), number32()).prop_map(
            |(request, reason, retriable, retry_after_ms)| {
                let refused = RequestRefused { request, reason, retriable, retry_after_ms };
                ServerFrame::RequestRefused(refused)
            }
        ),
    ]
}

pub fn parts() -> impl Strategy<Value = Parts> {
    (".{0,40}", proptest::collection::vec(any::<u8>(), 0..300), client_kind(), server_kind())
        .prop_map(|(text, payload, client, server)| Parts { text, payload, client, server })
}
