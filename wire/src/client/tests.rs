//! A session against a tiny model of a server that answers late, in any order, twice, or not at
//! all because the connection is gone. Whatever happens in between: every message reaches `Sent`
//! once, is stored once and in order, and every delivery is shown once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{
    ClientFrame, Confirmed, Deliver, Goodbye, Limits, Mark, MessageId, Parting, Presence, Receipt,
    Refusal, Refused, Sent, ServerFrame, Stream, Welcome,
};

const USER: u64 = 1;
const PEER: u64 = 2;
const EPOCH: u64 = 7 << 32;

/// What the model keeps of a `Send`, owned.
#[derive(Clone, Debug)]
struct Received {
    client_id: u64,
    confirmed: Confirmed,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum FromClient {
    Hello { resume_after: u64, confirmed: Confirmed },
    Send(Received),
    Ack(u64),
    Other,
}

fn owned(frame: &ClientFrame<'_>) -> FromClient {
    match frame {
        ClientFrame::Hello(hello) => {
            FromClient::Hello { resume_after: hello.resume_after, confirmed: hello.confirmed }
        }
        ClientFrame::Send(send) => FromClient::Send(Received {
            client_id: send.client_id,
            confirmed: send.confirmed,
            payload: send.payload.to_vec(),
        }),
        ClientFrame::Ack(ack) => FromClient::Ack(ack.up_to),
        _ => FromClient::Other,
    }
}

/// The model: durable answers, an inbox, and one connection.
#[derive(Debug, Default)]
struct Model {
    /// Id to (position, content).
    stored: BTreeMap<u64, (u64, Vec<u8>)>,
    order: Vec<u64>,
    /// A refused id: nothing larger is taken before it.
    held: BTreeSet<u64>,
    /// So many more sends are refused for now.
    overloaded: u32,
    /// Own inbox: (position, id); pushed up to `pushed`.
    inbox: Vec<(u64, MessageId)>,
    pushed: u64,
    acked: u64,
    to_server: VecDeque<FromClient>,
    to_client: Vec<ServerFrame<'static>>,
}

impl Model {
    fn answer(&mut self, index: usize) {
        let Some(frame) = self.to_server.remove(index) else { return };
        match frame {
            FromClient::Hello { resume_after, confirmed } => self.hello(resume_after, confirmed),
            FromClient::Send(send) => {
                let answer = self.send(&send);
                self.to_client.push(answer);
            }
            FromClient::Ack(up_to) => {
                assert!(up_to <= self.pushed, "acks what was never pushed");
                self.acked = self.acked.max(up_to);
            }
            FromClient::Other => {}
        }
    }

    fn hello(&mut self, resume_after: u64, confirmed: Confirmed) {
        self.check_confirmed(confirmed);
        self.acked = self.acked.max(resume_after);
        self.pushed = resume_after;
        let next = self.stored.keys().next_back().map_or(1, |last| last + 1);
        self.to_client.push(ServerFrame::Welcome(Welcome {
            user: USER,
            device: 1,
            next_client_id: next,
            heartbeat_ms: 5_000,
            limits: Limits::default(),
            server_time_ms: 0,
            cursor: self.acked,
        }));
        self.push_tail();
    }

    fn send(&mut self, send: &Received) -> ServerFrame<'static> {
        let Received { client_id, confirmed, ref payload } = *send;
        self.check_confirmed(confirmed);
        assert!(!confirmed.covers(client_id), "sends what it calls answered");
        assert!(client_id <= confirmed.base + WINDOW_IDS, "sends beyond the window");
        if let Some((position, before)) = self.stored.get(&client_id) {
            assert_eq!(before, payload, "an id stands for one content");
            return sent(client_id, *position);
        }
        self.held.retain(|held| !confirmed.covers(*held));
        if self.held.range(..client_id).next().is_some() {
            self.held.insert(client_id); // what comes behind this one has to wait as well
            return refused(client_id, Refusal::Held);
        }
        if self.overloaded > 0 {
            self.overloaded -= 1;
            self.held.insert(client_id);
            return refused(client_id, Refusal::Overloaded);
        }
        self.held.remove(&client_id);
        let position = EPOCH + self.stored.len() as u64 + 1;
        assert!(self.order.last().is_none_or(|last| *last < client_id), "out of order");
        self.order.push(client_id);
        self.stored.insert(client_id, (position, payload.clone()));
        sent(client_id, position)
    }

    fn check_confirmed(&self, confirmed: Confirmed) {
        for id in 1..confirmed.base + 65 {
            let spent_or_stored = !confirmed.covers(id) || self.stored.contains_key(&id);
            assert!(spent_or_stored, "{id} is called answered and is not stored");
        }
    }

    /// Somebody writes to the user.
    fn receive(&mut self, client_id: u64) {
        let id = MessageId { sender: PEER, device: 1, client_id };
        self.inbox.push((EPOCH + 1_000 + self.inbox.len() as u64, id));
        self.push_tail();
    }

    fn push_tail(&mut self) {
        for (position, id) in &self.inbox {
            if *position > self.pushed {
                self.pushed = *position;
                self.to_client.push(ServerFrame::Deliver(Deliver {
                    stream: None,
                    position: *position,
                    id: *id,
                    time_ms: 0,
                    kind: 0,
                    payload: b"hi",
                    relation: None,
                    to: None,
                    to_position: 0,
                    change: None,
                    request: false,
                }));
            }
        }
    }

    fn disconnect(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.pushed = u64::MAX; // nothing can be pushed before the next Hello
    }
}

fn sent(client_id: u64, position: u64) -> ServerFrame<'static> {
    ServerFrame::Sent(Sent { client_id, position, time_ms: 1 })
}

fn refused(client_id: u64, reason: Refusal) -> ServerFrame<'static> {
    ServerFrame::Refused(Refused {
        client_id,
        reason,
        retriable: true,
        retry_after_ms: 100,
        next_client_id: 0,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Write,
    WriteMany,
    ServerReads,
    /// The client sees an answer, not necessarily the oldest.
    Answer(usize),
    /// ... and sees it again.
    AnswerTwice(usize),
    Lose,
    Reconnect,
    Overload(u32),
    Receive,
    Time(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Write),
        1 => Just(Step::WriteMany),
        10 => Just(Step::ServerReads),
        10 => (0..4_usize).prop_map(Step::Answer),
        2 => (0..4_usize).prop_map(Step::AnswerTwice),
        1 => Just(Step::Lose),
        2 => Just(Step::Reconnect),
        1 => (1..4_u32).prop_map(Step::Overload),
        4 => Just(Step::Receive),
        3 => (1..400_u64).prop_map(Step::Time),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..200)
}

struct Run {
    session: Session,
    model: Model,
    now_ms: u64,
    connected: bool,
    written: u64,
    received: u64,
    sent_ids: Vec<u64>,
    shown: Vec<MessageId>,
}

impl Run {
    fn new() -> Self {
        Self {
            session: Session::new("token", SessionOptions::default()),
            model: Model::default(),
            now_ms: 0,
            connected: false,
            written: 0,
            received: 0,
            sent_ids: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write => self.write(1),
            Step::WriteMany => self.write(100),
            Step::ServerReads => self.model.answer(0),
            Step::Answer(index) => self.answer(*index, 1),
            Step::AnswerTwice(index) => self.answer(*index, 2),
            Step::Lose => self.lose(),
            Step::Reconnect => self.reconnect(),
            Step::Overload(times) => self.model.overloaded = *times,
            Step::Receive => {
                self.received += 1;
                self.model.receive(self.received);
            }
            Step::Time(passed_ms) => {
                self.now_ms += passed_ms;
                self.session.tick(self.now_ms);
            }
            Step::Restart => {
                // The program ends and starts again with what it saved.
                let state = self.session.state();
                self.lose();
                self.session = Session::restore("token", SessionOptions::default(), &state);
            }
        }
        if self.connected {
            self.session.take_output(&mut |frame| self.model.to_server.push_back(owned(frame)));
        }
    }

    fn write(&mut self, count: u64) {
        for _ in 0..count {
            let next = self.written + 1;
            if let Ok(id) = self.session.send(Stream::User(PEER), &next.to_le_bytes(), 0) {
                assert!(id > self.written, "ids rise");
                self.written = id;
            }
        }
    }

    /// Sent answers may overtake each other; deliveries keep their order on a connection.
    fn answer(&mut self, index: usize, times: usize) {
        let waiting = &mut self.model.to_client;
        if waiting.is_empty() {
            return;
        }
        let movable = |frame: &ServerFrame<'_>| {
            matches!(frame, ServerFrame::Sent(_) | ServerFrame::Refused(_))
        };
        let index = index.min(waiting.len() - 1);
        let index = if waiting[..=index].iter().all(movable) { index } else { 0 };
        let frame = waiting.remove(index);
        let times = if matches!(frame, ServerFrame::Sent(_)) { times } else { 1 };
        for _ in 0..times {
            let mut events = Vec::new();
            self.session.on_frame(&frame, self.now_ms, &mut events);
            for event in events {
                match event {
                    ClientEvent::Tick { client_id, mark: TickMark::Sent, .. } => {
                        self.sent_ids.push(client_id);
                    }
                    ClientEvent::Message { id, repeat: false, .. } => self.shown.push(id),
                    ClientEvent::Renumbered { .. } | ClientEvent::Refused { .. } => {
                        panic!("nothing here is final: {event:?}");
                    }
                    _ => {}
                }
            }
        }
    }

    fn lose(&mut self) {
        self.connected = false;
        self.session.disconnected();
        self.model.disconnect();
    }

    fn reconnect(&mut self) {
        self.lose();
        self.connected = true;
        self.session.connected(self.now_ms);
    }

    /// From now on nothing goes wrong any more.
    fn settle(&mut self) {
        self.model.overloaded = 0;
        self.step(&Step::Reconnect);
        for _ in 0..10_000 {
            self.step(&Step::ServerReads);
            self.step(&Step::Answer(0));
            if self.model.to_server.is_empty() && self.model.to_client.is_empty() {
                if self.session.unanswered() == 0 {
                    return;
                }
                self.step(&Step::Time(200));
            }
        }
        panic!("{} messages are not answered", self.session.unanswered());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_sent_once_and_every_delivery_shown_once(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.settle();
        let all: Vec<u64> = (1..=run.written).collect();
        let told: BTreeSet<u64> = run.sent_ids.iter().copied().collect();
        prop_assert_eq!(told.len(), run.sent_ids.len(), "each Sent is told once");
        prop_assert_eq!(told.into_iter().collect::<Vec<_>>(), all.clone());
        prop_assert_eq!(&run.model.order, &all);
        prop_assert_eq!(run.session.confirmed(), Confirmed { base: run.written, map: 0 });
        let shown: Vec<u64> = run.shown.iter().map(|id| id.client_id).collect();
        prop_assert_eq!(shown, (1..=run.received).collect::<Vec<_>>());
    }
}

fn welcome(next_client_id: u64) -> ServerFrame<'static> {
    ServerFrame::Welcome(Welcome {
        user: USER,
        device: 1,
        next_client_id,
        heartbeat_ms: 5_000,
        limits: Limits::default(),
        server_time_ms: 0,
        cursor: 0,
    })
}

fn live(next_client_id: u64) -> Session {
    let mut session = Session::new("token", SessionOptions::default());
    session.connected(0);
    assert_eq!(frames(&mut session), ["hello"]);
    feed(&mut session, &welcome(next_client_id));
    session
}

fn feed(session: &mut Session, frame: &ServerFrame<'_>) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    session.on_frame(frame, 0, &mut events);
    events
}

/// What leaves now, in words.
fn frames(session: &mut Session) -> Vec<String> {
    let mut words = Vec::new();
    session.take_output(&mut |frame| {
        words.push(match frame {
            ClientFrame::Hello(_) => "hello".to_owned(),
            ClientFrame::Renew(renew) => format!("renew {}", renew.token),
            ClientFrame::Send(send) => format!("send {}", send.client_id),
            ClientFrame::Ack(ack) => format!("ack {}", ack.up_to),
            ClientFrame::Read(read) => format!("read {:?} {}", read.stream, read.up_to),
            ClientFrame::Ping(ping) => format!("ping {}", ping.answer),
            ClientFrame::Typing(typing) => format!("typing {}", typing.stopped),
            ClientFrame::WatchPresence(watch) => format!("watch {:?}", watch.users),
            ClientFrame::AskReceipts(ask) => format!("ask {:?}", ask.peers),
            question => format!("{question:?}"),
        });
    });
    words
}

#[test]
fn nothing_but_hello_leaves_before_welcome() {
    let mut session = Session::new("token", SessionOptions::default());
    session.send(Stream::User(PEER), b"hi", 0).unwrap();
    session.watch(&[PEER]).unwrap();
    session.read(Some(PEER), 5);
    assert!(frames(&mut session).is_empty());
    session.connected(0);
    assert_eq!(frames(&mut session), ["hello"]);
    session.tick(60_000);
    assert!(frames(&mut session).is_empty());
    feed(&mut session, &welcome(1));
    let words = ["send 1", "read Some(User(2)) 5", "ask [2]", "watch [2]"];
    assert_eq!(frames(&mut session), words);
}

#[test]
fn reinstalled_device_goes_on_after_the_ids_it_forgot() {
    let mut session = live(1_001);
    assert_eq!(session.send(Stream::User(PEER), b"hi", 0), Ok(1_001));
    assert_eq!(session.confirmed(), Confirmed { base: 1_000, map: 0 });
}

#[test]
fn message_written_before_a_reinstalled_device_knew_better_gets_a_new_id() {
    let mut session = Session::new("token", SessionOptions::default());
    session.send(Stream::User(PEER), b"hi", 0).unwrap();
    session.connected(0);
    frames(&mut session);
    feed(&mut session, &welcome(50));
    assert_eq!(frames(&mut session), ["send 1", "ask [2]"]);
    let stale = ServerFrame::Refused(Refused {
        client_id: 1,
        reason: Refusal::StaleId,
        retriable: false,
        retry_after_ms: 0,
        next_client_id: 50,
    });
    let renumbered = ClientEvent::Renumbered { client_id: 1, new_client_id: 50 };
    assert_eq!(feed(&mut session, &stale), [renumbered]);
    assert_eq!(frames(&mut session), ["send 50"]);
}

#[test]
fn final_refusal_is_told_and_confirmed() {
    let mut session = live(1);
    session.send(Stream::User(PEER), b"hi", 0).unwrap();
    frames(&mut session);
    let refused = ServerFrame::Refused(Refused {
        client_id: 1,
        reason: Refusal::UnknownUser,
        retriable: false,
        retry_after_ms: 0,
        next_client_id: 0,
    });
    let events = feed(&mut session, &refused);
    assert!(matches!(events[..], [ClientEvent::Refused { client_id: 1, .. }]));
    assert_eq!(session.confirmed(), Confirmed { base: 1, map: 0 });
    assert!(feed(&mut session, &refused).is_empty(), "told once");
}

#[test]
fn giving_up_a_refused_message_frees_the_later_ones() {
    let mut session = live(1);
    session.send(Stream::User(PEER), b"a", 0).unwrap();
    session.send(Stream::User(PEER), b"b", 0).unwrap();
    frames(&mut session);
    feed(&mut session, &refused(1, Refusal::InboxFull));
    feed(&mut session, &refused(2, Refusal::Held));
    assert!(frames(&mut session).is_empty());
    assert!(session.give_up(1));
    assert_eq!(frames(&mut session), ["send 2", "ping false"]);
}

#[test]
fn unticked_peers_are_asked_for_after_login() {
    let mut session = live(1);
    session.send(Stream::User(PEER), b"hi", 0).unwrap();
    frames(&mut session);
    feed(&mut session, &sent(1, 10));
    let state = session.state();
    let mut session = Session::restore("token", SessionOptions::default(), &state);
    session.connected(0);
    frames(&mut session);
    feed(&mut session, &welcome(2));
    assert_eq!(frames(&mut session), ["ask [2]"]);
    let receipt = ServerFrame::Receipt(Receipt {
        stream: Some(Stream::User(PEER)),
        after: 0,
        up_to: 10,
        mark: Mark::Read,
    });
    assert_eq!(feed(&mut session, &receipt).len(), 2, "delivered and read");
}

#[test]
fn heartbeat_lease_and_reads_keep_their_times() {
    let mut session = live(1);
    session.watch(&[PEER]).unwrap();
    assert_eq!(frames(&mut session), ["watch [2]"]);
    session.tick(4_999);
    assert!(frames(&mut session).is_empty());
    session.tick(5_000);
    assert_eq!(frames(&mut session), ["ping true"], "silence is worth a question");
    session.tick(44_999);
    assert_eq!(frames(&mut session), ["ping true"]);
    session.tick(45_000);
    assert_eq!(frames(&mut session), ["watch [2]"]);
    session.read(Some(PEER), 9);
    session.read(Some(PEER), 8);
    assert_eq!(frames(&mut session), ["read Some(User(2)) 9"]);
    assert!(frames(&mut session).is_empty());
    session.disconnected();
    session.connected(46_000);
    frames(&mut session);
    feed(&mut session, &welcome(1));
    let again = ["read Some(User(2)) 9", "watch [2]"];
    assert_eq!(frames(&mut session), again, "it may have been lost");
}

#[test]
fn a_heartbeat_that_a_pong_names_is_kept_from_then_on() {
    let mut session = live(1);
    let pong = |heartbeat_ms| ServerFrame::Pong(crate::Pong { server_time_ms: 1, heartbeat_ms });
    feed(&mut session, &pong(20_000));
    session.tick(19_999);
    assert!(frames(&mut session).is_empty());
    session.tick(20_000);
    assert_eq!(frames(&mut session).len(), 1);
    feed(&mut session, &pong(0));
    assert_eq!(session.heartbeat_ms(), 20_000, "as before");
    feed(&mut session, &pong(1_000));
    session.tick(21_000);
    assert_eq!(frames(&mut session).len(), 1);
}

#[test]
fn connection_without_a_sign_of_life_is_lost() {
    let mut session = live(1);
    assert!(!session.is_lost(19_999));
    assert!(session.is_lost(20_000));
    session.disconnected();
    assert!(!session.is_lost(u64::MAX));
}

#[test]
fn acks_wait_for_their_turn_when_asked_to() {
    let options = SessionOptions { ack_every: 0, ..SessionOptions::default() };
    let mut session = Session::new("token", options);
    session.connected(0);
    frames(&mut session);
    feed(&mut session, &welcome(1));
    let deliver = ServerFrame::Deliver(Deliver {
        stream: None,
        position: 5,
        id: MessageId { sender: PEER, device: 1, client_id: 1 },
        time_ms: 0,
        kind: 0,
        payload: b"hi",
        relation: None,
        to: None,
        to_position: 0,
        change: None,
        request: false,
    });
    feed(&mut session, &deliver);
    session.tick(1);
    assert!(frames(&mut session).is_empty());
    session.acknowledge();
    assert_eq!(frames(&mut session), ["ack 5"]);
}

#[test]
fn copies_of_the_other_device_get_their_ticks_too() {
    let mut session = live(1);
    let copy = ServerFrame::Deliver(Deliver {
        stream: None,
        position: 5,
        id: MessageId { sender: USER, device: 2, client_id: 4 },
        time_ms: 0,
        kind: 0,
        payload: b"hi",
        relation: None,
        to: Some(Stream::User(PEER)),
        to_position: 77,
        change: None,
        request: false,
    });
    let events = feed(&mut session, &copy);
    assert!(matches!(events[..], [ClientEvent::OwnCopy { to_position: 77, .. }]));
    let receipt = ServerFrame::Receipt(Receipt {
        stream: Some(Stream::User(PEER)),
        after: 76,
        up_to: 77,
        mark: Mark::Has,
    });
    let events = feed(&mut session, &receipt);
    assert!(matches!(events[..], [ClientEvent::Tick { client_id: 4, device: 2, .. }]));
}

#[test]
fn goodbye_says_whether_coming_back_helps() {
    let mut session = live(1);
    for (reason, helps) in [
        (Parting::Shutdown, true),
        (Parting::Overloaded, true),
        (Parting::Silent, true),
        (Parting::Replaced, false),
        (Parting::TokenExpired, false),
        (Parting::Suspended, false),
        (Parting::LoggedOut, false),
        (Parting::AccountDeleted, false),
    ] {
        let goodbye = ServerFrame::Goodbye(Goodbye { reason, retry_after_ms: 9, detail: "" });
        let events = feed(&mut session, &goodbye);
        assert!(
            matches!(events[..], [ClientEvent::Goodbye { reconnect, .. }] if reconnect == helps)
        );
    }
    let presence = Presence { user: PEER, online: true, last_seen_ms: 0 };
    assert_eq!(feed(&mut session, &ServerFrame::Presence(presence)).len(), 1);
}

#[test]
fn too_many_watched_users_change_nothing() {
    let mut session = live(1);
    session.watch(&[PEER]).unwrap();
    frames(&mut session);
    let many: Vec<u64> = (1..=65).collect();
    assert_eq!(session.watch(&many), Err(TooManyWatched { asked: 65 }));
    assert!(frames(&mut session).is_empty());
    session.watch(&[]).unwrap();
    assert_eq!(frames(&mut session), ["watch []"]);
}

#[test]
fn user_never_seen_is_asked_for_more_often() {
    let mut session = live(1);
    session.watch(&[PEER]).unwrap();
    assert_eq!(frames(&mut session), ["watch [2]"]);
    let unknown = Presence { user: PEER, online: false, last_seen_ms: 0 };
    feed(&mut session, &ServerFrame::Presence(unknown));
    session.tick(10_000);
    assert_eq!(frames(&mut session)[0], "watch [2]");
    let known = Presence { user: PEER, online: true, last_seen_ms: 9 };
    feed(&mut session, &ServerFrame::Presence(known));
    session.tick(54_999);
    assert!(!frames(&mut session).contains(&"watch [2]".to_owned()));
    session.tick(55_000);
    assert!(frames(&mut session).contains(&"watch [2]".to_owned()));
}
